"""A rate that falls when the score on the validation data no longer improves."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating, widen
from purenet.core.score import choose_metric
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import NonNegative, Positive, UnitInterval, declared, one_of
from purenet.optim.base import Count, optimizer_pair, own_state


class PlateauState(NamedTuple):
    scale: Any  # () float, the factor of all updates
    best: Any  # () float, the best score so far, larger is better; undefined while seen is 0
    seen: Count  # scores so far, NaN not among them
    stale: Count  # evaluations without improvement, since the last reduction
    rest: Any  # () float, evaluations that are not counted any more


@declared
def reduce_on_plateau(
    factor: UnitInterval = 0.1,
    patience: Positive = 10,
    min_delta: NonNegative = 1e-4,
    cooldown: NonNegative = 0,
    min_scale: NonNegative = 0.0,
    metric: str | None = None,
    mode: Annotated[str, one_of("max", "min")] | None = None,
) -> Optimizer:
    """Multiply the rate by `factor` whenever the validation score has stopped improving.

        u = s · g,   s₀ = 1          s ← max(s · factor, min_scale)  after `patience` evaluations

    Chain it after an optimizer, whose updates are multiplied by s: in momentum, what the velocity
    has gathered too. A training tells it the validation metrics of each epoch that is evaluated, by
    `observe`, as `fit` and sweeps do for a Trainable with an `observe`; in a sweep each lane has
    an s of its own, and all five numbers may be traced.

    An evaluation counts if its score is not above the best so far by more than `min_delta`; NaN is
    no improvement. After s has changed, `cooldown` evaluations do not count. The score is the
    validation `metric`, by default the accuracy or else the loss, with `mode` "max" or "min", as in
    `fit`.

    When the training is traced, `observe` raises ValueError for a metric that is not measured, and
    for one without a known mode.
    Source: the schedule of He et al., Deep residual learning (2016), section 3.4, "divided by 10
    when the error plateaus", with the rules of the `ReduceLROnPlateau` that frameworks share.

    >>> optimizer = reduce_on_plateau(0.5, patience=2)
    >>> state = optimizer.init(jnp.ones(2))
    >>> for loss in (0.9, 0.8, 0.8, 0.8):
    ...     state = optimizer.observe(state, {"loss": loss})
    >>> optimizer.update(jnp.ones(2), state)[0].tolist()
    [0.5, 0.5]
    """
    caller = "reduce_on_plateau"

    def init(weights):
        none = lambda: jnp.zeros((), jnp.int32)
        return PlateauState(floating(1.0), floating(0.0), none(), none(), floating(0.0))

    def update(updates, state, weights):
        scale = own_state(caller, PlateauState, state).scale
        times = lambda g: (widen(g) * widen(scale, g)).astype(jnp.result_type(g))
        return jax.tree.map(times, updates), state

    def observe(state: PyTree, metrics: dict[str, Any]) -> PlateauState:
        scale, best, seen, stale, rest = own_state(caller, PlateauState, state)
        name, maximize = choose_metric(caller, metrics, metric, mode)
        score = floating(metrics[name]) * (1 if maximize else -1)
        number = ~jnp.isnan(score)
        better = number & ((seen == 0) | (score > best + floating(min_delta)))
        stale = jnp.where(better | (rest > 0), 0, stale + 1)
        late = floating(stale) >= floating(patience)
        less = jnp.maximum(scale * floating(factor), floating(min_scale))
        return PlateauState(
            jnp.where(late, less, scale),
            jnp.where(better, score, best),
            seen + number.astype(seen.dtype),
            jnp.where(late, 0, stale),
            jnp.where(late, floating(cooldown), jnp.maximum(rest - 1, 0)),
        )

    return optimizer_pair(caller, init, update, observe=observe)
