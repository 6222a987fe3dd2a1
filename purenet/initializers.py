"""Initial values of weights: `(key, shape) -> array`.

Fan-in is the number of inputs that one output reads: `i` for a matrix (i, o), `kh·kw·c` for a
kernel (kh, kw, c, o). Fan-out likewise: `o`, and `kh·kw·o`. The distributions that take a number
(`normal(std)`, `uniform(low, high)`) return an initialiser, a partial function that shows it; the
number may be a traced array.

All take `fans=(fan_in, fan_out)` too, numbers that may be traced: what to scale by where not all of
the inputs and outputs of `shape` act. Those that are not scaled by fans ignore it.
"""

import functools
import math

import jax
import jax.numpy as jnp

from purenet.checks import is_number


def zeros(key, shape, dtype=float, fans=None):
    """All zeros, whatever the key.

    >>> zeros(None, (2,)).tolist()
    [0.0, 0.0]
    """
    del key, fans
    return jnp.zeros(shape, dtype)


def normal(std):
    """N(0, std²).

    >>> normal(0.01)(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return functools.partial(_normal, std=std)


def _normal(key, shape, dtype=float, fans=None, *, std):
    del fans  # the scale is given
    return std * jax.random.normal(key, shape, dtype)


def uniform(low=-1.0, high=1.0):
    """U(low, high).

    >>> uniform()(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return functools.partial(_uniform, low=low, high=high)


def _uniform(key, shape, dtype=float, fans=None, *, low, high):
    del fans  # the scale is given
    return low + (high - low) * jax.random.uniform(key, shape, dtype)


def glorot_normal(key, shape, dtype=float, fans=None):
    """N(0, 1/fan_in), the Xavier rule as courses write it.

    Source: Glorot & Bengio (2010), simplified to the fan-in, as for a layer as wide as its input.

    >>> glorot_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(_root(1, _fans(shape, fans)[0], dtype))(key, shape, dtype)


def glorot_uniform(key, shape, dtype=float, fans=None):
    """U(-a, a) with a = √(6 / (fan_in + fan_out)).

    Source: Glorot & Bengio (2010), equation 16.

    >>> glorot_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    limit = _root(6, sum(_fans(shape, fans)), dtype)
    return uniform(-limit, limit)(key, shape, dtype)


def he_normal(key, shape, dtype=float, fans=None):
    """N(0, 2/fan_in), for relu networks.

    Source: He, Zhang, Ren & Sun (2015), equation 10.

    >>> he_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(_root(2, _fans(shape, fans)[0], dtype))(key, shape, dtype)


def he_uniform(key, shape, dtype=float, fans=None):
    """U(-a, a) with a = √(6 / fan_in), which has the variance of `he_normal`.

    Source: He, Zhang, Ren & Sun (2015).

    >>> he_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    limit = _root(6, _fans(shape, fans)[0], dtype)
    return uniform(-limit, limit)(key, shape, dtype)


def _root(gain, fan, dtype):
    """√(gain / fan), in the dtype of the weights where the fan is traced."""
    if is_number(fan):
        return math.sqrt(gain / fan)
    return jnp.sqrt(gain / jnp.asarray(fan, float)).astype(dtype)


def _fans(shape, fans):
    if fans is not None:
        return fans
    if len(shape) < 2:
        raise ValueError(
            f"an initialiser scaled by fan-in got the shape {tuple(shape)}, but it is meant for a "
            "matrix (inputs, outputs) or a kernel (height, width, in, out); use `zeros`, "
            "`normal` or `uniform` for anything else."
        )
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]
