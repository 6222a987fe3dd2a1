"""RMS normalisation: y = gamma x / √(⟨x²⟩ + eps), the mean ⟨·⟩ over the last axis."""

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import inexact, widen
from purenet.core.types import Array, Layer, Number
from purenet.core.validate import NonNegative, declared
from purenet.core.vjp import hand_vjp
from purenet.nn.base import named, stateless
from purenet.nn.norm import channels_of, check_channels, check_eps, per_channel

EXAMPLES = {"rms_normalise": (((2, 3, 4), (4,), 0.3), ())}


# forward
def _rms_normalise(x: Array, gamma: Array, eps: Number) -> jax.Array:
    """Divide the last axis of every example, and of every position in it, by its root mean square.

    Shapes: x (n, ..., c), gamma (c,), eps () -> like x; the mean square is float32 or wider.
    With cotangent g, h = gamma g, ⟨·⟩ the mean over the last axis, s = 1/√(⟨x²⟩ + eps) and x̂ = s
    x: dx = s (h - x̂ ⟨h x̂⟩), dgamma = Σ g x̂, deps = -Σ s² h x̂ / 2.
    Raises ValueError for an empty x, unless gamma is one number per channel, and for a plain eps
    that is negative; TypeError for one that is not a number.
    Source: Zhang & Sennrich (2019), equation 4.

    >>> rms_normalise(jnp.array([[2.0, -2.0]]), jnp.ones(2), 0.0).tolist()
    [[1.0, -1.0]]
    """
    return _rms_normalise_fwd(x, gamma, eps)[0]


# backward, by hand
def _rms_normalise_fwd(x, gamma, eps):
    x = inexact(x)
    check_channels("rms_norm", x, gamma=gamma)
    wide = widen(x)
    inverse = lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + widen(eps, x))  # (..., 1)
    y = per_channel(widen(gamma, x), x) * (wide * inverse)
    return y.astype(x.dtype), (x, gamma, inverse)


def _rms_normalise_bwd(residuals, g):
    x, gamma, inverse = residuals
    g, gamma = g.astype(inverse.dtype), gamma.astype(inverse.dtype)
    x_hat = widen(x) * inverse
    h = per_channel(gamma, x) * g
    along = (h * x_hat).mean(-1, keepdims=True)  # (..., c) -> (..., 1)
    dx = inverse * (h - x_hat * along)
    dgamma = (g * x_hat).sum(tuple(range(x.ndim - 1)))  # (n, ..., c) -> (c,)
    deps = -(inverse * inverse * along) * (x.shape[-1] / 2)  # (..., 1), summed by hand_vjp
    return dx, dgamma, deps


rms_normalise = hand_vjp(
    _rms_normalise, _rms_normalise_fwd, _rms_normalise_bwd, check=check_eps("rms_norm", 2)
)


# the layer
@declared
def rms_norm(eps: NonNegative = 1e-6) -> Layer:
    """RMS normalisation over the last axis: no mean is subtracted and nothing is added.

    Weights {"gamma": (c,)}, c the last of `sizes`; training and inference are the same. `eps` may
    be traced.
    Raises ValueError for examples without an axis and params of another network.
    Source: Zhang & Sennrich (2019).

    >>> rms_norm().init(None, (28, 28, 3)).weights["gamma"].shape
    (3,)
    """

    def init(key, sizes):
        del key  # nothing is random
        return {"gamma": jnp.ones(channels_of("rms_norm", sizes))}

    def apply(weights, x, train, key):
        del train, key
        (gamma,) = named("rms_norm", "weights", weights, "gamma")
        return rms_normalise(x, gamma, eps)

    return stateless(init, apply, spec=("rms_norm", {"eps": eps}))
