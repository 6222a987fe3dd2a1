"""Which epochs of a run are evaluated and scored, and when the run stops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.best import Tracked, exhausted, start, update
from purenet.core.score import choose_metric
from purenet.core.types import Array, PyTree
from purenet.core.validate import require

NEVER = 2**31 - 1  # the patience of a run without early stopping


class Scoring(NamedTuple):
    """How epochs are scored; a part of the compiled program.

    >>> Scoring(metric="loss", maximize=False).tracks
    True
    """

    metric: str | None = None  # the validation metric; None if epochs are not scored
    maximize: bool = True
    keep_best: bool = False
    every: int = 1  # epochs from one evaluation to the next; the last one is evaluated too

    @property
    def tracks(self) -> bool:
        """Whether the state is carried as a `Tracked`."""
        return self.metric is not None

    def begin(self, state: PyTree) -> PyTree:
        """The initial carry of the loop."""
        return start(state, self.keep_best) if self.tracks else state

    def state(self, carry: PyTree) -> PyTree:
        """The latest state."""
        return carry.state if self.tracks else carry

    def with_state(self, carry: PyTree, state: PyTree) -> PyTree:
        """The same carry with another latest state, within an epoch."""
        return carry._replace(state=state) if self.tracks else state

    def due(self, done: Any, last: Any) -> Any:
        """Whether the epoch after `done` of them is evaluated: each `every`-th is, and the last.

        >>> Scoring(every=2).due(jnp.arange(3), last=3).tolist()
        [False, True, True]
        """
        return True if self.every == 1 else ((done + 1) % self.every == 0) | (done + 1 == last)

    def after(
        self, carry: PyTree, state: PyTree, values: dict[str, Any], due: Array | bool
    ) -> PyTree:
        """The carry of the loop after one more epoch, which was evaluated if `due`."""
        if self.metric is None:
            return state
        score = jnp.asarray(values["validation"][self.metric], float)
        return update(carry, state, score if self.maximize else -score, due)

    def goes_on(self, carry: PyTree, patience: Array | int) -> Array | bool:
        """Whether any patience is left, inside the program."""
        return ~exhausted(carry, patience) if self.tracks else True

    def stopped(self, carry: PyTree, patience: int) -> bool:
        """Whether patience has run out, between programs."""
        return self.tracks and int(jax.device_get(carry.stale)) >= patience

    def chosen(self, carry: PyTree, done: int) -> tuple[PyTree, int]:
        """(state, its epochs): the best epoch if it is kept and there is one, otherwise the last.

        >>> Scoring().chosen("the last state", 3)
        ('the last state', 3)
        """
        if self.keep_best and (epochs := int(jax.device_get(carry.epochs_of_best))):
            return carry.best, epochs
        return self.state(carry), done

    def map_states(self, on_state: Callable, on_rest: Callable, carry: PyTree) -> PyTree:
        """Map one function over the states in the carry, and another over the rest."""
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
    """The scoring for the arguments of `fit`; `measured()` returns the metrics by name.

    Raises ValueError without validation data, and what `choose_metric` raises.

    >>> scoring(5, None, 1, None, None, lambda: {"loss": 0.5})
    Scoring(metric='loss', maximize=False, keep_best=True, every=1)
    """
    select = select or ("last" if patience is None else "best")
    if patience is None and select == "last":
        text = 'fit: metric and mode choose the best epoch; pass patience or select="best" too.'
        require(metric is None and mode is None, text)
        return Scoring(every=every)
    if measured is None:
        raise ValueError(
            "fit: patience and select='best' need a score after each epoch; pass validation data, "
            "data=(train, validation)."
        )
    metric, maximize = choose_metric("fit", measured(), metric, mode)
    return Scoring(metric, maximize, select == "best", every)


def evaluated(evaluate: Callable[[PyTree], dict], state: PyTree, due: Array | bool) -> dict:
    """The metrics of a state if that is `due`, otherwise 0, for which the loop records NaN.

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
