"""Multi-head self-attention, whose backward pass recomputes the scores block by block.

Queries are taken in blocks, so memory grows with the length and not with its square. Only for
sequences of at most 32 are the probabilities kept, which takes less time there. With `causal=True`
the blocks form a few groups, each of which computes only the scores of keys that it may see.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import common_dtype, widen
from purenet.core.types import Array, Layer
from purenet.core.validate import Boolean, PositiveInteger, declared, expect, integer, require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.dense import affine
from purenet.nn.initializers import lecun_normal

_LARGEST = 256  # queries of a block: smaller ones are slower, larger ones take more memory
_SMALLEST = 64  # with `causal`, where smaller blocks compute fewer of the hidden scores
_SHORT = 32  # up to this length the probabilities are kept: they are as small as q, k and v
_GROUPS = 4  # with these, causal attention computes 5/8 of all scores, in 4 loops


# forward
def _attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | bool = True,
    causal: bool = False,
    block: int | None = None,
) -> jax.Array:
    """Attention: the mean of the values, weighted by the softmax of the scores of their keys.

        yₜ = Σₛ pₜₛ vₛ,  p = softmax over s of qₜ · kₛ / √d, for every head

    Shapes: q (n, t, heads, d), k (n, s, heads, d), v (n, s, heads, e) -> (n, t, heads, e). `mask`
    (n, s) is True for the keys that may be seen, such as those that are no padding; True is all.
    With `causal`, query t sees keys 0 to t. A query that sees none gives 0.
    With cotangent g, summed over the queries for dk and dv: dv = p g, dz = p (g · v - g · y), dq =
    dz k / √d, dk = dz q / √d, p recomputed for `block` queries at a time (None: as many as suit a
    CPU) from the logarithm of the sum of the exponentials; scores and sums are float32 or wider.
    Raises ValueError for other shapes, TypeError for a mask that is not of bools.
    Source: Vaswani et al. (2017), equation 1; Dao et al. (2022), algorithm 4.

    >>> q, v = jnp.zeros((1, 3, 1, 2)), jnp.array([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    >>> attend(q, q, v, causal=True).ravel().tolist()
    [1.0, 1.5, 3.0]
    """
    return _attend_fwd(q, k, v, mask, causal, block)[0]


def _check(q, k, v, mask=True, causal=False, block=None):
    del causal
    if block is not None:
        integer("attend: block", block, least=1)
    legal = jnp.ndim(q) == jnp.ndim(k) == jnp.ndim(v) == 4
    legal = legal and q.shape[0] == k.shape[0] and q.shape[2:] == k.shape[2:] and k.shape[1] > 0
    require(
        legal and k.shape[:3] == v.shape[:3],
        f"attention: q, k and v have shapes {jnp.shape(q)}, {jnp.shape(k)} and {jnp.shape(v)}, but "
        "(n, t, heads, d), (n, s, heads, d) and (n, s, heads, e) are expected.",
    )
    bools = mask is True or jnp.issubdtype(jnp.result_type(mask), jnp.bool_)
    expect(bools, "attention: mask", mask, "an array of bools, True where keys may be seen")
    fits = mask is True or jnp.shape(mask) == k.shape[:2]
    expect_shape(fits, "attention: mask", mask, f"one bool per key, {k.shape[:2]}")


def _block(length, causal):
    """How many queries are taken at once: blocks of one size, with little to fill up.

    >>> _block(300, causal=False), _block(192, causal=True), _block(4096, causal=True)
    (150, 64, 256)
    """
    most = max(_SMALLEST, min(_LARGEST, length // _GROUPS)) if causal else _LARGEST
    return -(-length // max(1, -(-length // most)))


def _in_blocks(a, block):
    """(n, heads, t, d) -> (blocks, n, heads, block, d), the last one filled up with zeros."""
    a = jnp.pad(a, ((0, 0), (0, 0), (0, -a.shape[2] % block), (0, 0)))
    a = a.reshape(*a.shape[:2], a.shape[2] // block, block, a.shape[3])
    return jnp.moveaxis(a, 2, 0)


def _in_line(a, length):
    """The inverse, in the form (n, t, heads, d)."""
    a = a.transpose(1, 0, 3, 2, 4)
    return a.reshape(a.shape[0], -1, *a.shape[3:])[:, :length]


def _groups(blocks, block, keys, causal):
    """(first block, last block, the number of keys they see) of every group."""
    parts = min(_GROUPS, blocks) if causal else 1
    ends = [blocks * (i + 1) // parts for i in range(parts)]
    starts = [0, *ends[:-1]]
    seen = [min(keys, end * block) if causal else keys for end in ends]
    return list(zip(starts, ends, seen, strict=True))


def _keeps(queries, length):
    return len(queries) == 1 and length <= _SHORT


def _scores(q, k, mask, first, causal):
    """Of queries from number `first` on, (n, heads, block, s), -∞ for keys that they do not see."""
    z = widen(jnp.einsum("nhqd,nhkd->nhqk", q, k))
    if mask is not None:
        z = jnp.where(mask[:, None, None, : k.shape[2]], z, -jnp.inf)
    if causal:
        row = first + jnp.arange(q.shape[2])
        z = jnp.where((jnp.arange(k.shape[2])[None] <= row[:, None])[None, None], z, -jnp.inf)
    return z


# backward, by hand
def _attend_fwd(q, k, v, mask, causal, block):
    dtype, length = common_dtype((q, k, v)), q.shape[1]
    q, k, v = (a.astype(dtype).swapaxes(1, 2) for a in (q, k, v))  # (n, heads, t, d)
    q, mask = q / math.sqrt(q.shape[3]), mask if jnp.ndim(mask) else None
    queries = _in_blocks(q, min(block or _block(length, causal), length))
    size, kept = queries.shape[3], _keeps(queries, length)

    def step(seen, now):
        (q, first), (k, v) = now, seen
        z = _scores(q, k, mask, first, causal)
        top = lax.stop_gradient(z.max(3, keepdims=True))
        e = jnp.exp(z - jnp.where(top == -jnp.inf, 0, top))
        total = e.sum(3, keepdims=True)
        some = total != 0
        total = jnp.where(some, total, 1)
        y = widen(jnp.einsum("nhqk,nhke->nhqe", e.astype(v.dtype), v)) / total
        return seen, (y, e / total if kept else jnp.where(some, top + jnp.log(total), jnp.inf))

    found = []
    for start, end, keys in _groups(len(queries), size, k.shape[2], causal):
        rows = (queries[start:end], size * jnp.arange(start, end))
        found.append(lax.scan(step, (k[:, :, :keys], v[:, :, :keys]), rows)[1])
    y, of_scores = map(jnp.concatenate, zip(*found, strict=True))
    return _in_line(y, length).astype(dtype), (queries, k, v, mask, y, of_scores)


def _attend_bwd(causal, block, residuals, g):
    del block  # that of the queries
    queries, k, v, mask, y, of_scores = residuals
    size, length = queries.shape[3], g.shape[1]
    kept = _keeps(queries, length)
    g = _in_blocks(g.astype(k.dtype).swapaxes(1, 2), size)
    shared = (widen(g) * y).sum(4, keepdims=True)

    def step(k, v, sums, now):
        (dk, dv), (q, g, shared, p, first) = sums, now
        if not kept:  # p is the logarithm of the sum of the exponentials
            p = jnp.exp(_scores(q, k, mask, first, causal) - p)  # (n, heads, block, s)
        dp = widen(jnp.einsum("nhqe,nhke->nhqk", g, v))
        dz = (p * (dp - shared)).astype(k.dtype)
        dv = dv + widen(jnp.einsum("nhqk,nhqe->nhke", p.astype(k.dtype), g))
        dk = dk + widen(jnp.einsum("nhqk,nhqd->nhkd", dz, q))
        return (dk, dv), jnp.einsum("nhqk,nhkd->nhqd", dz, k)

    # zeros of the type that the sums will have: inside shard_map, different on every device
    zeros = lambda a: jnp.where(False, widen(a) + shared.sum(), 0)
    dq, dk, dv = [], zeros(k), zeros(v)
    for start, end, keys in _groups(len(queries), size, k.shape[2], causal):
        blocks = slice(start, end)
        rows = (queries[blocks], g[blocks], shared[blocks], of_scores[blocks])
        seen = k[:, :, :keys], v[:, :, :keys]
        own, rows_dq = lax.scan(
            functools.partial(step, *seen),
            (dk[:, :, :keys], dv[:, :, :keys]),
            (*rows, size * jnp.arange(start, end)),
        )
        dq.append(rows_dq)
        dk, dv = (a.at[:, :, :keys].set(b) for a, b in zip((dk, dv), own, strict=True))
    dq = _in_line(jnp.concatenate(dq), length) / math.sqrt(queries.shape[4])
    return dq, dk.swapaxes(1, 2), dv.swapaxes(1, 2), None


attend = hand_vjp(_attend, _attend_fwd, _attend_bwd, static=(4, 5), check=_check)


# the layer
@declared
def attention(
    heads: PositiveInteger, causal: Boolean = False, weight_init: WeightInit = lecun_normal
) -> Layer:
    """Multi-head self-attention: (n, time, features) -> the same shape.

        y = concatenated heads of softmax(q kᵀ / √d) v, times V, plus c,  (q, k, v) = x W + b

    With `causal=True` no time sees a later one. Memory grows with the length, not with its square.
    Weights {"w": (features, 3 features), "b": (3 features,), "v": (features, features), "c":
    (features,)}; biases start at 0. For padding, see the `mask` of `ops.attend`.
    Raises ValueError unless an example is (time, features) and `heads` divides the features, and
    for params of another network.
    Source: Vaswani et al. (2017), section 3.2.2.

    >>> net = attention(heads=2, causal=True)
    >>> params = net.init(jax.random.key(0), (7, 4))
    >>> net.apply(params, jnp.ones((5, 7, 4)), True, None)[0].shape
    (5, 7, 4)
    """

    def init(key, sizes):
        sizes = shape(sizes)
        features = sizes[-1]
        require(
            len(sizes) == 2 and features % heads == 0,
            f"attention: one example has shape {sizes}, but (time, features) is expected, with "
            f"features divisible by {heads} heads.",
        )
        square = [
            init_weights("attention", weight_init, k, (features, features))
            for k in jax.random.split(key, 4)
        ]
        w, zeros = jnp.concatenate(square[:3], axis=1), jnp.zeros_like(square[0][0])
        return {"w": w, "b": jnp.tile(zeros, 3), "v": square[3], "c": zeros}

    def apply(weights, x, train, key):
        del train, key
        w, b, v, c = named("attention", "weights", weights, "w", "b", "v", "c")
        expect_shape(
            jnp.ndim(x) == 3 and x.shape[2] == w.shape[0],
            "attention: x", x, f"(batch, time, {w.shape[0]})",
        )  # fmt: skip
        n, length, features = x.shape
        rows = affine(x.reshape(n * length, features), w, b)
        split = rows.reshape(n, length, 3, heads, features // heads)
        y = attend(split[:, :, 0], split[:, :, 1], split[:, :, 2], True, causal)
        return affine(y.reshape(n * length, features), v, c).reshape(x.shape)

    arguments = {"heads": heads, "causal": causal, "weight_init": weight_init}
    return stateless(init, apply, spec=("attention", arguments))
