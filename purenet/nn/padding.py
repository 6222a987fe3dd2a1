"""Padded sizes in a chain of layers: the sizes that the next layer gets."""

import jax.numpy as jnp

from purenet.core.padded import PaddedSize, PaddedSizes, Size, capacity_of
from purenet.core.types import Layer
from purenet.nn.base import lifted_function, padded_shape


def output_sizes(layer: Layer, sizes: PaddedSizes, shape: tuple[int, ...]) -> tuple[Size, ...]:
    """The shape of one output, padded if the layer leaves padding at its end.

    Raises ValueError if the inputs are padded and the layer does not support padding.

    >>> from purenet.nn.activations import relu
    >>> from purenet.nn.base import as_layer
    >>> output_sizes(as_layer(relu), PaddedSize(3, capacity=8), (8,))
    (PaddedSize(size=3, capacity=8),)
    """
    *_, end = None, *padded_shape(sizes)
    last = _padded_end(layer, end if isinstance(end, PaddedSize) else None)
    if last is None:
        return shape
    if shape != (last.capacity,):
        raise ValueError(
            f"{_name(layer)}: it maps {last.capacity} numbers, {last.size} of them not padding, "
            f"to an array of shape {shape}, but an elementwise function is expected; put a dense "
            "layer of plain size before it."
        )
    return (last,)


def _padded_end(layer: Layer, end: PaddedSize | None) -> PaddedSize | None:
    """The padded size of the outputs, if that of the inputs is `end`; None for no padding."""
    name, arguments = layer.spec or ("", {})
    if name == "serial":
        for part in arguments["layers"]:
            end = _padded_end(part, end)
        return end
    if name in ("remat", "mup"):
        return _padded_end(arguments["layer"], end)
    if name == "skippable":
        return _either(arguments["acts"], _padded_end(arguments["layer"], end), end)
    if name == "dense":
        return arguments["units"] if isinstance(arguments["units"], PaddedSize) else None
    if name == "residual":
        within = [_padded_end(part, None) for part in arguments.values()]
        padded = end is not None or any(size is not None for size in within)
    else:
        padded = end is not None
    if not padded or name in ("batch_norm", "dropout") or lifted_function(layer) is not None:
        return end
    raise ValueError(
        f"{_name(layer)}: its inputs or outputs are padded, but only dense, batch_norm, dropout, "
        "elementwise functions, and serial or remat of these, support padding; put a dense layer "
        "of plain size in between."
    )


def _either(acts, size, other):
    """One size or the other, of the same capacity; None if neither is padded."""
    if size is None and other is None:
        return None
    capacity = capacity_of(size if size is not None else other)
    number = lambda end: capacity if end is None else end.size
    return PaddedSize(jnp.where(acts, number(size), number(other)), capacity)


def _name(layer: Layer) -> str:
    return layer.spec[0] if layer.spec else "unnamed"
