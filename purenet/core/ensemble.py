"""Ensembles: the weighted mean of what several networks predict."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core import display
from purenet.core.jit_cache import jit_for_each
from purenet.core.types import PyTree
from purenet.core.validate import integer, require

# numbers -> predict(state, x)
Predictor = Callable[[tuple], Callable[[PyTree, PyTree], Any]]

_NO_SCORE = (
    "the trial function's Trainable has no `score`; compare predict(x) with the targets by a "
    "function of purenet.metrics."
)
_SHOWN = 10  # members


class Member(NamedTuple):
    """One network of an ensemble.

    `predictor(numbers)` gives its `predict(state, x)`, and is the same function for all members of
    a `group`, whose numbers and states have the same structure.
    """

    trial: int
    group: int
    predictor: Predictor
    numbers: tuple
    state: PyTree


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Ensemble:
    """Several trained networks as one: the weighted mean of their predictions.

        y(x) = Σᵢ wᵢ yᵢ(x),  Σᵢ wᵢ = 1

    yᵢ are class probabilities if the loss is a cross-entropy, outputs otherwise.
    `apply(members, weights, x)` is a pure function of the stacked `members`, to be jitted, vmapped
    or differentiated; `predict(x)` calls it in batches. `trials` are the numbers of the members.
    `save_ensemble` writes it to a file.
    """

    members: tuple[PyTree, ...]  # of each group: (numbers, states), stacked
    weights: jax.Array  # (members,), those of one group after the other
    trials: tuple[int, ...]
    predictors: tuple[Predictor, ...]  # of each group
    scorer: Callable[[Any, Any], dict] | None  # (predictions, targets) -> metrics
    unscored: str = _NO_SCORE  # why there is no scorer

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self):
        pairs = zip(self.trials, self.weights.tolist(), strict=True)
        named = [f"{trial}: {weight:.3g}" for trial, weight in pairs]
        more = [] if len(named) <= _SHOWN else ["..."]
        shown = ", ".join(named[:_SHOWN] + more)
        return f"Ensemble of {len(self)} networks (trial: weight) {{{shown}}}"

    def _repr_html_(self) -> str:
        """The members and their weights as a table: what a notebook shows."""
        pairs = zip(self.trials, self.weights.tolist(), strict=True)
        rows = [[str(trial), f"{weight:.3g}"] for trial, weight in pairs]
        headline = f"Ensemble of {len(self)} networks"
        return display.as_html(headline, [["trial", "weight"], *rows], [])

    def apply(self, members: tuple[PyTree, ...], weights: jax.Array, x: PyTree) -> Any:
        """The weighted mean of what these members predict for all examples x."""
        return weighted_mean(self.predictors, members, weights, x)

    def predict(self, x: PyTree, batch_size: int = 1000) -> Any:
        """The predictions for examples x (n, ...): (n, ...).

        At most `batch_size` examples are computed at a time. Raises ValueError for no examples,
        TypeError or ValueError unless `batch_size` is a positive integer.
        """
        size = integer("Ensemble.predict: batch_size", batch_size, least=1)
        x = jax.tree.map(jnp.asarray, x)
        n = jax.tree.leaves(x)[0].shape[0]
        require(n > 0, "Ensemble.predict: x holds no examples.")
        size = min(size, n)
        parts, compiled = [], _compiled_mean(self.predictors)
        for first in range(0, n, size):
            # the last batch overlaps the one before, so that all have one shape
            start = min(first, n - size)
            part = jax.tree.map(lambda a, i=start: a[i : i + size], x)
            y = compiled(self.members, self.weights, part)
            parts.append(jax.tree.map(lambda a, i=first - start: a[i:], y))
        return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

    def score(self, data: tuple) -> dict[str, float]:
        """The metrics of the training, such as loss and accuracy, on examples (x, t).

        Raises ValueError for a training that cannot score predictions: a Trainable has `score`; and
        for one whose loss or metrics had no name when the ensemble was saved.
        """
        if self.scorer is None:
            raise ValueError(f"Ensemble.score: {self.unscored}")
        x, t = data
        return {name: float(value) for name, value in self.scorer(self.predict(x), t).items()}


def ensemble(
    members: Sequence[Member], weights: Sequence[float], scorer: Callable | None
) -> Ensemble:
    """An ensemble of these networks; the weights are divided by their sum.

    >>> double = lambda numbers: lambda state, x: numbers[0] * state * x
    >>> both = [Member(3, 0, double, (2.0,), 1.0), Member(5, 0, double, (2.0,), 3.0)]
    >>> ensemble(both, [1, 1], None).predict(jnp.ones(2)).tolist()
    [4.0, 4.0]
    """
    groups: dict[Any, list[tuple[Member, float]]] = {}
    for pair in sorted(zip(members, weights, strict=True), key=lambda pair: pair[0].group):
        structure = jax.tree.structure((pair[0].numbers, pair[0].state))
        groups.setdefault((pair[0].group, structure), []).append(pair)
    stack = lambda *leaves: jnp.stack(list(map(jnp.asarray, leaves)))
    stacked = tuple(
        jax.tree.map(stack, *[(member.numbers, member.state) for member, _ in group])
        for group in groups.values()
    )
    pairs = [pair for group in groups.values() for pair in group]
    total = jnp.asarray([weight for _, weight in pairs], jnp.result_type(float))
    trials = tuple(member.trial for member, _ in pairs)
    predictors = tuple(group[0][0].predictor for group in groups.values())
    return Ensemble(stacked, total / total.sum(), trials, predictors, scorer)


def weighted_mean(
    predictors: tuple[Predictor, ...], members: tuple, weights: jax.Array, x: PyTree
) -> Any:
    """The mean of what the members of each group predict, each by the predictor of its group.

    >>> triple = lambda numbers: lambda state, x: 3 * state * x
    >>> states = ((), jnp.array([1.0, 5.0]))
    >>> weighted_mean((triple,), (states,), jnp.array([0.5, 0.5]), 1.0).item()
    9.0
    """
    total, first = None, 0
    for predictor, stacked in zip(predictors, members, strict=True):
        count = len(jax.tree.leaves(stacked)[0])
        y = jax.vmap(lambda own, f=predictor: f(own[0])(own[1], x))(stacked)
        own = weights[first : first + count]
        mean = jax.tree.map(lambda a, w=own: jnp.tensordot(w.astype(a.dtype), a, 1), y)
        total = mean if total is None else jax.tree.map(jnp.add, total, mean)
        first += count
    return total


_compiled_mean = jit_for_each()(weighted_mean)
