"""Which epochs of a run are evaluated and scored, and when the run stops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.best import Tracked, exhausted, start, update
from purenet.core.types import Array, PyTree
from purenet.core.validate import describe_value, require

NEVER = 2**31 - 1  # the patience of a run that has none


class Scoring(NamedTuple):
    """What an epoch is scored by; a part of the compiled program.

    >>> Scoring(metric="loss", maximize=False).tracks
    True
    """

    metric: str | None = None  # the validation metric; None where no epoch is scored
    maximize: bool = True
    keep_best: bool = False
    every: int = 1  # epochs from one evaluation to the next

    @property
    def tracks(self) -> bool:
        """Whether the state is carried as a `Tracked`."""
        return self.metric is not None

    def begin(self, state: PyTree) -> PyTree:
        """What the loop carries at first."""
        return start(state, self.keep_best) if self.tracks else state

    def state(self, carry: PyTree) -> PyTree:
        """The latest state."""
        return carry.state if self.tracks else carry

    def with_state(self, carry: PyTree, state: PyTree) -> PyTree:
        """The same with another latest state, in the midst of an epoch."""
        return carry._replace(state=state) if self.tracks else state

    def due(self, done: Array) -> Array | bool:
        """Whether the epoch after `done` of them is evaluated: each `every`-th is."""
        return True if self.every == 1 else (done + 1) % self.every == 0

    def after(self, carry: PyTree, state: PyTree, values: dict[str, Any], done: Array) -> PyTree:
        """What the loop carries after one more epoch."""
        if self.metric is None:
            return state
        score = jnp.asarray(values["validation"][self.metric], float)
        return update(carry, state, score if self.maximize else -score, self.due(done))

    def goes_on(self, carry: PyTree, patience: Array | int) -> Array | bool:
        """Whether patience is left, in the program."""
        return ~exhausted(carry, patience) if self.tracks else True

    def stopped(self, carry: PyTree, patience: int) -> bool:
        """Whether patience is at an end, between programs."""
        return self.tracks and int(jax.device_get(carry.stale)) >= patience

    def chosen(self, carry: PyTree, done: int) -> tuple[PyTree, int]:
        """(state, its epochs): of the best epoch where that is kept and there is one, or the last.

        >>> Scoring().chosen("the last state", 3)
        ('the last state', 3)
        """
        if self.keep_best and (epochs := int(jax.device_get(carry.epochs_of_best))):
            return carry.best, epochs
        return self.state(carry), done

    def map_states(self, on_state: Callable, on_rest: Callable, carry: PyTree) -> PyTree:
        """A function of each state that is carried, and another one of what is beside them."""
        if not self.tracks:
            return on_state(carry)
        beside = on_rest(carry._replace(state=(), best=()))
        best = on_state(carry.best) if self.keep_best else ()
        return Tracked(*beside)._replace(state=on_state(carry.state), best=best)


def scoring(
    patience: int | None,
    select: str | None,
    every: int,
    metric: str | None,
    mode: str | None,
    measured: Callable[[], dict[str, Any]] | None,
) -> Scoring:
    """The scoring that the arguments of `fit` ask for; `measured()` gives the metrics by name.

    Raises ValueError without validation data, for a metric that is not measured, and for a mode
    that is not known.

    >>> scoring(5, None, 1, None, None, lambda: {"loss": 0.5})
    Scoring(metric='loss', maximize=False, keep_best=True, every=1)
    """
    select = select or ("last" if patience is None else "best")
    if patience is None and select == "last":
        text = 'fit: metric and mode say which epoch is the best; give patience or select="best".'
        require(metric is None and mode is None, text)
        return Scoring(every=every)
    if measured is None:
        raise ValueError(
            "fit: patience and select='best' need a score after each epoch; give validation data, "
            "as data=(train, validation)."
        )
    names, usual = list(measured()), {"accuracy": "max", "loss": "min"}
    if metric is None:
        metric = next((name for name in usual if name in names), None)
    if metric not in names:
        raise ValueError(
            f"fit: metric is {describe_value(metric)}, but `evaluate` gives {sorted(names)}; name "
            "one of them with metric=."
        )
    mode = mode or usual.get(metric)
    if mode is None:
        raise ValueError(
            f'fit: say with mode="max" or mode="min" whether a large or a small {metric} is good.'
        )
    return Scoring(metric, mode == "max", select == "best", every)


def evaluated(evaluate: Callable[[PyTree], dict], state: PyTree, due: Array | bool) -> dict:
    """The metrics of a state where that is `due`, and 0 elsewhere, where the loop writes down NaN.

    Integers become floats, which can be NaN.

    >>> evaluated(lambda state: {"n": state}, jnp.int32(3), due=jnp.bool(False))["n"].item()
    0.0
    """
    if due is True:
        return evaluate(state)
    kinds = jax.tree.map(_floating_kind, jax.eval_shape(evaluate, state))
    measure = lambda state: jax.tree.map(
        lambda value, kind: jnp.asarray(value, kind.dtype), evaluate(state), kinds
    )
    nothing = lambda state: jax.tree.map(lambda kind: jnp.zeros((), kind.dtype), kinds)
    return jax.lax.cond(due, measure, nothing, state)


def _floating_kind(kind):
    floating = jnp.issubdtype(kind.dtype, jnp.floating)
    return kind if floating else jax.ShapeDtypeStruct((), jnp.asarray(0.0, float).dtype)
