"""Ready-made networks."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from purenet.core.dtypes import dtype_name
from purenet.core.padded import PaddedSize, PaddedSizes, Size, capacity_of, padded_size
from purenet.core.types import Initializer, Layer, Number, Params
from purenet.core.validate import (
    Boolean,
    Check,
    PositiveInteger,
    declared,
    describe_value,
    is_integer,
    require,
)
from purenet.nn.activations import gelu, relu
from purenet.nn.attention import attention
from purenet.nn.base import WeightInit, as_layer, named, only_params, padded_shape, shape
from purenet.nn.combinators import per_position, remat, residual, serial
from purenet.nn.conv import conv
from purenet.nn.dense import dense
from purenet.nn.dropout import dropout as dropout_layer
from purenet.nn.embedding import embedding
from purenet.nn.flatten import flatten
from purenet.nn.initializers import he_normal, lecun_normal, normal
from purenet.nn.local_response_norm import local_response_norm
from purenet.nn.norm import batch_norm as batch_norm_layer
from purenet.nn.pool import max_pool
from purenet.nn.positions import positions
from purenet.nn.rms_norm import rms_norm


def _depth(name: str, value: Any) -> PaddedSize:
    if isinstance(value, PaddedSize):
        return padded_size(name, value)
    raise TypeError(
        f"{name} is {describe_value(value)}, but a PaddedSize is expected; without one, every "
        "hidden layer is used."
    )


@declared
def mlp(
    activation: Callable = relu,
    batch_norm: Boolean = False,
    dropout: Number | None = None,
    weight_init: WeightInit = he_normal,
    depth: Annotated[PaddedSize, Check(_depth, "a PaddedSize")] | None = None,
    compute_dtype: DTypeLike | None = None,
    embed: Layer | None = None,
) -> Layer:
    """A multi-layer perceptron: per hidden layer dense, [batch_norm], activation, [dropout].

    The last layer is only dense. `init(key, sizes)` takes the list of widths from input to output,
    (784, 100, 10). `embed` is a layer for the inputs, before the first dense one, such as
    `periodic()` for tabular data. `dropout` is a rate, which may be traced, or None for no such
    layer. Weights and statistics are named by position, as in `serial`, and `compute_dtype` is that
    of `serial`, here as in the other networks.
    Raises ValueError for fewer than two sizes, sizes below 1, a dropout outside [0, 1), and params
    of another network; TypeError for any other activation or dropout.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), chapter 6.

    >>> import jax, jax.numpy as jnp
    >>> net = mlp(batch_norm=True, dropout=0.5)
    >>> params = net.init(jax.random.key(0), (64, 100, 100, 10))
    >>> net.apply(params, jnp.ones((5, 64)), train=False, key=None)[0].shape
    (5, 10)

    The width of a hidden layer may be a `PaddedSize(size, capacity)`: a narrower layer inside
    arrays of the capacity. Its `size` may be traced, so that one compiled program trains every
    width. Only the first `size` units are used:

        y = (1, ..., 1, 0, ..., 0) · activation(x W + b) with `size` ones

    The weights and statistics of the other units are 0 and stay 0 in training; the rest equal
    those of the network of width `size`, and are drawn with its fans. The widths are kept in the
    statistics, where `apply` reads them. Time and memory are those of the capacities. The
    activation must be elementwise (softmax is not), and `weight_init` must take a keyword `fans`,
    as all of `purenet.initializers` do.

    With `depth=PaddedSize(size, capacity)`, only the first `size` of the `capacity` hidden layers
    are used; the others are exactly the identity, and their weights and statistics are 0 and stay
    0. The last layer follows the last hidden layer used, and is drawn with its fans. All hidden
    layers need the same width or capacity.
    Raises ValueError for a plain size outside [1, capacity], for a `depth` whose capacity is not
    the number of hidden layers, and for hidden layers of unequal capacities with a `depth`;
    TypeError for a size that is not a single number, and for a `weight_init` without `fans`.

    >>> net = mlp(depth=PaddedSize(jnp.array(1), capacity=2))
    >>> width = PaddedSize(jnp.array(2), capacity=4)
    >>> params = net.init(jax.random.key(0), (3, width, 4, 1))
    >>> jnp.sign(jnp.abs(params.weights["0"]["w"])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    >>> float(jnp.abs(params.weights["2"]["w"]).max())
    0.0
    """
    arguments = {
        "activation": activation,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "weight_init": weight_init,
        "depth": depth,
        "compute_dtype": dtype_name("mlp: compute_dtype", compute_dtype),
        "embed": None if embed is None else as_layer(embed),
    }
    as_layer(activation)  # checks it
    block = 2 + batch_norm + len(_dropout(dropout))  # layers up to the next dense one

    def init(key, sizes):
        sizes = _widths(sizes, depth)
        return _mlp_serial(sizes[1:], **arguments).init(key, sizes[0])

    def apply(params, x, train, key):
        # the weights give the number of dense layers, and the statistics how much of them is used
        weights = only_params("mlp", params).weights
        places = list(weights) if isinstance(weights, dict) else []
        if not places or not all(isinstance(i, str) and i.isdecimal() for i in places):
            raise ValueError(
                f"mlp: the weights are {describe_value(places or weights)}, but a dict by "
                "position, '0' and so on, is expected: these params were made by another network."
            )
        layers = (max(map(int, places)) - (embed is not None)) // block + 1
        some = {**arguments, "depth": None if depth is None else PaddedSize(1, depth.capacity)}
        return _mlp_serial([1] * layers, **some).apply(params, x, train, key)

    return Layer(init, apply, spec=("mlp", arguments))


def simple_convnet(
    filters: int = 30,
    kernel: int = 5,
    hidden: int = 100,
    classes: int = 10,
    weight_init: Initializer = he_normal,
    compute_dtype: DTypeLike | None = None,
) -> Layer:
    """conv - relu - max_pool 2 - dense - relu - dense, for small images (h, w, c).

    With its defaults on (28, 28, 1) it is the textbook network: 30 filters 5x5, 100 hidden units,
    10 `classes`. `compute_dtype` is that of `serial`.
    Raises what `conv` and `dense` raise.
    Source: LeCun, Bottou, Bengio & Haffner (1998), section II, with one convolution.

    >>> from purenet.nn.summary import summary
    >>> print(summary(simple_convnet(), (28, 28, 1)).splitlines()[-1].split()[1])
    433,890
    """
    return serial(
        conv(filters, kernel, weight_init=weight_init), relu, max_pool(2), flatten,
        dense(hidden, weight_init), relu, dense(classes, weight_init), compute_dtype=compute_dtype,
    )  # fmt: skip


def deep_convnet(
    dropout: Number | None = 0.5,
    classes: int = 10,
    weight_init: Initializer = he_normal,
    compute_dtype: DTypeLike | None = None,
) -> Layer:
    """Three times (conv 3x3 - relu - conv 3x3 - relu - max_pool 2) with 16, 32 and 64 filters, then
    dense 50 - relu - dropout - dense, for images such as (28, 28, 1).

    The convolutions keep the size of the image, except the fourth, whose padding is 2; there are
    `classes` outputs. `dropout` is a rate, which may be traced, or None for no such layer;
    `compute_dtype` is that of `serial`.
    Raises what `conv`, `dense` and `dropout` raise.
    Source: Simonyan & Zisserman (2015), the pattern, for small images.

    >>> from purenet.nn.summary import summary
    >>> print(summary(deep_convnet(), (28, 28, 1)).splitlines()[-1].split()[1])
    123,552
    """

    def block(filters, padding):
        yield from (conv(filters, 3, padding=1, weight_init=weight_init), relu)
        yield from (conv(filters, 3, padding=padding, weight_init=weight_init), relu, max_pool(2))

    return serial(
        *block(16, 1), *block(32, 2), *block(64, 1), flatten,
        dense(50, weight_init), relu, *_dropout(dropout), dense(classes, weight_init),
        compute_dtype=compute_dtype,
    )  # fmt: skip


def alexnet(
    classes: int = 1000,
    dropout: Number | None = 0.5,
    stem: tuple[int, int, int] = (11, 4, 0),
    filters: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    weight_init: Initializer = he_normal,
    compute_dtype: DTypeLike | None = None,
) -> Layer:
    """AlexNet, not split, for images (227, 227, 3): 62,378,344 parameters with its defaults.

    Five convolutions with `filters`; local response normalisation and overlapping max pooling 3/2
    after the first two, max pooling after the last; two dense layers of `hidden` units with
    dropout, and one of `classes`. `stem` is (kernel, stride, padding) of the first convolution:
    (3, 1, 1) suits images of 32x32. `dropout` is a rate, which may be traced, or None;
    `compute_dtype` is that of `serial`.
    Raises ValueError unless `stem` has three numbers and `filters` five, and what `conv`, `dense`
    and `dropout` raise.
    Source: Krizhevsky, Sutskever & Hinton (2012), without the split over two GPUs.

    >>> from purenet.nn.summary import summary
    >>> print(summary(alexnet(), (227, 227, 3)).splitlines()[-1].split()[1])
    62,378,344
    """
    for name, values, count in (("stem", stem, 3), ("filters", filters, 5)):
        if not isinstance(values, (tuple, list)) or len(values) != count:
            raise ValueError(
                f"alexnet: {name} is {describe_value(values)}, but {count} numbers are expected."
            )
    kernel, stride, padding = stem
    one, two, three, four, five = filters
    normalised = (relu, local_response_norm(), max_pool(3, 2))
    filtered = lambda n, kernel, padding, stride=1: conv(n, kernel, stride, padding,
                                                         weight_init=weight_init)  # fmt: skip
    return serial(
        filtered(one, kernel, padding, stride), *normalised,
        filtered(two, 5, 2), *normalised,
        filtered(three, 3, 1), relu, filtered(four, 3, 1), relu,
        filtered(five, 3, 1), relu, max_pool(3, 2), flatten,
        dense(hidden, weight_init), relu, *_dropout(dropout),
        dense(hidden, weight_init), relu, *_dropout(dropout),
        dense(classes, weight_init), compute_dtype=compute_dtype,
    )  # fmt: skip


@declared
def transformer(
    tokens: PositiveInteger,
    features: PositiveInteger = 64,
    layers: PositiveInteger = 2,
    heads: PositiveInteger = 4,
    dropout: Number | None = None,
    causal: Boolean = True,
    recompute: Boolean = False,
    compute_dtype: DTypeLike | None = None,
) -> Layer:
    """A transformer: token numbers (n, time) -> scores (n, time, tokens), such as of the next one.

    embedding - positions - per layer: x + attention(rms_norm(x)), x + mlp(rms_norm(x)) with 4
    `features` hidden units and gelu - rms_norm - dense. `dropout` is the rate after the embedding
    and in each branch; it may be traced. `recompute` keeps only the layers' inputs for the backward
    pass (`remat`); `compute_dtype` is that of `serial`. `init(key, time)` takes the length of the
    longest sequence.
    Raises what its layers raise.
    Source: Vaswani et al. (2017), with normalisation first, as in Xiong et al. (2020).

    >>> import jax, jax.numpy as jnp
    >>> net = transformer(tokens=10, features=8, layers=1, heads=2)
    >>> params = net.init(jax.random.key(0), 7)
    >>> net.apply(params, jnp.zeros((5, 7), int), train=False, key=None)[0].shape
    (5, 7, 10)
    """
    mlp_branch = per_position(serial(dense(4 * features), gelu, dense(features, lecun_normal)))

    def block():
        branches = attention(heads, causal), mlp_branch
        whole = serial(*(residual(serial(rms_norm(), b, *_dropout(dropout))) for b in branches))
        return remat(whole) if recompute else whole

    return serial(
        embedding(tokens, features, normal(0.02)), positions(), *_dropout(dropout),
        *(block() for _ in range(layers)),
        rms_norm(), per_position(dense(tokens, lecun_normal)), compute_dtype=compute_dtype,
    )  # fmt: skip


def _dropout(rate):
    return () if rate is None else (dropout_layer(rate),)


def layers_of(net: Layer, sizes: PaddedSizes) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """The layers of a network, and the shape of one example.

    A layer other than a `serial` or an `mlp`, or the `remat` or `mup` of one, is its own single
    layer.
    Raises ValueError for sizes that are not a shape, or not widths of the `mlp`.

    >>> layers, sizes = layers_of(mlp(), (4, 3, 2))
    >>> [layer.spec[0] for layer in layers], sizes
    (['dense', 'relu', 'dense'], (4,))
    """
    name, arguments = net.spec or ("", {})
    if name in ("remat", "mup"):
        return layers_of(arguments["layer"], sizes)
    if name == "mlp":
        widths = tuple(map(capacity_of, _widths(sizes, arguments["depth"])))
        whole = _mlp_serial(widths[1:], **{**arguments, "depth": None})
        return whole.spec[1]["layers"], shape(widths[0])
    return (arguments["layers"] if name == "serial" else (net,)), shape(sizes)


def _mlp_serial(widths, compute_dtype, **arguments) -> Layer:
    return serial(*_mlp_layers(widths, **arguments), compute_dtype=compute_dtype)


def _mlp_layers(widths, activation, batch_norm, dropout, weight_init, depth, embed):
    *hidden, last = widths
    if embed is not None:
        yield embed
    for i, units in enumerate(hidden):
        norms = (batch_norm_layer(),) if batch_norm else ()
        block = dense(units, weight_init), *norms, activation, *_dropout(dropout)
        if depth is None or i == 0:
            yield from block
        else:
            yield from (_skippable(layer, i < depth.size) for layer in block)
    yield dense(last, weight_init)


def _skippable(layer, acts):
    """A layer where `acts`, else exactly the identity.

        y = layer(x) where acts, x elsewhere

    `acts` may be traced. It is kept in stats {"acts": ()}, beside those of the layer. Where it is
    False, weights and statistics are 0, and stay 0 in training. The output has to have the shape of
    x.
    """
    layer = as_layer(layer)

    def init(key, sizes):
        params = layer.init(key, sizes)
        weights, stats = jax.tree.map(lambda a: jnp.where(acts, a, jnp.zeros_like(a)), params)
        return Params(weights, {**(stats or {}), "acts": jnp.asarray(acts)})

    def apply(params, x, train, key):
        weights, stats = only_params("skippable", params)
        inner = {name: a for name, a in dict(stats or {}).items() if name != "acts"}
        names = {name: a for name, a in dict(stats or {}).items() if name == "acts"}
        (acts,) = named("skippable", "stats", names, "acts")
        y, new = layer.apply(Params(weights, inner or ()), x, train, key)
        pick = lambda one, other: jnp.where(acts, one, other)
        return pick(y, x), {**jax.tree.map(pick, new or {}, inner), "acts": acts}

    return Layer(init, apply, spec=("skippable", {"layer": layer, "acts": acts}))


def _widths(sizes, depth) -> tuple[Size, ...]:
    if not isinstance(sizes, (tuple, list)) or len(sizes) < 2:
        raise ValueError(
            f"mlp: sizes {describe_value(sizes)} should list the widths from input to output, "
            "such as (784, 100, 10)."
        )
    for size in sizes:
        if not isinstance(size, PaddedSize) and (not is_integer(size) or size.__index__() < 1):
            raise ValueError(
                f"mlp: sizes {sizes} should be positive integers, but {describe_value(size)} is "
                "not one; to feed images, put `flatten` before the network."
            )
    sizes = padded_shape(sizes)
    require(
        not any(isinstance(size, PaddedSize) for size in (sizes[0], sizes[-1])),
        f"mlp: sizes {sizes} have a padded input or output, but the data determines those; only "
        "hidden layers may be padded.",
    )
    hidden = [capacity_of(size) for size in sizes[1:-1]]
    require(
        depth is None or hidden == [hidden[0] if hidden else None] * depth.capacity,
        f"mlp: sizes {sizes} have hidden layers of {hidden}, but depth {depth} needs as many as "
        "its capacity, all of one width or capacity, so that each may be skipped, such as "
        f"{(sizes[0], *[max(hidden, default=100)] * (depth.capacity if depth else 1), sizes[-1])}.",
    )
    return sizes
