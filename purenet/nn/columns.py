"""Convolution as matrix products: im2col, every window is a row.

`Form` is what `purenet.nn.conv_forms` says of all forms.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.nn.windows import Geometry, add_shifts, few_places, shifts, views


class Form(NamedTuple):
    """The three products of a convolution."""

    output: Callable
    input_cotangent: Callable
    kernel_cotangent: Callable


def columns(at: Geometry) -> Form:
    """One matrix product with the unrolled windows; under vmap over kernels it stays that.

    One for each group of channels, batched, where there are several.
    """
    if at.groups > 1:
        return _in_groups(at)
    where = (at.kernel, at.stride, at.pads)

    def output(x, w):
        unrolled = jnp.concatenate(views(at, x), axis=-1)
        return unrolled @ w.reshape(-1, w.shape[3])  # (n, oh, ow, khkwc)(khkwc, f)

    def input_cotangent(g, w):
        unrolled = g @ w.reshape(-1, w.shape[3]).T  # (n, oh, ow, f)(f, khkwc)
        kh, kw = at.kernel
        return add_shifts(jnp.split(unrolled, kh * kw, axis=-1), at.sizes, *where, at.dilation)

    return Form(output, input_cotangent, _by_rows_of_the_kernel(at))


def _by_rows_of_the_kernel(at: Geometry) -> Callable:
    """dw = columns(x)ᵀ g, one product a row of the kernel: kw shifts are unrolled, not kh·kw."""
    kw = at.kernel[1]
    places = _shared_rows if _rows_are_shared(at) else _own_rows

    def kernel_cotangent(x, g):
        c, f = x.shape[3], g.shape[3]
        dw = []
        for row, moved in places(at, x, g):
            row, moved = row.reshape(-1, kw * c), moved.reshape(-1, f)  # (n·h·ow, kw·c or f)
            # on a CPU the product is faster with the narrower matrix first
            product = (moved.T @ row).T if f < kw * c else row.T @ moved
            dw.append(product.reshape(kw, c, f))
        return jnp.stack(dw)

    return kernel_cotangent


def _rows_are_shared(at: Geometry) -> bool:
    """Whether all rows of the kernel see one unrolled image: it saves temporaries (a third of a
    DeepConvNet's step, which takes as long), and costs products of kh - 1 rows more."""
    plain = at.stride == at.dilation == (1, 1)
    return plain and at.kernel[0] > 1 and 7 * (at.kernel[0] - 1) <= at.outputs[0]


def _own_rows(at, x, g):
    """For each row of the kernel, the windows' rows that meet it, (n, oh, ow, kw·c), and g."""
    (kh, kw), seen = at.kernel, views(at, x)
    for i in range(kh):
        yield jnp.concatenate(seen[i * kw : (i + 1) * kw], axis=-1), g


def _shared_rows(at, x, g):
    """The same with the rows of all windows, (n, oh + kh - 1, ow, kw·c), and g moved to them."""
    (kh, kw), (oh, ow) = at.kernel, at.outputs
    rows = jnp.concatenate(shifts(x, (1, kw), (1, 1), at.pads, (oh + kh - 1, ow)), axis=-1)
    for i in range(kh):
        yield rows, jnp.pad(g, ((0, 0), (i, kh - 1 - i), (0, 0), (0, 0)))


def unrolled_once(at: Geometry) -> Form:
    """`columns` with dw as one product of all windows, for groups and transposed convolutions.

    Those see the windows of the same array twice in a backward pass, and unroll them once.
    """

    def output(x, w):
        return _by_axes(at, x) @ w.reshape(-1, w.shape[3])

    def kernel_cotangent(x, g):
        dw = jnp.einsum("nhwk,nhwf->kf", _by_axes(at, x), g)
        return dw.reshape(*at.kernel, x.shape[3], g.shape[3])

    return Form(output, columns(at).input_cotangent, kernel_cotangent)


def _by_axes(at, x):
    """Every window as a row, by rows of the image first: faster where they are `stride` apart."""
    few_places(at.kernel)
    (kh, kw), (sh, sw), (oh, ow), (dh, dw) = at.kernel, at.stride, at.outputs, at.dilation
    width = at.sizes[1] + sum(at.pads[1])
    rows = shifts(x, (kh, 1), (sh, 1), at.pads, (oh, width), dilation=(dh, 1))
    where = (1, kw), (1, sw), ((0, 0), (0, 0)), (oh, ow)
    seen = [view for row in rows for view in shifts(row, *where, dilation=(1, dw))]
    return jnp.concatenate(seen, axis=-1)


def _in_groups(at: Geometry) -> Form:
    """The columns of every group: its channels and its filters are one axis of a vmap."""

    def grouped(product):
        apart = lambda a: a.reshape(*a.shape[:3], at.groups, a.shape[3] // at.groups)

        def of_all(a, b):
            y = jax.vmap(product, 3, 3)(apart(a), apart(b))
            return y.reshape(*y.shape[:3], at.groups * y.shape[4])

        return of_all

    return Form(*map(grouped, unrolled_once(at._replace(groups=1))))
