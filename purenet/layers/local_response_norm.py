"""Local response normalisation: each channel divided by the energy of its neighbours."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from purenet.checks import whole
from purenet.rules import hand_vjp, wide
from purenet.types import Layer, stateless


# forward
def _local_response_normalise(x, k, alpha, beta, n=5):
    """y = x / (k + α Σ x²)^β, the sum over the n channels around each one (fewer at the ends).

    Shapes: x (..., c), k, alpha and beta () -> (..., c), in the dtype of x; half types are computed
    in float32.
    With s = k + α S, S = Σ x², cotangent g and u = -β g y / s:
    dx = g s^-β + 2α x Σ u, dk = Σ u, dα = Σ u S, dβ = -Σ g y log s. `k` must be above 0.
    Raises ValueError when n is even: the neighbours would not be the same on both sides.
    Source: Krizhevsky, Sutskever & Hinton (2012), section 3.3.

    >>> local_response_normalise(jnp.ones((1, 2)), 2.0, 1.0, 1.0, 3).round(2).tolist()
    [[0.25, 0.25]]
    """
    k, alpha, beta = _numbers(x, k, alpha, beta)
    wider = _wide(x)
    return (wider * (k + alpha * _around(wider * wider, n)) ** -beta).astype(x.dtype)


def _wide(x):
    return x.astype(wide(x.dtype))


def _numbers(x, *numbers):
    return (jnp.asarray(a, wide(x.dtype)) for a in numbers)


def _around(x, n):
    """The sum over each channel and its n // 2 neighbours on both sides: its own transpose."""
    if n % 2 == 0:
        raise ValueError(
            f"local_response_norm: n is {n}, but an odd number is expected: a channel and as many "
            "neighbours before it as after it."
        )
    ones = (1,) * (x.ndim - 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (*ones, n), (*ones, 1), "SAME")


# backward, by hand
def _local_response_normalise_fwd(x, k, alpha, beta, n):
    return _local_response_normalise(x, k, alpha, beta, n), (x, k, alpha, beta)


def _local_response_normalise_bwd(n, residuals, g):
    k, alpha, beta = _numbers(*residuals)
    x, g = _wide(residuals[0]), _wide(g)
    energy = _around(x * x, n)  # (..., c), as all below
    s = k + alpha * energy
    scale = s**-beta
    u = -beta * g * x * scale / s
    dx = g * scale + 2 * alpha * x * _around(u, n)
    dk, dalpha = u, u * energy  # summed to scalars where they are matched to k and alpha
    dbeta = -g * x * scale * jnp.log(s)
    return dx, dk, dalpha, dbeta


local_response_normalise = hand_vjp(
    _local_response_normalise,
    _local_response_normalise_fwd,
    _local_response_normalise_bwd,
    static=(4,),
)


# the layer
def local_response_norm(n: int = 5, k=2.0, alpha=1e-4, beta=0.75) -> Layer:
    """Local response normalisation over `n` neighbouring channels. No parameters.

    k, alpha and beta are numbers or traced arrays. Raises ValueError when n is not a positive odd
    number.

    >>> layer = local_response_norm(n=3)
    >>> layer.apply(layer.init(None, (4, 4, 8)), jnp.ones((2, 4, 4, 8)), True, None)[0].shape
    (2, 4, 4, 8)
    """
    n = whole("local_response_norm: n", n, least=1)
    _around(jnp.zeros((1, 1)), n)  # says at once what is wrong with n

    def init(key, sizes):
        del key, sizes
        return ()

    def apply(weights, x, train, key):
        del weights, train, key  # the same in training and inference
        return local_response_normalise(x, k, alpha, beta, n)

    arguments = {"n": n, "k": k, "alpha": alpha, "beta": beta}
    return stateless(init, apply, spec=("local_response_norm", arguments))
