"""How much memory a sweep may use on a device."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax


def memory(device: jax.Device) -> float:
    """Bytes that a sweep may use on a device: 80% of an accelerator's memory, or half of the host
    memory that this process may use.

    >>> memory(jax.devices()[0]) > 0
    True
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return 0.8 * stats["bytes_limit"]
    return 0.5 * host_memory() / jax.local_device_count(device.platform)


def host_memory(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> float:
    """Bytes that this process may use: the minimum of the machine's memory, the limits of its
    control groups (from containers and batch schedulers) and that of its address space.

    `groups` is a file that lists the control groups of the process, `mounted` the folder they are
    mounted at.
    Source: the Linux kernel's documentation of cgroup v1 and v2, memory controllers.

    >>> host_memory() > 0
    True
    """
    return min([math.inf, *_machine(), *_control_groups(groups, mounted), *_address_space()])


def _machine() -> Iterator[float]:
    try:
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return


def _control_groups(groups: Path, mounted: Path) -> Iterator[float]:
    """The limits of all groups that the process is in, from its own up to the root."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # a group without controllers is of version 2
        below, file = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            # in a container the path may be the host's, and only its root may be mounted
            try:
                text = (mounted / below / folder / file).read_text().strip()
            except OSError:
                continue
            if text.isdecimal():  # not "max"
                yield int(text)


def _address_space() -> Iterator[float]:
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit
