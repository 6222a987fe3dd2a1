"""Local response normalisation: each channel divided by the energy of its neighbours."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from purenet.core.dtypes import inexact, widen
from purenet.core.types import Array, Layer, Number
from purenet.core.validate import (
    Check,
    Finite,
    Positive,
    declared,
    expect,
    finite,
    integer,
    positive,
)
from purenet.core.vjp import hand_vjp
from purenet.nn.base import expect_shape, named, stateless


# forward
def _local_response_normalise(
    x: Array, k: Number, alpha: Number, beta: Number, n: int = 5
) -> jax.Array:
    """y = x / (k + α Σ x²)^β, the sum over the n channels around each one (fewer at the ends).

    Shapes: x (..., c), k, alpha and beta () -> (..., c), in the dtype of x; integers count as
    floats, half types are computed in float32.
    With s = k + α S, S = Σ x², cotangent g and u = -β g y / s:
    dx = g s^-β + 2α x Σ u, dk = Σ u, dα = Σ u S, dβ = -Σ g y log s.
    Raises ValueError if n is even (the neighbours would differ on the two sides), if x has no axis,
    and for a plain k that is not above 0, alpha or beta that is not finite; TypeError for anything
    but numbers.
    Source: Krizhevsky, Sutskever & Hinton (2012), section 3.3.

    >>> local_response_normalise(jnp.ones((1, 2)), 2.0, 1.0, 1.0, 3).round(2).tolist()
    [[0.25, 0.25]]
    """
    expect_shape(jnp.ndim(x) > 0, "local_response_norm: x", x, "(..., channels)")
    _check_numbers(x, k, alpha, beta, n)
    x = inexact(x)
    k, alpha, beta = (widen(a, x) for a in (k, alpha, beta))
    wider = widen(x)
    return (wider * (k + alpha * _around(wider * wider, n)) ** -beta).astype(x.dtype)


def _check_numbers(x, k, alpha, beta, n=5):
    del x
    positive("local_response_norm", k=k)
    finite("local_response_norm", alpha=alpha, beta=beta)
    _odd("local_response_norm: n", n)


def _odd(name, n) -> int:
    such = "an odd number, a channel and as many neighbours before it as after it,"
    expect(integer(name, n, least=1) % 2, name, n, such, ValueError)
    return n


OddInteger = Annotated[int, Check(_odd, "an odd integer of at least 1")]


def _around(x, n):
    """The sum over each channel and its n // 2 neighbours on both sides: its own transpose."""
    ones = (1,) * (x.ndim - 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (*ones, n), (*ones, 1), "SAME")


# backward, by hand
def _local_response_normalise_fwd(x, k, alpha, beta, n):
    return _local_response_normalise(x, k, alpha, beta, n), (inexact(x), k, alpha, beta)


def _local_response_normalise_bwd(n, residuals, g):
    x, *numbers = residuals
    k, alpha, beta = (widen(a, x) for a in numbers)
    x, g = widen(x), widen(g)
    energy = _around(x * x, n)  # (..., c), as all below
    s = k + alpha * energy
    scale = s**-beta
    u = -beta * g * x * scale / s
    dx = g * scale + 2 * alpha * x * _around(u, n)
    dk, dalpha = u, u * energy  # summed to scalars when they are matched to k and alpha
    dbeta = -g * x * scale * jnp.log(s)
    return dx, dk, dalpha, dbeta


local_response_normalise = hand_vjp(
    _local_response_normalise,
    _local_response_normalise_fwd,
    _local_response_normalise_bwd,
    static=(4,),
    check=_check_numbers,
)


# the layer
@declared
def local_response_norm(
    n: OddInteger = 5, k: Positive = 2.0, alpha: Finite = 1e-4, beta: Finite = 0.75
) -> Layer:
    """Local response normalisation over `n` neighbouring channels. No parameters.

    k, alpha and beta are numbers or traced arrays.
    Source: Krizhevsky, Sutskever & Hinton (2012), section 3.3.

    >>> layer = local_response_norm(n=3)
    >>> layer.apply(layer.init(None, (4, 4, 8)), jnp.ones((2, 4, 4, 8)), True, None)[0].shape
    (2, 4, 4, 8)
    """

    def init(key, sizes):
        del key, sizes
        return ()

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        named("local_response_norm", "weights", weights)
        return local_response_normalise(x, k, alpha, beta, n)

    arguments = {"n": n, "k": k, "alpha": alpha, "beta": beta}
    return stateless(init, apply, spec=("local_response_norm", arguments))
