"""Sharding constraints: a batch is split over the first axis of the mesh, the rest replicated."""

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from purenet.core.types import PyTree


def shard_batch(tree: PyTree) -> PyTree:
    """Split the leading axis of every array over the first axis of the mesh that `fit` was given.

    Without a mesh, and inside `shard_map`, the arrays stay where they are. The number of devices
    need not divide the length of the axis.

    >>> import jax.numpy as jnp
    >>> shard_batch(jnp.arange(3)).tolist()
    [0, 1, 2]
    """
    axis = _batch_axis()
    return tree if axis is None else _constrained(tree, P(axis))


def replicate(tree: PyTree) -> PyTree:
    """Replicate the arrays on every device of the mesh of `fit`; without one, they are unchanged.

    >>> import jax.numpy as jnp
    >>> replicate(jnp.arange(3)).tolist()
    [0, 1, 2]
    """
    return tree if _batch_axis() is None else _constrained(tree, P())


def _batch_axis():
    mesh = jax.sharding.get_abstract_mesh()
    here = not mesh.empty and mesh.axis_types[0] == AxisType.Auto
    return mesh.axis_names[0] if here else None


def _constrained(tree, spec):
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, spec), tree)
