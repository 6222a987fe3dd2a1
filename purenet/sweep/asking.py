"""Where the points of a sweep come from: a design drawn beforehand, or ask and tell in batches."""

import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.checks import takes, told, whole
from purenet.inputs import real_numbers
from purenet.sweep.search import Search, as_search, without_rounds
from purenet.sweep.space import (
    Choice,
    LogUniform,
    RandInt,
    Space,
    Uniform,
    add_points,
    latin_hypercube,
    maker,
    no_points,
    random,
    sobol,
    take_apart,
)
from purenet.types import PyTree

# Samplers whose first points stay the same however many there are.
_ENDLESS = (random, sobol)


class Asked(NamedTuple):
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

    `search` is a sampler (`sweep.random`, `sweep.sobol`, ...) or one that learns from the scores
    (`sweep.from_optuna(...)`). A sampler whose points depend on how many there are (a grid, a Latin
    hypercube) needs `trials`, or knows it. `mode` says whether a large ("max") or a small score
    ("min") is good.

    `ask(n)` gives `Asked(numbers, hyper)` with stacked arrays: numbers ready for `jax.vmap`, other
    choices as arrays of objects.
    `tell(numbers, scores)` takes arrays: scores (n,), or (n, steps) with intermediate ones; a score
    that is not finite counts as a failure, which a search that learns takes for the worst score.
    Raises TypeError for what is no search, TypeError or ValueError for counts and a space that are
    none, ValueError for a search with rounds, for another `mode` and for missing `trials`.

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
        search = as_search(search)
        sampler = search.sampler
        if not (without_rounds(search) or isinstance(sampler, _Optuna)):
            raise ValueError(
                f"AskTell: the search {search.name} stops trials between rounds, but AskTell has "
                "no rounds: use sweep.run, or its sampler alone, such as search=sweep.random."
            )
        if trials is None and sampler is latin_hypercube:
            raise ValueError("AskTell: trials is missing; a Latin hypercube depends on it.")
        self._space, self._sign = take_apart(space), 1 if mode == "max" else -1
        self._points = no_points(self._space)
        seed = whole("AskTell: seed", seed, least=0)
        trials = None if trials is None else whole("AskTell: trials", trials, least=1)
        self._source = source(sampler, self._space, trials, seed)
        self._scores: dict[int, float] = {}

    def ask(self, n: int) -> Asked:
        """The next `n` points. Raises ValueError for more than the design has, TypeError or
        ValueError for an n below 1."""
        n = whole("AskTell.ask: n", n, least=1)
        first = len(self._points.group)
        self._points = add_points(self._space, self._points, self._source.ask(n))
        numbers = np.arange(first, first + n)
        return Asked(numbers, self._hyper(numbers))

    def tell(self, numbers: Any, scores: Any) -> None:
        """The scores of some points. Raises ValueError for numbers that were not asked for and
        scores of another length, TypeError for scores that are no numbers."""
        numbers = np.atleast_1d(np.asarray(numbers))
        scores = np.atleast_1d(real_numbers("AskTell.tell", "scores", scores))
        fits = numbers.ndim == 1 and scores.ndim in (1, 2) and len(scores) == len(numbers)
        if not fits or 0 in scores.shape[1:]:
            raise ValueError(
                f"AskTell.tell: scores have shape {scores.shape} for numbers of shape "
                f"{numbers.shape}; a score, or a row of them, for each number is expected."
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
        """The best point told so far. Raises ValueError when there is none with a finite score."""
        finite = {number: score for number, score in self._scores.items() if math.isfinite(score)}
        if not finite:
            raise ValueError("AskTell.best: no point with a finite score has been told yet.")
        number = max(finite, key=finite.__getitem__)
        one = lambda a: a[0]
        return Best(number, jax.tree.map(one, self._hyper([number])), self._sign * finite[number])

    def _hyper(self, numbers) -> PyTree:
        columns = [_numbers(column[numbers]) for column in self._points.columns]
        return jax.tree.unflatten(self._space.treedef, columns)


def needs_trials(sampler: Callable) -> bool:
    """Whether a sampler does not say by itself how many points there are.

    >>> needs_trials(random)
    True
    """
    return sampler in (*_ENDLESS, latin_hypercube) or isinstance(sampler, _Optuna)


def _numbers(column: np.ndarray) -> np.ndarray:
    """Static whole numbers as an array of numbers; other objects as they are."""
    plain = all(isinstance(value, (bool, int, np.integer)) for value in column)
    return column.astype(int) if column.dtype == object and plain else column


class Design:
    """Points of a sampler, handed out in order.

    Raises TypeError or ValueError where the sampler gives no points of the unit cube, ValueError
    where it needs their number and gets none.

    >>> Design(random, take_apart({"rate": Uniform(0, 1)}), 3, 0).ask(2).shape
    (2, 1)
    """

    def __init__(self, sampler: Callable, space: Space, points: int | None, seed: int):
        self._sampler, self._space, self._seed, self._given = sampler, space, seed, 0
        self._cube = None if points is None and sampler in _ENDLESS else self._draw(points)

    @property
    def points(self) -> int | None:
        """How many there are in all, None where there is no end."""
        return None if self._cube is None else len(self._cube)

    def ask(self, n: int) -> np.ndarray:
        """The next `n` points. Raises ValueError where there are not so many left."""
        first, self._given = self._given, self._given + n
        cube = self._draw(self._given) if self._cube is None else self._cube
        if self._given > len(cube):
            raise ValueError(
                f"AskTell.ask: {n} more points are asked for, but {len(cube) - first} of the "
                f"{len(cube)} of this design are left."
            )
        return cube[first : self._given]

    def tell(self, numbers: np.ndarray, scores: np.ndarray) -> None:
        """A design learns nothing."""

    def _draw(self, points: int | None) -> np.ndarray:
        distributions = self._space.distributions
        try:
            cube = self._sampler(distributions, points, self._seed)
        except TypeError as error:
            if points is not None:
                raise
            raise ValueError(
                f"sweep: trials is missing, and {told(self._sampler)} does not know how many "
                f"points there are ({error}); say how many with trials=."
            ) from error
        cube = real_numbers("sweep", "what the sampler gave", cube)
        count = len(cube) if points is None and cube.ndim else points
        if cube.shape != (count, len(distributions)):
            raise ValueError(
                f"sweep: the sampler gave points of shape {cube.shape}, but "
                f"{(count, len(distributions))} is expected: a row a trial, a column a "
                "distribution."
            )
        inside = (cube >= 0) & (cube <= 1)
        if not inside.all():
            raise ValueError(
                f"sweep: the sampler gave {cube[~inside][0]}, but numbers from "
                "0 to 1 are expected: each goes through its distribution's ppf."
            )
        return cube


def source(
    sampler: Callable, space: Space, points: int | None, seed: int
) -> "Design | _OptunaSource":
    """What hands out the points of a sampler, and is told the scores.

    >>> source(random, take_apart({"rate": Uniform(0, 1)}), 3, 0).ask(2).shape
    (2, 1)
    """
    if isinstance(sampler, _Optuna):
        return _OptunaSource(sampler.make, space, seed)
    return Design(sampler, space, points, seed)


@maker
def from_optuna(make_sampler: Callable, batch: int = 10) -> Search:
    """Points from an Optuna sampler, `batch` at a time, each batch knowing the scores of the last.

    `make_sampler(seed=...)` makes one: `optuna.samplers.TPESampler`, or a function of your own. The
    points of a batch train side by side. A trial that diverges is told as the worst score, so that
    every sampler learns to avoid it. Needs Optuna (extra `optuna`).
    Raises TypeError or ValueError for a batch below 1, TypeError for what cannot be called so; when
    it is asked, TypeError for what makes no sampler, ModuleNotFoundError without Optuna.

    >>> import optuna
    >>> from_optuna(optuna.samplers.TPESampler, batch=16).name
    'from_optuna(TPESampler, batch=16)'
    """
    batch = whole("from_optuna: batch", batch, least=1)
    if not (callable(make_sampler) and takes(make_sampler, seed=0)):
        raise TypeError(
            f"from_optuna: make_sampler is {told(make_sampler)}, but something to call "
            "with seed=... is expected, such as optuna.samplers.TPESampler, so that the sweep can "
            "be repeated."
        )

    def rounds(points, epochs):
        goals = np.zeros(points, int)
        for first in range(0, points, batch):
            goals[first : first + batch] = epochs
            yield goals.copy()

    name = f"from_optuna({getattr(make_sampler, '__name__', make_sampler)}, batch={batch})"
    return Search(_Optuna(make_sampler), rounds, name=name)


class _Optuna:
    """Stands for the sampler of a search whose points depend on the scores."""

    def __init__(self, make: Callable):
        self.make = make

    def __call__(self, distributions, trials, seed):
        raise TypeError("from_optuna: these points depend on scores; use run() or AskTell.")


class _OptunaSource:
    """The points of a study, in whose terms a plain range is a range and a choice is a choice."""

    def __init__(self, make_sampler: Callable, space: Space, seed: int):
        optuna = optuna_module()
        named = dict(zip(space.names, space.leaves, strict=True))
        self._pairs = [(n, named[n]) for n in space.shown if hasattr(named[n], "ppf")]
        sampler = make_sampler(seed=seed % 2**32)
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise TypeError(
                f"from_optuna: make_sampler gave {told(sampler)}, but a sampler of Optuna is "
                "expected."
            )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions = {
            name: optuna_distribution(leaf, [0.0, 1.0]) for name, leaf in self._pairs
        }
        self._trials: list[Any] = []
        self._failed: list[Any] = []  # and not told yet
        self._any_finite = False

    points = None

    def ask(self, n: int) -> np.ndarray:
        with warnings.catch_warnings():
            # a Gaussian process takes the worst finite value in the place of -inf, and says so
            warnings.filterwarnings("ignore", message="Clip non-finite values")
            asked = [self._study.ask(self._distributions) for _ in range(n)]
        self._trials += asked
        rows = [[_place(leaf, t.params[name]) for name, leaf in self._pairs] for t in asked]
        return np.array(rows, float).reshape(n, len(self._pairs))

    def tell(self, numbers, scores) -> None:
        for number, row in zip(map(int, numbers), scores, strict=True):
            trial = self._trials[number]
            if trial is None:
                continue  # told before
            known = row[np.isfinite(row)]
            for step, value in enumerate(known, 1):
                trial.report(float(value), step)
            if np.isfinite(row[-1]):
                self._study.tell(trial, float(row[-1]))
                self._any_finite = True
            else:
                self._failed.append(trial)
            self._trials[number] = None
        # All samplers learn from a value, while they ignore trials told as failed, and all but TPE
        # those told as pruned. Among nothing but failures, one of them would count as the best.
        if self._any_finite:
            for trial in self._failed:
                self._study.tell(trial, -math.inf)
            self._failed.clear()


def optuna_module() -> ModuleType:
    """Optuna. Raises ModuleNotFoundError, which says how to get it, where it is not.

    >>> optuna_module().__name__
    'optuna'
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "this needs Optuna, which is not here: pip install 'purenet[optuna]'."
        ) from None
    return optuna


def optuna_distribution(leaf: Any, reach: Any) -> Any:
    """What Optuna calls a distribution; one that it does not know is a range that it `reach`es.

    >>> optuna_distribution(Uniform(0.0, 1.0), None).high
    1.0
    """
    distributions = optuna_module().distributions
    if isinstance(leaf, Uniform):
        return distributions.FloatDistribution(leaf.low, leaf.high)
    if isinstance(leaf, LogUniform):
        return distributions.FloatDistribution(leaf.low, leaf.high, log=True)
    if isinstance(leaf, RandInt):
        return distributions.IntDistribution(leaf.low, leaf.high - 1)
    if isinstance(leaf, Choice):
        return distributions.CategoricalDistribution(range(len(leaf.values)))
    return distributions.FloatDistribution(*reach)


def _place(leaf, value) -> float:
    """Where in the unit interval a value lies: what the distribution's ppf takes."""
    if isinstance(leaf, Uniform):
        return (value - leaf.low) / (leaf.high - leaf.low)
    if isinstance(leaf, LogUniform):
        return math.log(value / leaf.low) / math.log(leaf.high / leaf.low)
    if isinstance(leaf, RandInt):
        return (value - leaf.low + 0.5) / (leaf.high - leaf.low)
    if isinstance(leaf, Choice):
        return (value + 0.5) / len(leaf.values)
    return value
