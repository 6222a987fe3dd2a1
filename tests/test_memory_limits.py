"""How much memory a sweep may plan with: the least of the machine's and of every limit."""

import os

import jax
import pytest

from purenet.sweep.engine.memory import host_memory, memory

MIB = 2**20


def limited(tmp_path, groups, limits):
    """The memory of a process in these control groups, with files of such limits."""
    (tmp_path / "cgroup").write_text(groups)
    for name, text in limits.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return host_memory(tmp_path / "cgroup", tmp_path / "mounted")


@pytest.mark.parametrize("groups, limits", [
    ("0::/\n", {"memory.max": 9 * MIB}),  # a container's own group is its root
    ("0::/a/b\n", {"a/b/memory.max": 9 * MIB, "a/memory.max": "max"}),
    ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": 9 * MIB, "memory.max": 20 * MIB}),
    ("0::/a/b\n", {"a/b/memory.max": 20 * MIB, "a/memory.max": 9 * MIB}),
    ("5:cpu,memory:/a\n3:pids:/b\n", {"memory/a/memory.limit_in_bytes": 9 * MIB}),
    # the path is the host's, of which a container sees the root alone
    ("5:memory:/docker/1f\n", {"memory/memory.limit_in_bytes": 9 * MIB}),
    ("5:memory:/a\n0::/b\n", {"memory/a/memory.limit_in_bytes": 2**63 - 4096,
                              "b/memory.max": 9 * MIB}),
])  # fmt: skip
def test_the_least_limit_of_the_control_groups_counts(tmp_path, groups, limits):
    assert limited(tmp_path, groups, limits) == 9 * MIB


def test_without_limits_it_is_the_memory_of_the_machine(tmp_path):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    nothing = tmp_path / "none"
    assert host_memory(nothing, nothing) == machine
    assert limited(tmp_path, "0::/a\n3:pids:/b\n", {"a/memory.max": "max"}) == machine
    assert limited(tmp_path, "5:cpu:/c\n", {"memory/c/memory.limit_in_bytes": 1}) == machine


def test_a_limit_of_the_address_space_counts():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    machine = host_memory()
    device = jax.local_devices()[0]
    free = memory(device)
    limit = int(machine) - MIB
    with open("/proc/self/statm") as file:
        if int(file.read().split()[0]) * resource.getpagesize() > limit:
            pytest.skip("this process has more address space than the machine has memory")
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        assert host_memory() == limit
        assert memory(device) == pytest.approx(free * limit / machine)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
