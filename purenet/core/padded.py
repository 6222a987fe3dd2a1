"""A size that may be traced, in arrays of a fixed size."""

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from purenet.core.types import Array, Number
from purenet.core.validate import Check, describe_value, integer, is_number


@functools.partial(jax.tree_util.register_dataclass, data_fields=["size"], meta_fields=["capacity"])
@dataclasses.dataclass(frozen=True)
class PaddedSize:
    """A `size`, an integer that may be traced, in arrays whose shape has `capacity` in its place.

    Everything beyond `size` is padding: zeros that stay zero.

    >>> PaddedSize(5, capacity=8).capacity
    8
    """

    size: Number  # 1 to capacity
    capacity: int


Size = int | PaddedSize
PaddedSizes = Size | tuple[Size, ...] | list[Size]  # `Sizes`, some of which may be padded


def padded_size(name: str, value: PaddedSize) -> PaddedSize:
    """A padded size with an integer size: a Python integer for a plain number, int32 for an array.

    Numbers are rounded down. An array below 1 becomes 1, one above the capacity becomes the
    capacity. Raises ValueError for a plain number out of this range; TypeError for a size that is
    not one number, and for a capacity that is not an integer.

    >>> padded_size("dense: units", PaddedSize(5.9, capacity=8))
    PaddedSize(size=5, capacity=8)
    """
    size, capacity = value.size, integer(f"{name}.capacity", value.capacity, least=1)
    if isinstance(size, bool) or not (is_number(size) or _is_one_number(size)):
        raise TypeError(f"{name}.size is {describe_value(size)}, but a single number is expected.")
    if not is_number(size):
        down = jnp.floor(size) if jnp.issubdtype(jnp.result_type(size), jnp.floating) else size
        return PaddedSize(jnp.clip(jnp.asarray(down).astype(jnp.int32), 1, capacity), capacity)
    if not 1 <= size <= capacity:
        raise ValueError(
            f"{name}.size is {size}, but a number from 1 to its capacity {capacity} is expected."
        )
    return PaddedSize(int(size), capacity)


def _is_one_number(value) -> bool:
    real = hasattr(value, "dtype") and (
        jnp.issubdtype(value.dtype, jnp.integer) or jnp.issubdtype(value.dtype, jnp.floating)
    )
    return real and jnp.shape(value) == ()


def size_or_padded(name: str, value: Any) -> Size:
    """An integer of at least 1, or a `PaddedSize`, checked.

    Raises TypeError and ValueError for anything else.

    >>> size_or_padded("dense: units", 3)
    3
    """
    if isinstance(value, PaddedSize):
        return padded_size(name, value)
    return integer(name, value, least=1)


AnySize = Annotated[Size, Check(size_or_padded, "an integer of at least 1 or a PaddedSize")]


def capacity_of(size: Size) -> int:
    """The size as it appears in the shape of an array.

    >>> capacity_of(3), capacity_of(PaddedSize(5, capacity=8))
    (3, 8)
    """
    return size.capacity if isinstance(size, PaddedSize) else size


def count_of(size: Any) -> Number | None:
    """The number of entries that are not padding; None for a plain size, or a plain `train`.

    >>> count_of(PaddedSize(5, capacity=8)), count_of(8), count_of(True)
    (5, None, None)
    """
    return size.size if isinstance(size, PaddedSize) else None


def counts(**sizes: Size) -> Mapping[str, jax.Array]:
    """The sizes of those that are padded, by name, for the statistics of a layer.

    >>> {name: int(count) for name, count in counts(inputs=3, units=PaddedSize(5, 8)).items()}
    {'units': 5}
    """
    return {
        name: jnp.asarray(size.size, jnp.int32)
        for name, size in sizes.items()
        if isinstance(size, PaddedSize)
    }


def parameter_count(weights: Any, stats: Any = (), sizes: Mapping[str, Any] | None = None) -> Any:
    """How many of the numbers in `weights` are not padding, by the `counts` in the statistics
    beside them; none of a layer whose statistics say that it does not act. `sizes` are those of
    the layer.

    >>> weights = {"0": {"w": jnp.ones((3, 8)), "b": jnp.ones(8)}, "1": {"b": jnp.ones(8)}}
    >>> int(parameter_count(weights, {"0": counts(units=PaddedSize(5, 8))}))
    28
    """
    own = stats if isinstance(stats, Mapping) else {}
    if not isinstance(weights, Mapping):
        leaves, known = jax.tree.leaves(weights), {**(sizes or {}), **own}
        return sum(_real_size(jnp.shape(leaf), known) for leaf in leaves)
    known = {name: own[name] for name in ("inputs", "units") if name in own}
    count = sum(parameter_count(part, own.get(name), known) for name, part in weights.items())
    return jnp.where(own["acts"], count, 0) if "acts" in own else count


def _real_size(shape, sizes):
    """The size of an array whose last axes are inputs and units, of which some are padding."""
    axes = {"units": -1, "inputs": -2}
    real = list(shape)
    for name, axis in axes.items():
        if name in sizes and len(shape) >= -axis:
            real[axis] = sizes[name]
    return functools.reduce(operator.mul, real, 1)


def keep_first(a: Array, count: Number | None, axis: int = -1) -> Any:
    """`a` with zeros after the first `count` entries of an axis; unchanged if count is None.

    >>> keep_first(jnp.ones(3), 2).tolist()
    [1.0, 1.0, 0.0]
    """
    if count is None or jnp.ndim(a) == 0:
        return a
    places = jnp.arange(a.shape[axis], dtype=jnp.result_type(count))
    return jnp.where(
        jnp.expand_dims(places < count, _other_axes(a, axis)), a, jnp.zeros((), a.dtype)
    )


def _other_axes(a, axis):
    return tuple(i for i in range(a.ndim) if i != axis % a.ndim)
