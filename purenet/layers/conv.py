"""Convolution: y = x ⋆ w + b, images (n, h, w, c), kernels (kh, kw, c, f).

Two ways to compute it, with the same numbers, both with a backward by hand:

    columns   im2col and one matrix product; it stays a matrix product under vmap over kernels
    direct    lax.conv forward; dx is a forward convolution again; nothing is unrolled

The automatic derivatives of lax.conv are not used: compiled for a CPU, inside a loop, they take
ten to a hundred times as long as its forward.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jax import lax

from purenet.checks import drawn, flag, initialiser, is_whole, told, whole
from purenet.initializers import he_normal
from purenet.rules import hand_vjp
from purenet.types import Array, Initializer, Layer, named, shape, stateless

Pair = int | tuple[int, int]
Padding = tuple[tuple[int, int], ...]  # ((top, bottom), (left, right))
METHODS = ("columns", "direct")
_MOST_PLACES = 4096  # of a window; each is an operation of its own in the compiled program


@jax.tree_util.register_static
class ImageShape(tuple):
    """A shape that travels as structure, so that a backward keeps no array for it."""


# where windows go
def pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """One whole number for both axes, or (height, width), as a tuple. Raises ValueError for others.

    >>> pair("stride", 2), pair("padding", (0, 1), least=0)
    ((2, 2), (0, 1))
    """
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or not all(map(is_whole, both)) or min(both) < least:
        raise ValueError(
            f"{name} is a whole number of at least {least}, or two of them (height, width); "
            f"got {told(value)}."
        )
    return both[0].__index__(), both[1].__index__()


def window(
    name: str,
    sizes: tuple[int, ...],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = "valid",
) -> tuple[tuple[int, ...], Padding]:
    """Where the windows lie: (output sizes, ((top, bottom), (left, right)) of padding).

    Per axis, with size W, kernel F, padding p on both sides and stride s: (W + 2p - F)/s + 1
    windows, rounded down; what remains at the end is dropped. "valid" is p = 0. "same" gives ⌈W/s⌉
    windows, and where the padding is odd its larger half is at the end.
    Raises ValueError, with the arithmetic, when not one window fits, and for a kernel, stride or
    padding of another kind.
    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning (2016), chapter 2.

    >>> window("conv", (28, 28), 5)
    ((24, 24), ((0, 0), (0, 0)))
    >>> window("conv", (7, 8), 3, stride=2, padding="same")
    ((4, 4), ((1, 1), (0, 1)))
    """
    kernel, stride = pair(f"{name}: kernel", kernel), pair(f"{name}: stride", stride)
    if isinstance(padding, str) and padding == "same":
        counts = [-(-size // s) for size, s in zip(sizes, stride, strict=True)]
        total = [
            max((count - 1) * s + k - size, 0)
            for size, k, s, count in zip(sizes, kernel, stride, counts, strict=True)
        ]
        pads = tuple((p // 2, p - p // 2) for p in total)
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(
            f'{name}: padding is a number, (height, width), "same" or "valid"; got {padding!r}.'
        )
    else:
        wanted = 0 if isinstance(padding, str) else padding
        pads = tuple((p, p) for p in pair(f"{name}: padding", wanted, least=0))
    for axis, size, (low, high), k, s in zip(
        ("height", "width"), sizes, pads, kernel, stride, strict=True
    ):
        if size + low + high < k:
            raise ValueError(
                f"{name}: a window of {axis} {k} does not fit an image of {axis} {size} with "
                f"padding {low} + {high}: ({size} + {low} + {high} - {k})/{s} + 1 is below 1; "
                "use a smaller window or more padding."
            )
    return _counts(sizes, pads, kernel, stride), pads


def _counts(sizes, pads, kernel, stride):
    axes = zip(sizes, pads, kernel, stride, strict=True)
    return tuple((size + sum(p) - k) // s + 1 for size, p, k, s in axes)


def shifts(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Padding,
    outputs: tuple[int, ...],
    fill: float = 0.0,
) -> list[Any]:
    """The padded image as each place of the window sees it: kh·kw views (n, oh, ow, c).

    Raises ValueError for windows of so many places that nobody would wait for their program.
    Source: Chellapilla, Puri & Simard (2006), where the views are the columns.

    >>> x = jnp.arange(3.0).reshape(1, 1, 3, 1)
    >>> [view.ravel().tolist() for view in shifts(x, (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 2))]
    [[0.0, 1.0], [1.0, 2.0]]
    """
    (kh, kw), (sh, sw), (oh, ow) = kernel, stride, outputs
    if kh * kw > _MOST_PLACES:
        raise ValueError(
            f"a window of {kh} x {kw} has {kh * kw} places, each computed by itself; at most "
            f"{_MOST_PLACES} are expected: use a smaller window, `global_avg_pool` for the mean of "
            'the whole image, or method="direct" for a convolution.'
        )
    padded = _padded(x, pads, fill)
    return [
        padded[:, i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]


def add_shifts(
    views: Sequence[jax.Array],
    sizes: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Padding,
) -> jax.Array:
    """The transpose of `shifts`: every view is added where it was taken from, (n, h, w, c).

    Source: as for `shifts`: Chellapilla, Puri & Simard (2006).

    >>> views = [jnp.ones((1, 1, 2, 1))] * 2
    >>> add_shifts(views, (1, 3), (1, 2), (1, 1), ((0, 0), (0, 0))).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    (kh, kw), (h, w), ((top, bottom), (left, right)) = kernel, sizes, pads
    rows = [
        sum(_placed(views[i * kw + j], 2, j, stride[1], w + left + right) for j in range(kw))
        for i in range(kh)
    ]
    x = sum(_placed(row, 1, i, stride[0], h + top + bottom) for i, row in enumerate(rows))
    return x[:, top : top + h, left : left + w]


def _padded(x, pads, fill=0.0):
    (top, bottom), (left, right) = pads
    low_high = ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(fill, x.dtype), low_high)


def _placed(view, axis, start, stride, size):
    """`view` spread over `size` places of one axis: at start, start + stride, ..., else zero."""
    places = [(0, 0, 0)] * view.ndim
    places[axis] = (start, size - start - stride * (view.shape[axis] - 1) - 1, stride - 1)
    return lax.pad(view, jnp.zeros((), view.dtype), places)


# columns: forward, and backward by hand; each of the two is the other's transpose
def _im2col(x: Array, kernel: Pair, stride: Pair = 1, padding: Pair | str = 0) -> jax.Array:
    """Every window of every image as a row of numbers.

    `stride` and `padding` are those of `conv`.
    Shapes: x (n, h, w, c) -> (n, oh, ow, kh·kw·c), in the order of a kernel (kh, kw, c, ·), any
    dtype. Its transpose is `col2im`: with cotangent g, dx = col2im(g).
    Raises ValueError when x is not a batch of images or not one window fits.
    Source: Chellapilla, Puri & Simard (2006).

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> im2col(x, 2, 2)[0, 0].tolist()
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    sizes = image_sizes("im2col", jnp.shape(x))
    outputs, pads = window("im2col", sizes, kernel, stride, padding)
    kernel, stride = pair("kernel", kernel), pair("stride", stride)
    return jnp.concatenate(shifts(x, kernel, stride, pads, outputs), axis=-1)


def _im2col_fwd(x, kernel, stride, padding):
    return _im2col(x, kernel, stride, padding), ImageShape(x.shape)


def _im2col_bwd(kernel, stride, padding, image_shape, g):
    return (_col2im(g, image_shape, kernel, stride, padding),)  # (n, oh, ow, kh·kw·c) -> x


im2col = hand_vjp(_im2col, _im2col_fwd, _im2col_bwd, static=(1, 2, 3))


def _col2im(
    columns: Array,
    image_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
) -> jax.Array:
    """Add up the windows where they came from: the transpose of `im2col`.

    `stride` and `padding` are those of `conv`.
    Shapes: columns (n, oh, ow, kh·kw·c) -> image_shape (n, h, w, c).
    With cotangent g: d(columns) = im2col(g).
    Raises ValueError when the columns are not those of such an image, or it is no shape of images.
    Source: Chellapilla, Puri & Simard (2006).

    >>> col2im(jnp.ones((1, 2, 2, 4)), (1, 3, 3, 1), 2)[0, :, :, 0].tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    sizes = image_sizes("col2im", image_shape)
    outputs, pads = window("col2im", sizes, kernel, stride, padding)
    kernel, stride = pair("kernel", kernel), pair("stride", stride)
    (kh, kw), n, c = kernel, image_shape[0], image_shape[3]
    if jnp.shape(columns) != (n, *outputs, kh * kw * c):
        raise ValueError(
            f"col2im: columns have shape {jnp.shape(columns)}, but an image {tuple(image_shape)} "
            f"with kernel {kernel}, stride {stride} and padding {padding!r} has columns of shape "
            f"{(n, *outputs, kh * kw * c)}."
        )
    return add_shifts(jnp.split(columns, kh * kw, axis=-1), sizes, kernel, stride, pads)


def _col2im_fwd(columns, image_shape, kernel, stride, padding):
    return _col2im(columns, image_shape, kernel, stride, padding), None


def _col2im_bwd(image_shape, kernel, stride, padding, _, g):
    return (_im2col(g, kernel, stride, padding),)  # (n, h, w, c) -> (n, oh, ow, kh·kw·c)


col2im = hand_vjp(_col2im, _col2im_fwd, _col2im_bwd, static=(1, 2, 3, 4))


# the three products of a convolution, in both methods
def _output(method, stride, pads) -> Callable:
    """(x, w) -> y."""

    def columns(x, w):
        kh, kw, c, f = w.shape
        outputs = _counts(x.shape[1:3], pads, (kh, kw), stride)
        unrolled = jnp.concatenate(shifts(x, (kh, kw), stride, pads, outputs), axis=-1)
        return unrolled @ w.reshape(kh * kw * c, f)  # (n, oh, ow, khkwc)(khkwc, f)

    def direct(x, w):
        dtype = jnp.result_type(x, w)  # of which lax.conv wants one, for both
        x, w = x.astype(dtype), w.astype(dtype)
        return lax.conv_general_dilated(x, w, stride, pads, dimension_numbers=_LAYOUT)

    return columns if method == "columns" else _columns_under_vmap(direct, columns)


def _input_cotangent(method, sizes, stride, pads) -> Callable:
    """(g, w) -> dx: every output's cotangent, times the kernel, goes back to its window."""

    def columns(g, w):
        kh, kw, c, f = w.shape
        unrolled = g @ w.reshape(kh * kw * c, f).T  # (n, oh, ow, f)(f, khkwc)
        views = jnp.split(unrolled, kh * kw, axis=-1)
        return add_shifts(views, sizes, (kh, kw), stride, pads)

    def direct(g, w):
        # the forward convolution of g, its entries `stride` apart, with the kernel turned around
        around = [
            (k - 1 - low, size + low - s * (out - 1) - 1)
            for k, (low, _), size, s, out in zip(
                w.shape, pads, sizes, stride, g.shape[1:3], strict=False
            )
        ]
        if any(
            k == s == 2 and ends == (0, 0)
            for k, s, ends in zip(w.shape, stride, around, strict=False)
        ):
            # XLA (of jaxlib 0.10) takes such an axis for a grouped convolution when it swaps the
            # operands, and ends the process: its window no longer fits
            return columns(g, w)
        turned = w[::-1, ::-1].swapaxes(2, 3).astype(g.dtype)  # (kh, kw, f, c)
        return lax.conv_general_dilated(
            g, turned, (1, 1), around, lhs_dilation=stride, dimension_numbers=_LAYOUT
        )

    return columns if method == "columns" else _columns_under_vmap(direct, columns)


def _kernel_cotangent(x, g, kernel, stride, pads):
    """dw = columns(x)ᵀ g, one product a row of the kernel: kw shifts are unrolled, not kh·kw."""
    (kh, kw), c, f = kernel, x.shape[3], g.shape[3]
    views = shifts(x, kernel, stride, pads, g.shape[1:3])
    rows = [jnp.concatenate(views[i * kw : (i + 1) * kw], axis=-1) for i in range(kh)]
    rows = [row.reshape(-1, kw * c) for row in rows]  # (n·oh·ow, kw·c)
    g = g.reshape(-1, f)  # (n·oh·ow, f)
    if f < kw * c:  # on a CPU the product is faster with the narrower matrix first
        dw = jnp.stack([g.T @ row for row in rows])  # (kh, f, kw·c)
        return dw.reshape(kh, f, kw, c).transpose(0, 2, 3, 1)
    return jnp.stack([row.T @ g for row in rows]).reshape(kh, kw, c, f)


def _columns_under_vmap(direct: Callable, columns: Callable) -> Callable:
    """`direct` for one kernel, `columns` for a batch of kernels and for derivatives.

    lax.conv with a batch of kernels is a grouped convolution, many times slower than the matrix
    products of `columns`, which unroll an image that the kernels share only once.
    """

    @jax.custom_batching.custom_vmap
    def product(x, w):
        return direct(x, w)

    @product.def_vmap
    def batched_product(count, batched, x, w):
        if batched[1]:
            return jax.vmap(columns, [0 if b else None for b in batched])(x, w), True
        y = product(x.reshape(-1, *x.shape[2:]), w)  # one kernel: all images are one batch
        return y.reshape(count, -1, *y.shape[1:]), True

    @jax.custom_jvp
    def op(x, w):
        return product(x, w)

    @op.defjvp
    def tangent(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        # `op`, not `product`: the next derivative comes by here again
        return op(x, w), columns(dx, w) + columns(x, dw)

    return op


_LAYOUT = ("NHWC", "HWIO", "NHWC")


def image_sizes(name: str, image_shape: Any) -> tuple[int, ...]:
    """(height, width) of the shape of a batch of images. Raises ValueError for another shape.

    >>> image_sizes("conv", (5, 28, 32, 1))
    (28, 32)
    """
    is_shape = isinstance(image_shape, (tuple, list)) and len(image_shape) == 4
    # of a batch of any size, as `jax.export` has it, the images are known
    batch: Any
    batch, *sizes = image_shape if is_shape else (None,)
    known = is_whole(batch) or jax.export.is_symbolic_dim(batch)
    if not (known and all(map(is_whole, sizes))):
        raise ValueError(
            f"{name}: images are (n, height, width, channels), but the shape is "
            f"{told(image_shape)}; reshape flat images first, 784 to (28, 28, 1) for example."
        )
    return tuple(image_shape[1:3])


def choose_method(channels: int, kernel: Pair) -> str:
    """The faster of "columns" and "direct" for one kernel, by the shapes alone.

    Measured on CPUs, forward and backward inside a loop, batches of 4 to 100: columns win where
    there are so few channels that unrolling them costs little (a first layer), and where it costs
    nothing (1x1). Raises ValueError for a kernel that is not one or two whole numbers.

    >>> choose_method(1, 5), choose_method(3, 11), choose_method(16, 3), choose_method(256, 1)
    ('columns', 'columns', 'direct', 'columns')
    """
    kh, kw = pair("conv: kernel", kernel)
    return "columns" if kh * kw == 1 or channels <= 4 else "direct"


# forward
def _convolve(
    x: Array,
    w: Array,
    b: Array | float,
    stride: Pair = 1,
    padding: Pair | str = 0,
    method: str | None = None,
) -> jax.Array:
    """Convolution (cross-correlation, as in all libraries): yₒ = Σ x[window o] w + b.

    Shapes: x (n, h, w, c), w (kh, kw, c, f), b (f,) or a scalar 0 for no bias -> (n, oh, ow, f)
    with oh = (h + 2p - kh)/stride + 1, rounded down, p the padding; see `window` for "same".
    With cotangent g: dx = col2im(g wᵀ), dw = im2col(x)ᵀ g, db = Σ g.
    `method` is "columns", "direct" or None, which lets `choose_method` decide; a vmap over w
    always runs as columns.
    Raises ValueError when shapes do not fit together or not one window fits the image.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), chapter 9.

    >>> convolve(jnp.ones((2, 5, 5, 1)), jnp.ones((3, 3, 1, 4)), jnp.zeros(4), 2).shape
    (2, 2, 2, 4)
    """
    method, stride, pads = _checked(x, w, stride, padding, method)
    if jnp.shape(b) not in ((), w.shape[3:]):
        raise ValueError(
            f"conv: b has shape {jnp.shape(b)}, but kernels {w.shape} take one number a filter, "
            f"({w.shape[3]},), or the scalar 0 for no bias."
        )
    y = _output(method, stride, pads)(x, w)
    return y + (b if jnp.ndim(b) == 0 else jnp.asarray(b)[None, None, None])


# backward, by hand
def _convolve_fwd(x, w, b, stride, padding, method):
    return _convolve(x, w, b, stride, padding, method), (x, w)


def _convolve_bwd(stride, padding, method, residuals, g):
    x, w = residuals
    method, stride, pads = _checked(x, w, stride, padding, method)
    dx = _input_cotangent(method, x.shape[1:3], stride, pads)(g, w)
    dw = _kernel_cotangent(x, g, w.shape[:2], stride, pads)
    db = g.sum(axis=(0, 1, 2))  # (n, oh, ow, f) -> (f,)
    return dx, dw, db


convolve = hand_vjp(_convolve, _convolve_fwd, _convolve_bwd, static=(3, 4, 5))


def _checked(x, w, stride, padding, method):
    sizes = image_sizes("conv", jnp.shape(x))
    if jnp.ndim(w) != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(
            f"conv: x has shape {x.shape}, {x.shape[3]} channels, but the kernels have "
            f"shape {jnp.shape(w)}; images are (n, height, width, channels), kernels (height, "
            "width, channels, filters)."
        )
    _check_method(method)
    _, pads = window("conv", sizes, w.shape[:2], stride, padding)
    method = method or choose_method(w.shape[2], w.shape[:2])
    return method, pair("stride", stride), pads


def _check_method(method):
    if method is not None and not (isinstance(method, str) and method in METHODS):
        raise ValueError(f"conv: method is one of {METHODS} or None; got {told(method)}.")


# the layer
def conv(
    filters: int,
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
    bias: bool = True,
    weight_init: Initializer = he_normal,
    method: str | None = None,
) -> Layer:
    """Convolution with `filters` kernels, y = x ⋆ w + b; it learns its input channels in `init`.

    `kernel`, `stride` and `padding` are a number or (height, width); `padding` may also be "same"
    (⌈size/stride⌉ outputs) or "valid" (0). Weights {"w": (kh, kw, c, filters), "b": (filters,)},
    without "b" when `bias` is False; b starts at zero. `method` is as in `convolve`.
    Raises TypeError for `filters` that are no whole number, a `bias` that is no bool and a
    `weight_init` that is no such function; ValueError for other arguments of another kind, for
    examples that are not (h, w, c), when not one window fits the image, and for params of another
    network.
    Source: LeCun, Bottou, Bengio & Haffner (1998), section II.A.

    >>> params = conv(30, 5).init(jax.random.key(0), (28, 28, 1))
    >>> params.weights["w"].shape
    (5, 5, 1, 30)
    """
    filters = whole("conv: filters", filters, least=1)
    flag("conv", bias=bias)
    initialiser("conv", weight_init)
    kernel, stride = pair("conv: kernel", kernel), pair("conv: stride", stride)
    window("conv", kernel, kernel, stride, padding)  # says at once what is wrong with padding
    _check_method(method)

    def init(key, sizes):
        sizes = shape(sizes)
        window("conv", image_sizes("conv", (1, *sizes)), kernel, stride, padding)
        w = drawn("conv", weight_init, key, (*kernel, sizes[2], filters))
        return {"w": w, "b": jnp.zeros(filters, w.dtype)} if bias else {"w": w}

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        w, *b = named("conv", "weights", weights, "w", *(["b"] if bias else []))
        return convolve(x, w, b[0] if bias else jnp.zeros((), w.dtype), stride, padding, method)

    arguments = {
        "filters": filters,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "bias": bias,
        "weight_init": weight_init,
        "method": method,
    }
    return stateless(init, apply, spec=("conv", arguments))
