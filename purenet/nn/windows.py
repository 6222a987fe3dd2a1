"""Windows of an image: geometry, im2col, col2im."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.export
import jax.numpy as jnp
from jax import lax

from purenet.core.types import Array
from purenet.core.validate import expect, is_integer, require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import expect_shape

Pair = int | tuple[int, int]
Padding = tuple[tuple[int, int], ...]  # ((top, bottom), (left, right))
_MOST_PLACES = 4096  # of a window; each is an operation of its own in the compiled program


@jax.tree_util.register_static
class ImageShape(tuple):
    """A shape that travels as structure, so that a backward keeps no array for it."""


# where windows go
def pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """One integer for both axes, or (height, width), as a tuple.

    Raises ValueError for anything else.

    >>> pair("stride", 2), pair("padding", (0, 1), least=0)
    ((2, 2), (0, 1))
    """
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    legal = len(both) == 2 and all(map(is_integer, both)) and min(both) >= least
    such = f"an integer of at least {least}, or two of them (height, width),"
    expect(legal, name, value, such, ValueError)
    return both[0].__index__(), both[1].__index__()


def window(
    name: str,
    sizes: tuple[int, ...],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair | str = "valid",
    dilation: Pair = 1,
) -> tuple[tuple[int, ...], Padding]:
    """Where the windows lie: (output sizes, ((top, bottom), (left, right)) of padding).

    Per axis, with size W, kernel F, padding p on both sides and stride s: (W + 2p - F)/s + 1
    windows, rounded down; what remains at the end is dropped. "valid" is p = 0. "same" gives ⌈W/s⌉
    windows, and where the padding is odd its larger half is at the end. With dilation d the places
    of a window are d apart, and F stands for d(F - 1) + 1.
    Raises ValueError, with the arithmetic, if no window fits, and for any other kernel, stride,
    padding or dilation.
    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning (2016), chapter 2.

    >>> window("conv", (28, 28), 5)
    ((24, 24), ((0, 0), (0, 0)))
    >>> window("conv", (7, 8), 3, stride=2, padding="same")
    ((4, 4), ((1, 1), (0, 1)))
    >>> window("conv", (9, 9), 3, dilation=4)
    ((1, 1), ((0, 0), (0, 0)))
    """
    kernel, stride = pair(f"{name}: kernel", kernel), pair(f"{name}: stride", stride)
    kernel = extents(kernel, pair(f"{name}: dilation", dilation))
    if isinstance(padding, str) and padding == "same":
        counts = [-(-size // s) for size, s in zip(sizes, stride, strict=True)]
        total = [
            max((count - 1) * s + k - size, 0)
            for size, k, s, count in zip(sizes, kernel, stride, counts, strict=True)
        ]
        pads = tuple((p // 2, p - p // 2) for p in total)
    else:
        such = 'an integer, (height, width), "same" or "valid"'
        legal = not isinstance(padding, str) or padding == "valid"
        expect(legal, f"{name}: padding", padding, such, ValueError)
        wanted = 0 if isinstance(padding, str) else padding
        pads = tuple((p, p) for p in pair(f"{name}: padding", wanted, least=0))
    for axis, size, (low, high), k, s in zip(
        ("height", "width"), sizes, pads, kernel, stride, strict=True
    ):
        require(
            size + low + high >= k,
            f"{name}: a window of {axis} {k} does not fit an image of {axis} {size} with padding "
            f"{low} + {high}: ({size} + {low} + {high} - {k})/{s} + 1 is below 1; use a smaller "
            "window or more padding.",
        )
    return window_counts(sizes, pads, kernel, stride), pads


def extents(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """How many pixels a window spans along each axis: d(k - 1) + 1.

    >>> extents((3, 1), (2, 4))
    (5, 1)
    """
    (kh, kw), (dh, dw) = kernel, dilation
    return dh * (kh - 1) + 1, dw * (kw - 1) + 1


class Geometry(NamedTuple):
    """Where the windows of images lie: sizes, kernel, stride and dilation are (height, width).

    >>> Geometry((5, 5), (2, 2), (1, 1), ((0, 0), (0, 0)), dilation=(2, 2)).outputs
    (3, 3)
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Padding
    groups: int = 1  # of channels, each seen by its own filters alone
    dilation: tuple[int, int] = (1, 1)

    @property
    def extents(self) -> tuple[int, int]:
        return extents(self.kernel, self.dilation)

    @property
    def outputs(self) -> tuple[int, ...]:
        return window_counts(self.sizes, self.pads, self.extents, self.stride)


def window_counts(
    sizes: Sequence[int],
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    stride: Sequence[int],
) -> tuple[int, ...]:
    """How many windows there are along each axis.

    >>> window_counts((4, 5), ((0, 0), (1, 1)), (2, 3), (2, 1))
    (2, 5)
    """
    axes = zip(sizes, pads, kernel, stride, strict=True)
    return tuple((size + sum(p) - k) // s + 1 for size, p, k, s in axes)


def shifts(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Padding,
    outputs: tuple[int, ...],
    fill: float = 0.0,
    dilation: tuple[int, int] = (1, 1),
) -> list[Any]:
    """The padded image as each place of the window sees it: kh·kw views (n, oh, ow, c).

    Places are `dilation` apart, and the padding holds `fill`.
    Raises ValueError for windows of more places than `few_places` allows.
    Source: Chellapilla, Puri & Simard (2006), where the views are the columns.

    >>> x = jnp.arange(3.0).reshape(1, 1, 3, 1)
    >>> [view.ravel().tolist() for view in shifts(x, (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 2))]
    [[0.0, 1.0], [1.0, 2.0]]
    """
    (kh, kw), (sh, sw), (oh, ow), (dh, dw) = kernel, stride, outputs, dilation
    few_places(kernel)
    padded = _padded(x, pads, fill)
    return [
        padded[:, i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
        for i in range(0, dh * kh, dh)
        for j in range(0, dw * kw, dw)
    ]


def few_places(kernel: tuple[int, int]) -> None:
    """Raise ValueError for a window of more places than a program can hold.

    >>> few_places((64, 64))
    """
    kh, kw = kernel
    require(
        kh * kw <= _MOST_PLACES,
        f"a window of {kh} x {kw} has {kh * kw} places, each an operation of its own, but at most "
        f"{_MOST_PLACES} are possible: use a smaller window, `global_avg_pool` for the mean of the "
        'whole image, or method="direct" for a convolution.',
    )


def views(at: Geometry, x: Array) -> list[Any]:
    """The `shifts` of images for one geometry.

    >>> at = Geometry((1, 3), (1, 2), (1, 1), ((0, 0), (0, 0)), dilation=(1, 2))
    >>> [view.ravel().tolist() for view in views(at, jnp.arange(3.0).reshape(1, 1, 3, 1))]
    [[0.0], [2.0]]
    """
    return shifts(x, at.kernel, at.stride, at.pads, at.outputs, dilation=at.dilation)


def add_shifts(
    views: Sequence[jax.Array],
    sizes: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> jax.Array:
    """The transpose of `shifts`: every view is added where it was taken from, (n, h, w, c).

    Source: as for `shifts`: Chellapilla, Puri & Simard (2006).

    >>> views = [jnp.ones((1, 1, 2, 1))] * 2
    >>> add_shifts(views, (1, 3), (1, 2), (1, 1), ((0, 0), (0, 0))).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    (kh, kw), (h, w), ((top, bottom), (left, right)) = kernel, sizes, pads
    (dh, dw), width = dilation, w + left + right
    rows = [
        sum(placed(views[i * kw + j], 2, dw * j, stride[1], width) for j in range(kw))
        for i in range(kh)
    ]
    x = sum(placed(row, 1, dh * i, stride[0], h + top + bottom) for i, row in enumerate(rows))
    return x[:, top : top + h, left : left + w]


def _padded(x, pads, fill=0.0):
    (top, bottom), (left, right) = pads
    low_high = ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(fill, x.dtype), low_high)


def placed(view: Any, axis: int, start: int, stride: int, size: int) -> Any:
    """`view` spread over `size` places of one axis: at start, start + stride, ..., else zero.

    >>> placed(jnp.ones(2), 0, 1, 2, 5).tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0]
    """
    places = [(0, 0, 0)] * view.ndim
    places[axis] = (start, size - start - stride * (view.shape[axis] - 1) - 1, stride - 1)
    return lax.pad(view, jnp.zeros((), view.dtype), places)


# columns: forward, and backward by hand; each of the two is the other's transpose
def _im2col(x: Array, kernel: Pair, stride: Pair = 1, padding: Pair | str = 0) -> jax.Array:
    """Every window of every image as a row of numbers.

    `stride` and `padding` are those of `conv`.
    Shapes: x (n, h, w, c) -> (n, oh, ow, kh·kw·c), in the order of a kernel (kh, kw, c, ·), any
    dtype. Its transpose is `col2im`: with cotangent g, dx = col2im(g).
    Raises ValueError unless x is a batch of images and at least one window fits.
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
    Raises ValueError unless the columns are those of such an image and it is a shape of images.
    Source: Chellapilla, Puri & Simard (2006).

    >>> col2im(jnp.ones((1, 2, 2, 4)), (1, 3, 3, 1), 2)[0, :, :, 0].tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    sizes = image_sizes("col2im", image_shape)
    outputs, pads = window("col2im", sizes, kernel, stride, padding)
    kernel, stride = pair("kernel", kernel), pair("stride", stride)
    (kh, kw), n, c = kernel, image_shape[0], image_shape[3]
    expected = (n, *outputs, kh * kw * c)
    hint = f" for an image {tuple(image_shape)} with {kernel=}, {stride=} and {padding=}"
    expect_shape(jnp.shape(columns) == expected, "col2im: columns", columns, f"{expected}", hint)
    return add_shifts(jnp.split(columns, kh * kw, axis=-1), sizes, kernel, stride, pads)


def _col2im_fwd(columns, image_shape, kernel, stride, padding):
    return _col2im(columns, image_shape, kernel, stride, padding), None


def _col2im_bwd(image_shape, kernel, stride, padding, _, g):
    return (_im2col(g, kernel, stride, padding),)  # (n, h, w, c) -> (n, oh, ow, kh·kw·c)


col2im = hand_vjp(_col2im, _col2im_fwd, _col2im_bwd, static=(1, 2, 3, 4))


def image_sizes(name: str, image_shape: Any) -> tuple[int, ...]:
    """(height, width) of the shape of a batch of images. Raises ValueError for another shape.

    >>> image_sizes("conv", (5, 28, 32, 1))
    (28, 32)
    """
    is_shape = isinstance(image_shape, (tuple, list)) and len(image_shape) == 4
    # of a batch of any size, as `jax.export` has it, the images are known
    batch: Any
    batch, *sizes = image_shape if is_shape else (None,)
    known = is_integer(batch) or jax.export.is_symbolic_dim(batch)
    legal = known and all(map(is_integer, sizes))
    such, hint = "(n, height, width, channels)", "; reshape flat images, such as 784 to (28, 28, 1)"
    expect(legal, f"{name}: the shape of the images", image_shape, such, ValueError, hint)
    return tuple(image_shape[1:3])
