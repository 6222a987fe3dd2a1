"""Ensembles: the weighted mean of the predictions of several trials of a sweep."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.jit_cache import jit_for_each
from purenet.core.types import Array, PyTree
from purenet.core.validate import integer, require


class Member(NamedTuple):
    """One network of an ensemble.

    `predict(numbers, state, x)` is the same function for all members of a `group`, whose numbers
    and states have the same structure.
    """

    trial: int
    group: int
    predict: Callable[[tuple, PyTree, PyTree], Any]
    numbers: tuple
    state: PyTree


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Ensemble:
    """Several trained networks as one: the weighted mean of their predictions.

        y(x) = Σᵢ wᵢ yᵢ(x),  Σᵢ wᵢ = 1

    yᵢ are class probabilities if the loss is a cross-entropy, outputs otherwise.
    `apply(members, weights, x)` is a pure function of the stacked `members`, to be jitted, vmapped
    or differentiated; `predict(x)` calls it in batches. `trials` are the numbers of the members.
    """

    members: tuple[PyTree, ...]  # of each group: (numbers, states), stacked
    weights: jax.Array  # (members,), group by group
    apply: Callable[[tuple, jax.Array, PyTree], Any]
    trials: tuple[int, ...]
    _score: Callable[[Any, Any], dict] | None
    _compiled: Callable

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self):
        pairs = zip(self.trials, self.weights.tolist(), strict=True)
        named = ", ".join(f"{trial}: {weight:.3g}" for trial, weight in pairs)
        return f"Ensemble of {len(self)} networks (trial: weight) {{{named}}}"

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
        parts = []
        for first in range(0, n, size):
            # the last batch overlaps the one before, so that all have one shape
            start = min(first, n - size)
            part = jax.tree.map(lambda a, i=start: a[i : i + size], x)
            y = self._compiled(self.members, self.weights, part)
            parts.append(jax.tree.map(lambda a, i=first - start: a[i:], y))
        return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

    def score(self, data: tuple) -> dict[str, float]:
        """The metrics of the training, such as loss and accuracy, on examples (x, t).

        Raises ValueError if the trial function's Trainable has no `score`.
        """
        if self._score is None:
            raise ValueError(
                "Ensemble.score: the trial function's Trainable has no `score`; compare "
                "predict(x) with the targets using a function of purenet.metrics."
            )
        x, t = data
        return {name: float(value) for name, value in self._score(self.predict(x), t).items()}


def ensemble(
    members: Sequence[Member], weights: Sequence[float], score: Callable | None
) -> Ensemble:
    """An ensemble of these networks; the weights are divided by their sum.

    >>> double = lambda numbers, state, x: numbers[0] * state * x
    >>> both = [Member(3, 0, double, (2.0,), 1.0), Member(5, 0, double, (2.0,), 3.0)]
    >>> ensemble(both, [1, 1], None).predict(np.ones(2)).tolist()
    [4.0, 4.0]
    """
    pairs = sorted(zip(members, weights, strict=True), key=lambda pair: pair[0].group)
    groups: dict[Any, list[Member]] = {}
    for member, _ in pairs:
        structure = jax.tree.structure((member.numbers, member.state))
        groups.setdefault((member.group, structure), []).append(member)
    stack = lambda *leaves: jnp.stack(list(map(jnp.asarray, leaves)))
    stacked = tuple(
        jax.tree.map(stack, *[(member.numbers, member.state) for member in group])
        for group in groups.values()
    )
    functions = tuple(group[0].predict for group in groups.values())
    total = jnp.asarray([weight for _, weight in pairs], jnp.result_type(float))
    trials = tuple(member.trial for member, _ in pairs)
    of = functools.partial(weighted_mean, functions)
    return Ensemble(stacked, total / total.sum(), of, trials, score, _compiled_mean(functions))


def weighted_mean(
    functions: tuple[Callable, ...], members: tuple, weights: jax.Array, x: PyTree
) -> Any:
    """The weighted mean of the members' predictions, with one function for each group.

    >>> triple = lambda numbers, state, x: 3 * state * x
    >>> states = ((), jnp.array([1.0, 5.0]))
    >>> weighted_mean((triple,), (states,), jnp.array([0.5, 0.5]), 1.0).item()
    9.0
    """
    total, first = None, 0
    for f, stacked in zip(functions, members, strict=True):
        count = len(jax.tree.leaves(stacked)[0])
        y = jax.vmap(lambda own, f=f: f(*own, x))(stacked)
        own = weights[first : first + count]
        mean = jax.tree.map(lambda a, w=own: jnp.tensordot(w.astype(a.dtype), a, 1), y)
        total = mean if total is None else jax.tree.map(jnp.add, total, mean)
        first += count
    return total


_compiled_mean = jit_for_each()(weighted_mean)


def greedy(
    predictions: Array, targets: PyTree, score: Callable[[Any, Any], Any], size: int
) -> np.ndarray:
    """How often each candidate is in a greedily chosen ensemble: (candidates,) integers.

    `predictions` (candidates, n, ...); `score(y, t)`, larger is better. Each of `size` steps adds
    the candidate, possibly one chosen before, that makes the mean of those chosen best; the best
    ensemble along the way is returned. Ties go to the first candidate.
    Source: Caruana, Niculescu-Mizil, Crew & Ksikes (2004), section 2.1.

    >>> y, t = jnp.array([[0.0, 4.0], [4.0, 0.0], [9.0, 9.0]]), jnp.array([2.0, 2.0])
    >>> greedy(y, t, lambda y, t: -jnp.abs(y - t).mean(), size=4).tolist()
    [1, 1, 0]
    """

    @jax.jit
    def scores(total, count):
        return jax.vmap(lambda y: score((total + y) / (count + 1), targets))(predictions)

    total, chosen, best = jnp.zeros_like(predictions[0]), [], (-np.inf, 1)
    for count in range(size):
        found = np.nan_to_num(np.asarray(scores(total, count)), nan=-np.inf)
        chosen.append(int(found.argmax()))
        total = total + predictions[chosen[-1]]
        if found.max() > best[0]:
            best = found.max(), count + 1
    return np.bincount(chosen[: best[1]], minlength=len(predictions))
