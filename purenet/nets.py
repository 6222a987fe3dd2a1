"""Ready-made networks."""

from collections.abc import Callable

from purenet.compose import as_layer, serial
from purenet.initializers import he_normal
from purenet.layers.activations import relu
from purenet.layers.dense import dense
from purenet.layers.dropout import dropout as dropout_layer
from purenet.layers.norm import batch_norm as batch_norm_layer
from purenet.types import Layer, shape


def mlp(
    activation: Callable = relu,
    batch_norm: bool = False,
    dropout=None,
    weight_init: Callable = he_normal,
) -> Layer:
    """A multi-layer perceptron: per hidden layer dense, [batch_norm], activation, [dropout].

    The last layer is dense alone. `init(key, sizes)` takes the list of widths from input to
    output, (784, 100, 10). `dropout` is a rate, which may be traced, or None for no such layer.
    Weights and statistics are named by position, as in `serial`.
    Raises ValueError for fewer than two sizes.

    >>> import jax, jax.numpy as jnp
    >>> net = mlp(batch_norm=True, dropout=0.5)
    >>> params = net.init(jax.random.key(0), (64, 100, 100, 10))
    >>> net.apply(params, jnp.ones((5, 64)), train=False, key=None)[0].shape
    (5, 10)
    """

    arguments = {
        "activation": activation,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "weight_init": weight_init,
    }

    def init(key, sizes):
        sizes = _widths(sizes)
        return serial(*_mlp_layers(sizes[1:], **arguments)).init(key, sizes[0])

    def apply(params, x, train, key):
        # the weights know how many dense layers there are; how wide each is matters only in init
        depth = sum("w" in weights for weights in params.weights.values())
        return serial(*_mlp_layers([1] * depth, **arguments)).apply(params, x, train, key)

    return Layer(init, apply, spec=("mlp", arguments))


def layers_of(net: Layer, sizes) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """The layers that a network is made of, and the shape of one example.

    A layer that is not a `serial` or an `mlp` is its own only part.
    """
    name, arguments = net.spec or ("", {})
    if name == "mlp":
        sizes = _widths(sizes)
        layers = map(as_layer, _mlp_layers(sizes[1:], **arguments))
        return tuple(layers), shape(sizes[0])
    return (arguments["layers"] if name == "serial" else (net,)), shape(sizes)


def _mlp_layers(widths, activation, batch_norm, dropout, weight_init):
    *hidden, last = widths
    for units in hidden:
        yield dense(units, weight_init)
        if batch_norm:
            yield batch_norm_layer()
        yield activation
        if dropout is not None:
            yield dropout_layer(dropout)
    yield dense(last, weight_init)


def _widths(sizes) -> tuple:
    if not isinstance(sizes, (tuple, list)) or len(sizes) < 2:
        raise ValueError(
            f"mlp: sizes {sizes!r} should list the widths from input to output, "
            "such as (784, 100, 10)."
        )
    return tuple(sizes)
