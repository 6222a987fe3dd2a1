"""Designs that are drawn in advance: random, Sobol, Latin hypercube, grid."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from purenet.core.validate import PositiveInteger, declared, expect, require
from purenet.sweep.samplers.base import Sampler, checked_design, maker, prefix_stable
from purenet.sweep.space.distributions import (
    Branches,
    Choice,
    Conditional,
    LogRandInt,
    RandInt,
)
from purenet.sweep.space.padded import Padded

# Samplers: (distributions, trials, seed) -> points of the unit cube (n, len(distributions)), each
# coordinate for its distribution's ppf.


@prefix_stable
def random(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """Independent uniform points.

    Raises TypeError or ValueError unless `distributions` is a list and `trials` and `seed` are
    non-negative integers.

    >>> from purenet.sweep.space.distributions import uniform
    >>> random([uniform(0, 1)], 2, seed=0).shape
    (2, 1)
    """
    trials, seed = checked_design("random", distributions, trials, seed)
    return np.random.default_rng(seed).random((trials, len(distributions)))


@prefix_stable
def sobol(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """A scrambled Sobol sequence: points that fill the space more evenly than random ones.

    Raises TypeError or ValueError unless `distributions` is a list and `trials` and `seed` are
    non-negative integers, ValueError for more than 2³⁰ trials.
    Source: Sobol' (1967), scrambled as in Owen (1998); scipy.stats.qmc.

    >>> from purenet.sweep.space.distributions import uniform
    >>> sobol([uniform(0, 1), uniform(0, 1)], 3, seed=0).shape
    (3, 2)
    """
    trials, seed = checked_design("sobol", distributions, trials, seed)
    expect(trials <= 2**30, "sobol: trials", trials, "at most 2³⁰ (distinct points)", ValueError)
    if not len(distributions):
        return np.empty((trials, 0))
    from scipy.stats import qmc

    # the sequence is balanced for powers of two: draw the next one, and use its beginning
    engine = qmc.Sobol(len(distributions), rng=np.random.default_rng(seed))
    return engine.random_base2(math.ceil(math.log2(trials)) if trials > 1 else 0)[:trials]


def latin_hypercube(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """A Latin hypercube: each hyperparameter takes one value in each of `trials` equal parts.

    Unlike with `random` and `sobol`, each point depends on the number of trials.
    Raises TypeError or ValueError unless `distributions` is a list and `trials` and `seed` are
    non-negative integers.
    Source: McKay, Beckman & Conover (1979); scipy.stats.qmc.

    >>> from purenet.sweep.space.distributions import uniform
    >>> np.sort(latin_hypercube([uniform(0, 1)], 4, seed=0)[:, 0] * 4).astype(int).tolist()
    [0, 1, 2, 3]
    """
    trials, seed = checked_design("latin_hypercube", distributions, trials, seed)
    if not len(distributions):
        return np.empty((trials, 0))
    from scipy.stats import qmc

    return qmc.LatinHypercube(len(distributions), rng=np.random.default_rng(seed)).random(trials)


@maker
@declared
def grid(points: PositiveInteger = 5) -> Sampler:
    """A sampler of every combination; the last hyperparameter in the space varies fastest.

    It takes `points` values of each continuous hyperparameter, evenly from one end of its
    distribution to the other (the midpoints of equally likely parts if an end is infinite or
    `points` is 1), every value of a `choice` or a `randint`, and of a `lograndint` `points`
    integers evenly on a log scale, without repeats. A branch of a `choice` of dicts is combined
    with its own hyperparameters only, not with those of other branches. `trials` may be left out;
    any number other than the number of combinations raises ValueError, since nothing is dropped
    silently.

    >>> from purenet.sweep.space.distributions import choice, uniform
    >>> grid(3)([uniform(0, 1), choice(["a", "b"])], None, seed=0).shape
    (6, 2)
    """

    def quantiles(distribution):
        if isinstance(distribution, Conditional):
            return quantiles(distribution.leaf)
        if isinstance(distribution, Padded):
            return quantiles(distribution.distribution)
        if isinstance(distribution, LogRandInt):
            ends = np.linspace(0.0, 1.0, points) if points > 1 else np.array([0.5])
            return ends[np.unique(distribution.ppf(ends), return_index=True)[1]]
        if isinstance(distribution, Choice):
            n = len(distribution.values)
        elif isinstance(distribution, RandInt):
            n = distribution.high - distribution.low
        else:
            ends = np.linspace(0.0, 1.0, points)
            if points > 1 and np.isfinite(distribution.ppf(ends)).all():
                return ends
            n = points
        return (np.arange(n) + 0.5) / n

    def sample(distributions, trials, seed):
        checked_design("grid", distributions, trials or 0, seed)
        axes = [quantiles(d) for d in distributions]
        total = _combinations(distributions, axes, None)
        shape = " x ".join(str(len(axis)) for axis in axes) or "1"
        branches = any(isinstance(d, Conditional) for d in distributions)
        require(
            trials in (None, total),
            f"grid: {total if branches else f'{shape} = {total}'} combinations, but trials is "
            f"{trials}; leave `trials` out, or change `points` or the space.",
        )
        return _mesh(distributions, axes)

    return Sampler(sample, f"grid({points=})")


def _combinations(
    distributions: Sequence, axes: list[np.ndarray], branch: tuple[int, int] | None
) -> int:
    """The number of combinations in a branch, which is (number of the choice, place)."""
    total = 1
    for i, distribution in enumerate(distributions):
        if _branch(distribution) == branch:
            inside = [(i, place) for place in range(len(axes[i]))]
            several = isinstance(_leaf(distribution), Branches)
            counts = [_combinations(distributions, axes, b) if several else 1 for b in inside]
            total *= sum(counts)
    return total


def _mesh(distributions: Sequence, axes: list[np.ndarray]) -> np.ndarray:
    """Every combination, a row each; 0.5 where a branch is not taken."""
    cube = np.empty((1, 0))
    taken: list[np.ndarray] = []  # of each distribution so far, the rows where it is taken
    places: list[np.ndarray] = []  # of each choice of branches, the place of the branch
    for distribution, axis in zip(distributions, axes, strict=True):
        here = np.ones(len(cube), bool)
        if (branch := _branch(distribution)) is not None:
            choice, place = branch
            here = taken[choice] & (places[choice] == place)
        counts = np.where(here, len(axis), 1)
        rows = np.repeat(np.arange(len(cube)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        column = np.where(here[rows], axis[within % len(axis)], 0.5)
        cube = np.concatenate([cube[rows], column[:, None]], axis=1)
        taken = [known[rows] for known in taken] + [here[rows]]
        choice_of_branches = isinstance(_leaf(distribution), Branches)
        place_of = distribution.ppf(column) if choice_of_branches else np.zeros(len(rows), int)
        places = [known[rows] for known in places] + [place_of]
    return cube


def _leaf(distribution: Any) -> Any:
    return distribution.leaf if isinstance(distribution, Conditional) else distribution


def _branch(distribution: Any) -> tuple[int, int] | None:
    conditional = isinstance(distribution, Conditional)
    return (distribution.choice, distribution.place) if conditional else None
