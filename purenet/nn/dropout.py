"""Dropout: set a fraction of the numbers to 0, and scale up the rest to keep the expectation."""

import functools
import math
import numbers

import jax
import jax.numpy as jnp

from purenet.core.dtypes import inexact, widen
from purenet.core.padded import count_of, counts, keep_first
from purenet.core.types import Array, Key, Layer, Number, Params
from purenet.core.validate import declared, expect, random_key
from purenet.core.vjp import hand_vjp
from purenet.distributed.mesh import replicate
from purenet.nn.base import (
    UnitIntervals,
    expect_shape,
    fractions,
    named,
    only_params,
    padded_shape,
)

_LEVELS = 1 << 16  # a decision costs 16 random bits, half a word


# forward
def _drop(x: Array | float, rate: Number, key: Key) -> jax.Array:
    """Inverted dropout: y = x / (1 - rate) with probability 1 - rate, else 0, element by element.

    Shapes: any x, rate () or broadcasting to x, a random key -> like x; integers count as floats.
    With cotangent g: dx = g / (1 - rate) where x was kept, else 0; drate = Σ g y / (1 - rate).
    The effective rate is the multiple of 1/65536 nearest to `rate`, at most 65535/65536, in both
    the probability and the scale, so that the expectation is exactly x. A traced rate outside [0,
    1) is clipped to that range.
    Raises ValueError for a plain rate outside, for one that does not broadcast to x, and for
    several keys; TypeError for a rate that is not a number and a key that is not a random key.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), section 10.

    >>> drop(jnp.ones(6), 0.5, jax.random.key(0)).tolist()
    [2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    """
    return _drop_fwd(x, rate, key)[0]


def _drop_padded(x: Array, rate: Number, key: Key, rows: Number, units: Number) -> jax.Array:
    """`drop` of the first `rows` rows and the first `units` places of the last axis of x.

        y[:rows, ..., :units] = drop(x[:rows, ..., :units], rate, key), and 0 elsewhere

    Shapes: x (n, ..., c) or (n,), rate () or broadcasting to x, rows and units () integers -> like
    x. The same numbers are kept as if the padding were not there. With cotangent g: dx and drate
    are those of `drop`, where y is not padding.
    Raises what `drop` raises.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), section 10.

    >>> drop_padded(jnp.ones((2, 4)), 0.5, jax.random.key(0), 2, 3).tolist()
    [[2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    return _drop_padded_fwd(x, rate, key, rows, units)[0]


# backward, by hand
def _drop_fwd(x, rate, key):
    x = jnp.asarray(inexact(x))
    return _dropped(x, rate, key, lambda level: _halves(key, x.shape) >= level)


def _drop_padded_fwd(x, rate, key, rows, units):
    x = jnp.asarray(inexact(x))

    def keeps(level):
        kept = keep_first(_padded_halves(key, x.shape, rows, units) >= level, rows, 0)
        return keep_first(kept, units) if x.ndim > 1 else kept

    return _dropped(x, rate, key, keeps)


def _dropped(x, rate, key, keeps):
    _check_drop(x, rate, key)
    rate = widen(rate, x)
    if rate.ndim:  # one rate per channel is one row
        rate = jnp.expand_dims(rate, tuple(range(x.ndim - rate.ndim)))
    level = jnp.clip(jnp.round(rate * _LEVELS), 0, _LEVELS - 1)
    # the value is the effective rate, the derivative that of `rate`
    rate = rate + jax.lax.stop_gradient(level / _LEVELS - rate)
    scale = 1 / (1 - rate)
    kept = keeps(level.astype(jnp.uint32))
    y = jnp.where(kept, (x.astype(scale.dtype) * scale).astype(x.dtype), 0)
    return y, (kept, scale, y)


def _drop_bwd(residuals, g):
    kept, scale, y = residuals
    g = g.astype(scale.dtype)
    dx = jnp.where(kept, g * scale, 0)
    drate = g * y.astype(scale.dtype) * scale  # like x, summed by hand_vjp
    return dx, drate, None


def _drop_padded_bwd(residuals, g):
    return *_drop_bwd(residuals, g), None, None


def _check_drop(x, rate, key):
    fractions("dropout", rate=rate)
    random_key("dropout", key)
    sizes = zip(jnp.shape(rate)[::-1], jnp.shape(x)[::-1], strict=False)
    fits = jnp.ndim(rate) <= jnp.ndim(x) and all(n in (1, size) for n, size in sizes)
    such = f"one number, or a shape that broadcasts to x {jnp.shape(x)},"
    expect_shape(fits, "dropout: rate", rate, such)


def _check_drop_padded(x, rate, key, rows, units):
    del rows, units
    _check_drop(x, rate, key)


drop = hand_vjp(_drop, _drop_fwd, _drop_bwd, check=_check_drop)
drop_padded = hand_vjp(_drop_padded, _drop_padded_fwd, _drop_padded_bwd, check=_check_drop_padded)


# random numbers
def _halves(key, shape):
    """One uniform 16-bit number for each element of `shape`, as uint32.

    Two words of the key's own generator seed Threefry-2x32 in counter mode, and each of its blocks
    makes four decisions. That is the generator behind JAX's default keys, all 20 rounds of it, but
    `jax.random.bernoulli` spends a whole block on each decision, and on a CPU that costs more than
    the matrix product which the mask belongs to. An accelerator has operations to spare, but not
    kernels and bytes: there each element computes its own block. The numbers are the same.
    """
    size = math.prod(shape)
    blocks = -(-size // 4)
    seed = jax.random.bits(key, (2,), jnp.uint32)

    def together(seed):
        words = jnp.concatenate(_threefry(seed, jnp.arange(blocks, dtype=jnp.uint32)))
        halves = jnp.concatenate([words & 0xFFFF, words >> 16])[:size]
        # where a batch is spread over devices, each draws all of them: cheaper than to send
        return replicate(halves).reshape(shape)

    each = lambda seed: _half(seed, _places(shape), jnp.uint32(blocks))
    return jax.lax.platform_dependent(seed, cpu=together, default=each)


def _padded_halves(key, shape, rows, units):
    """What `_halves` draws for the shape (rows, ..., units), each at its place in a larger `shape`.

    Both count through the same blocks; only where a number lies in them depends on the shape.
    """
    n, *between, channels = shape if len(shape) > 1 else (*shape, 1)
    rows, units = (jnp.asarray(a, jnp.int32) for a in (rows, units if len(shape) > 1 else 1))
    middle = math.prod(between)
    seed = jax.random.bits(key, (2,), jnp.uint32)
    most = -(-n * middle * channels // 4)
    blocks = (rows * middle * units + 3) // 4
    places = functools.partial(jnp.arange, dtype=jnp.int32)
    place = places(n * middle)[:, None] * units + places(channels)[None]

    def together(seed, place, blocks):
        words = jnp.concatenate(_threefry(seed, jnp.arange(most, dtype=jnp.uint32)))
        high = place >= 2 * blocks  # the upper half of a word
        word = place - jnp.where(high, 2 * blocks, 0)
        second = word >= blocks  # the second word of a block
        word = words.at[word + jnp.where(second, most - blocks, 0)].get(mode="clip")
        return replicate(jnp.where(high, word >> 16, word & 0xFFFF))

    def each(seed, place, blocks):
        return _half(seed, place.astype(jnp.uint32), blocks.astype(jnp.uint32))

    halves = jax.lax.platform_dependent(seed, place, blocks, cpu=together, default=each)
    return halves.reshape(shape)


def _half(seed, place, blocks):
    """The number that `_halves` has at each place, from its block alone; all uint32."""
    high = place >= 2 * blocks  # the upper half of a word
    word = place - jnp.where(high, 2 * blocks, jnp.uint32(0))
    second = word >= blocks  # the second word of a block
    words = _threefry(seed, word - jnp.where(second, blocks, jnp.uint32(0)))
    word = jnp.where(second, words[1], words[0])
    return jnp.where(high, word >> 16, word & 0xFFFF)


def _places(shape):
    """The numbers 0, 1, ... in the order of an array of this shape, as uint32."""
    places, step = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        places += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(step)
        step *= shape[axis]
    return places


def _threefry(seed, counter):
    """Threefry-2x32 with 20 rounds of the blocks (counter, 0): two arrays of words.

    Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    keys = (seed[0], seed[1], seed[0] ^ seed[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = counter + keys[0], jnp.broadcast_to(keys[1], counter.shape)
    for i in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            a = a + b
            b = a ^ (b << r | b >> (32 - r))
        a = a + keys[(i + 1) % 3]
        b = b + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


# the layer
@declared
def dropout(rate: UnitIntervals) -> Layer:
    """Inverted dropout of a fraction `rate` in training, the identity in inference.

    No weights. Training needs a key; inference, and a rate that is the plain number 0, do not.
    `rate` may be traced. After a layer of padded size, units are dropped as if the padding were not
    there; their number is in stats {"units": ()}.
    In training `apply` raises ValueError without a key, and TypeError for anything but a key.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014).

    >>> net = dropout(0.5)
    >>> params = net.init(jax.random.key(0), 3)
    >>> y, stats = net.apply(params, jnp.ones((1, 3)), False, None)
    >>> y.tolist()
    [[1.0, 1.0, 1.0]]
    """
    nothing = isinstance(rate, numbers.Real) and rate == 0

    def init(key, sizes):
        del key  # nothing is random yet
        *_, units = 1, *padded_shape(sizes)  # an example may be one number
        return Params((), counts(units=units) or ())

    def apply(params, x, train, key):
        weights, stats = only_params("dropout", params)
        named("dropout", "weights", weights)
        (units,) = named("dropout", "stats", stats, optional=("units",))
        if not train or nothing:
            return x, stats
        hint = f", as rate is {rate}; inference takes none: train=False"
        expect(key is not None, "dropout: the key", key, "a random key", ValueError, hint)
        rows = count_of(train)
        if rows is None and units is None:
            return drop(x, rate, key), stats
        rows = x.shape[0] if rows is None else rows
        return drop_padded(x, rate, key, rows, x.shape[-1] if units is None else units), stats

    return Layer(init, apply, spec=("dropout", {"rate": rate}))
