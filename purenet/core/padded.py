"""A size that may be traced, inside arrays of a fixed one."""

import dataclasses
import functools

import jax

from purenet.core.types import Number


@functools.partial(jax.tree_util.register_dataclass, data_fields=["size"], meta_fields=["capacity"])
@dataclasses.dataclass(frozen=True)
class PaddedSize:
    """`size`, an integer that may be traced, where arrays have the shape of `capacity`.

    What lies beyond `size` is padding: zeros that stay zeros.

    >>> PaddedSize(5, capacity=8).capacity
    8
    """

    size: Number  # 1 to capacity
    capacity: int
