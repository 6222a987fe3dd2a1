"""Searches: which points of a space are tried, and how long each of them is trained.

A search is a sampler, or a `Search`: a sampler and rounds. A round says how many epochs every point
should have by its end; the scores that were reached decide on the next one. A decision compares all
the points of a round, so it depends neither on how many trials fit in memory nor on the devices.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from purenet.checks import told, whole
from purenet.sweep.space import checked_sampler, maker, random

Rounds = Generator[np.ndarray, np.ndarray, None]


class Search(NamedTuple):
    """`rounds(points, epochs)` yields goals (points,), the epochs that each point should have, and
    is sent scores (points, epochs): larger is better, NaN where unknown or diverged.

    `sampler` draws the points; `points(epochs)`, where there is one, says how many there are when
    the caller does not.

    >>> halving().name
    'halving(eta=3, first=1, random)'
    """

    sampler: Callable
    rounds: Callable[[int, int], Rounds]
    points: Callable[[int], int] | None = None
    name: str = "all"


def everything(sampler: Callable) -> Search:
    """Every point is trained to the end.

    >>> next(everything(random).rounds(2, 5)).tolist()
    [5, 5]
    """
    return Search(sampler, _everything, name=getattr(sampler, "__name__", repr(sampler)))


def without_rounds(search: Search) -> bool:
    """Whether a search trains every point to the end, so that its sampler is all there is to it.

    >>> without_rounds(everything(random)), without_rounds(halving())
    (True, False)
    """
    return search.rounds is _everything


def as_search(search: Any) -> Search:
    """A search from what `run` was given. Raises TypeError for what is neither search nor sampler.

    >>> as_search(random).name
    'random'
    """
    if isinstance(search, Search):
        return search
    if not callable(search):
        raise TypeError(
            f"sweep: search is {told(search)}, but a sampler such as sweep.random or a search such "
            "as sweep.halving() is expected."
        )
    return everything(checked_sampler("sweep: search", search))


def checked_rounds(search: Any, points: int, epochs: int) -> Rounds:
    """The rounds of a search, each with a goal of 0 to `epochs` for every point.

    Raises TypeError for a search without rounds, ValueError for goals that are none.

    >>> next(checked_rounds(halving(), 3, 9)).tolist()
    [1, 1, 1]
    """
    if not callable(search.rounds):
        raise TypeError(f"sweep: rounds of {search.name} is {told(search.rounds)}, no function.")
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
                f"sweep: a round of {search.name} gave the goals {told(goals)}, but {points} whole "
                f"numbers from 0 to {epochs} are expected."
            )
        scores = yield goals


def _everything(points, epochs):
    yield np.full(points, epochs)


@maker
def halving(eta: int = 3, first: int = 1, sampler: Callable = random) -> Search:
    """Successive halving: at each rung the best 1/eta of the points go on.

    Rungs lie at first, first·eta, first·eta² ... epochs; n points become max(1, ⌊n/eta⌋). Points
    that diverged never go on; ties go to the lower number.
    Source: Jamieson & Talwalkar (2016).
    Raises TypeError or ValueError for an eta below 2 or a first rung below one epoch, TypeError for
    what is no sampler; when it runs, ValueError where the first rung lies beyond the last epoch.

    >>> rounds = halving(eta=3).rounds(9, 9)
    >>> next(rounds).tolist()
    [1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> rounds.send(np.arange(81.0).reshape(9, 9)).tolist()
    [1, 1, 1, 1, 1, 1, 3, 3, 3]
    """
    eta, first = whole("halving: eta", eta, least=2), whole("halving: first", first, least=1)
    checked_sampler("halving", sampler)

    def rounds(points, epochs):
        if first > epochs:
            raise ValueError(
                f"halving: the first rung is at {first} epochs, but a trial has {epochs}; lower "
                "`first` or train longer."
            )
        yield from _race(np.arange(points), points, _levels(first, epochs, eta), eta)

    return Search(sampler, rounds, name=f"halving(eta={eta}, first={first}, {_name(sampler)})")


@maker
def hyperband(eta: int = 3, first: int = 1, sampler: Callable = random) -> Search:
    """Hyperband: several brackets of successive halving side by side, from many points that begin
    with few epochs to few points that are trained to the end at once.

    With R epochs and s_max = ⌊log_eta(R/first)⌋ there are brackets s = s_max .. 0 of
    ⌈(s_max + 1)/(s + 1) · etaˢ⌉ points with a first rung at R·eta⁻ˢ epochs. Where `trials` is
    given, the brackets share that many points in the same proportions.
    Source: Li, Jamieson, DeSalvo, Rostamizadeh & Talwalkar (2018).
    Raises what `halving` raises.

    >>> hyperband(eta=3).points(27)
    49
    """
    eta, first = whole("hyperband: eta", eta, least=2), whole("hyperband: first", first, least=1)
    checked_sampler("hyperband", sampler)

    def brackets(epochs) -> list[int]:
        """The number of points of each bracket, from s_max to 0."""
        if first > epochs:
            raise ValueError(
                f"hyperband: the first rung is at {first} epochs, but a trial has {epochs}; lower "
                "`first` or train longer."
            )
        most = 0
        while first * eta ** (most + 1) <= epochs:
            most += 1
        return [math.ceil((most + 1) / (s + 1) * eta**s) for s in range(most, -1, -1)]

    def rounds(points, epochs):
        sizes = _shares(points, brackets(epochs))
        ends = np.cumsum(sizes)
        races = []
        for s, size, end in zip(range(len(sizes) - 1, -1, -1), sizes, ends, strict=True):
            levels = [max(1, round(epochs / eta**k)) for k in range(s, -1, -1)]
            if size:
                races.append(_race(np.arange(end - size, end), points, levels, eta))
        yield from _side_by_side(races)

    return Search(
        sampler,
        rounds,
        lambda epochs: sum(brackets(epochs)),
        f"hyperband(eta={eta}, first={first}, {_name(sampler)})",
    )


@maker
def median(grace: int = 5, every: int = 1, sampler: Callable = random) -> Search:
    """Median stopping: a point is stopped whose best score so far is below the median, over all
    points that got as far, of their mean score so far.

    Points are compared after `grace` epochs and then after every `every` more.
    Source: Golovin et al. (2017), section 3.2.1.
    Raises TypeError or ValueError for numbers below 1, TypeError for what is no sampler.

    >>> rounds = median(grace=1).rounds(3, 2)
    >>> next(rounds).tolist()
    [1, 1, 1]
    >>> rounds.send(np.array([[0.1, np.nan], [0.5, np.nan], [0.9, np.nan]])).tolist()
    [1, 2, 2]
    """
    grace, every = whole("median: grace", grace, least=1), whole("median: every", every, least=1)
    checked_sampler("median", sampler)

    def rounds(points, epochs):
        goals = np.full(points, min(grace, epochs))
        alive = np.arange(points)
        while True:
            scores = yield goals.copy()
            level = int(goals.max(initial=0))
            if level >= epochs:
                return
            mean = scores[:, :level].mean(axis=1)  # NaN for those that got less far
            alive = alive[np.isfinite(mean[alive])]
            if not len(alive):
                return
            alive = alive[scores[alive, :level].max(axis=1) >= np.nanmedian(mean)]
            goals[alive] = min(level + every, epochs)

    return Search(sampler, rounds, name=f"median(grace={grace}, every={every}, {_name(sampler)})")


def budget(search: Search, points: int, epochs: int) -> int:
    """The epochs that a search trains in all, if one point is always better than the next.

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


def _levels(first: int, epochs: int, eta: int) -> list[int]:
    levels = [first]
    while levels[-1] * eta < epochs:
        levels.append(levels[-1] * eta)
    return levels if levels[-1] == epochs else [*levels, epochs]


def _race(racing: np.ndarray, points: int, levels: list[int], eta: int) -> Rounds:
    """Successive halving among some of the points; the goals of the others are 0."""
    goals = np.zeros(points, int)
    for level in levels:
        goals[racing] = level
        scores = yield goals.copy()
        reached = scores[racing, level - 1]
        order = np.argsort(np.where(np.isfinite(reached), -reached, np.inf), kind="stable")
        racing = racing[order[: max(1, len(racing) // eta)]]
        racing = racing[np.isfinite(scores[racing, level - 1])]
        if not len(racing):
            return


def _side_by_side(races: list[Rounds]) -> Rounds:
    goals = {race: next(race) for race in races}
    running = list(races)
    while running:
        scores = yield np.max(list(goals.values()), axis=0)
        for race in list(running):
            try:
                goals[race] = race.send(scores)
            except StopIteration:  # its points keep the epochs they have
                running.remove(race)


def _shares(total: int, sizes: list[int]) -> list[int]:
    """So many points for brackets of these sizes: in proportion, the largest remainders first."""
    exact = [total * size / sum(sizes) for size in sizes]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _name(sampler) -> str:
    return getattr(sampler, "__name__", repr(sampler))
