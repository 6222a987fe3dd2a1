"""Initial values of weights: `(key, shape) -> array`.

Fan-in is the number of inputs that one output reads: `i` for a matrix (i, o), `kh·kw·c` for a
kernel (kh, kw, c, o). Fan-out likewise: `o`, and `kh·kw·o`. The distributions that take a number
(`normal(std)`, `uniform(low, high)`) return an initialiser, a partial function that shows it; the
number may be a traced array.

All take `fans=(fan_in, fan_out)` too, numbers that may be traced, to scale by if some inputs and
outputs of `shape` are padding. Those that are not scaled by fans ignore it.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from purenet.core.types import Initializer, Key, Number, Sizes
from purenet.core.validate import (
    Finite,
    NonNegative,
    declared,
    expect,
    is_integer,
    is_number,
    positive,
    random_key,
    require,
)

Fans = tuple[Number, Number]  # (fan_in, fan_out)


def zeros(
    key: Key | None, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """All zeros of `dtype`, whatever the key.

    Raises ValueError for a shape that is not of positive integers.
    Source: the usual start of biases: Glorot & Bengio (2010), section 2.3.

    >>> zeros(None, (2,)).tolist()
    [0.0, 0.0]
    """
    del key, fans
    return jnp.zeros(_checked("zeros", shape), dtype)


@declared
def normal(std: NonNegative) -> Initializer:
    """N(0, std²).

    The initialiser raises ValueError for a shape that is not of positive integers, and TypeError
    for anything but a key and for a dtype that is not of floats.
    Source: Krizhevsky, Sutskever & Hinton (2012), section 5, with a std of 0.01.

    >>> normal(0.01)(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return functools.partial(_normal, std=std)


def _normal(key, shape, dtype=float, fans=None, *, std):
    del fans  # the scale is given
    return std * _draw("normal", jax.random.normal, key, shape, dtype)


@declared
def uniform(low: Finite = -1.0, high: Finite = 1.0) -> Initializer:
    """U(low, high).

    Raises ValueError for a plain low above a plain high. The initialiser raises what that of
    `normal` does.
    Source: LeCun, Bottou, Orr & Müller (1998), section 4.6.

    >>> uniform()(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    known = is_number(low) and is_number(high)
    legal = not known or low <= high
    expect(legal, "uniform: low", low, f"at most high, which is {high},", ValueError)
    return functools.partial(_uniform, low=low, high=high)


def _uniform(key, shape, dtype=float, fans=None, *, low, high):
    del fans  # the scale is given
    return low + (high - low) * _draw("uniform", jax.random.uniform, key, shape, dtype)


def lecun_normal(
    key: Key, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """N(0, 1/fan_in), which keeps the variance of the inputs if the activation is linear.

    Raises ValueError unless the shape is that of a matrix or kernel and the fans are two numbers
    above 0; TypeError for anything but a key and for a dtype that is not of floats.
    Source: LeCun, Bottou, Orr & Müller (1998), equation 16.

    >>> lecun_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(_root(1, _fans("lecun_normal", shape, fans)[0], dtype))(key, shape, dtype)


def glorot_normal(
    key: Key, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """N(0, 2/(fan_in + fan_out)), a compromise between the forward and the backward pass.

    Raises ValueError and TypeError as `lecun_normal` does.
    Source: Glorot & Bengio (2010), equation 12.

    >>> glorot_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(_root(2, sum(_fans("glorot_normal", shape, fans)), dtype))(key, shape, dtype)


def glorot_uniform(
    key: Key, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """U(-a, a) with a = √(6 / (fan_in + fan_out)).

    Raises ValueError and TypeError as `lecun_normal` does.
    Source: Glorot & Bengio (2010), equation 16.

    >>> glorot_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    limit = _root(6, sum(_fans("glorot_uniform", shape, fans)), dtype)
    return uniform(-limit, limit)(key, shape, dtype)


def he_normal(
    key: Key, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """N(0, 2/fan_in), for relu networks.

    Raises ValueError and TypeError as `lecun_normal` does.
    Source: He, Zhang, Ren & Sun (2015), equation 10.

    >>> he_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(_root(2, _fans("he_normal", shape, fans)[0], dtype))(key, shape, dtype)


def he_uniform(
    key: Key, shape: Sizes, dtype: DTypeLike = float, fans: Fans | None = None
) -> jax.Array:
    """U(-a, a) with a = √(6 / fan_in), which has the variance of `he_normal`.

    Raises ValueError and TypeError as `lecun_normal` does.
    Source: He, Zhang, Ren & Sun (2015).

    >>> he_uniform(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    limit = _root(6, _fans("he_uniform", shape, fans)[0], dtype)
    return uniform(-limit, limit)(key, shape, dtype)


def _root(gain, fan, dtype):
    """√(gain / fan), in the dtype of the weights where the fan is traced."""
    if is_number(fan):
        return math.sqrt(gain / fan)
    return jnp.sqrt(gain / jnp.asarray(fan, float)).astype(dtype)


def _fans(caller, shape, fans):
    shape = _checked(caller, shape)
    if fans is not None:
        two = isinstance(fans, (tuple, list)) and len(fans) == 2
        expect(two, f"{caller}: fans", fans, "(fan_in, fan_out)", ValueError)
        positive(caller, fan_in=fans[0], fan_out=fans[1])
        return fans
    require(
        len(shape) > 1,
        f"{caller}: an initialiser scaled by fan-in got the shape {shape}, but a matrix (inputs, "
        "outputs) or a kernel (height, width, in, out) is expected; use `zeros`, `normal` or "
        "`uniform` for anything else.",
    )
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _checked(caller, shape) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    legal = all(is_integer(n) and n.__index__() > 0 for n in sizes)
    such = "a tuple of positive integers such as (784, 100)"
    expect(legal, f"{caller}: shape", shape, such, ValueError)
    return tuple(n.__index__() for n in sizes)


def _draw(caller, distribution, key, shape, dtype):
    """distribution(key, shape, dtype), checked; drawn as one row, from which it has the same bits.

    XLA unrolls a loop over the places of a short row: for a (100, 10) matrix, a vector of 1,000
    compiles in a fifth of the time, under vmap in a tenth.
    """
    random_key(caller, key)
    expect(jnp.issubdtype(dtype, jnp.floating), f"{caller}: dtype", dtype, "one of floats")
    shape = _checked(caller, shape)
    return distribution(key, (math.prod(shape),), dtype).reshape(shape)
