"""Convolution: y = x ⋆ w + b, images (n, h, w, c), kernels (kh, kw, c, f).

Several forms compute it, all with a hand-written backward pass and the same results up to rounding
(`purenet.nn.conv_forms`); `choose_method` has the table of which runs where. The automatic
derivatives of lax.conv are not used on CPUs: inside a loop they take ten to a hundred times as long
as its forward.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from purenet.core.types import Array, Layer
from purenet.core.validate import Boolean, PositiveInteger, declared, integer, one_of, require
from purenet.core.vjp import hand_vjp
from purenet.nn import winograd
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.columns import Form, unrolled_once
from purenet.nn.conv_forms import FORMS, on_cpus_else_lax
from purenet.nn.initializers import he_normal
from purenet.nn.windows import Geometry, Pair, extents, image_sizes, pair, window

METHODS = tuple(FORMS)
METHOD = one_of(*METHODS)


def choose_method(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair = 1,
    padding: Pair | str = 0,
    dtype: DTypeLike = "float32",
    groups: int = 1,
    dilation: Pair = 1,
) -> str:
    """The form that runs on a CPU, by the shapes alone; the first row that fits.

    | method | where | why |
    |---|---|---|
    | "depthwise" | groups of one channel and one filter | elementwise, no matrix |
    | "columns" | other groups, dilation | one product, batched over the groups |
    | "columns" | 1x1 | nothing is unrolled |
    | "blocked" | up to 4 channels, stride 1 | copying windows costs more than multiplying them |
    | "columns" | up to 4 channels, other strides | windows overlap less |
    | "winograd" | 3x3, stride 1, at least 32 channels and filters, 3 for each pixel of a side, \
float32 or float64 | less than half the multiplications, transforms included |
    | "direct" | elsewhere | nothing is unrolled but, for dw, the rows of the windows |

    A GPU or TPU runs "lax", lax.conv and its two transposes, for every shape; the choice between
    that and this table falls where the program is lowered. A vmap over kernels runs "direct" as
    columns, and "lax" as one grouped convolution; the others are matrix products, which it batches.
    Measured on CPUs, forward and backward inside a loop, batches of 4 to 100; on accelerators by
    what the compilers estimate. For `groups` and `dilation` see `convolve`.
    Raises ValueError for what `convolve` refuses.

    >>> choose_method((100, 28, 28, 1), (5, 5, 1, 30)), choose_method((9, 9, 9, 64), (1, 1, 64, 8))
    ('blocked', 'columns')
    >>> choose_method((100, 28, 28, 16), (3, 3, 16, 16), 1, "same")
    'direct'
    >>> choose_method((100, 8, 8, 32), (3, 3, 32, 32), 1, "same")
    'winograd'
    >>> choose_method((100, 14, 14, 32), (3, 3, 1, 32), groups=32)
    'depthwise'
    """
    sizes, kernel = image_sizes("conv", x_shape), (w_shape[0], w_shape[1])
    outputs, _ = window("conv", sizes, kernel, stride, padding, dilation)
    if groups > 1 or pair("conv: dilation", dilation) != (1, 1):
        return "depthwise" if groups > 1 and w_shape[2:] == (1, groups) else "columns"
    one_apart = pair("conv: stride", stride) == (1, 1)
    channels, least = w_shape[2], min(w_shape[2:])
    if kernel == (1, 1):
        return "columns"
    if channels <= 4:
        return "blocked" if one_apart and kernel[1] > 1 else "columns"
    covered = winograd.tiles(outputs)
    wasteful = 16 * covered[0] * covered[1] > 2 * outputs[0] * outputs[1]
    worth = max(32, 3 * max(outputs)) <= least and not wasteful
    fine = jnp.finfo(dtype).bits >= 32
    if one_apart and kernel == (3, 3) and fine and worth:
        return "winograd"
    return "direct"


# forward
def _convolve(
    x: Array,
    w: Array,
    b: Array | float,
    stride: Pair = 1,
    padding: Pair | str = 0,
    method: str | None = None,
    groups: int = 1,
    dilation: Pair = 1,
) -> jax.Array:
    """Convolution (cross-correlation, as in all libraries): yₒ = Σ x[window o] w + b.

    Shapes: x (n, h, w, c), w (kh, kw, c/groups, f), b (f,) or a scalar 0 for no bias -> (n, oh, ow,
    f) with oh = (h + 2p - dilation (kh - 1) - 1)/stride + 1, rounded down, p the padding; see
    `window` for "same". The places of a window are `dilation` pixels apart. With `groups`, the
    first f/groups filters see the first c/groups channels, and so on.
    With cotangent g: dx = col2im(g wᵀ), dw = im2col(x)ᵀ g, db = Σ g, within each group.
    `method` is one of `METHODS` or None: what `choose_method` says on a CPU, "lax" elsewhere.
    "winograd" is for 3x3 kernels of stride 1, and rounds up to ten times as coarsely (1e-5 of the
    largest output in float32); "blocked" is for stride 1; both, and "direct", are for one group,
    "depthwise" for groups of one channel and one filter.
    Raises ValueError if shapes do not fit together or no window fits the image, or the method does
    not fit the kernel; TypeError for groups that are not an integer.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), chapter 9; Krizhevsky, Sutskever &
    Hinton (2012) for groups; Yu & Koltun (2016) for dilation.

    >>> convolve(jnp.ones((2, 5, 5, 1)), jnp.ones((3, 3, 1, 4)), jnp.zeros(4), 2).shape
    (2, 2, 2, 4)
    """
    form = _form(x, w, stride, padding, method, groups, dilation)
    such = f"({w.shape[3]},), one number for each filter, or the scalar 0 for no bias,"
    expect_shape(jnp.shape(b) in ((), w.shape[3:]), "conv: b", b, such)
    y = sharded_like(x, w, form.output)(*of_one_dtype(x, w))
    return y + (b if jnp.ndim(b) == 0 else jnp.asarray(b)[None, None, None])


# backward, by hand
def _convolve_fwd(x, w, b, *static):
    return _convolve(x, w, b, *static), (x, w)


def _convolve_bwd(stride, padding, method, groups, dilation, residuals, g):
    x, w = residuals
    form = _form(x, w, stride, padding, method, groups, dilation)
    x, w = of_one_dtype(x, w)
    wide = g.astype(x.dtype)  # a bias of more bits gives the output more than the products need
    dx, dw = form.input_cotangent(wide, w), form.kernel_cotangent(x, wide)
    db = g.sum(axis=(0, 1, 2))  # (n, oh, ow, f) -> (f,)
    return dx, dw, db


convolve = hand_vjp(_convolve, _convolve_fwd, _convolve_bwd, static=(3, 4, 5, 6, 7))


def sharded_like(x: Array, w: Array, output: Callable) -> Callable:
    """On a mesh with explicit axes, `output` by the images of x and the filters of w.

    >>> sharded_like(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1)), abs)
    <built-in function abs>
    """
    if not jax.sharding.get_abstract_mesh().explicit_axes:
        return output
    images, filters = jax.typeof(x).sharding.spec[0], jax.typeof(w).sharding.spec[3]
    spec = jax.sharding.PartitionSpec(images, None, None, filters)
    return jax.sharding.auto_axes(output, out_sharding=spec)


def of_one_dtype(x: Array, w: Array) -> tuple[Array, Array]:
    """Both in the dtype that their product has.

    >>> [a.dtype.name for a in of_one_dtype(jnp.ones(1, "bfloat16"), jnp.ones(1, "float32"))]
    ['float32', 'float32']
    """
    dtype = jnp.result_type(x, w)
    return x.astype(dtype), w.astype(dtype)


def _form(x, w, stride, padding, method, groups, dilation) -> Form:
    image_sizes("conv", jnp.shape(x))  # checks the shape
    groups = integer("conv: groups", groups, least=1)
    _expect_kernel(x, w, groups)
    dtype = jnp.result_type(x, w)
    return form_of("conv", x.shape, w.shape, dtype, stride, padding, method, groups, dilation)


def form_of(
    caller: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: DTypeLike,
    stride: Pair,
    padding: Pair | str,
    method: str | None,
    groups: int = 1,
    dilation: Pair = 1,
    transposed: bool = False,
) -> Form:
    """The form of a convolution: that of `method`, or the one of `choose_method`'s table.

    Of one that is `transposed`, "columns" are unrolled once for both cotangents, and they run where
    the table has "direct".
    Raises ValueError for a method that is unknown or does not fit the kernel.

    >>> form = form_of("conv", (1, 2, 2, 1), (2, 2, 1, 1), "float32", 1, 0, "columns")
    >>> form.output(jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1))).item()
    4.0
    """
    sizes, kernel = x_shape[1:3], (w_shape[0], w_shape[1])
    _, pads = window(caller, sizes, kernel, stride, padding, dilation)
    stride, apart = pair("stride", stride), pair("dilation", dilation)
    at = Geometry(sizes, kernel, stride, pads, groups, apart)
    forms = {**FORMS, "columns": unrolled_once} if transposed else FORMS
    if method is not None:
        METHOD.apply(f"{caller}: method", method)
        such, fits = _purpose(method, at, w_shape)
        require(
            fits,
            f"{caller}: method {method!r} is for {such}, but the kernel is {w_shape}, the stride "
            f"{stride}, the dilation {apart} and there are {groups} groups; leave out `method`.",
        )
        return forms[method](at)
    chosen = choose_method(x_shape, w_shape, stride, padding, dtype, groups, apart)
    return on_cpus_else_lax(forms["columns" if transposed and chosen == "direct" else chosen], at)


def _expect_kernel(x, w, groups):
    _expect_divisible(x.shape[3], "channels", groups)
    such = f"(height, width, {x.shape[3] // groups} channels, filters), to fit x {x.shape}"
    such += f" in {groups} groups," if groups > 1 else ","
    expect_shape(jnp.ndim(w) == 4 and x.shape[3] == groups * w.shape[2], "conv: w", w, such)
    _expect_divisible(w.shape[3], "filters", groups)


def _expect_divisible(count, what, groups):
    require(
        count % groups == 0,
        f"conv: groups is {groups}, but there are {count} {what}: each group has as many, so that "
        f"their number is a multiple of {groups}.",
    )


def _purpose(method, at, w_shape):
    """What a method is for, in words, and whether the convolution is such a one."""
    plain = (at.stride, at.dilation, at.groups) == ((1, 1), (1, 1), 1)
    if method == "blocked":
        return "stride 1, dilation 1 and one group", plain
    if method == "winograd":
        threes = at.kernel == (3, 3)
        return "stride 1, dilation 1, one group and kernels of 3x3", plain and threes
    if method == "depthwise":
        return "groups of one channel and one filter", w_shape[2:] == (1, at.groups)
    return "one group", at.groups == 1 or method != "direct"


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
    groups: PositiveInteger = 1,
    dilation: Pair = 1,
) -> Layer:
    """Convolution with `filters` kernels, y = x ⋆ w + b; it learns its input channels in `init`.

    `kernel`, `stride`, `padding` and `dilation` are a number or (height, width); `padding` may also
    be "same" (⌈size/stride⌉ outputs) or "valid" (0). Weights {"w": (kh, kw, c/groups, filters),
    "b": (filters,)}, without "b" when `bias` is False; b starts at zero, w is scaled by the fans
    of one group. `groups` equal to the channels is a depthwise convolution. `method` and the rest
    are as in `convolve`.
    Raises ValueError for any other kernel, stride, padding or dilation, for examples that are not
    (h, w, c), if no window fits the image, for channels or filters that are not divisible by
    `groups`, and for params of another network.
    Source: LeCun, Bottou, Bengio & Haffner (1998), section II.A.

    >>> params = conv(30, 5).init(jax.random.key(0), (28, 28, 1))
    >>> params.weights["w"].shape
    (5, 5, 1, 30)
    """
    kernel, stride = pair("conv: kernel", kernel), pair("conv: stride", stride)
    dilation = pair("conv: dilation", dilation)
    smallest = extents(kernel, dilation)
    window("conv", smallest, kernel, stride, padding, dilation)  # checks the padding
    _expect_divisible(filters, "filters", groups)

    def init(key, sizes):
        sizes = shape(sizes)
        window("conv", image_sizes("conv", (1, *sizes)), kernel, stride, padding, dilation)
        _expect_divisible(sizes[2], "channels", groups)
        seen, places = sizes[2] // groups, kernel[0] * kernel[1]
        fans = (places * seen, places * filters // groups) if groups > 1 else None
        w = init_weights("conv", weight_init, key, (*kernel, seen, filters), fans)
        return {"w": w, "b": jnp.zeros(filters, w.dtype)} if bias else {"w": w}

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        w, *b = named("conv", "weights", weights, "w", *(["b"] if bias else []))
        shift = b[0] if bias else jnp.zeros((), w.dtype)
        return convolve(x, w, shift, stride, padding, method, groups, dilation)

    arguments = {
        "filters": filters,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "bias": bias,
        "weight_init": weight_init,
        "method": method,
        "groups": groups,
        "dilation": dilation,
    }
    return stateless(init, apply, spec=("conv", arguments))
