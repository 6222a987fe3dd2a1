"""Where the arrays of one training run lie on a mesh of devices.

The compiler partitions the work. This module only says where the state lies, and that the rows of
a minibatch are split over the first axis of the mesh; the sums over the batch follow from that.
"""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from purenet.core.dtypes import is_key
from purenet.core.tree import named_leaves
from purenet.core.types import PyTree
from purenet.core.validate import require
from purenet.distributed import multihost


class Placement(NamedTuple):
    """A mesh with automatic axes and a partition for every leaf of a state; by default no mesh."""

    mesh: Mesh | None = None
    specs: tuple[P, ...] = ()

    @property
    def several(self) -> bool:
        """Whether other processes take part."""
        return self.mesh is not None and self.mesh.is_multi_process

    def context(self) -> contextlib.AbstractContextManager:
        """Where programs that use `shard_batch` are traced."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def data(self, tree: PyTree) -> PyTree:
        """Replicated on every device; from the host, where each process holds all of it."""
        if self.mesh is None:
            return jax.device_put(tree)
        return jax.tree.map(lambda a: self._put(a, P()), tree)

    def share(self, size: int) -> np.ndarray | None:
        """Which rows of a minibatch the devices of this process get, ascending; None if there is
        no other process."""
        if not self.several:
            return None
        here = NamedSharding(self.mesh, P(*self._split(size)))  # type: ignore[arg-type]
        rows = here.addressable_devices_indices_map((size,)).values()
        return np.unique(np.concatenate([np.arange(size)[part] for part in rows]))  # type: ignore[index]

    def batches(self, tree: PyTree, size: int) -> PyTree:
        """Minibatches of this size, (minibatches, examples, ...): each device gets its own rows,
        where their number is one that it can share. Of several processes, each has those of its
        `share`."""
        if self.mesh is None:
            return jax.device_put(tree)
        spec, share = P(None, *self._split(size)), self.share(size)
        if share is None:
            return jax.tree.map(lambda a: self._put(a, spec), tree)
        here = NamedSharding(self.mesh, spec)

        def place(a):
            def rows(part):
                first, last, _ = part[1].indices(size)
                mine = np.searchsorted(share, first)
                return a[:, mine : mine + last - first]

            return jax.make_array_from_callback((a.shape[0], size, *a.shape[2:]), here, rows)

        return jax.tree.map(place, tree)

    def _split(self, size: int) -> tuple[str, ...]:
        """The axis over which the rows of a minibatch are split, if there is one."""
        axis = self.mesh.axis_names[0]  # type: ignore[union-attr]
        return (axis,) if size % self.mesh.shape[axis] == 0 else ()  # type: ignore[union-attr]

    def state(self, tree: PyTree) -> PyTree:
        """A state held by this process, placed on the mesh leaf by leaf."""
        if self.mesh is None:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        placed = [self._put(a, spec) for a, spec in zip(leaves, self.specs, strict=True)]
        return jax.tree.unflatten(structure, placed)

    def hold(self, tree: PyTree) -> PyTree:
        """The same while tracing: sharding constraints on the state."""
        if self.mesh is None:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        held = map(jax.lax.with_sharding_constraint, leaves, self.specs)
        return jax.tree.unflatten(structure, list(held))

    def _put(self, a, spec: P):
        here = NamedSharding(self.mesh, spec)  # type: ignore[arg-type]
        if not self.several:
            return jax.device_put(a, here)
        if is_key(a):
            data = self._put(jax.random.key_data(a), spec)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
        # not device_put, which compares what the processes hold, element by element
        whole = np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.make_array_from_callback(whole.shape, here, lambda part: whole[part])


def placement(caller: str, mesh: Mesh | None, shard: Callable | None, state: PyTree) -> Placement:
    """Where the leaves of a state lie on the mesh; their shapes and dtypes are enough.

    `shard(name, leaf) -> PartitionSpec` places each leaf; without it, all leaves are replicated.
    Raises TypeError if `mesh` is not a Mesh or a partition not a PartitionSpec; ValueError for a
    partition that names no axis of the mesh or does not divide the leaf, for `shard` without a
    mesh, and for a mesh that leaves out some of several processes.

    >>> placement("fit", None, None, {"w": np.zeros(3)}).specs
    ()
    """
    if mesh is None:
        text = f"{caller}: shard places the leaves on a mesh; pass mesh= too."
        require(shard is None, text)
        return Placement()
    example = f'jax.make_mesh(({len(jax.devices())},), ("batch",))'
    require(
        isinstance(mesh, Mesh),
        f"{caller}: mesh is {type(mesh).__name__}, but a jax.sharding.Mesh is expected, such as "
        f"{example}.",
        TypeError,
    )
    axes, present = mesh.axis_names, {device.process_index for device in mesh.devices.flat}
    require(len(axes) > 0, f"{caller}: the mesh has no axis to split the batch over.")
    require(
        not mesh.is_multi_process or len(present) == multihost.count(),
        f"{caller}: the mesh has devices of the processes {sorted(present)}, but there are "
        f"{multihost.count()} processes; use the devices of all of them, or of one.",
    )
    kind, expected = type(shard).__name__, "a function (name, leaf) -> PartitionSpec"
    text = f"{caller}: shard is {kind}, but {expected} is expected."
    require(shard is None or callable(shard), text, TypeError)
    specs = [
        P() if shard is None else _checked(caller, mesh, name, leaf, shard(name, leaf))
        for name, leaf in named_leaves(caller, state).items()
    ]
    # automatic axes, which the compiler may use freely: those of jax.make_mesh are explicit
    return Placement(Mesh(mesh.devices, mesh.axis_names), tuple(specs))


def _checked(caller: str, mesh: Mesh, name: str, leaf, spec) -> P:
    returned = f"{caller}: shard returned {spec!r} for the leaf {name} of shape {leaf.shape}"
    require(
        isinstance(spec, P),
        f"{returned}, but a jax.sharding.PartitionSpec is expected; PartitionSpec() replicates the "
        "leaf on every device.",
        TypeError,
    )
    require(len(spec) <= len(leaf.shape), f"{returned}, which has only {len(leaf.shape)} axes.")
    for i, axes in enumerate(spec):
        names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
        known = all(axis in mesh.shape for axis in names)
        require(known, f"{returned}, but the mesh has the axes {mesh.axis_names}.")
        parts = math.prod(mesh.shape[axis] for axis in names)
        require(
            leaf.shape[i] % parts == 0,
            f"{returned}, but the mesh axis {axes!r} has size {parts}, which does not divide "
            f"{leaf.shape[i]}.",
        )
    return spec
