"""Convolution: y = x ⋆ w + b, images (n, h, w, c), kernels (kh, kw, c, f).

Two methods with the same results, both with a hand-written backward pass:

    columns   im2col and one matrix product; it stays a matrix product under vmap over kernels
    direct    lax.conv forward; dx is a forward convolution again; nothing is unrolled

The automatic derivatives of lax.conv are not used: compiled for a CPU, inside a loop, they take
ten to a hundred times as long as its forward.
"""

from collections.abc import Callable
from typing import Annotated

import jax.export
import jax.numpy as jnp
from jax import lax

from purenet.core.types import Array, Layer
from purenet.core.validate import Boolean, PositiveInteger, declared, one_of
from purenet.core.vjp import hand_vjp
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.initializers import he_normal
from purenet.nn.windows import Pair, add_shifts, image_sizes, pair, shifts, window, window_counts

METHODS = ("columns", "direct")
METHOD = one_of(*METHODS)


# the three products of a convolution, in both methods
def _output(method, stride, pads) -> Callable:
    """(x, w) -> y."""

    def columns(x, w):
        kh, kw, c, f = w.shape
        outputs = window_counts(x.shape[1:3], pads, (kh, kw), stride)
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


def choose_method(channels: int, kernel: Pair) -> str:
    """The faster of "columns" and "direct" for one kernel, from the shapes alone.

    Measured on CPUs, forward and backward inside a loop, batches of 4 to 100: columns win where
    there are so few channels that unrolling them costs little (a first layer), and where it costs
    nothing (1x1). Raises ValueError for a kernel that is not one or two integers.

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
    `method` is "columns", "direct" or None, for `choose_method` to decide; a vmap over w always
    uses columns.
    Raises ValueError if shapes do not fit together or no window fits the image.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), chapter 9.

    >>> convolve(jnp.ones((2, 5, 5, 1)), jnp.ones((3, 3, 1, 4)), jnp.zeros(4), 2).shape
    (2, 2, 2, 4)
    """
    method, stride, pads = _checked(x, w, stride, padding, method)
    such = f"({w.shape[3]},), one number for each filter, or the scalar 0 for no bias,"
    expect_shape(jnp.shape(b) in ((), w.shape[3:]), "conv: b", b, such)
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
    such = f"(height, width, {x.shape[3]} channels, filters), to fit x {x.shape},"
    expect_shape(jnp.ndim(w) == 4 and x.shape[3] == w.shape[2], "conv: w", w, such)
    if method is not None:
        METHOD.apply("conv: method", method)
    _, pads = window("conv", sizes, w.shape[:2], stride, padding)
    method = method or choose_method(w.shape[2], w.shape[:2])
    return method, pair("stride", stride), pads


# the layer
@declared
def conv(
    filters: PositiveInteger,
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
    bias: Boolean = True,
    weight_init: WeightInit = he_normal,
    method: Annotated[str, METHOD] | None = None,
) -> Layer:
    """Convolution with `filters` kernels, y = x ⋆ w + b; it learns its input channels in `init`.

    `kernel`, `stride` and `padding` are a number or (height, width); `padding` may also be "same"
    (⌈size/stride⌉ outputs) or "valid" (0). Weights {"w": (kh, kw, c, filters), "b": (filters,)},
    without "b" when `bias` is False; b starts at zero. `method` is as in `convolve`.
    Raises ValueError for any other kernel, stride or padding, for examples that are not (h, w, c),
    if no window fits the image, and for params of another network.
    Source: LeCun, Bottou, Bengio & Haffner (1998), section II.A.

    >>> params = conv(30, 5).init(jax.random.key(0), (28, 28, 1))
    >>> params.weights["w"].shape
    (5, 5, 1, 30)
    """
    kernel, stride = pair("conv: kernel", kernel), pair("conv: stride", stride)
    window("conv", kernel, kernel, stride, padding)  # checks the padding

    def init(key, sizes):
        sizes = shape(sizes)
        window("conv", image_sizes("conv", (1, *sizes)), kernel, stride, padding)
        w = init_weights("conv", weight_init, key, (*kernel, sizes[2], filters))
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
