"""Convolution as matrix products: im2col, every window is a row.

`Form` is what `purenet.nn.conv_forms` says of all forms.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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

    return Form(output, input_cotangent, lambda x, g: _kernel_cotangent(at, x, g))


def _kernel_cotangent(at: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """dw = columns(x)ᵀ g, unrolled on whichever side that is less to copy."""
    (kh, kw), c, f = at.kernel, x.shape[3], g.shape[3]
    if f >= kw * c:
        unrolled = jnp.concatenate(views(at, x), axis=-1)
        return _transposed_product(unrolled, g).reshape(kh, kw, c, f)
    if _shares_rows(at):
        dw = _in_parts(at, x, g, lambda x, g: _transposed_product(*_shared_rows(at, x, g)))
        return dw.reshape(kw, c, kh, f).transpose(2, 0, 1, 3)
    seen = views(at, x)
    rows = [jnp.concatenate(seen[i * kw : (i + 1) * kw], axis=-1) for i in range(kh)]
    return jnp.stack([_transposed_product(row, g).reshape(kw, c, f) for row in rows])


# Bytes of unrolled rows that a CPU writes and reads again as fast as fewer, and those of a part.
# Measured on two cores with 32 MiB of cache.
_AT_ONCE = 10_000_000
_PART = 4_000_000


def _in_parts(at: Geometry, x: jax.Array, g: jax.Array, product: Callable) -> jax.Array:
    """product(x, g), which is summed over the images: part by part, if `_shared_rows` of all images
    do not stay in a CPU's cache."""
    (kh, kw), (oh, ow), count = at.kernel, at.outputs, x.shape[0]
    row = (kw * x.shape[3] + kh * g.shape[3]) * x.dtype.itemsize
    size = count * (oh + kh - 1) * ow * row
    # of a batch of any size, as `jax.export` has it, the number is not known
    if jax.export.is_symbolic_dim(count) or size <= _AT_ONCE:
        return product(x, g)
    least = max(2, -(-size // _PART))
    fits = [k for k in range(least, 4 * least + 1) if count % k == 0]
    if not fits:
        return product(x, g)
    # every k-th image is a part, and better an even number: on a mesh, each device has some of the
    # images of every part
    parts = min(fits, key=lambda k: (count // k % 2, k))
    apart = [a.reshape(-1, parts, *a.shape[1:]) for a in (x, g)]

    def add(i, dw):
        part = product(*(lax.dynamic_index_in_dim(a, i, 1, False) for a in apart))
        return dw + part.astype(dw.dtype)

    wide = jnp.promote_types(x.dtype, jnp.float32)  # as inside one product
    zeros = jnp.zeros((kw * x.shape[3], kh * g.shape[3]), wide)
    return lax.fori_loop(0, parts, add, zeros).astype(x.dtype)


def _transposed_product(a, b):
    """aᵀ b of the last axes, summed over all others."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    # on a CPU the product is faster with the narrower matrix first
    return (b.T @ a).T if b.shape[1] < a.shape[1] else a.T @ b


def _shares_rows(at: Geometry) -> bool:
    """Whether all rows of the kernel see one unrolled image: then dw is one product, of kh - 1
    rows more."""
    plain = at.stride == at.dilation == (1, 1)
    return plain and at.kernel[0] > 1 and 3 * (at.kernel[0] - 1) <= at.outputs[0]


def _shared_rows(at, x, g):
    """The rows of all windows, (n, oh + kh - 1, ow, kw·c), and g moved to those that each row of
    the kernel meets, (n, oh + kh - 1, ow, kh·f)."""
    (kh, kw), (oh, ow) = at.kernel, at.outputs
    rows = jnp.concatenate(shifts(x, (1, kw), (1, 1), at.pads, (oh + kh - 1, ow)), axis=-1)
    around = ((kh - 1, kh - 1), (0, 0))
    moved = shifts(g, (kh, 1), (1, 1), around, (oh + kh - 1, ow))[::-1]
    return rows, jnp.concatenate(moved, axis=-1)


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
