"""Winograd's F(4x4, 3x3): a 3x3 convolution of stride 1 with a quarter of the multiplications.

A tile of 4x4 outputs is

    Y = Aᵀ [(Bᵀ d B) ⊙ (G w Gᵀ)] A

of a tile d of 6x6 inputs; ⊙ is one matrix product over the channels for each of the 36 places. The
tiles of an image overlap, and all tiles of an axis are transformed by one product with a banded
matrix, so that the transforms are matrix products too. The gradients are the adjoint of that, with
Q = A dY Aᵀ: dw = Gᵀ (Vᵀ Q) G of V = Bᵀ d B, and dx = B (Q Uᵀ) Bᵀ of U = G w Gᵀ.

The numbers in the transforms reach 8, so it rounds more coarsely than a sum of products: errors
reach about 1e-5 of the largest result in float32. float16 and bfloat16 are computed in float32.
Source: Lavin & Gray, Fast algorithms for convolutional neural networks (2016).
"""

import jax
import jax.numpy as jnp
import numpy as np

from purenet.nn.windows import Padding

_TILE = 4  # outputs of a tile along an axis; its inputs are 2 more
_B = np.array([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
], float)  # fmt: skip
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_A = np.array([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
], float)  # fmt: skip


def tiles(outputs: tuple[int, ...]) -> tuple[int, int]:
    """How many tiles cover the outputs, along each axis.

    >>> tiles((28, 5))
    (7, 2)
    """
    height, width = outputs
    return -(-height // _TILE), -(-width // _TILE)


def output(x: jax.Array, w: jax.Array, pads: Padding) -> jax.Array:
    """y = x ⋆ w: x (n, h, w, c), w (3, 3, c, f) -> (n, oh, ow, f)."""
    outputs = _outputs(x.shape[1:3], pads)
    v = _inputs_apart(x, pads, outputs)  # (6, th, 6, tw, n, c)
    products = jnp.einsum("atbsnc,atbcf->atbsnf", v, _kernels_apart(w, tiles(outputs)[0]))
    ends = [_end(size, v.dtype) for size in outputs]
    return _together(products, ends).astype(x.dtype)


def input_cotangent(g: jax.Array, w: jax.Array, sizes: tuple[int, ...], pads: Padding) -> jax.Array:
    """dx, of images of those sizes: g (n, oh, ow, f), w (3, 3, c, f) -> (n, h, w, c)."""
    outputs = g.shape[1:3]
    q = _outputs_apart(g)
    products = jnp.einsum("atbsnf,atbcf->atbsnc", q, _kernels_apart(w, tiles(outputs)[0]))
    starts = [
        _start(size, low, out, q.dtype).T
        for size, (low, _), out in zip(sizes, pads, outputs, strict=True)
    ]
    return _together(products, starts).astype(g.dtype)


def kernel_cotangent(x: jax.Array, g: jax.Array, pads: Padding) -> jax.Array:
    """dw: x (n, h, w, c), g (n, oh, ow, f) -> (3, 3, c, f)."""
    v, q = _inputs_apart(x, pads, g.shape[1:3]), _outputs_apart(g)
    products = jnp.einsum("atbsnc,atbsnf->atbcf", v, q).sum(1)
    (c, f), grid = products.shape[2:], jnp.asarray(np.kron(_G, _G).T, products.dtype)
    return (grid @ products.reshape(36, c * f)).reshape(3, 3, c, f).astype(x.dtype)


def _outputs(sizes, pads):
    height, width = (size + low + high - 2 for size, (low, high) in zip(sizes, pads, strict=True))
    return height, width


# the matrices of whole axes: tile t takes the inputs 4t, ..., 4t + 5 of the padded axis
def _start(size, low, out, dtype):
    """(6·tiles, size): all tiles of an axis, apart and transformed, place by place."""
    count = -(-out // _TILE)
    matrix = np.zeros((6, count, size + 2 * _TILE + 6 + low))
    for t in range(count):
        matrix[:, t, _TILE * t : _TILE * t + 6] = _B
    return jnp.asarray(matrix[:, :, low : low + size].reshape(6 * count, size), dtype)


def _end(out, dtype):
    """(out, 6·tiles): the outputs of all tiles of an axis, side by side."""
    count = -(-out // _TILE)
    matrix = np.zeros((count, _TILE, 6, count))
    for t in range(count):
        matrix[t, :, :, t] = _A
    return jnp.asarray(matrix.reshape(count * _TILE, 6 * count)[:out], dtype)


# the transforms; images are (h, w, n, c) inside, so that every product is with whole rows
def _inputs_apart(x, pads, outputs):
    starts = [
        _start(size, low, out, _wide(x))
        for size, (low, _), out in zip(x.shape[1:3], pads, outputs, strict=True)
    ]
    return _apart(x, starts)


def _outputs_apart(g):
    return _apart(g, [_end(out, _wide(g)).T for out in g.shape[1:3]])


def _kernels_apart(w, count):
    """(6, count, 6, c, f): a copy for each row of tiles, as products of many want them."""
    c, f = w.shape[2:]
    every_row = np.kron(_G, np.ones((count, 1)))  # (6·count, 3)
    grid = jnp.asarray(np.kron(every_row, _G), _wide(w))  # (6·count·6, 9)
    return (grid @ w.astype(grid.dtype).reshape(9, c * f)).reshape(6, count, 6, c, f)


def _apart(x, matrices):
    """(n, h, w, c) -> (6, tiles, 6, tiles, n, c)."""
    along_height, along_width = matrices
    rows = jnp.tensordot(along_height, x.astype(along_height.dtype).transpose(1, 2, 0, 3), 1)
    each = jnp.broadcast_to(along_width, (len(along_height), *along_width.shape))
    v = jnp.einsum("pqw,pwnc->pqnc", each, rows)
    return v.reshape(6, len(along_height) // 6, 6, len(along_width) // 6, *v.shape[2:])


def _together(v, matrices):
    """(6, tiles, 6, tiles, n, c) -> (n, h, w, c)."""
    along_height, along_width = matrices
    v = v.reshape(along_height.shape[1], along_width.shape[1], *v.shape[4:])
    each = jnp.broadcast_to(along_width, (len(v), *along_width.shape))
    rows = jnp.einsum("pwq,pqnc->pwnc", each, v)
    return jnp.tensordot(along_height, rows, 1).transpose(2, 0, 1, 3)


def _wide(x):
    """At least float32, also where promotion is strict."""
    return x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
