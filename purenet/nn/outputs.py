"""What each layer of a network gives."""

from typing import Any

import jax

from purenet.core.padded import PaddedSizes
from purenet.core.types import Array, Layer, Params
from purenet.nn.models import layers_of
from purenet.nn.mup import without_mup


def layer_outputs(net: Layer, sizes: PaddedSizes, params: Params, x: Array) -> dict[str, jax.Array]:
    """The outputs of each layer with weights, by its place and name, in inference.

    Shapes: x (n, ...) -> (n, ...) each, with zeros for padding. `sizes` is what `net.init` takes.
    A network that is not a `serial` or an `mlp`, and an `mlp` of padded depth, is a single layer.

    >>> from purenet.nn.models import mlp
    >>> net, sizes = mlp(), (4, 3, 2)
    >>> params = net.init(jax.random.key(0), sizes)
    >>> y = layer_outputs(net, sizes, params, jax.numpy.ones((5, 4)))
    >>> {name: h.shape for name, h in y.items()}
    {'0 dense': (5, 3), '2 dense': (5, 2)}
    """
    name, arguments = net.spec or ("layer", {})
    if name == "mup":
        net, params = without_mup(net, params)
        return layer_outputs(net, sizes, params, x)
    if name == "remat":
        return layer_outputs(arguments["layer"], sizes, params, x)
    if name not in ("serial", "mlp") or arguments.get("depth") is not None:
        return {name: net.apply(params, x, False, None)[0]}
    found: dict[str, Any] = {}
    stats = params.stats or {}
    for i, layer in enumerate(layers_of(net, sizes)[0]):
        own = Params(params.weights.get(str(i), ()), stats.get(str(i), ()))
        x, _ = layer.apply(own, x, False, None)
        if str(i) in params.weights:
            found[f"{i} {layer.spec[0] if layer.spec else 'unnamed'}"] = x
    return found
