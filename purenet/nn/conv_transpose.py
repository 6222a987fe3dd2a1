"""Transposed convolution: what a convolution does to cotangents, as a layer that enlarges images.

All three products are those of `conv`, in other roles: the form that computes the cotangent of the
images is the forward pass here, and the convolution itself is the backward pass.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from purenet.core.types import Array, Layer
from purenet.core.validate import Boolean, PositiveInteger, declared, require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.conv import METHOD, form_of, of_one_dtype, sharded_like
from purenet.nn.initializers import he_normal
from purenet.nn.windows import Pair, image_sizes, pair, window

EXAMPLES = {
    "convolve_transposed": (((1, 2, 3, 2), (3, 2, 2, 3), (3,)), ((2, 1), (1, 0))),
}


# forward
def _convolve_transposed(
    x: Array,
    w: Array,
    b: Array | float,
    stride: Pair = 1,
    padding: Pair | str = 0,
    method: str | None = None,
) -> jax.Array:
    """The transpose of a convolution: every pixel times the kernel, added to its window, + b.

        y[stride o + k - p] = Σ x[o] w[k] + b, over all pixels o and places k that meet there

    Shapes: x (n, h, w, c), w (kh, kw, c, f), b (f,) or a scalar 0 for no bias -> (n, oh, ow, f)
    with oh = (h - 1) stride + kh - 2p, p the padding, which is cut off; h · stride for "same";
    p = 0 for "valid". These are the smallest images from which `convolve` makes h x w again, and
    the cotangent that it gives them for the kernel (kh, kw, f, c).
    With cotangent g: dx = g ⋆ wᵀ, a convolution, dw = im2col(g)ᵀ x, db = Σ g.
    `method` is as in `convolve`, for that convolution; None is what `choose_method` says of it on a
    CPU, with "columns" for "direct", and "lax" elsewhere.
    Raises ValueError if shapes do not fit together, nothing is left beside the padding, or the
    method does not fit the kernel.
    Source: Dumoulin & Visin (2016), chapter 4; Zeiler et al. (2010).

    >>> convolve_transposed(jnp.ones((1, 1, 2, 1)), jnp.ones((1, 3, 1, 1)), 0.0, 2).ravel().tolist()
    [1.0, 1.0, 2.0, 1.0, 1.0]
    """
    form = _form(x, w, stride, padding, method)
    such = f"({w.shape[3]},), one number for each filter, or the scalar 0 for no bias,"
    expect_shape(jnp.shape(b) in ((), w.shape[3:]), "conv_transpose: b", b, such)
    product = lambda x, w: form.input_cotangent(x, w.swapaxes(2, 3))
    y = sharded_like(x, w, product)(*of_one_dtype(x, w))
    return y + (b if jnp.ndim(b) == 0 else jnp.asarray(b)[None, None, None])


# backward, by hand
def _convolve_transposed_fwd(x, w, b, stride, padding, method):
    return _convolve_transposed(x, w, b, stride, padding, method), (x, w)


def _convolve_transposed_bwd(stride, padding, method, residuals, g):
    x, w = residuals
    form = _form(x, w, stride, padding, method)
    x, w = of_one_dtype(x, w)
    wide = g.astype(x.dtype)
    dx = form.output(wide, w.swapaxes(2, 3))  # (n, oh, ow, f) -> (n, h, w, c)
    dw = form.kernel_cotangent(wide, x).swapaxes(2, 3)  # (kh, kw, f, c) -> (kh, kw, c, f)
    return dx, dw, g.sum(axis=(0, 1, 2))


convolve_transposed = hand_vjp(
    _convolve_transposed, _convolve_transposed_fwd, _convolve_transposed_bwd, static=(3, 4, 5)
)


def _form(x, w, stride, padding, method):
    """That of the convolution which is transposed: from (oh, ow, f) to (h, w, c)."""
    sizes = image_sizes("conv_transpose", jnp.shape(x))
    such = f"(height, width, {x.shape[3]} channels, filters), to fit x {x.shape},"
    expect_shape(jnp.ndim(w) == 4 and x.shape[3] == w.shape[2], "conv_transpose: w", w, such)
    images = (x.shape[0], *enlarged(sizes, w.shape[:2], stride, padding), w.shape[3])
    kernel, dtype = (*w.shape[:2], w.shape[3], w.shape[2]), jnp.result_type(x, w)
    where = (stride, padding, method)
    return form_of("conv_transpose", images, kernel, dtype, *where, transposed=True)


def enlarged(
    sizes: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair | str
) -> tuple[int, ...]:
    """(height, width) of the output: (size - 1) stride + kernel - 2 padding, or size · stride.

    Raises ValueError for another kernel, stride or padding, and if nothing is left.

    >>> enlarged((7, 7), 4, 2, 1), enlarged((7, 7), 3, 2, "same")
    ((14, 14), (14, 14))
    """
    caller = "conv_transpose"
    kernel, stride = pair(f"{caller}: kernel", kernel), pair(f"{caller}: stride", stride)
    _, pads = window(caller, kernel, kernel, stride, padding)  # of a number: as it is
    if padding == "same":
        return tuple(size * s for size, s in zip(sizes, stride, strict=True))
    axes = list(zip(sizes, stride, kernel, map(sum, pads), strict=True))
    found = tuple((size - 1) * s + k - cut for size, s, k, cut in axes)
    require(
        min(found) >= 1,
        f"{caller}: of images {sizes} with kernel {kernel} and stride {stride}, the padding "
        f"{padding} leaves {found}: (size - 1) · stride + kernel - 2 · padding; use less padding.",
    )
    return found


# the layer
@declared
def conv_transpose(
    filters: PositiveInteger,
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
    bias: Boolean = True,
    weight_init: WeightInit = he_normal,
    method: Annotated[str, METHOD] | None = None,
) -> Layer:
    """Transposed convolution: images (h, w, c) -> larger ones, of `filters` channels.

    Outputs have (size - 1) stride + kernel - 2 padding pixels along each axis, or size · stride
    with "same". `kernel`, `stride` and `padding` are a number or (height, width); `padding`, which
    is cut off, may also be "same" or "valid" (0). Weights {"w": (kh, kw, c, filters), "b":
    (filters,)}, without "b" when `bias` is False; b starts at zero, and w is scaled by the fan-in
    kh kw c / (stride of height · width), as many inputs as an output has on average. `method` is as
    in `convolve_transposed`.
    Raises ValueError for any other kernel, stride or padding, for examples that are not (h, w, c),
    if the padding leaves nothing, and for params of another network.
    Source: Zeiler et al. (2010); Dumoulin & Visin (2016), chapter 4.

    >>> net = conv_transpose(3, 4, stride=2, padding=1)
    >>> params = net.init(jax.random.key(0), (7, 7, 8))
    >>> net.apply(params, jnp.ones((5, 7, 7, 8)), True, None)[0].shape
    (5, 14, 14, 3)
    """
    kernel, stride = pair("conv_transpose: kernel", kernel), pair("conv_transpose: stride", stride)
    window("conv_transpose", kernel, kernel, stride, padding)  # checks the padding

    def init(key, sizes):
        sizes = shape(sizes)
        enlarged(image_sizes("conv_transpose", (1, *sizes)), kernel, stride, padding)
        places = kernel[0] * kernel[1]
        fans = places * sizes[2] / (stride[0] * stride[1]), places * filters
        w = init_weights("conv_transpose", weight_init, key, (*kernel, sizes[2], filters), fans)
        return {"w": w, "b": jnp.zeros(filters, w.dtype)} if bias else {"w": w}

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        w, *b = named("conv_transpose", "weights", weights, "w", *(["b"] if bias else []))
        shift = b[0] if bias else jnp.zeros((), w.dtype)
        return convolve_transposed(x, w, shift, stride, padding, method)

    arguments = {
        "filters": filters,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "bias": bias,
        "weight_init": weight_init,
        "method": method,
    }
    return stateless(init, apply, spec=("conv_transpose", arguments))
