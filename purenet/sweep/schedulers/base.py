"""The protocol of schedulers, which decide how long to train each point.

A scheduler has a sampler and rounds. A round sets how many epochs every point should have by its
end; the scores decide the next one. A decision compares all points of a round, so it depends
neither on how many trials fit in memory nor on the devices.
"""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from purenet.core.validate import describe_value, expect, require
from purenet.sweep.samplers.base import Sampler, as_sampler
from purenet.sweep.schedulers.extending import Extends, by_sampler, unsaid
from purenet.sweep.space.coordinates import Coordinates

Rounds = Generator[np.ndarray, np.ndarray, None]


def _unknown(epochs: int) -> None:
    """The number of points of a scheduler that requires the caller to pass it."""


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """How long to train each point of a sampler. `sweep.testing.check_scheduler` tests one of your
    own.

    - `sampler` draws the points: a `Sampler`, or a plain function.
    - `rounds(points, epochs)` is a generator. It yields goals (points,), the epochs that each point
      should have, and is sent scores (points, epochs): larger is better, NaN where unknown or
      diverged. The sweep ends when it ends.
    - `points(epochs)` is the number of points if the caller does not pass one, None to require it.
    - `name` appears in results, and identifies the scheduler when a sweep resumes.
    - `extends(before, after)`, of two pairs (trials, epochs), returns the reason why a sweep of the
      first cannot become one of the second, or None if it can: with the same scores, the smaller
      sweep may train no point longer than the larger. Without it, no sweep can be extended.

    - `located(coordinates)`, of a search that models where its points are, returns its `rounds` for
      points at these `Coordinates`. It takes a single score, and decides in one process.

    Points train independently, except in a population (`sweep.pbt`), whose members copy one
    another; `independent` tells which.

    >>> def first_half(points, epochs):
    ...     yield np.full(points, epochs // 2)
    >>> Scheduler(lambda distributions, trials, seed: ..., first_half, name="half").budget(3, 10)
    15
    """

    sampler: Sampler | Callable
    rounds: Callable[[int, int], Rounds]
    points: Callable[[int], int | None] = _unknown
    name: str = "all"
    extends: Extends = unsaid
    located: Callable[[Coordinates], Callable[[int, int], Rounds]] | None = None

    @property
    def independent(self) -> bool:
        """Whether a point can be trained without the others."""
        return True

    def budget(self, points: int, epochs: int) -> int:
        """The total number of epochs trained, if each point is always better than the next."""
        rounds = checked_rounds(self, points, epochs)
        goals = next(rounds)
        scores = np.repeat(-np.arange(points, dtype=float)[:, None], epochs, axis=1)
        try:
            while True:
                goals = np.maximum(goals, rounds.send(scores))
        except StopIteration:
            return int(goals.sum())


def everything(sampler: Sampler | Callable) -> Scheduler:
    """Train every point to the end, in the batches of its sampler.

    >>> from purenet.sweep.samplers.designs import random
    >>> next(everything(random).rounds(2, 5)).tolist()
    [5, 5]
    """
    sampler = as_sampler("sweep: search", sampler)

    def rounds(points, epochs):
        batch = sampler.batch or max(1, points)
        for end in range(batch, points + batch, batch):
            yield np.where(np.arange(points) < end, epochs, 0)

    return Scheduler(sampler, rounds, name=sampler.name, extends=by_sampler(sampler))


def is_scheduler(search: Any) -> bool:
    """Whether a search is more than a sampler.

    >>> from purenet.sweep.samplers.designs import random
    >>> is_scheduler(everything(random)), is_scheduler(random)
    (True, False)
    """
    return all(hasattr(search, name) for name in ("sampler", "rounds", "points", "budget"))


def as_scheduler(search: Any) -> Scheduler:
    """A scheduler, from a scheduler or a sampler. Raises TypeError for anything else.

    >>> from purenet.sweep.samplers.designs import random
    >>> as_scheduler(random).name
    'random'
    """
    if is_scheduler(search):
        return search
    legal = callable(search) or hasattr(search, "source")
    such = "a sampler such as sweep.random or a scheduler such as sweep.halving()"
    expect(legal, "sweep: search", search, such)
    return everything(search)


def checked_rounds(search: Scheduler, points: int, epochs: int) -> Rounds:
    """The rounds of a scheduler, each with a goal of 0 to `epochs` for every point.

    Raises TypeError if `rounds` is not a function, ValueError for other goals and for no round.

    >>> from purenet.sweep.schedulers.halving import halving
    >>> next(checked_rounds(halving(), 3, 9)).tolist()
    [1, 1, 1]
    """
    what, given = f"sweep: rounds of {search.name}", search.rounds
    expect(callable(given), what, given, "a function (points, epochs) -> goals")
    rounds, scores = search.rounds(points, epochs), None
    while True:
        try:
            goals = next(rounds) if scores is None else rounds.send(scores)
        except StopIteration:
            if scores is None:
                raise ValueError(f"sweep: the scheduler {search.name} has no rounds.") from None
            return
        goals = np.asarray(goals)
        legal = goals.shape == (points,) and goals.dtype.kind in "iu"
        legal = legal and bool(((goals >= 0) & (goals <= epochs)).all())
        require(
            legal,
            f"sweep: a round of {search.name} returned {describe_value(goals.tolist())}, but an "
            f"array of {points} integers from 0 to {epochs} is expected.",
        )
        scores = yield goals
