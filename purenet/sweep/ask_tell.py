"""Ask and tell: the points of a search in batches, for a training loop of your own."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import integer, real_numbers
from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import is_scheduler
from purenet.sweep.space.points import add_points, hyper_arrays, no_points
from purenet.sweep.space.space import take_apart


class Suggestion(NamedTuple):
    """Some points: their numbers, and a pytree like the space with an array (n,) at each leaf.

    >>> AskTell({"rate": 0.1}).ask(2).numbers.tolist()
    [0, 1]
    """

    numbers: np.ndarray
    hyper: PyTree


class Best(NamedTuple):
    """The best point told so far.

    >>> study = AskTell({"rate": 0.1})
    >>> study.tell(study.ask(1).numbers, [0.5])
    >>> float(study.best().score)
    0.5
    """

    number: int
    hyper: PyTree
    score: float


class AskTell:
    """Ask for points in batches, tell their scores: a search for a training loop of your own.

    `search` is a sampler (`sweep.random`, `sweep.sobol`, ...), possibly one that learns from scores
    (`sweep.from_optuna(...)`). A Latin hypercube, whose points depend on their number, needs
    `trials`; a grid knows it. `mode` says whether a large ("max") or a small score ("min") is good.

    `ask(n)` returns `Suggestion(numbers, hyper)` with stacked arrays: numbers, ready for
    `jax.vmap`; other choices as arrays of objects, such as the dict taken from a choice of dicts;
    and a `PaddedSize` for a padded size. `tell(numbers, scores)` takes arrays: scores (n,), or (n,
    steps) with intermediate ones. A score that is not finite counts as a failure, and as the worst
    score for a search that learns.
    Raises TypeError if `search` is not a sampler, TypeError or ValueError for a bad space, `trials`
    or `seed`, ValueError for a scheduler, for another `mode` and for missing `trials`.

    >>> from purenet.sweep import loguniform, sobol
    >>> study = AskTell({"rate": loguniform(1e-4, 1.0)}, search=sobol, mode="min")
    >>> asked = study.ask(8)
    >>> study.tell(asked.numbers, (np.log10(asked.hyper["rate"]) + 2) ** 2)
    >>> study.best().number in asked.numbers
    True
    """

    def __init__(
        self,
        space: PyTree,
        search: Any = random,
        trials: int | None = None,
        seed: int = 0,
        mode: str = "max",
    ):
        if mode not in ("max", "min"):
            raise ValueError(f'AskTell: mode is {mode!r}, but "max" or "min" is expected.')
        if is_scheduler(search):
            raise ValueError(
                f"AskTell: the search {search.name} stops trials between rounds, but AskTell has "
                "no rounds: use sweep.run, or its sampler alone, such as search=sweep.random."
            )
        sampler = as_sampler("AskTell: search", search)
        self._space, self._sign = take_apart(space), 1 if mode == "max" else -1
        self._points = no_points(self._space)
        seed = integer("AskTell: seed", seed, least=0)
        trials = None if trials is None else integer("AskTell: trials", trials, least=1)
        self._source = sampler.source(self._space.drawn, trials, seed)
        self._scores: dict[int, float] = {}

    def ask(self, n: int) -> Suggestion:
        """The next `n` points. Raises ValueError for more points than the design has, TypeError or
        ValueError unless n is a positive integer."""
        n = integer("AskTell.ask: n", n, least=1)
        first = len(self._points.group)
        self._points = add_points(self._space, self._points, self._source.ask(n))
        numbers = np.arange(first, first + n)
        return Suggestion(numbers, self._hyper(numbers))

    def tell(self, numbers: Any, scores: Any) -> None:
        """Record the scores of some points. Raises ValueError for points that were not asked for
        and scores of another length, TypeError for scores that are not numbers."""
        numbers = np.atleast_1d(np.asarray(numbers))
        scores = np.atleast_1d(real_numbers("AskTell.tell", "scores", scores))
        fits = numbers.ndim == 1 and scores.ndim in (1, 2) and len(scores) == len(numbers)
        if not fits or 0 in scores.shape[1:]:
            raise ValueError(
                f"AskTell.tell: scores have shape {scores.shape} for numbers of shape "
                f"{numbers.shape}; one score, or one row of scores, per number is expected."
            )
        asked = len(self._points.group)
        if (
            not np.issubdtype(numbers.dtype, np.integer)
            or ((numbers < 0) | (numbers >= asked)).any()
        ):
            raise ValueError(
                f"AskTell.tell: the numbers {numbers} are not all among the {asked} points that "
                "were asked for."
            )
        scores = self._sign * scores.reshape(len(scores), math.prod(scores.shape[1:]))
        for number, row in zip(map(int, numbers), scores, strict=True):
            self._scores[number] = row[-1]
        self._source.tell(numbers, scores)

    def best(self) -> Best:
        """The best point told so far. Raises ValueError if none has a finite score."""
        finite = {number: score for number, score in self._scores.items() if math.isfinite(score)}
        if not finite:
            raise ValueError("AskTell.best: no point with a finite score has been told yet.")
        number = max(finite, key=finite.__getitem__)
        one = lambda a: a[0]
        return Best(number, jax.tree.map(one, self._hyper([number])), self._sign * finite[number])

    def _hyper(self, numbers) -> PyTree:
        found = hyper_arrays(self._space, self._points, np.asarray(numbers))
        return jax.tree.map(_numbers, found)


def _numbers(column: np.ndarray) -> np.ndarray:
    """Static integers as an array of numbers; other objects unchanged."""
    plain = all(isinstance(value, (bool, int, np.integer)) for value in column)
    return column.astype(int) if column.dtype == object and plain else column
