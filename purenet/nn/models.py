"""Ready-made networks."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from purenet.core.dtypes import dtype_name
from purenet.core.types import Initializer, Layer, Number, Sizes
from purenet.core.validate import (
    Boolean,
    PositiveInteger,
    declared,
    describe_value,
    is_integer,
    is_number,
)
from purenet.nn.activations import relu
from purenet.nn.base import WeightInit, as_layer, only_params, shape
from purenet.nn.combinators import serial
from purenet.nn.conv import conv
from purenet.nn.dense import dense
from purenet.nn.dropout import dropout as dropout_layer
from purenet.nn.flatten import flatten
from purenet.nn.initializers import he_normal
from purenet.nn.local_response_norm import local_response_norm
from purenet.nn.norm import batch_norm as batch_norm_layer
from purenet.nn.pool import max_pool


@declared
def mlp(
    activation: Callable = relu,
    batch_norm: Boolean = False,
    dropout: Number | None = None,
    weight_init: WeightInit = he_normal,
    max_width: PositiveInteger | None = None,
    width: Number | None = None,
    compute_dtype: DTypeLike | None = None,
) -> Layer:
    """A multi-layer perceptron: per hidden layer dense, [batch_norm], activation, [dropout].

    The last layer is dense alone. `init(key, sizes)` takes the list of widths from input to
    output, (784, 100, 10). `dropout` is a rate, which may be traced, or None for no such layer.
    Weights and statistics are named by position, as in `serial`, and `compute_dtype` is that of
    `serial`, here as in the other networks.
    Raises ValueError for fewer than two sizes, sizes below 1, a dropout outside [0, 1), and params
    of another network; TypeError for any other activation or dropout.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), chapter 6.

    >>> import jax, jax.numpy as jnp
    >>> net = mlp(batch_norm=True, dropout=0.5)
    >>> params = net.init(jax.random.key(0), (64, 100, 100, 10))
    >>> net.apply(params, jnp.ones((5, 64)), train=False, key=None)[0].shape
    (5, 10)

    With `max_width` and `width` it is a narrower network inside arrays of fixed shapes: `width` may
    be traced, so that one compiled program trains every width. `sizes` gives the shapes; its widest
    hidden layer has `max_width` units. Of a hidden layer of n units, the first w act:

        y = (1, ..., 1, 0, ..., 0) · activation(x W + b) with w = min(⌊width⌋, n) ones

    The weights and statistics of the other units are 0 and stay 0 in training; the rest are those
    of the network whose hidden sizes are w, and are drawn with its fans. A traced width below 1
    acts as 1. Time and memory are those of the widest network, whatever the width. The activation
    has to act on each unit alone (softmax does not), and `weight_init` takes a keyword `fans`,
    as all of `purenet.initializers` do.
    Raises ValueError for one of the two without the other, for a plain width outside
    [1, max_width], and for sizes whose widest hidden layer differs; TypeError for a width that is
    not one number, and for a `weight_init` without `fans`.

    >>> net = mlp(max_width=4, width=jnp.array(2))
    >>> params = net.init(jax.random.key(0), (3, 4, 1))
    >>> jnp.sign(jnp.abs(params.weights["0"]["w"])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    """
    arguments = {
        "activation": activation,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "weight_init": weight_init,
        "max_width": max_width,
        "width": width,
        "compute_dtype": dtype_name("mlp: compute_dtype", compute_dtype),
    }
    as_layer(activation)  # checks it
    block = 2 + batch_norm + len(_dropout(dropout))  # layers up to the next dense one
    _check_width(max_width, width, weight_init)

    def init(key, sizes):
        sizes = _widths(sizes, max_width)
        return _mlp_serial(sizes[1:], **arguments).init(key, sizes[0])

    def apply(params, x, train, key):
        # the weights know how many dense layers there are; how wide each is matters only in init
        weights = only_params("mlp", params).weights
        places = list(weights) if isinstance(weights, dict) else []
        if not places or not all(isinstance(i, str) and i.isdecimal() for i in places):
            raise ValueError(
                f"mlp: the weights are {describe_value(places or weights)}, but a dict by "
                "position, '0' and so on, is expected: these params were made by another network."
            )
        depth = max(map(int, places)) // block + 1
        return _mlp_serial([1] * depth, **arguments).apply(params, x, train, key)

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

    With its defaults on (28, 28, 1) the network of the courses: 30 filters 5x5, 100 hidden units,
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

    The convolutions keep the size of the image but for the fourth, whose padding is 2; the outputs
    are the `classes`. `dropout` is a rate, which may be traced, or None for no such layer;
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
    """AlexNet, in one piece, for images (227, 227, 3): 62,378,344 parameters with its defaults.

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


def _dropout(rate):
    return () if rate is None else (dropout_layer(rate),)


def layers_of(net: Layer, sizes: Sizes) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """The layers that a network is made of, and the shape of one example.

    A layer other than a `serial` or an `mlp`, or the `remat` of one, is its own only part.
    Raises ValueError for sizes that are not a shape, or not widths of the `mlp`.

    >>> layers, sizes = layers_of(mlp(), (4, 3, 2))
    >>> [layer.spec[0] for layer in layers], sizes
    (['dense', 'relu', 'dense'], (4,))
    """
    name, arguments = net.spec or ("", {})
    if name == "remat":
        return layers_of(arguments["layer"], sizes)
    if name == "mlp":
        sizes = _widths(sizes, arguments["max_width"])
        return _mlp_serial(sizes[1:], **arguments).spec[1]["layers"], shape(sizes[0])
    return (arguments["layers"] if name == "serial" else (net,)), shape(sizes)


def _mlp_serial(widths, compute_dtype, **arguments) -> Layer:
    return serial(*_mlp_layers(widths, **arguments), compute_dtype=compute_dtype)


def _mlp_layers(widths, activation, batch_norm, dropout, weight_init, max_width, width):
    del max_width  # the widths have been checked against it
    *hidden, last = widths
    width = _floor(width)
    inputs = None  # how many of them act: all, in the first layer
    for units in hidden:
        yield _masked(dense(units, _masked_init(weight_init, inputs, width)), width)
        if batch_norm:
            yield _masked(batch_norm_layer(), width)
        yield _masked(activation, width)
        yield from _dropout(dropout)
        inputs = width
    yield dense(last, _masked_init(weight_init, inputs, None))


def _widths(sizes, max_width) -> tuple:
    if not isinstance(sizes, (tuple, list)) or len(sizes) < 2:
        raise ValueError(
            f"mlp: sizes {describe_value(sizes)} should list the widths from input to output, "
            "such as (784, 100, 10)."
        )
    for size in sizes:
        if not is_integer(size) or size.__index__() < 1:
            raise ValueError(
                f"mlp: sizes {sizes} should be positive integers, but {describe_value(size)} is "
                "not one; to feed images, put `flatten` before the network."
            )
    if max_width is not None and max(sizes[1:-1], default=None) != max_width:
        raise ValueError(
            f"mlp: sizes {sizes!r} and max_width {max_width} disagree; the widest hidden layer has "
            f"max_width units, such as {(sizes[0], max_width, sizes[-1])}."
        )
    return tuple(sizes)


# a network of any width inside one of the widest
def _check_width(max_width, width, weight_init):
    if max_width is None and width is None:
        return
    if max_width is None or width is None:
        raise ValueError(
            f"mlp: max_width is {max_width} and width is {width}, but the two go together: arrays "
            "as wide as max_width, an integer, of which the first `width` units act."
        )
    if isinstance(width, bool) or not (is_number(width) or getattr(width, "shape", None) == ()):
        raise TypeError(f"mlp: width is {width!r}, but one number is expected.")
    if is_number(width) and not 1 <= width <= max_width:
        raise ValueError(
            f"mlp: width is {width}, but a number from 1 to max_width {max_width} is expected."
        )
    try:
        inspect.signature(weight_init).bind(None, None, fans=None)
    except TypeError:
        raise TypeError(
            f"mlp: weight_init {weight_init!r} takes no keyword `fans`, but with a width it is "
            "called as weight_init(key, shape, fans=(fan_in, fan_out)), the numbers of inputs and "
            "outputs that act; one that is not scaled by fans may ignore it."
        ) from None


def _floor(width):
    """Rounded down; None stands for all units."""
    if width is None:
        return None
    if is_number(width):
        return int(width)
    return jnp.maximum(jnp.floor(width).astype(int), 1)  # of int8 too, whatever the units


def _masked(layer, width):
    """A layer of which the first `width` outputs act: the rest, and their parameters, are zero."""
    if width is None:
        return layer
    layer = as_layer(layer)
    first = lambda a: jnp.where(jnp.arange(a.shape[-1]) < width, a, 0)

    def init(key, sizes):
        return jax.tree.map(first, layer.init(key, sizes))  # all have the units as the last axis

    def apply(params, x, train, key):
        y, stats = layer.apply(params, x, train, key)
        return first(y), stats

    return Layer(init, apply, layer.spec)


def _masked_init(weight_init, inputs, outputs):
    """Weights as where the first `inputs` and `outputs` act; zeros for the inputs that do not."""
    if inputs is None and outputs is None:
        return weight_init

    def init(key, shape):
        fan_in, fan_out = map(_at_most, shape, (inputs, outputs))
        w = weight_init(key, shape, fans=(fan_in, fan_out))
        return jnp.where(jnp.arange(shape[0])[:, None] < fan_in, w, 0)

    return init


def _at_most(units, width):
    if width is None:
        return units
    return min(units, width) if is_number(width) else jnp.minimum(units, width)
