"""A network as a table."""

import math

import jax

from purenet.core.padded import PaddedSizes
from purenet.core.text_table import text_table
from purenet.core.types import Layer
from purenet.core.validate import expect
from purenet.nn.combinators import output_shape
from purenet.nn.models import layers_of


def summary(net: Layer, sizes: PaddedSizes) -> str:
    """A table of layers, output shapes, parameter counts and bytes; nothing is computed.

    `sizes` is what `net.init` takes. Parameters are the trained weights; the bytes count the
    running statistics too. Padded sizes are counted at their capacity. A last line names the
    `compute_dtype` of a network that has one.
    Raises TypeError for anything but a network, and what `net.init` raises for sizes that do not
    fit.

    >>> from purenet.nn.models import mlp
    >>> print(summary(mlp(), (64, 100, 10)))  # doctest: +ELLIPSIS
    layer    output  parameters   bytes
    0 dense  (100,)       6,500  ...
    1 relu   (100,)           0  ...
    2 dense  (10,)        1,010  ...
    total                 7,510  ...
    """
    expect(isinstance(net, Layer), "summary: net", net, "a network such as mlp()")
    layers, sizes = layers_of(net, sizes)
    rows, total, total_bytes = [("layer", "output", "parameters", "bytes")], 0, 0
    for i, layer in enumerate(layers):
        params = jax.eval_shape(lambda key, f=layer.init, s=sizes: f(key, s), jax.random.key(0))
        sizes = output_shape(layer, params, sizes)
        count = sum(math.prod(a.shape) for a in jax.tree.leaves(params.weights))
        size = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(params))
        name = layer.spec[0] if layer.spec else "unnamed"
        rows.append((f"{i} {name}", str(sizes), f"{count:,}", f"{size:,}"))
        total, total_bytes = total + count, total_bytes + size
    rows.append(("total", "", f"{total:,}", f"{total_bytes:,}"))
    lines = text_table(rows, left=2)
    dtype = dict(*net.spec[1:]).get("compute_dtype")
    return "\n".join(lines if dtype is None else [*lines, f"computed in {dtype}"])
