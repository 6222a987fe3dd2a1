"""Periodic features of numbers: cosines and sines of learnt frequencies, one set per column."""

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import inexact
from purenet.core.types import Array, Layer
from purenet.core.validate import Positive, PositiveInteger, declared, require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import named, shape, stateless
from purenet.nn.initializers import normal

# waves that are long enough for differences to follow
_X = np.array([[0.3, -0.2, 0.2], [-0.2, 0.4, 0.5], [0.4, 0.2, -0.3]])
_FREQUENCIES = np.array([[0.3, -0.1, 0.2, 0.4], [-0.2, 0.5, 0.1, 0.3], [0.4, 0.2, -0.3, 0.1]])
EXAMPLES = {"periodic_features": ((_X, _FREQUENCIES), ())}


# forward
def _periodic_features(x: Array, frequencies: Array) -> jax.Array:
    """Cosines and sines of every column, at its own frequencies.

        y[n, f] = (cos z, sin z),  z[n, f, k] = 2π c[f, k] x[n, f]

    Shapes: x (n, f), frequencies c (f, k) -> (n, f · 2k), the cosines of a column before its sines.
    With cotangent g = (g_cos, g_sin), d = g_sin cos z - g_cos sin z: dx = Σₖ 2π c d and
    dc = Σₙ 2π x d.
    Raises ValueError for other shapes.
    Source: Gorishniy, Rubachev & Babenko (2022), equation 3.

    >>> print(jnp.abs(periodic_features(jnp.array([[0.5]]), jnp.array([[2.0]]))).round(4))
    [[1. 0.]]
    """
    return _periodic_features_fwd(x, frequencies)[0]


# backward, by hand
def _periodic_features_fwd(x, frequencies):
    x = inexact(x)
    require(
        x.ndim == 2 and frequencies.ndim == 2 and frequencies.shape[0] == x.shape[1],
        f"periodic: x has shape {x.shape} and the frequencies {frequencies.shape}, but (n, "
        "columns) and (columns, frequencies) are expected.",
    )
    z = 2 * jnp.pi * frequencies.astype(x.dtype)[None] * x[..., None]  # (n, f, k)
    cos, sin = jnp.cos(z), jnp.sin(z)
    y = jnp.concatenate([cos, sin], axis=-1).reshape(x.shape[0], -1)
    return y, (x, frequencies, cos, sin)


def _periodic_features_bwd(residuals, g):
    x, frequencies, cos, sin = residuals
    k = frequencies.shape[1]
    g = g.reshape(*x.shape, 2 * k).astype(x.dtype)
    d = 2 * jnp.pi * (g[..., k:] * cos - g[..., :k] * sin)  # (n, f, k)
    dx = (d * frequencies.astype(x.dtype)[None]).sum(-1)
    return dx, (d * x[..., None]).sum(0)


periodic_features = hand_vjp(_periodic_features, _periodic_features_fwd, _periodic_features_bwd)


# the layer
@declared
def periodic(frequencies: PositiveInteger = 16, scale: Positive = 0.1) -> Layer:
    """Periodic features of the columns of tabular data, as the first layer of a network.

        (cos 2πcx, sin 2πcx),  c ~ N(0, scale²) and learnt

    (n, f) -> (n, f · 2 frequencies). Weights {"c": (f, frequencies)}. `scale` may be traced; it is
    worth tuning, on a log scale. `mlp(embed=periodic())` puts it before the first layer.
    Raises ValueError for examples that are not rows of numbers.
    Source: Gorishniy, Rubachev & Babenko, On embeddings for numerical features (2022).

    >>> net = periodic(frequencies=4)
    >>> params = net.init(jax.random.key(0), 3)
    >>> net.apply(params, jnp.ones((5, 3)), True, None)[0].shape
    (5, 24)
    """

    def init(key, sizes):
        sizes = shape(sizes)
        require(
            len(sizes) == 1,
            f"periodic: examples have the shape {sizes}, but rows of numbers are expected.",
        )
        return {"c": normal(scale)(key, (*sizes, frequencies))}

    def apply(weights, x, train, key):
        del train, key
        (c,) = named("periodic", "weights", weights, "c")
        return periodic_features(x, c)

    return stateless(init, apply, spec=("periodic", {"frequencies": frequencies, "scale": scale}))
