"""Muon: momentum with orthogonalised matrices, so that every direction moves equally far."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import NonNegative, UnitInterval, declared
from purenet.optim.base import Count, average, root, weightwise
from purenet.optim.schedules import LearningRate

# of the quintic iteration: singular values from 0 to 1 end between 0.7 and 1.2 after five steps
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


class MuonState(NamedTuple):
    count: Count
    mean: PyTree  # like the weights: moving average of the gradient
    square: PyTree  # like the weights: moving average of its square; 0 for matrices


@declared
def muon(
    rate: LearningRate,
    b1: UnitInterval = 0.95,
    b2: UnitInterval = 0.95,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Muon for matrices, Adam for all other weights, at one rate.

        m ← b1 m + (1 - b1) g,    n = b1 m + (1 - b1) g
        u = -rate · (0.2 √max(a, b) · orthogonal(n) + weight_decay · w)    for matrices (a, b)

    orthogonal(n) = UVᵀ of the singular value decomposition n = USVᵀ, nearly: by five steps of a
    quintic iteration. The factor makes the steps of matrices as large as AdamW's, so that the same
    rates suit. a and b count the rows and columns in which n is not 0, so padding is left out.
    The decay applies to the same weights as in `adamw`.

    `update` raises ValueError for a mask that does not match the weights, and, with a decay, if the
    weights are missing.
    Source: Jordan et al., Muon (2024); the factor: Liu et al., Muon is scalable for LLM training
    (2025), section 2.2.

    >>> optimizer = muon(0.5)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> updates, _ = optimizer.update(g, optimizer.init(jnp.zeros((2, 2))))
    >>> bool((jnp.abs(jnp.diag(updates) + 0.5 * 0.2 * 2**0.5) < 0.05).all())
    True
    """

    def numbers(rate, t):
        first, second = floating(b1), floating(b2)
        return rate, 1 - first, 1 - second, 1 / (1 - first**t), 1 / (1 - second**t), eps

    def rule(rate, new1, new2, correct1, correct2, eps, g, m, v):
        m = average(m, g, new1)
        if g.ndim == 2:
            return -rate * _orthogonal(average(m, g, new1)), m, v
        v = average(v, g * g, new2)
        return -rate * correct1 * m / (root(correct2 * v) + eps), m, v

    return weightwise("muon", MuonState, rate, numbers, rule, weight_decay=weight_decay, mask=mask)


def _orthogonal(n: jax.Array) -> jax.Array:
    """0.2 √max(a, b) UVᵀ, nearly, of n = USVᵀ with a rows and b columns that are not 0."""
    rows, columns = ((n != 0).any(axis).sum() for axis in (1, 0))
    wide = n.shape[0] <= n.shape[1]
    x = n if wide else n.T
    x = x / (root((x * x).sum()) + jnp.finfo(n.dtype).tiny ** 0.5)
    a, b, c = (jnp.asarray(number, n.dtype) for number in _COEFFICIENTS)
    for _ in range(_STEPS):
        gram = x @ x.T  # of the shorter side
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x if wide else x.T
    return 0.2 * jnp.sqrt(jnp.maximum(rows, columns).astype(n.dtype)) * x
