"""Layer normalisation: x̂ = (x - μ) / √(v + eps) of each example, y = gamma x̂ + beta."""

import jax

from purenet.core.dtypes import inexact, widen
from purenet.core.types import Array, Layer, Number
from purenet.core.validate import declared
from purenet.core.vjp import hand_vjp
from purenet.nn.base import NonNegatives, named, stateless
from purenet.nn.norm import (
    check_channels,
    check_eps,
    gamma_and_beta,
    per_channel,
    scale_and_shift,
    standardise,
)


# forward
def _layer_normalise(x: Array, gamma: Array, beta: Array, eps: Number) -> jax.Array:
    """Normalise the last axis of every example, and of every position in it, on its own.

    Shapes: x (n, ..., c), gamma and beta (c,), eps () -> like x.
    With cotangent g, h = gamma g and ⟨·⟩ the mean over the last axis, s = 1/√(v + eps):
    dx = s (h - ⟨h⟩ - x̂ ⟨h x̂⟩), dgamma = Σ g x̂, dbeta = Σ g, deps = -Σ s² h x̂ / 2.
    Raises ValueError for an empty x, unless gamma and beta are one number per channel, and for a
    plain eps that is negative; TypeError for one that is not a number.
    Source: Ba, Kiros & Hinton (2016).

    >>> import jax.numpy as jnp
    >>> layer_normalise(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), 0.0).tolist()
    [[-1.0, 1.0]]
    """
    return _layer_normalise_fwd(x, gamma, beta, eps)[0]


# backward, by hand
def _layer_normalise_fwd(x, gamma, beta, eps):
    x = inexact(x)
    check_channels("layer_norm", x, gamma=gamma, beta=beta)
    x_hat, mean, _, inverse = standardise(x, eps, -1)
    return scale_and_shift(x_hat, gamma, beta, x), (x, gamma, mean, inverse)


def _layer_normalise_bwd(residuals, g):
    x, gamma, mean, inverse = residuals
    g, gamma = g.astype(mean.dtype), gamma.astype(mean.dtype)
    rows = tuple(range(x.ndim - 1))
    x_hat = (widen(x) - mean) * inverse
    h = per_channel(gamma, x) * g
    shared = h.mean(-1, keepdims=True)  # (..., c) -> (..., 1)
    along = (h * x_hat).mean(-1, keepdims=True)  # (..., c) -> (..., 1)
    dx = inverse * (h - shared - x_hat * along)
    dgamma = (g * x_hat).sum(rows)  # (..., c) -> (c,)
    dbeta = g.sum(rows)  # (..., c) -> (c,)
    deps = -(inverse * inverse * along) * (x.shape[-1] / 2)  # (..., 1), summed by hand_vjp
    return dx, dgamma, dbeta, deps


layer_normalise = hand_vjp(
    _layer_normalise, _layer_normalise_fwd, _layer_normalise_bwd, check=check_eps("layer_norm", 3)
)


# the layer
@declared
def layer_norm(eps: NonNegatives = 1e-6) -> Layer:
    """Layer normalisation over the last axis; training and inference are the same.

    Weights {"gamma": (c,), "beta": (c,)}, c the last of `sizes`. `eps` may be traced.
    Raises ValueError for examples without an axis and params of another network.
    Source: Ba, Kiros & Hinton (2016).

    >>> layer_norm().init(None, (28, 28, 3)).weights["gamma"].shape
    (3,)
    """

    def init(key, sizes):
        del key  # nothing is random
        return gamma_and_beta("layer_norm", sizes)[0]

    def apply(weights, x, train, key):
        del train, key
        gamma, beta = named("layer_norm", "weights", weights, "gamma", "beta")
        return layer_normalise(x, gamma, beta, eps)

    return stateless(init, apply, spec=("layer_norm", {"eps": eps}))
