"""How the trials of a sweep are laid out on the devices at hand."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from purenet.checks import told, whole

_FEWEST = 2
_WIDEST = 256


class Layout(NamedTuple):
    """Lanes, each of which trains one trial: `lanes` on each device, `block` of them vmapped.

    >>> Layout(("one device",), lanes=4, block=1).strategy
    'loop'
    """

    devices: tuple
    lanes: int
    block: int

    @property
    def width(self) -> int:
        """Lanes of all devices together."""
        return len(self.devices) * self.lanes

    @property
    def strategy(self) -> str:
        """How the lanes of a device run: "loop", "vmap" or "blocks"."""
        if self.block == 1:
            return "loop"
        return "vmap" if self.block == self.lanes else "blocks"

    def __str__(self):
        kind = self.devices[0].platform
        inner = "one after the other" if self.block == 1 else f"{self.block} together by vmap"
        return f"{len(self.devices)} {kind} device(s) x {self.lanes} lane(s), {inner}"


def layout(trials: int, devices: Sequence[jax.Device], block: int | None = None) -> Layout:
    """The lanes for so many trials, before memory is taken into account.

    On a CPU the lanes of a device run one after the other: stacking the weights of many trials
    takes them out of the cache and wins nothing. On an accelerator they run together, in blocks so
    large that it is busy and so small that survivors of an early stop fill fewer of them.

    >>> layout(8, jax.devices()[:1]).lanes
    8
    """
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        devices, block = devices[:1], 1  # so that a trial's numbers can be looked at, one by one
    devices = tuple(devices)[: max(1, trials)]
    lanes = math.ceil(max(1, trials) / len(devices))
    if block is None:
        block = 1 if devices[0].platform == "cpu" else min(lanes, _WIDEST)
    block = min(block, lanes)
    # never a loop of one: the compiler would unroll it and round differently in the last bits
    lanes = max(_FEWEST, lanes) if block == 1 else math.ceil(lanes / block) * block
    return Layout(devices, lanes, block)


def halved(layout: Layout) -> Layout | None:
    """Half the lanes, or None where there is nothing left to halve.

    >>> halved(Layout(("one device",), lanes=8, block=1)).lanes
    4
    """
    if layout.block == 1:
        lanes = math.ceil(layout.lanes / 2)
        return layout._replace(lanes=lanes) if lanes >= _FEWEST and lanes < layout.lanes else None
    if layout.lanes > layout.block:
        blocks = math.ceil(layout.lanes // layout.block / 2)
        return layout._replace(lanes=blocks * layout.block)
    half = math.ceil(layout.block / 2)
    return layout._replace(lanes=max(half, _FEWEST), block=half) if half < layout.block else None


def memory(device: jax.Device) -> float:
    """Bytes that a sweep may use on a device: 80% of an accelerator's, half of what the process may
    have of a host's.

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
    """Bytes that this process may have: the least of the machine's memory, the limits of its
    control groups (those of containers and of schedulers) and that of its address space.

    `groups` lists the control groups of the process, which are `mounted` below a folder.
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
    """The limit of every group that the process is in, from its own up to the root."""
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
            # in a container the path may be the host's, of which only the root is mounted
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


def chosen_devices(devices: Sequence[jax.Device] | int | None) -> tuple[jax.Device, ...]:
    """The devices of a sweep: those given, that many local ones, or all local ones.

    Raises TypeError for what are no devices, ValueError for none, for more than there are, and for
    one given twice.

    >>> chosen_devices(1) == tuple(jax.local_devices()[:1])
    True
    """
    local = jax.local_devices()
    if devices is None:
        return tuple(local)
    if isinstance(devices, (tuple, list, np.ndarray)):
        devices = tuple(devices)
        if not devices:
            raise ValueError("sweep: devices is empty; give at least one, or leave it out.")
        for device in devices:
            if not isinstance(device, jax.Device):
                raise TypeError(
                    f"sweep: devices holds {told(device)}, but those of jax.devices() are expected."
                )
        if len(set(devices)) < len(devices):
            raise ValueError(f"sweep: devices holds one twice: {list(devices)}.")
        return devices
    count = whole("sweep: devices", devices, least=1)
    if count > len(local):
        raise ValueError(
            f"sweep: devices is {count}, but there are {len(local)}; on a CPU, call "
            "purenet.use_cpu_cores() before anything else to have one for each core."
        )
    return tuple(local[:count])
