"""The forms of a convolution: ways to compute its three products, with the same numbers.

A form is three functions of arrays of one dtype, made for one geometry:

    output           (x, w) -> y     the convolution
    input_cotangent  (g, w) -> dx    every output's cotangent, times the kernel, to its window
    kernel_cotangent (x, g) -> dw    every window, times the cotangent of its output

`purenet.nn.conv.choose_method` says which form runs where.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlib
from jax import lax

from purenet.nn import depthwise, winograd
from purenet.nn.columns import Form, columns
from purenet.nn.windows import Geometry, Padding, add_shifts, shifts, window_counts


# im2col of b outputs at a time: a row is the inputs of b neighbours, each is read once
def blocked(at: Geometry) -> Form:
    """Columns of which a row serves b neighbouring outputs, times a banded kernel; stride 1.

    A row has kh (b + kw - 1) c numbers in place of b kh kw c: fewer copies, more multiplications,
    by (b + kw - 1)/kw. Kernels that differ, but share their images, run as columns under vmap:
    the copies are made once there, and the multiplications are not.
    """
    unrolled = columns(at)

    def output(x, w):
        b = block_width(at.kernel[1], at.outputs[1], w.shape[3])
        y = _unrolled(at, b, x) @ _banded(b, w)  # (n, oh, ow/b, kh(b+kw-1)c)(kh(b+kw-1)c, bf)
        return y.reshape(*y.shape[:2], y.shape[2] * b, w.shape[3])[:, :, : at.outputs[1]]

    def input_cotangent(g, w):
        b = block_width(at.kernel[1], at.outputs[1], g.shape[3])
        return _rolled(at, b, _in_blocks(b, g) @ _banded(b, w).T, w.shape[2])

    def kernel_cotangent(x, g):
        (kh, kw), c, f = at.kernel, x.shape[3], g.shape[3]
        b = block_width(kw, at.outputs[1], f)
        rows = _unrolled(at, b, x)
        rows, g = rows.reshape(-1, rows.shape[3]), _in_blocks(b, g).reshape(-1, b * f)
        narrow = b * f < rows.shape[1]  # as for columns
        d = ((g.T @ rows).T if narrow else rows.T @ g).reshape(kh, b + kw - 1, c, b, f)
        return sum(d[:, q : q + kw, :, q] for q in range(b))

    return Form(
        _columns_where_shared(output, unrolled.output),
        input_cotangent,
        _columns_where_shared(kernel_cotangent, unrolled.kernel_cotangent),
    )


def block_width(kernel: int, outputs: int, filters: int) -> int:
    """How many neighbouring outputs of a row are computed together, by the width of the kernel.

    The width less one, half of that where many filters make multiplications dear, or a little more
    where that divides the row; of wide kernels 16.

    >>> block_width(5, 24, 30), block_width(5, 24, 64), block_width(3, 27, 16)
    (4, 2, 3)
    >>> block_width(10**9, 10**9, 1)
    16
    """
    least = kernel - 1 if filters <= 32 else max(2, kernel // 2)
    least = max(1, min(least, outputs, 16))
    return next((b for b in range(least, 2 * least) if outputs % b == 0), least)


# an image of `blocked` is one of pixels of b columns and b·c channels; a window is kh of them high
# and 1 + more wide
def _cells(at, b):
    """Blocks of outputs in a row, and how many more of inputs there are to their right."""
    return -(-at.outputs[1] // b), -(-(at.kernel[1] - 1) // b)


def _windows(at, b) -> tuple[tuple[int, int], tuple[int, int], Padding]:
    return (at.kernel[0], 1 + _cells(at, b)[1]), (1, 1), ((0, 0), (0, 0))


def _unrolled(at, b, x):  # (n, h, w, c) -> (n, oh, cells, kh (b + kw - 1) c)
    (cells, more), (top_bottom, (left, _)), c = _cells(at, b), at.pads, x.shape[3]
    right = b * (cells + more) - left - at.sizes[1]
    x = lax.pad(
        x, jnp.zeros((), x.dtype), ((0, 0, 0), (*top_bottom, 0), (left, right, 0), (0, 0, 0))
    )
    x = x.reshape(*x.shape[:2], cells + more, b * c)
    views = shifts(x, *_windows(at, b), (at.outputs[0], cells))
    last = (b + at.kernel[1] - 1 - b * more) * c  # columns of the last block that a row needs
    views = [v[..., :last] if i % (1 + more) == more else v for i, v in enumerate(views)]
    return jnp.concatenate(views, axis=-1)


def _rolled(at, b, rows, c):  # the transpose of `_unrolled`
    (cells, more), ((top, bottom), (left, _)), (h, w) = _cells(at, b), at.pads, at.sizes
    rows = rows.reshape(*rows.shape[:3], at.kernel[0], -1)
    rows = jnp.pad(rows, [(0, 0)] * 4 + [(0, b * (1 + more) * c - rows.shape[4])])
    views = [rows[..., i, j * b * c : (j + 1) * b * c]
             for i in range(at.kernel[0]) for j in range(1 + more)]  # fmt: skip
    x = add_shifts(views, (h + top + bottom, cells + more), *_windows(at, b))
    x = x.reshape(*x.shape[:2], -1, c)
    return x[:, top : top + h, left : left + w]


def _in_blocks(b, g):  # (n, oh, ow, f) -> (n, oh, cells, bf)
    g = jnp.pad(g, ((0, 0), (0, 0), (0, -g.shape[2] % b), (0, 0)))
    return g.reshape(*g.shape[:2], g.shape[2] // b, b * g.shape[3])


def _banded(b, w):  # (kh (b + kw - 1) c, bf): output q of a block sees the columns from q on
    bands = [jnp.pad(w, ((0, 0), (q, b - 1 - q), (0, 0), (0, 0))) for q in range(b)]
    return jnp.stack(bands, axis=3).reshape(-1, b * w.shape[3])


def _columns_where_shared(product: Callable, columns: Callable) -> Callable:
    """`product`, but `columns` under a vmap over its second argument alone."""

    @jax.custom_batching.custom_vmap
    def single(x, other):
        return product(x, other)

    @single.def_vmap
    def batched(count, batched, x, other):
        del count
        chosen = columns if batched == [False, True] else product
        return jax.vmap(chosen, [0 if b else None for b in batched])(x, other), True

    return _with_derivatives(single, columns)


def _with_derivatives(product: Callable, columns: Callable) -> Callable:
    """A product of two arrays, linear in each, whose derivatives are `columns`."""

    @jax.custom_jvp
    def op(a, b):
        return product(a, b)

    @op.defjvp
    def tangent(primals, tangents):
        (a, b), (da, db) = primals, tangents
        # `op`, not `product`: the next derivative comes by here again
        return op(a, b), columns(da, b) + columns(a, db)

    return op


# products of neighbours
def by_channel(at: Geometry) -> Form:
    """Elementwise products, for groups of one channel and one filter."""
    return Form(
        lambda x, w: depthwise.output(at, x, w),
        lambda g, w: depthwise.input_cotangent(at, g, w),
        _with_derivatives(
            lambda x, g: depthwise.kernel_cotangent(at, x, g), columns(at).kernel_cotangent
        ),
    )


# lax.conv
def direct(at: Geometry) -> Form:
    """lax.conv for y and dx, nothing unrolled; under vmap over kernels it runs as columns."""
    unrolled, native = columns(at), lax_conv(at, _with_spare_rows)
    return Form(
        _columns_under_vmap(native.output, unrolled.output),
        _columns_under_vmap(native.input_cotangent, unrolled.input_cotangent),
        unrolled.kernel_cotangent,
    )


def _convolve(x, w, pads, stride=(1, 1), apart=(1, 1), dilation=(1, 1), groups=1):
    """lax.conv of images whose pixels are `apart`, with kernels whose places are `dilation`."""
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, stride, pads, apart, dilation, layout, feature_group_count=groups
    )


def _with_spare_rows(x, w, pads, stride=(1, 1), apart=(1, 1), dilation=(1, 1), groups=1):
    """`_convolve`, with a few rows more where XLA would use one core, which are cut off again.

    On a CPU, XLA gives convolutions to a library that runs them on one core: of float32, with more
    than 16 channels or filters and no more outputs than inputs. Inside `shard_map` other devices
    keep the other cores busy, and there it is the faster one.
    """
    rows, *_ = window_counts(x.shape[1:3], pads, w.shape[:2], stride)
    measured = jaxlib.__version__.startswith(_MEASURED)
    wanted = spare_rows(x.shape, w.shape, pads) if measured else 0
    plain = {stride, apart, dilation} != {(1, 1)} or x.dtype != jnp.float32
    if plain or jax.sharding.get_abstract_mesh().manual_axes or not wanted:
        return _convolve(x, w, pads, stride, apart, dilation, groups)
    (top, bottom), sides = pads
    return _convolve(x, w, ((top, bottom + wanted), sides))[:, :rows]


def spare_rows(x_shape: tuple[int, ...], w_shape: tuple[int, ...], pads: Padding) -> int:
    """How many rows keep a convolution of stride 1 off XLA's single-core path; 0 where none do.

    At most three quarters of the rows there are, or the work would cost more than the second core
    gives. Measured with jaxlib 0.10, and used there only; `scripts/benchmark.py convolutions` shows
    whether it pays.

    >>> same = ((1, 1), (1, 1))
    >>> spare_rows((100, 14, 14, 32), (3, 3, 32, 16), same)
    1
    >>> spare_rows((100, 28, 28, 16), (3, 3, 16, 16), same)
    0
    """
    sizes, kernel = x_shape[1:3], w_shape[:2]
    rows, width = window_counts(sizes, pads, kernel, (1, 1))
    if max(w_shape[2:]) <= 16 or kernel == (1, 1):
        return 0
    wanted = max(0, sizes[0] * sizes[1] // width + 1 - rows)
    return wanted if 4 * wanted <= 3 * rows else 0


_MEASURED = "0.10."


def lax_conv(at: Geometry, convolve: Callable = _convolve) -> Form:
    """lax.conv and its two transposes, grouped under vmap over kernels: what accelerators like."""

    def output(x, w):
        return convolve(x, w, at.pads, at.stride, dilation=at.dilation, groups=at.groups)

    def input_cotangent(g, w):
        # the forward convolution of g, its entries `stride` apart, with the kernel turned around
        around = [
            (k - 1 - low, size + low - s * (out - 1) - 1)
            for k, (low, _), size, s, out in zip(
                at.extents, at.pads, at.sizes, at.stride, at.outputs, strict=True
            )
        ]
        if any(
            k == s == 2 and ends == (0, 0)
            for k, s, ends in zip(at.kernel, at.stride, around, strict=True)
        ):
            # XLA (of jaxlib 0.10) takes such an axis for a grouped convolution when it swaps the
            # operands, and ends the process: its window no longer fits
            return columns(at).input_cotangent(g, w)
        turned = _exchanged(w[::-1, ::-1], at.groups)  # (kh, kw, f/groups, c)
        return convolve(g, turned, tuple(around), (1, 1), at.stride, at.dilation, at.groups)

    def kernel_cotangent(x, g):
        # images and channels change places: over x slides g, its entries `stride` apart
        ends = tuple(
            (low, k + s * (out - 1) - size - low)
            for k, (low, _), size, s, out in zip(
                at.extents, at.pads, at.sizes, at.stride, at.outputs, strict=True
            )
        )
        layout = ("CHWN", "IHWO", "HWNC")
        return lax.conv_general_dilated(
            x, g, at.dilation, ends, (1, 1), at.stride, layout, batch_group_count=at.groups
        )

    return Form(output, input_cotangent, kernel_cotangent)


def _exchanged(w, groups):
    """A kernel with the channels and the filters of each group in each other's places."""
    if groups == 1:
        return w.swapaxes(2, 3)
    w = w.reshape(*w.shape[:3], groups, w.shape[3] // groups)
    return w.swapaxes(2, 4).reshape(*w.shape[:2], w.shape[4], groups * w.shape[2])


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

    return _with_derivatives(product, columns)


# fewer multiplications
def by_winograd(at: Geometry) -> Form:
    """F(4x4, 3x3), for kernels of 3x3 and stride 1; under vmap its products are batched."""
    return Form(
        lambda x, w: winograd.output(x, w, at.pads),
        lambda g, w: winograd.input_cotangent(g, w, at.sizes, at.pads),
        lambda x, g: winograd.kernel_cotangent(x, g, at.pads),
    )


FORMS = {
    "columns": columns,
    "blocked": blocked,
    "direct": direct,
    "winograd": by_winograd,
    "depthwise": by_channel,
    "lax": lax_conv,
}


def on_cpus_else_lax(form: Callable[[Geometry], Form], at: Geometry) -> Form:
    """A form where the program is lowered for a CPU, `lax_conv` on all other platforms.

    >>> form = on_cpus_else_lax(columns, Geometry((1, 2), (1, 2), (1, 1), ((0, 0), (0, 0))))
    >>> form.output(jnp.ones((1, 1, 2, 1)), jnp.ones((1, 2, 1, 1))).item()
    2.0
    """

    def either(here, there):
        return lambda a, b: lax.platform_dependent(a, b, cpu=here, default=there)

    return Form(*map(either, form(at), lax_conv(at)))
