"""Schedule-free optimizers: an average of the iterates in place of a rate that falls.

The weights of a training are the average x, which is what is evaluated, saved and returned. The
gradient is taken at y, between x and the fast iterates z, which the state holds: `gradient_at` of
the optimizer returns y.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating, widen
from purenet.core.tree import check_same_structure
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import NonNegative, UnitInterval, declared
from purenet.optim.base import (
    Count,
    Row,
    average,
    decay_mask,
    optimizer_pair,
    own_state,
    required_weights,
    root,
)
from purenet.optim.schedules import LearningRate, at


class ScheduleFreeSgdState(NamedTuple):
    count: Count
    total: Any  # () float, the sum of the squared rates
    fast: PyTree  # like the weights: z


@declared
def schedule_free_sgd(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    weight_decay: NonNegative = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Schedule-free gradient descent: a constant rate, and the average of where it went.

        y = (1 - b1) z + b1 x,   g = ∇L(y)          z ← z - rate · (g + weight_decay · y)
        c = rate² / Σ rate²                         u = c · (z - x),   z₀ = x₀

    x are the weights. A training takes the gradient at `gradient_at(state, x) -> y`, as that of
    `supervised` does, and evaluates x: there is nothing to swap. Rates may be large, and may rise
    at first, as in `warmup`; they need not fall. The decay applies to the same weights as in
    `adamw`. In a chain it comes last, so that x stays the average. The running statistics of
    batch_norm are those of the networks at y.

    `update` raises ValueError if the weights are missing, and for a mask that does not match them.
    Source: Defazio et al., The road less scheduled (2024), equations 3 to 5, with the averaging of
    algorithm 1.

    >>> optimizer = schedule_free_sgd(0.5, b1=0.75)
    >>> x, state = jnp.zeros(2), optimizer.init(jnp.zeros(2))
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(jnp.ones(2), state, x)
    ...     x = x + updates
    >>> x.tolist(), optimizer.gradient_at(state, x).tolist()
    ([-0.75, -0.75], [-0.8125, -0.8125])
    """
    numbers = lambda rate, t: (rate, ())
    rule = lambda g: (g,)
    return _schedule_free(
        "schedule_free_sgd", ScheduleFreeSgdState, rate, b1, numbers, rule, weight_decay, mask
    )


class ScheduleFreeAdamwState(NamedTuple):
    count: Count
    total: Any  # () float, the sum of the squares of s
    fast: PyTree  # like the weights: z
    square: PyTree  # like the weights: moving average of the squared gradient


@declared
def schedule_free_adamw(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.01,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Schedule-free AdamW: its steps without a schedule, and the average of where they went.

        y = (1 - b1) z + b1 x,   g = ∇L(y)          v ← b2 v + (1 - b2) g²,   v̂ = v / (1 - b2ᵗ)
        z ← z - rate · (g / (√(v̂ + eps_root) + eps) + weight_decay · y)
        s = rate · √(1 - b2ᵗ),   c = s² / Σ s²      u = c · (z - x),   z₀ = x₀

    All else as in `schedule_free_sgd`.

    `update` raises ValueError if the weights are missing, and for a mask that does not match them.
    Source: Defazio et al., The road less scheduled (2024), algorithm 1, with `eps` outside the
    correction of v.

    >>> optimizer = schedule_free_adamw(0.5)
    >>> updates, _ = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
    >>> print(updates.round(4))
    [-0.5 -0.5]
    """

    def numbers(rate, t):
        correction = 1 - floating(b2) ** t
        return rate * jnp.sqrt(correction), (1 - floating(b2), 1 / correction, eps, eps_root)

    def rule(new, correction, eps, eps_root, g, v):
        v = average(v, g * g, new)
        return g / (root(correction * v + eps_root) + eps), v

    return _schedule_free(
        "schedule_free_adamw", ScheduleFreeAdamwState, rate, b1, numbers, rule, weight_decay, mask
    )


def _schedule_free(caller, state_type, rate, b1, numbers, rule, weight_decay, mask):
    """`numbers(rate, t)` returns s, by whose square an iterate counts in the average, and the
    scalars of `rule(*scalars, g, *slots) -> (direction, *slots)`."""
    slots = len(state_type._fields) - 3

    def init(weights):
        copy = lambda w: jnp.array(w, jnp.result_type(w))  # separate buffers, safe to donate
        zeros = lambda w: jnp.zeros_like(w, dtype=jnp.result_type(w))
        fast, *others = (jax.tree.map(f, weights) for f in (copy, *[zeros] * slots))
        return state_type(jnp.zeros((), jnp.int32), floating(0.0), fast, *others)

    def between(z, x):
        return average(widen(z), widen(x), widen(b1, z))

    def gradient_at(state, weights):
        y = lambda z, x: between(z, x).astype(jnp.result_type(x))
        return jax.tree.map(y, own_state(caller, state_type, state).fast, weights)

    def update(grads, state, weights):
        count, total, *trees = own_state(caller, state_type, state)
        for tree in trees:
            check_same_structure(caller, "the weights of the state", tree, gradients=grads)
        chosen = decay_mask(caller, mask, required_weights(caller, weights))
        now = at(rate, count)
        s, scalars = numbers(now, floating(count + 1))
        square = floating(s) ** 2
        total = total + square.astype(total.dtype)
        share = square / jnp.where(total > 0, total, 1)  # no steps yet: nothing to average

        def leaf(g, x, chosen, z, *old):
            wide = lambda a: widen(a, g, x)
            move, *new = rule(*map(wide, map(floating, scalars)), wide(g), *map(wide, old))
            if chosen:
                move = move + wide(weight_decay) * between(wide(z), wide(x))
            after = wide(z) - wide(now) * move
            pairs = zip((wide(share) * (after - wide(x)), after, *new), (x, z, *old), strict=True)
            return Row(a.astype(jnp.result_type(b)) for a, b in pairs)

        rows = jax.tree.map(leaf, grads, weights, chosen, *trees)
        updates, *trees = (jax.tree.map(itemgetter(i), rows) for i in range(slots + 2))
        return updates, state_type(count + 1, total, *trees)

    return optimizer_pair(caller, init, update, gradient_at=gradient_at)
