"""RAdam: Adam whose first steps do not trust an average of a few squared gradients."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import NonNegative, UnitInterval, declared
from purenet.optim.base import Count, average, root, weightwise
from purenet.optim.schedules import LearningRate

# squared gradients in the average, above which its variance is finite and the step is adaptive
_ENOUGH = 5


class RadamState(NamedTuple):
    count: Count
    mean: PyTree  # like the weights: moving average of the gradient
    square: PyTree  # like the weights: moving average of the squared gradient


@declared
def radam(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Rectified Adam: Adam that needs no warm-up of its rate.

        ρ = (1 + b2) / (1 - b2)          ρₜ = ρ - 2 t b2ᵗ / (1 - b2ᵗ)
        r = √((ρₜ - 4) (ρₜ - 2) ρ / ((ρ - 4) (ρ - 2) ρₜ))
        u = -rate · (r m̂ / (√(v̂ + eps_root) + eps) + weight_decay · w)    where ρₜ > 5
        u = -rate · (m̂ + weight_decay · w)                                before

    with m̂ and v̂ as in `adam`. ρₜ is the number of gradients that the average v̂ amounts to: about
    t at first and ρ in the end, so that the defaults divide by √v̂ from the sixth step on, and
    b2 ≤ 2/3 never does. The decay applies to the same weights as in `adamw`.

    `update` raises ValueError for a mask that does not match the weights, and, with a decay, if the
    weights are missing.
    Source: Liu et al., On the variance of the adaptive learning rate and beyond (2020), algorithm
    2, with the 5 of its authors' code in place of 4; the decay: Loshchilov & Hutter (2019).

    >>> optimizer = radam(0.5)
    >>> print(optimizer.update(jnp.array([3.0, -0.1]), optimizer.init(jnp.zeros(2)))[0].round(4))
    [-1.5   0.05]
    """

    def numbers(rate, t):
        first, second = floating(b1), floating(b2)
        corrections = 1 / (1 - first**t), 1 / (1 - second**t)
        return rate, 1 - first, 1 - second, *corrections, eps, eps_root, _rectification(second, t)

    def rule(rate, new1, new2, correct1, correct2, eps, eps_root, rectified, g, m, v):
        m = average(m, g, new1)
        v = average(v, g * g, new2)
        adaptive = rectified / (root(correct2 * v + eps_root) + eps)
        return -rate * correct1 * m * jnp.where(rectified > 0, adaptive, 1), m, v

    return weightwise(
        "radam", RadamState, rate, numbers, rule, weight_decay=weight_decay, mask=mask
    )


def _rectification(b2: jax.Array, t: jax.Array) -> jax.Array:
    """r, or 0 where the average is too short."""
    x = -jnp.log(b2)
    # ρₜ without the difference of two large numbers: (1 + b2) / (1 - b2) = 2/x + 2 h(x), and
    # 2 t b2ᵗ / (1 - b2ᵗ) = 2/x - t + 2 t h(t x)
    length = t + 2 * _remainder(x) - 2 * t * _remainder(t * x)
    enough = (t > _ENOUGH) & (length > _ENOUGH)  # it is never above t, except by rounding
    now = jnp.where(enough, length, 2.0 * _ENOUGH)
    last = jnp.where(enough, (1 + b2) / (1 - b2), 2.0 * _ENOUGH)
    square = (now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now)
    return jnp.where(enough, jnp.sqrt(square), 0.0)


def _remainder(y: jax.Array) -> jax.Array:
    """h(y) = 1/(eʸ - 1) - 1/y + 1/2, by its series where y is small."""
    small = jnp.minimum(y, 0.25)
    s = small * small
    series = small * (1 / 12 - s * (1 / 720 - s * (1 / 30240 - s * (1 / 1209600 - s / 47900160))))
    large = jnp.maximum(y, 0.25)
    return jnp.where(y < 0.25, series, 1 / jnp.expm1(large) - 1 / large + 0.5)
