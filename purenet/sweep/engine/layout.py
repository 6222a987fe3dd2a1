"""How the trials of a sweep are laid out on the devices."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from purenet.core.types import Key, PyTree
from purenet.core.validate import describe_value, integer

_FEWEST = 2
_WIDEST = 256
# Bytes that a device keeps next to its arithmetic: on a TPU's core, VMEM. A GPU's cache is too
# small to matter, and wide blocks hide what it costs to launch a kernel.
_CACHE = {"tpu": 128 * 2**20}
_COPIES = 2  # of a state: itself and its gradients
_TILE = 128  # lanes side by side in a TPU's arrays; blocks of fewer would make it copy all states


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
        """The number of lanes on all devices together."""
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
    """The lanes for a number of trials, before memory is taken into account.

    On a CPU the lanes of a device run one after the other: stacking the weights of many trials
    pushes them out of the cache and gains nothing. On an accelerator they run together, in blocks
    large enough to keep it busy, and small enough that fewer are left when trials stop early.

    >>> layout(8, jax.devices()[:1]).lanes
    8
    """
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        devices, block = devices[:1], 1  # one trial at a time, whose numbers can be inspected
    devices = tuple(devices)[: max(1, trials)]
    lanes = math.ceil(max(1, trials) / len(devices))
    if block is None:
        block = 1 if devices[0].platform == "cpu" else min(lanes, _WIDEST)
    block = min(block, lanes)
    # never a loop of one: the compiler would unroll it and round the last bits differently
    lanes = max(_FEWEST, lanes) if block == 1 else math.ceil(lanes / block) * block
    return Layout(devices, lanes, block)


def cached(layout: Layout, lane: int) -> Layout:
    """The layout with blocks whose states, of `lane` bytes each, stay in a device's fast memory: a
    multiple of 128 lanes, at least that.

    >>> from types import SimpleNamespace
    >>> tpu = SimpleNamespace(platform="tpu")
    >>> cached(Layout((tpu,), lanes=1024, block=256), 520_000)[1:]
    (1024, 128)
    """
    cache = _CACHE.get(layout.devices[0].platform)
    if cache is None:
        return layout
    fit = cache // (_COPIES * max(1, lane))
    width = max(1, fit // _TILE) * _TILE
    if width >= layout.block:
        return layout
    return layout._replace(lanes=math.ceil(layout.lanes / width) * width, block=width)


def shrink(layout: Layout) -> Layout | None:
    """The layout with half the lanes, or None if they cannot be halved further.

    >>> shrink(Layout(("one device",), lanes=8, block=1)).lanes
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


def small_layouts(layout: Layout) -> tuple[Layout, Layout] | None:
    """Two layouts of few lanes, from whose memory that of more can be computed; None if there are
    no fewer.

    >>> [small.lanes for small in small_layouts(Layout(("one device",), lanes=1024, block=256))]
    [32, 64]
    """
    if layout.block == 1:
        widths = (_FEWEST, 2 * _FEWEST)
    else:
        few = max(_FEWEST, layout.block // 8)
        widths = (few, 2 * few)
    if widths[1] >= layout.lanes:
        return None
    block = lambda width: 1 if layout.block == 1 else width
    one, two = (layout._replace(lanes=width, block=block(width)) for width in widths)
    return one, two


def fewer_lanes(
    layout: Layout, room: float, needs: tuple[float, float], each: float
) -> Layout | None:
    """The layout with as many lanes as fit into `room` bytes of a device, None if that cannot be
    said. `needs` are the bytes of the `small_layouts`, `each` those of a lane outside its block.

    What a program needs is linear in its lanes, and in the width of a block.

    >>> fewer_lanes(Layout(("one device",), lanes=100, block=1), 1000, (40, 60), 10).lanes
    98
    """
    small = small_layouts(layout)
    if small is None:
        return shrink(layout)
    slope = max((needs[1] - needs[0]) / (small[1].lanes - small[0].lanes), each, 1)
    fixed = needs[0] - slope * small[0].lanes
    most = int((room - fixed) // slope)  # if all of them are one block
    if layout.block == 1:
        found = layout._replace(lanes=max(_FEWEST, most))
    else:
        outside = int((room - fixed - (slope - each) * layout.block) // each)
        blocks = outside // layout.block
        found = layout._replace(lanes=blocks * layout.block)
        if blocks < 1:
            width = max(_FEWEST, most)
            found = layout._replace(lanes=width, block=width)
    # where the compiler was asked and found that it does not fit, the estimate is wrong
    return found if found.lanes < layout.lanes else shrink(layout)


def chosen_devices(devices: Sequence[jax.Device] | int | None) -> tuple[jax.Device, ...]:
    """The devices of a sweep: those given, that many local ones, or all local ones.

    Raises TypeError if `devices` are not devices; ValueError if there are none, if fewer exist, or
    if one is repeated.

    >>> chosen_devices(1) == tuple(jax.local_devices()[:1])
    True
    """
    local = jax.local_devices()
    if devices is None:
        return tuple(local)
    if isinstance(devices, (tuple, list, np.ndarray)):
        devices = tuple(devices)
        if not devices:
            raise ValueError("sweep: devices is empty; pass at least one, or leave it out.")
        for device in devices:
            if not isinstance(device, jax.Device):
                raise TypeError(
                    f"sweep: devices holds {describe_value(device)}, but devices such as those of "
                    "jax.devices() are expected."
                )
        if len(set(devices)) < len(devices):
            raise ValueError(f"sweep: devices holds a device twice: {list(devices)}.")
        return devices
    count = integer("sweep: devices", devices, least=1)
    if count > len(local):
        raise ValueError(
            f"sweep: devices is {count}, but there are {len(local)}; on a CPU, call "
            "purenet.use_cpu_cores() before anything else to get one for each core."
        )
    return tuple(local[:count])


def random_key(seed: int) -> Key:
    """`jax.random.key`, even if JAX's transfer guard forbids implicit transfers."""
    with jax.transfer_guard_host_to_device("allow"):
        return jax.random.key(seed)


def block_count(layout: Layout) -> int:
    """How many blocks of lanes a device has."""
    return layout.lanes // layout.block


def in_blocks(layout: Layout, i: jax.Array) -> tuple[Callable, Callable, Callable]:
    """How to take the i-th block of lanes, to put it back, and to run a function on all of it."""
    exact = {"allow_negative_indices": False}
    if layout.block == 1:
        take = lambda a: jax.lax.dynamic_index_in_dim(a, i, 0, False, **exact)
        put = lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0, **exact)
        several = lambda f: f
    else:
        first = i * layout.block
        take = lambda a: jax.lax.dynamic_slice_in_dim(a, first, layout.block, **exact)
        put = lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, 0, **exact)
        several = jax.vmap
    over = lambda f: functools.partial(jax.tree.map, f)
    return over(take), over(put), several


def on_every_device(layout: Layout, f: Callable, split: Sequence[bool]) -> Callable:
    """f on each device's own lanes, with no communication; `split` marks the arguments that are
    divided over the devices."""
    if len(layout.devices) == 1:
        return f
    specs = tuple(P("trials") if s else P() for s in split)
    # devices do not depend on each other's lanes, so no variance over the mesh has to be checked
    return jax.shard_map(
        f, mesh=trials_mesh(layout), in_specs=specs, out_specs=P("trials"), check_vma=False
    )


def as_on_a_device(layout: Layout, f: Callable) -> Callable:
    """f where it sees what it does in a program of all the devices; to be traced, not to be run."""
    if len(layout.devices) == 1:
        return f
    return jax.shard_map(f, mesh=trials_mesh(layout), in_specs=P(), out_specs=P(), check_vma=False)


def trials_mesh(layout: Layout) -> Mesh:
    return Mesh(np.array(layout.devices), ("trials",))


def sharding(layout: Layout, split: bool) -> NamedSharding:
    return NamedSharding(trials_mesh(layout), P("trials") if split else P())


def place(layout: Layout, tree: PyTree, split: bool = False) -> PyTree:
    """Put arrays on the devices: with `split`, rows to their lanes; otherwise replicated."""
    return jax.device_put(tree, sharding(layout, split))
