"""Batch normalisation: x̂ = (x - μ) / √(v + eps), y = gamma x̂ + beta.

The variance is the mean of (x - μ)², in two passes: E[x²] - μ² loses every digit in float32 when
the mean is large. Half types are normalised in float32, integers and bools as floats.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import inexact, widen
from purenet.core.padded import PaddedSizes, capacity_of, count_of, counts, keep_first
from purenet.core.types import Array, Layer, Number, Params
from purenet.core.validate import UnitInterval, declared
from purenet.core.vjp import hand_vjp
from purenet.nn.base import (
    NonNegatives,
    named,
    non_negatives,
    only_params,
    padded_shape,
    shape,
)

EXAMPLES = {"batch_normalise_padded": (((12, 3), (3,), (3,), 0.3, 9), ())}


def standardise(
    x: jax.Array, eps: Number, axes: int | tuple[int, ...], rows: Number | None = None
) -> tuple[jax.Array, ...]:
    """(x̂, μ, v, 1/√(v + eps)), in at least float32; μ, v and the last keep the reduced axes.

    With `rows`, those of the first `rows` alone; x̂ is 0 after them.

    >>> standardise(jnp.array([[1.0, 3.0]]), 0.0, -1)[0].tolist()
    [[-1.0, 1.0]]
    """
    x = widen(x)
    mean = _mean(keep_first(x, rows, 0), axes, rows)
    centred = keep_first(x - mean, rows, 0)
    variance = _mean(centred * centred, axes, rows)
    inverse = lax.rsqrt(variance + per_channel(jnp.asarray(eps, x.dtype), x))
    return centred * inverse, mean, variance, inverse


def _mean(x, axes, rows):
    if rows is None:
        return x.mean(axes, keepdims=True)
    return x.sum(axes, keepdims=True) / _count(x, rows)


def _count(x, rows):
    """How many numbers there are in each channel of the first `rows` rows."""
    if rows is None:
        return x.size // x.shape[-1]
    return (jnp.maximum(rows, 1) * math.prod(x.shape[1:-1])).astype(widen(x).dtype)


def per_channel(a: jax.Array, x: jax.Array) -> jax.Array:
    """Numbers that broadcast to x, with as many axes as x; one number stays one.

    >>> per_channel(jnp.ones(3), jnp.ones((2, 4, 3))).shape
    (1, 1, 3)
    """
    return jnp.expand_dims(a, tuple(range(x.ndim - a.ndim))) if a.ndim else a


def scale_and_shift(x_hat: jax.Array, gamma: Array, beta: Array, x: jax.Array) -> jax.Array:
    """gamma x̂ + beta, in the dtype of x.

    >>> scale_and_shift(jnp.ones((1, 1)), jnp.full(1, 2.0), jnp.ones(1), jnp.ones((1, 1))).tolist()
    [[3.0]]
    """
    gamma, beta = (per_channel(jnp.asarray(a, x_hat.dtype), x) for a in (gamma, beta))
    return (gamma * x_hat + beta).astype(x.dtype)


def check_channels(caller: str, x: Any, **channels: Any) -> None:
    """Examples to take the statistics of, and one number per channel in each of `channels`.

    Raises ValueError for other shapes.

    >>> check_channels("layer_norm", jnp.ones((2, 3)), gamma=jnp.ones(3))
    """
    if jnp.ndim(x) < 2 or x.size == 0:
        raise ValueError(
            f"{caller}: x has shape {jnp.shape(x)}, but a batch (n, ..., c) with at least one "
            "number is expected; give one example a leading axis with x[None]."
        )
    for name, a in channels.items():
        if jnp.shape(a) != x.shape[-1:]:
            raise ValueError(
                f"{caller}: {name} has shape {jnp.shape(a)}, but x {x.shape} has {x.shape[-1]} "
                f"channels on its last axis and takes ({x.shape[-1]},); pass `init` the sizes of "
                "the layer's inputs."
            )


def check_eps(caller: str, place: int) -> Callable[..., None]:
    """The check of an operation's `eps`, its argument number `place`, for `hand_vjp`.

    >>> check_eps("layer_norm", 1)(jnp.ones((2, 3)), 1e-6)
    """

    def check(*args, **named):
        for eps in args[place : place + 1] or [named[k] for k in named if k == "eps"]:
            non_negatives(caller, eps=eps)

    return check


# batch normalisation with the statistics of the batch: forward
def _batch_normalise(
    x: Array, gamma: Array, beta: Array, eps: Number
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise every channel by the mean and the (biased) variance of the batch.

    Shapes: x (n, ..., c), gamma and beta (c,), eps () -> y like x, mean (c,), variance (c,).
    The statistics run over all axes but the last, m numbers a channel, and are float32 or wider.
    With cotangents g, gμ, gv of the three: dbeta = Σ g, dgamma = Σ g x̂, with s = 1/√(v + eps)
    dx = gamma s (g - dbeta/m - x̂ dgamma/m) + (gμ + 2 gv (x - μ))/m,
    deps = -Σ gamma s² dgamma / 2.
    Raises ValueError for an empty x, unless gamma and beta are one number per channel, and for a
    plain eps that is negative; TypeError for one that is not a number.
    Source: Ioffe & Szegedy (2015), algorithm 1 and section 3.

    >>> x = jnp.array([[1.0, 5.0], [3.0, 5.0]])
    >>> y, mean, variance = batch_normalise(x, jnp.ones(2), jnp.zeros(2), 1e-6)
    >>> y.round(3).tolist(), mean.tolist(), variance.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [2.0, 5.0], [1.0, 0.0])
    """
    return _batch_normalise_fwd(x, gamma, beta, eps)[0]


# backward, by hand
def _batch_normalise_fwd(x, gamma, beta, eps, rows=None):
    x = inexact(x)
    check_channels("batch_norm", x, gamma=gamma, beta=beta)
    x_hat, mean, variance, inverse = standardise(x, eps, tuple(range(x.ndim - 1)), rows)
    mean, variance, inverse = mean.reshape(-1), variance.reshape(-1), inverse.reshape(-1)
    y = keep_first(scale_and_shift(x_hat, gamma, beta, x), rows, 0)
    # x is kept anyway, so x̂ is recomputed rather than stored as well
    return (y, mean, variance), (x, gamma, mean, inverse)


def _batch_normalise_bwd(residuals, cotangents, rows=None):
    x, gamma, mean, inverse = residuals
    g, g_mean, g_variance = cotangents
    g, gamma = keep_first(g.astype(mean.dtype), rows, 0), gamma.astype(mean.dtype)
    axes, m = tuple(range(x.ndim - 1)), _count(x, rows)
    centred = widen(x) - per_channel(mean, x)
    x_hat = centred * per_channel(inverse, x)
    dbeta = g.sum(axes)  # (n, ..., c) -> (c,)
    dgamma = (g * x_hat).sum(axes)  # (n, ..., c) -> (c,)
    s = gamma * inverse
    # one pass over x: each channel is a straight line in g and in x - μ
    slope = (2 * g_variance - s * inverse * dgamma) / m
    dx = (
        per_channel(s, x) * g
        + per_channel(slope, x) * centred
        + per_channel((g_mean - s * dbeta) / m, x)
    )
    deps = -(s * inverse * dgamma) / 2  # (c,), summed by hand_vjp
    return keep_first(dx, rows, 0), dgamma, dbeta, deps


batch_normalise = hand_vjp(
    _batch_normalise, _batch_normalise_fwd, _batch_normalise_bwd, check=check_eps("batch_norm", 3)
)


# the same for a batch that ends in padding: forward
def _batch_normalise_padded(
    x: Array, gamma: Array, beta: Array, eps: Number, rows: Number
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`batch_normalise` of the first `rows` rows of x; y is 0 after them.

    Shapes: x (n, ..., c), gamma and beta (c,), eps () and rows (), an integer from 1 to n -> y like
    x, mean (c,), variance (c,). The statistics run over m = rows · (n's other axes) numbers a
    channel. The cotangents are those of `batch_normalise` with that m, and dx is 0 after the rows.
    Raises what `batch_normalise` raises.
    Source: Ioffe & Szegedy (2015), algorithm 1 and section 3.

    >>> x = jnp.array([[1.0, 5.0], [3.0, 5.0], [9.0, 9.0]])
    >>> y, mean, variance = batch_normalise_padded(x, jnp.ones(2), jnp.zeros(2), 1e-6, 2)
    >>> y.round(3).tolist(), mean.tolist()
    ([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [2.0, 5.0])
    """
    return _batch_normalise_fwd(x, gamma, beta, eps, rows)[0]


# backward, by hand
def _batch_normalise_padded_fwd(x, gamma, beta, eps, rows):
    out, residuals = _batch_normalise_fwd(x, gamma, beta, eps, rows)
    return out, (residuals, rows)


def _batch_normalise_padded_bwd(residuals, cotangents):
    residuals, rows = residuals
    return *_batch_normalise_bwd(residuals, cotangents, rows), None


batch_normalise_padded = hand_vjp(
    _batch_normalise_padded,
    _batch_normalise_padded_fwd,
    _batch_normalise_padded_bwd,
    check=check_eps("batch_norm", 3),
)


# batch normalisation with given statistics: forward
def _normalise(
    x: Array, mean: Array, variance: Array, gamma: Array, beta: Array, eps: Number
) -> jax.Array:
    """Normalise every channel by a given mean and variance, as in inference.

    Shapes: x (n, ..., c), mean, variance, gamma and beta (c,), eps () -> like x.
    With cotangent g and s = 1/√(v + eps): dx = gamma s g, dμ = -gamma s Σ g, dgamma = Σ g x̂,
    dbeta = Σ g, dv = -gamma s² dgamma / 2, deps = Σ dv.
    Raises ValueError for an empty x, unless each of the four is one number per channel, and for a
    plain eps that is negative; TypeError for one that is not a number.
    Source: Ioffe & Szegedy (2015), algorithm 2.

    >>> normalise(jnp.full((1, 1), 5.0), *jnp.array([[3.0], [4.0], [1.0], [0.0]]), 0.0).tolist()
    [[1.0]]
    """
    return _normalise_fwd(x, mean, variance, gamma, beta, eps)[0]


# backward, by hand
def _normalise_fwd(x, mean, variance, gamma, beta, eps):
    x = inexact(x)
    check_channels("batch_norm", x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    inverse = lax.rsqrt(widen(variance, x) + widen(eps, x))
    x_hat = (widen(x) - per_channel(mean.astype(inverse.dtype), x)) * per_channel(inverse, x)
    return scale_and_shift(x_hat, gamma, beta, x), (x, mean, inverse, gamma)


def _normalise_bwd(residuals, g):
    x, mean, inverse, gamma = residuals
    g, gamma = g.astype(inverse.dtype), gamma.astype(inverse.dtype)
    axes = tuple(range(x.ndim - 1))
    x_hat = (widen(x) - per_channel(mean.astype(inverse.dtype), x)) * per_channel(inverse, x)
    s = gamma * inverse
    dx = per_channel(s, x) * g
    dbeta = g.sum(axes)  # (n, ..., c) -> (c,)
    dgamma = (g * x_hat).sum(axes)  # (n, ..., c) -> (c,)
    dmean = -s * dbeta
    dvariance = -(s * inverse * dgamma) / 2
    return dx, dmean, dvariance, dgamma, dbeta, dvariance


normalise = hand_vjp(_normalise, _normalise_fwd, _normalise_bwd, check=check_eps("batch_norm", 5))


# the layer
@declared
def batch_norm(momentum: UnitInterval = 0.9, eps: NonNegatives = 1e-6) -> Layer:
    """Batch normalisation over all axes but the last, with running statistics for inference.

    Weights {"gamma": (c,), "beta": (c,)}, stats {"mean": (c,), "variance": (c,)}, c the last of
    `sizes`. In training the batch is normalised by its own statistics, and
    running ← momentum · running + (1 - momentum) · batch, with the biased variance; in inference
    the running ones are used and come back unchanged. `momentum` and `eps` may be traced.
    After a layer of padded size, weights and statistics of the padding are 0 and stay 0, and stats
    has "units", the number of real units. `train=PaddedSize(rows, n)` trains on a batch of n
    examples of which only the first `rows` are real and count in the statistics.
    Raises ValueError for examples without an axis and params of another network.
    Source: Ioffe & Szegedy (2015).

    >>> import jax
    >>> net = batch_norm()
    >>> params = net.init(jax.random.key(0), 2)
    >>> y, stats = net.apply(params, jnp.array([[0.0, 10.0], [2.0, 10.0]]), True, None)
    >>> print(*(f"{float(a):.3g}" for a in (*stats["mean"], *stats["variance"])))
    0.1 1 1 0.9
    """

    def init(key, sizes):
        del key  # nothing is random
        sizes = padded_shape(sizes)
        weights, channels = gamma_and_beta("batch_norm", tuple(map(capacity_of, sizes)))
        ones = lambda: keep_first(jnp.ones(channels), count_of(sizes[-1]))
        stats = {"mean": jnp.zeros(channels), "variance": ones(), **counts(units=sizes[-1])}
        return Params({**weights, "gamma": ones()}, stats)

    def apply(params, x, train, key):
        del key
        weights, stats = only_params("batch_norm", params)
        gamma, beta = named("batch_norm", "weights", weights, "gamma", "beta")
        old_mean, old_variance, units = named(
            "batch_norm", "stats", stats, "mean", "variance", optional=("units",)
        )
        x = keep_first(x, units)
        if not train:
            y = normalise(x, old_mean, old_variance, gamma, beta, eps)
            return keep_first(y, units), stats
        rows = count_of(train)
        of = (x, gamma, beta, eps)
        found = batch_normalise(*of) if rows is None else batch_normalise_padded(*of, rows)
        y, mean, variance = found

        def running(old, new):  # in the dtype of the old, which a scan has to find again
            return (momentum * old + (1 - momentum) * new).astype(old.dtype)

        return y, {
            **stats,
            "mean": running(old_mean, mean),
            "variance": running(old_variance, variance),
        }

    return Layer(init, apply, spec=("batch_norm", {"momentum": momentum, "eps": eps}))


def gamma_and_beta(caller: str, sizes: PaddedSizes) -> tuple[dict[str, jax.Array], int]:
    """The initial weights of a normalisation, 1 and 0, and the number of channels.

    Raises ValueError for examples without an axis.

    >>> gamma_and_beta("layer_norm", (28, 28, 3))[1]
    3
    """
    channels = channels_of(caller, sizes)
    return {"gamma": jnp.ones(channels), "beta": jnp.zeros(channels)}, channels


def channels_of(caller: str, sizes: PaddedSizes) -> int:
    """The number of channels, which is on the last axis. Raises ValueError without an axis.

    >>> channels_of("rms_norm", (28, 28, 3))
    3
    """
    sizes = shape(sizes)
    if not sizes:
        raise ValueError(
            f"{caller}: one example has shape (), but at least one axis (..., channels) is "
            "expected."
        )
    return sizes[-1]
