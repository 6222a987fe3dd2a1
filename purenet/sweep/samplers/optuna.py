"""Points from an Optuna sampler, in batches."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from purenet.core.extras import extra
from purenet.core.validate import PositiveInteger, accepts, declared, expect, satisfying
from purenet.sweep.samplers.base import Sampler, maker, name_of
from purenet.sweep.space.coordinates import place_of
from purenet.sweep.space.distributions import (
    Choice,
    Conditional,
    LogRandInt,
    LogUniform,
    RandInt,
    Uniform,
)
from purenet.sweep.space.given import quantile
from purenet.sweep.space.padded import Padded


def _makes_sampler(value: Any) -> bool:
    return callable(value) and accepts(value, seed=0)


_MAKER = "a callable that takes seed=..., such as optuna.samplers.TPESampler"
_MakeSampler = Annotated[Callable, satisfying(_makes_sampler, _MAKER)]


@maker
@declared
def from_optuna(make_sampler: _MakeSampler, batch: PositiveInteger = 10) -> Sampler:
    """Points from an Optuna sampler, `batch` at a time, each batch based on all scores before it.

    `make_sampler(seed=...)` returns the sampler: `optuna.samplers.TPESampler`, or a function of
    your own. The points of a batch train side by side. A trial that diverges is reported with the
    worst score, so that every sampler learns to avoid it. Needs Optuna (extra `optuna`).
    When points are requested, raises TypeError if `make_sampler` returns anything but an Optuna
    sampler, ModuleNotFoundError without Optuna.

    >>> import optuna
    >>> from_optuna(optuna.samplers.TPESampler, batch=16).name
    'from_optuna(TPESampler, batch=16)'
    """

    def draw(distributions, trials, seed):
        raise TypeError("from_optuna: these points depend on scores; use run() or AskTell.")

    def learn(distributions, trials, seed):
        return _OptunaSource(make_sampler, distributions, seed)

    name = f"from_optuna({name_of(make_sampler)}, batch={batch})"
    return Sampler(draw, name, prefix=True, batch=batch, learn=learn)


class _OptunaSource:
    """The points of a study, in which plain ranges are ranges and choices are categorical."""

    points = None

    def __init__(self, make_sampler: Callable, distributions: Mapping[str, Any], seed: int):
        optuna = optuna_module()
        sampler = make_sampler(seed=seed % 2**32)
        legal = isinstance(sampler, optuna.samplers.BaseSampler)
        expect(legal, "from_optuna: the return value of make_sampler", sampler, "an Optuna sampler")
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._leaves = dict(distributions)
        self._distributions = {
            name: optuna_distribution(leaf, [0.0, 1.0])
            for name, leaf in self._leaves.items()
            if not isinstance(leaf, Conditional)
        }
        self._trials: list[Any] = []
        self._failed: list[Any] = []  # reported once a finite score is known
        self._any_finite = False

    def ask(self, n: int) -> np.ndarray:
        with warnings.catch_warnings():
            # a Gaussian process uses the worst finite value in place of -inf, and warns
            warnings.filterwarnings("ignore", message="Clip non-finite values")
            rows = [self._asked() for _ in range(n)]
        return np.array(rows, float).reshape(n, len(self._leaves))

    def _asked(self) -> list[float]:
        """One point. A hyperparameter in a branch is suggested only if the branch is taken."""
        trial = self._study.ask(self._distributions)
        self._trials.append(trial)
        row: list[float] = []
        taken: list[int | None] = []  # of each leaf, the place of a choice that is taken
        for name, leaf in self._leaves.items():
            here = True
            if isinstance(leaf, Conditional):
                here, leaf = taken[leaf.choice] == leaf.place, leaf.leaf
                if here:
                    _suggest(trial, name, optuna_distribution(leaf, [0.0, 1.0]))
            row.append(place_of(leaf, trial.params[name]) if here else 0.5)
            taken.append(int(leaf.ppf(row[-1])) if here and isinstance(leaf, Choice) else None)
        return row

    def tell_given(self, points: Sequence[Mapping[str, Any]], scores: np.ndarray) -> None:
        """Add points that were not suggested here. Those that diverged count only if others did
        not."""
        order = np.argsort(~np.isfinite(scores[:, -1]), kind="stable")
        for point, row in ((points[i], scores[i]) for i in order):
            known = enumerate(row[np.isfinite(row)].tolist(), 1)
            finite = np.isfinite(row[-1])
            self._any_finite |= bool(finite)
            if self._any_finite:
                params, distributions = self._params(point)
                self._study.add_trial(
                    optuna_module().trial.create_trial(
                        params=params,
                        distributions=distributions,
                        value=float(row[-1]) if finite else -math.inf,
                        intermediate_values=dict(known),
                    )
                )

    def _params(self, point: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of a point as the study knows them, without those that it cannot represent,
        and their distributions."""
        params, distributions = {}, {}
        for name, leaf in self._leaves.items():
            if name not in point:  # of a branch that is not taken
                continue
            value, leaf = point[name], leaf.leaf if isinstance(leaf, Conditional) else leaf
            known = optuna_distribution(leaf, [0.0, 1.0])
            drawn = leaf.distribution if isinstance(leaf, Padded) else leaf
            if isinstance(leaf, Padded) and isinstance(drawn, Choice):
                value = drawn.values.index(value)
            if not isinstance(drawn, Uniform | LogUniform | RandInt | LogRandInt | Choice):
                value = quantile(drawn, value)
            if value is not None:
                if not isinstance(drawn, Choice):  # the device may have rounded it out of the range
                    value = min(max(value, known.low), known.high)
                params[name], distributions[name] = value, known
        return params, distributions

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
        # All samplers learn from a value, but ignore trials reported as failed, and all but TPE
        # ignore pruned ones. If all trials fail, one of them would count as the best.
        if self._any_finite:
            for trial in self._failed:
                self._study.tell(trial, -math.inf)
            self._failed.clear()


def optuna_module() -> ModuleType:
    """Optuna. Raises ModuleNotFoundError, which says how to install it, if it is missing.

    >>> optuna_module().__name__
    'optuna'
    """
    return extra("optuna", "Optuna's samplers and studies need Optuna", "optuna")


def optuna_distribution(leaf: Any, reach: Any) -> Any:
    """The distribution in Optuna; for one that Optuna lacks, the range that it `reach`es.

    >>> optuna_distribution(Uniform(0.0, 1.0), None).high
    1.0
    """
    distributions = optuna_module().distributions
    if isinstance(leaf, Uniform):
        return distributions.FloatDistribution(leaf.low, leaf.high)
    if isinstance(leaf, LogUniform):
        return distributions.FloatDistribution(leaf.low, leaf.high, log=True)
    if isinstance(leaf, Padded):
        return optuna_distribution(leaf.distribution, reach)
    if isinstance(leaf, RandInt):
        return distributions.IntDistribution(leaf.low, leaf.high - 1)
    if isinstance(leaf, LogRandInt):
        return distributions.IntDistribution(leaf.low, leaf.high - 1, log=True)
    if isinstance(leaf, Choice):
        return distributions.CategoricalDistribution(range(len(leaf.values)))
    return distributions.FloatDistribution(*reach)


def _suggest(asked: Any, name: str, distribution: Any) -> None:
    """Let a trial suggest one more value."""
    if hasattr(distribution, "choices"):
        asked.suggest_categorical(name, distribution.choices)
        return
    whole = isinstance(distribution, optuna_module().distributions.IntDistribution)
    suggest = asked.suggest_int if whole else asked.suggest_float
    suggest(name, distribution.low, distribution.high, log=distribution.log)
