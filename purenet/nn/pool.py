"""Pooling: the maximum or the mean of each window, per channel; images (n, h, w, c)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import inexact
from purenet.core.types import Array, Layer
from purenet.core.validate import require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import expect_shape, named, shape, stateless
from purenet.nn.windows import (
    ImageShape,
    Pair,
    image_sizes,
    pair,
    placed,
    shifts,
    window,
)


# maximum: forward
def _pool_max(
    x: Array, size: Pair, stride: Pair | None = None, padding: Pair | str = 0
) -> jax.Array:
    """The maximum of every window, per channel: yₒ = max x[window o].

    Shapes: x (n, h, w, c) -> (n, oh, ow, c) with oh = (h + 2p - size)/stride + 1, rounded down;
    the stride is the size unless given, padding is -∞. Integers count as floats. A NaN in a window
    is its maximum, and gets the gradient.
    With cotangent g: gₒ goes to the maximum of window o, or the first in row-major order if several
    are equal (`jnp.max` would share it).
    Raises ValueError if no window fits, or if one could lie in the padding alone.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 9.3.

    >>> pool_max(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    kernel, step, pads, outputs = _windows("max_pool", jnp.shape(x), size, stride, padding)
    y, *others = shifts(inexact(x), kernel, step, pads, outputs, fill=-jnp.inf)
    for other in others:
        y = jnp.where(_exceeds(other, y), other, y)
    return y


def _exceeds(other, y):
    """Whether another number takes the place of y as the maximum: of NaNs, the first one is it."""
    return (other > y) | (_is_nan(other) & ~_is_nan(y))


def _is_nan(x):
    return x != x


# maximum: backward, by hand
def _pool_max_fwd(x, size, stride, padding):
    y = _pool_max(x, size, stride, padding)
    return y, (inexact(x), y)


def _pool_max_bwd(size, stride, padding, residuals, g):
    x, y = residuals
    at = _windows("max_pool", x.shape, size, stride, padding)
    by_axes = lambda x, y, g: _by_axes(at, x, g)
    scattered = lambda x, y, g: _scattered(at, x, g)
    to_first = lambda x, y, g: _to_first(at, x, y, g)
    dx = lax.platform_dependent(x, y, g, cpu=by_axes, tpu=scattered, default=to_first)
    return (dx,)  # (n, h, w, c)


def _to_first(at, x, y, g):
    """g, place by place of the window, where x is the first maximum y: it fuses into one kernel."""
    size, stride, pads, outputs = at
    views, found = [], jnp.zeros(y.shape, bool)
    for view in shifts(x, size, stride, pads, outputs, fill=-jnp.inf):  # (n, oh, ow, c), as g
        first = ((view == y) | (_is_nan(view) & _is_nan(y))) & ~found
        views.append(jnp.where(first, g, jnp.zeros((), g.dtype)))
        found |= first
    return _put_back(views, x.shape, *at)


def _by_axes(at, x, g):
    """The same, to the row of the first maximum and there to its column: XLA for CPUs computes the
    maxima again at every pixel, and this compares the fewest numbers."""
    rows, columns = _axes(*at)
    largest, column = columns.first_maximum(x)  # (n, h, ow, c)
    _, row = rows.first_maximum(largest)
    return columns.put_back(column, rows.put_back(row, g, x.shape[1]), x.shape[2])


class _Places(NamedTuple):
    """The places of the windows along one axis of images."""

    axis: int
    kernel: int
    stride: int
    pads: tuple[int, int]
    outputs: int

    def first_maximum(self, x):
        """The maximum of every window, and the place of the first."""
        around = [(0, 0, 0)] * x.ndim
        around[self.axis] = (*self.pads, 0)
        x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), around)
        reach = self.stride * (self.outputs - 1) + 1
        seen = lambda i: lax.slice_in_dim(x, i, i + reach, self.stride, self.axis)
        y = seen(0)
        place = jnp.zeros(y.shape, jnp.int32)
        for i in range(1, self.kernel):
            other = seen(i)
            more = _exceeds(other, y)
            y, place = jnp.where(more, other, y), jnp.where(more, i, place)
        return y, place

    def put_back(self, place, g, size):
        """g at its place of every window, along an axis of that size."""
        zero = jnp.zeros((), g.dtype)
        return self.together([jnp.where(place == i, g, zero) for i in range(self.kernel)], size)

    def together(self, views, size):
        """The sum of what every place of the window sends back, along an axis of that size."""
        low, high = self.pads
        covered = self.kernel == self.stride and not low + high
        if covered and self.outputs * self.kernel == size:
            # interleaving them is faster than adding
            shape = list(views[0].shape)
            shape[self.axis] = size
            return jnp.stack(views, self.axis + 1).reshape(shape)
        whole = sum(
            placed(view, self.axis, i, self.stride, size + low + high)
            for i, view in enumerate(views)
        )
        return lax.slice_in_dim(whole, low, low + size, axis=self.axis)


def _axes(size, stride, pads, outputs):
    """The places along the height and along the width."""
    return [
        _Places(i + 1, *each)
        for i, each in enumerate(zip(size, stride, pads, outputs, strict=True))
    ]


def _scattered(at, x, g):
    """The same by XLA's select-and-scatter, which looks for the maxima again."""
    (size, stride, pads, _), least = at, -jnp.inf
    windows = ((1, *size, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0)))
    largest = lambda x: lax.reduce_window(x, least, lax.max, *windows)
    return jax.vjp(largest, jnp.where(_is_nan(x), jnp.inf, x))[1](g)[0]  # a NaN is the maximum


pool_max = hand_vjp(_pool_max, _pool_max_fwd, _pool_max_bwd, static=(1, 2, 3))


# mean: forward
def _pool_average(
    x: Array, size: Pair, stride: Pair | None = None, padding: Pair | str = 0
) -> jax.Array:
    """The mean of every window, per channel: yₒ = Σ x[window o] / (kh·kw).

    Shapes: x (n, h, w, c) -> (n, oh, ow, c), as for `pool_max`. Padding is zeros that count: every
    mean is over kh·kw numbers. Integers count as floats.
    With cotangent g: gₒ / (kh·kw) goes to every place of window o.
    Raises ValueError if no window fits, or if one could lie in the padding alone.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 9.3.

    >>> pool_average(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    kernel, step, pads, outputs = _windows("avg_pool", jnp.shape(x), size, stride, padding)
    return sum(shifts(inexact(x), kernel, step, pads, outputs)) / math.prod(kernel)


# mean: backward, by hand
def _pool_average_fwd(x, size, stride, padding):
    return _pool_average(x, size, stride, padding), ImageShape(x.shape)


def _pool_average_bwd(size, stride, padding, image_shape, g):
    at = _windows("avg_pool", image_shape, size, stride, padding)
    places = math.prod(at[0])
    added = lambda share: _put_back([share] * places, image_shape, *at)
    spread = lambda share: _spread(share, at[0])
    if not _side_by_side(image_shape, *at):
        return (added(g / places),)  # (n, oh, ow, c) -> x
    return (lax.platform_dependent(g / places, cpu=added, default=spread),)


def _spread(share, size):  # (n, oh, ow, c) -> (n, oh·kh, ow·kw, c)
    for axis, k in enumerate(size, 1):
        share = jnp.repeat(share, k, axis=axis)
    return share


pool_average = hand_vjp(_pool_average, _pool_average_fwd, _pool_average_bwd, static=(1, 2, 3))


# mean of the whole image: forward
def _global_avg_pool(x: Array) -> jax.Array:
    """The mean of each channel over the whole image. Used as a layer directly.

    Shapes: x (n, h, w, c) -> (n, c). With cotangent g: dx = g / (h·w) at every place.
    Integers count as floats. Raises ValueError unless x is a batch of images of at least one pixel.
    Source: Lin, Chen & Yan, Network in network (2014).

    >>> global_avg_pool(jnp.ones((2, 4, 4, 3))).shape
    (2, 3)
    """
    sizes = image_sizes("global_avg_pool", jnp.shape(x))
    expect_shape(all(sizes), "global_avg_pool: x", x, "images of at least one pixel")
    return inexact(x).mean(axis=(1, 2))


# mean of the whole image: backward, by hand
def _global_avg_pool_fwd(x):
    return _global_avg_pool(x), ImageShape(x.shape)


def _global_avg_pool_bwd(image_shape, g):
    share = g / math.prod(image_shape[1:3])  # (n, c)
    return (jnp.broadcast_to(share[:, None, None, :], image_shape),)


global_avg_pool = hand_vjp(_global_avg_pool, _global_avg_pool_fwd, _global_avg_pool_bwd)


# where the windows lie
def _windows(name, image_shape, size, stride, padding):
    sizes = image_sizes(name, image_shape)
    size = pair(f"{name}: size", size)
    stride = size if stride is None else pair(f"{name}: stride", stride)
    outputs, pads = window(name, sizes, size, stride, padding)
    require(
        all(max(both) < k for k, both in zip(size, pads, strict=True)),
        f"{name}: with padding {padding} a window of size {size} can lie in the padding alone; use "
        "a padding smaller than the window.",
    )
    return size, stride, pads, outputs


def _side_by_side(image_shape, size, stride, pads, outputs):
    """Whether every place of the image is in exactly one window."""
    covered = (outputs[0] * size[0], outputs[1] * size[1])
    return stride == size and pads == ((0, 0), (0, 0)) and covered == tuple(image_shape[1:3])


def _put_back(views, image_shape, *at):
    """The sum of what every place of the window sends back, (n, oh, ow, c) each -> (n, h, w, c)."""
    (kh, kw), (h, w) = at[0], image_shape[1:3]
    rows, columns = _axes(*at)
    return rows.together([columns.together(views[i * kw : (i + 1) * kw], w) for i in range(kh)], h)


# the layers
def max_pool(size: Pair, stride: Pair | None = None, padding: Pair | str = 0) -> Layer:
    """Max pooling; the stride is the size unless given. No parameters.

    Raises ValueError for a size, stride or padding that is not one or two integers, for examples
    that are not (h, w, c), if no window fits, and if one could lie in the padding alone.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 9.3.

    >>> import jax
    >>> layer = max_pool(2)
    >>> layer.apply(layer.init(jax.random.key(0), (4, 4, 1)), jnp.ones((5, 4, 4, 1)), True, None)[
    ...     0
    ... ].shape
    (5, 2, 2, 1)
    """
    return _pooling("max_pool", pool_max, size, stride, padding)


def avg_pool(size: Pair, stride: Pair | None = None, padding: Pair | str = 0) -> Layer:
    """Average pooling; the stride is the size unless given, padding counts. No parameters.

    Raises ValueError as `max_pool` does.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 9.3.

    >>> avg_pool(3, stride=2).spec
    ('avg_pool', {'size': 3, 'stride': 2, 'padding': 0})
    """
    return _pooling("avg_pool", pool_average, size, stride, padding)


def _pooling(name, op, size, stride, padding):
    sizes = pair(f"{name}: size", size)
    pair(f"{name}: stride", size if stride is None else stride)
    window(name, sizes, sizes, padding=padding)  # checks the padding

    def init(key, sizes):
        del key
        _windows(name, (1, *shape(sizes)), size, stride, padding)  # checks that they fit
        return ()

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        named(name, "weights", weights)
        return op(x, size, stride, padding)

    return stateless(init, apply, (name, {"size": size, "stride": stride, "padding": padding}))
