"""Group normalisation: every example by the statistics of its groups of channels."""

import math

import jax
from jax import lax

from purenet.core.dtypes import inexact, widen
from purenet.core.types import Array, Layer, Number
from purenet.core.validate import NonNegative, PositiveInteger, declared, expect, integer
from purenet.core.vjp import hand_vjp
from purenet.nn.base import named, stateless
from purenet.nn.norm import (
    check_channels,
    check_eps,
    gamma_and_beta,
    per_channel,
    scale_and_shift,
)

EXAMPLES = {"group_normalise": (((2, 3, 6), (6,), (6,), 0.3), (2,))}


# forward
def _group_normalise(
    x: Array, gamma: Array, beta: Array, eps: Number, groups: int = 1
) -> jax.Array:
    """Normalise every example by the mean and the variance of each of its groups of channels.

    Shapes: x (n, ..., c), gamma and beta (c,), eps () -> like x. A group is c / `groups` channels,
    one after the other, at all positions: m numbers, whose statistics are float32 or wider.
    With cotangent g, h = gamma g and ⟨·⟩ the mean over a group of one example, s = 1/√(v + eps):
    dx = s (h - ⟨h⟩ - x̂ ⟨h x̂⟩), dgamma = Σ g x̂, dbeta = Σ g, deps = -Σ s² h x̂ / 2.
    Raises ValueError for an empty x, unless gamma and beta are one number per channel, unless
    `groups` divides the channels, and for a plain eps that is negative; TypeError for `groups` that
    is not an integer and an eps that is not a number.
    Source: Wu & He (2018), equations 1 to 3 and 7.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_normalise(x, jnp.ones(4), jnp.zeros(4), 0.0, 2).round(6).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    return _group_normalise_fwd(x, gamma, beta, eps, groups)[0]


def _by_group(x, groups):
    """(n, ..., c) -> (n, ..., groups, c / groups), and the axes of a group of one example."""
    x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return x, (*range(1, x.ndim - 2), x.ndim - 1)


def _check_groups(groups, channels):
    divides = channels % integer("group_norm: groups", groups, least=1) == 0
    expect(divides, "group_norm: groups", groups, f"a divisor of {channels} channels", ValueError)


# backward, by hand
def _group_normalise_fwd(x, gamma, beta, eps, groups):
    x = inexact(x)
    check_channels("group_norm", x, gamma=gamma, beta=beta)
    _check_groups(groups, x.shape[-1])
    grouped, axes = _by_group(widen(x), groups)
    mean = grouped.mean(axes, keepdims=True)  # (n, 1, ..., groups, 1), as the variance
    centred = grouped - mean
    variance = (centred * centred).mean(axes, keepdims=True)
    inverse = lax.rsqrt(variance + widen(eps, x))
    x_hat = (centred * inverse).reshape(x.shape)
    return scale_and_shift(x_hat, gamma, beta, x), (x, gamma, mean, inverse)


def _group_normalise_bwd(groups, residuals, g):
    x, gamma, mean, inverse = residuals
    g, gamma = g.astype(mean.dtype), gamma.astype(mean.dtype)
    grouped, axes = _by_group(widen(x), groups)
    x_hat = (grouped - mean) * inverse
    h, _ = _by_group(per_channel(gamma, x) * g, groups)
    shared = h.mean(axes, keepdims=True)  # (n, ..., groups, c/groups) -> (n, 1, ..., groups, 1)
    along = (h * x_hat).mean(axes, keepdims=True)  # the same
    dx = (inverse * (h - shared - x_hat * along)).reshape(x.shape)
    rows = tuple(range(x.ndim - 1))
    dgamma = (g * x_hat.reshape(x.shape)).sum(rows)  # (n, ..., c) -> (c,)
    dbeta = g.sum(rows)  # (n, ..., c) -> (c,)
    m = math.prod(grouped.shape[axis] for axis in axes)
    deps = -(inverse * inverse * along) * (m / 2)  # (n, 1, ..., groups, 1), summed by hand_vjp
    return dx, dgamma, dbeta, deps


group_normalise = hand_vjp(
    _group_normalise,
    _group_normalise_fwd,
    _group_normalise_bwd,
    static=(4,),
    check=check_eps("group_norm", 3),
)


# the layer
@declared
def group_norm(groups: PositiveInteger, eps: NonNegative = 1e-6) -> Layer:
    """Group normalisation: `groups` groups of channels, whatever the size of the batch.

    Weights {"gamma": (c,), "beta": (c,)}, c the last of `sizes`; training and inference are the
    same. With 1 group every example is normalised as a whole, with c groups every channel of it.
    `eps` may be traced.
    Raises ValueError for examples without an axis, unless `groups` divides the channels, and for
    params of another network.
    Source: Wu & He (2018).

    >>> group_norm(3).init(None, (28, 28, 6)).weights["gamma"].shape
    (6,)
    """

    def init(key, sizes):
        del key  # nothing is random
        weights, channels = gamma_and_beta("group_norm", sizes)
        _check_groups(groups, channels)
        return weights

    def apply(weights, x, train, key):
        del train, key
        gamma, beta = named("group_norm", "weights", weights, "gamma", "beta")
        return group_normalise(x, gamma, beta, eps, groups)

    return stateless(init, apply, spec=("group_norm", {"groups": groups, "eps": eps}))
