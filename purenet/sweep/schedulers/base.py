"""Searches: which points of a space are tried, and how long each of them is trained.

A search is a sampler, or a `Search`: a sampler and rounds. A round says how many epochs every point
should have by its end; the scores that were reached decide on the next one. A decision compares all
the points of a round, so it depends neither on how many trials fit in memory nor on the devices.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from purenet.core.validate import describe_value
from purenet.sweep.samplers.base import checked_sampler

Rounds = Generator[np.ndarray, np.ndarray, None]


class Search(NamedTuple):
    """`rounds(points, epochs)` yields goals (points,), the epochs that each point should have, and
    is sent scores (points, epochs): larger is better, NaN where unknown or diverged.

    `sampler` draws the points; `points(epochs)`, where there is one, says how many there are when
    the caller does not.

    >>> from purenet.sweep.schedulers.halving import halving
    >>> halving().name
    'halving(eta=3, first=1, random)'
    """

    sampler: Callable
    rounds: Callable[[int, int], Rounds]
    points: Callable[[int], int] | None = None
    name: str = "all"


def everything(sampler: Callable) -> Search:
    """Every point is trained to the end.

    >>> from purenet.sweep.samplers.designs import random
    >>> next(everything(random).rounds(2, 5)).tolist()
    [5, 5]
    """
    return Search(sampler, _everything, name=getattr(sampler, "__name__", repr(sampler)))


def without_rounds(search: Search) -> bool:
    """Whether a search trains every point to the end, so that its sampler is all there is to it.

    >>> from purenet.sweep.schedulers.halving import halving
    >>> from purenet.sweep.samplers.designs import random
    >>> without_rounds(everything(random)), without_rounds(halving())
    (True, False)
    """
    return search.rounds is _everything


def as_search(search: Any) -> Search:
    """A search from what `run` was given. Raises TypeError for what is neither search nor sampler.

    >>> from purenet.sweep.samplers.designs import random
    >>> as_search(random).name
    'random'
    """
    if isinstance(search, Search):
        return search
    if not callable(search):
        raise TypeError(
            f"sweep: search is {describe_value(search)}, but a sampler such as sweep.random or a "
            "search such "
            "as sweep.halving() is expected."
        )
    return everything(checked_sampler("sweep: search", search))


def checked_rounds(search: Any, points: int, epochs: int) -> Rounds:
    """The rounds of a search, each with a goal of 0 to `epochs` for every point.

    Raises TypeError for a search without rounds, ValueError for goals that are none.

    >>> from purenet.sweep.schedulers.halving import halving
    >>> next(checked_rounds(halving(), 3, 9)).tolist()
    [1, 1, 1]
    """
    if not callable(search.rounds):
        raise TypeError(
            f"sweep: rounds of {search.name} is {describe_value(search.rounds)}, no function."
        )
    rounds, scores = search.rounds(points, epochs), None
    while True:
        try:
            goals = next(rounds) if scores is None else rounds.send(scores)
        except StopIteration:
            if scores is None:
                raise ValueError(f"sweep: the search {search.name} has no round.") from None
            return
        goals = np.asarray(goals)
        legal = goals.shape == (points,) and goals.dtype.kind in "iu"
        if not legal or (goals < 0).any() or (goals > epochs).any():
            raise ValueError(
                f"sweep: a round of {search.name} gave the goals {describe_value(goals)}, but "
                f"{points} whole "
                f"numbers from 0 to {epochs} are expected."
            )
        scores = yield goals


def _everything(points, epochs):
    yield np.full(points, epochs)


def budget(search: Search, points: int, epochs: int) -> int:
    """The epochs that a search trains in all, if one point is always better than the next.

    >>> from purenet.sweep.schedulers.halving import halving
    >>> budget(halving(), 9, 9)
    21
    """
    rounds = checked_rounds(search, points, epochs)
    goals = next(rounds)
    scores = np.repeat(-np.arange(points, dtype=float)[:, None], epochs, axis=1)
    try:
        while True:
            goals = np.maximum(goals, rounds.send(scores))
    except StopIteration:
        return int(goals.sum())


def sampler_name(sampler) -> str:
    return getattr(sampler, "__name__", repr(sampler))
