"""Activations: functions of one array that act on every element (softmax: on every row).

Each can be used as a layer directly: `serial(dense(100), relu)`. The hyperparameters have defaults,
so `functools.partial(leaky_relu, slope=0.2)` is a layer too, and they may be traced arrays:
numbers, or anything that broadcasts against x, such as one slope per channel. An x of integers or
bools counts as floats, except in `relu`, which keeps them.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import inexact, widen
from purenet.core.types import Array, Number
from purenet.core.validate import IS_FUNCTION, Function, declared
from purenet.core.vjp import Op, P, R, hand_vjp
from purenet.nn.base import expect_shape, numbers


@declared
def elementwise(
    plain: Annotated[Callable[P, R], IS_FUNCTION],
    slope: Function,
    keep: Function = lambda y, *args: args,
) -> Op[P, R]:
    """An elementwise op from its forward function and its slope: dx = g · slope.

    slope(*kept) is the derivative with respect to x, or one derivative for each argument where
    there are hyperparameters; keep(y, *args) is what the slope reads, by default the arguments.
    The op raises TypeError for a hyperparameter that is not a number.
    Source: the chain rule.

    >>> import jax
    >>> square = elementwise(lambda x: x * x, lambda x: 2 * x)
    >>> float(jax.grad(square)(3.0))
    6.0
    """
    forward: Callable = plain  # of any number of hyperparameters

    def fwd(x, *hyper):
        y = forward(x, *hyper)
        return y, keep(y, inexact(x), *hyper)

    def bwd(kept, g):
        slopes = slope(*kept)
        return tuple(g * s for s in (slopes if isinstance(slopes, tuple) else (slopes,)))

    def check(x, *hyper, **named):
        del x
        known = {f"argument {i + 1}": value for i, value in enumerate(hyper)} | named
        numbers(plain.__name__.lstrip("_"), **known)

    return hand_vjp(plain, fwd, bwd, check=check)


def _like(hyper, x):
    """A hyperparameter in the dtype of x, so that a float32 slope leaves bfloat16 alone, and with
    its axes: one number per channel is one row."""
    hyper = jnp.asarray(hyper, jnp.result_type(x))
    missing = jnp.ndim(x) - hyper.ndim if hyper.ndim else 0
    return jnp.expand_dims(hyper, tuple(range(missing)))


# relu
def _relu(x: Array | float) -> jax.Array:
    """Rectifier, x where x > 0, else 0.

    Shapes: any x -> the same. With cotangent g: dx = g where x > 0, else 0; relu'(0) = 0.
    NaN stays NaN, so that divergence is visible.
    Raises TypeError for anything but an array.
    Source: Glorot, Bordes & Bengio (2011).

    >>> relu(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        return _selected(x)
    x = jnp.asarray(x)
    return lax.platform_dependent(x, cpu=_selected, tpu=_selected, default=_clamped)


def _selected(x):
    return jnp.where(x <= 0, 0, x)


def _clamped(x):
    """The same in one operation, which XLA for GPUs computes inside the product before it. Its
    slope at 0 is 0, which that of a maximum is not."""
    zero = jnp.zeros((), x.dtype)
    return lax.clamp(zero, x, zero + jnp.inf)


def _relu_fwd(x):
    y = _relu(x)
    # the backward reads only one byte per element; of y, so that x is needed no longer, except on
    # TPUs, where that takes more cycles by XLA's estimate
    of_x, of_y = lambda x, y: x <= 0, lambda x, y: y <= 0
    return y, lax.platform_dependent(x, y, tpu=of_x, default=of_y)


def _relu_bwd(off, g):
    return (jnp.where(off, 0, g),)


relu = hand_vjp(_relu, _relu_fwd, _relu_bwd)


# leaky relu
def _leaky_relu(x: Array | float, slope: Number = 0.01) -> jax.Array:
    """Leaky rectifier, x where x > 0, else slope · x.

    Shapes: any x, slope () or broadcasting against x -> like x.
    With cotangent g: dx = g where x > 0, else slope g; dslope = Σ g x over x <= 0.
    Raises TypeError for a slope that is not a number, and ValueError for a plain one that is not
    finite.
    Source: Maas, Hannun & Ng (2013); with a trained slope, He et al. (2015).

    >>> leaky_relu(jnp.array([-1.0, 2.0]), slope=0.25).tolist()
    [-0.25, 2.0]
    """
    x = inexact(x)
    return jnp.where(x > 0, x, _like(slope, x) * x)


def _leaky_relu_slope(x, slope):
    return jnp.where(x > 0, 1, _like(slope, x)), jnp.where(x > 0, 0, x)


leaky_relu = elementwise(_leaky_relu, _leaky_relu_slope)


# elu, selu
def _elu(x: Array | float, alpha: Number = 1.0) -> jax.Array:
    """Exponential linear unit, x where x > 0, else alpha (eˣ - 1).

    Shapes: any x, alpha () or broadcasting against x -> like x.
    With cotangent g: dx = g where x > 0, else alpha eˣ g;
    dalpha = Σ g (eˣ - 1) over x <= 0.
    Raises TypeError for an alpha that is not a number, and ValueError for a plain one that is not
    finite.
    Source: Clevert, Unterthiner & Hochreiter (2016).

    >>> elu(jnp.array([-1000.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    x = inexact(x)
    return jnp.where(x > 0, x, _like(alpha, x) * jnp.expm1(_negative(x)))


def _elu_slope(x, alpha):
    # y + alpha equals alpha eˣ, but loses all digits where eˣ is small
    negative = _negative(x)
    return jnp.where(x > 0, 1, _like(alpha, x) * jnp.exp(negative)), jnp.expm1(negative)


def _negative(x):
    # the exponential of a large x overflows in the branch that is not taken, and 0 · inf is NaN
    return jnp.where(x > 0, 0, x)


elu = elementwise(_elu, _elu_slope)

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _selu(x: Array | float) -> jax.Array:
    """Self-normalising unit, scale · elu(x, alpha), with the two constants of the paper.

    Shapes: any x -> the same. With cotangent g: dx = scale g where x > 0, else
    scale alpha eˣ g.
    Raises TypeError for anything but an array.
    Source: Klambauer, Unterthiner, Mayr & Hochreiter (2017).

    >>> round(float(selu(jnp.array(1.0))), 4)
    1.0507
    """
    return _SELU_SCALE * _elu(x, _SELU_ALPHA)


def _selu_slope(x):
    slope, _ = _elu_slope(x, _SELU_ALPHA)
    return _SELU_SCALE * slope


selu = elementwise(_selu, _selu_slope)


# gelu
def _gelu(x: Array | float) -> jax.Array:
    """Gaussian error linear unit, x Φ(x), exact: with erf, not with the tanh approximation.

    Shapes: any x -> the same. With cotangent g: dx = g (Φ(x) + x φ(x)).
    Φ and φ are the normal distribution and its density; Φ(x) is erfc(-x/√2) / 2, which keeps its
    digits in the left tail.
    Raises TypeError for anything but an array.
    Source: Hendrycks & Gimpel (2016).

    >>> round(float(gelu(jnp.array(1.0))), 4)
    0.8413
    """
    x = inexact(x)
    return x * _normal_cdf(x)


def _normal_cdf(x):
    return lax.erfc(-x * 0.5**0.5) / 2


def _gelu_slope(x):
    # erfc computes e^(-u²) too; written with the same u, it is computed once
    u = -x * 0.5**0.5
    return _normal_cdf(x) + x * jnp.exp(-(u * u)) * (2 * jnp.pi) ** -0.5


gelu = elementwise(_gelu, _gelu_slope)


# the sigmoid family
def _sigmoid(x: Array | float) -> jax.Array:
    """Logistic function, σ(x) = 1 / (1 + e⁻ˣ), without overflow at either end.

    Shapes: any x -> the same. With cotangent g: dx = g y (1 - y).
    Raises TypeError for anything but an array.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.59.

    >>> sigmoid(jnp.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return lax.logistic(inexact(x))


sigmoid = elementwise(_sigmoid, lambda y: y * (1 - y), keep=lambda y, x: (y,))


def _silu(x: Array | float) -> jax.Array:
    """Sigmoid linear unit (swish), x σ(x).

    Shapes: any x -> the same. With cotangent g: dx = g σ (1 + x (1 - σ)).
    Raises TypeError for anything but an array.
    Source: Elfwing, Uchibe & Doya (2018).

    >>> silu(jnp.array([-1000.0, 0.0, 1000.0])).tolist()
    [-0.0, 0.0, 1000.0]
    """
    z = inexact(x)
    return z * lax.logistic(z)


def _silu_slope(x):
    s = lax.logistic(x)
    return s * (1 + x * (1 - s))


silu = elementwise(_silu, _silu_slope)


def _softplus(x: Array | float) -> jax.Array:
    """Smooth rectifier, log(1 + eˣ), without overflow.

    Shapes: any x -> the same. With cotangent g: dx = g σ(x).
    Raises TypeError for anything but an array.
    Source: Dugas et al. (2001).

    >>> softplus(jnp.array([-1000.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    return jnp.logaddexp(inexact(x), 0)


softplus = elementwise(_softplus, lax.logistic)


def _tanh(x: Array | float) -> jax.Array:
    """Hyperbolic tangent.

    Shapes: any x -> the same. With cotangent g: dx = g (1 - y²), as (1 + y)(1 - y).
    Raises TypeError for anything but an array.
    Source: LeCun, Bottou, Orr & Müller (1998).

    >>> tanh(jnp.array([-1000.0, 0.0, 1000.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return lax.tanh(inexact(x))


tanh = elementwise(_tanh, lambda y: (1 + y) * (1 - y), keep=lambda y, x: (y,))


# softmax
def _softmax(x: Array) -> jax.Array:
    """Softmax of every row, yᵢ = e^(xᵢ) / Σⱼ e^(xⱼ), over the last axis.

    Shapes: x (..., k) -> the same. With cotangent g: dx = y (g - Σⱼ gⱼ yⱼ).
    The maximum of each row is subtracted first, which only prevents overflow. Half types
    are summed in float32.
    Raises ValueError if there is no last axis.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), sections 4.1 and 6.2.2.3.

    >>> softmax(jnp.array([[1000.0, 1000.0], [-1000.0, 1000.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    legal = jnp.ndim(x) > 0 and x.shape[-1] > 0
    expect_shape(legal, "softmax: x", x, "(..., classes) with at least one class")
    x = inexact(x)  # a difference of unsigned integers wraps around
    z = widen(x)
    e = jnp.exp(z - lax.stop_gradient(z.max(axis=-1, keepdims=True)))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)


def _softmax_fwd(x):
    y = _softmax(x)
    return y, y


def _softmax_bwd(y, g):
    y, g = widen(y), widen(g, y)
    return (y * (g - (g * y).sum(axis=-1, keepdims=True)),)  # (..., k)


softmax = hand_vjp(_softmax, _softmax_fwd, _softmax_bwd)
