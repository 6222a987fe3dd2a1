"""Successive halving and Hyperband."""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np

from purenet.core.validate import PositiveInteger, at_least, declared, require
from purenet.sweep.samplers.base import Sampler, as_design, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Rounds, Scheduler
from purenet.sweep.schedulers.extending import never

_Eta = Annotated[int, at_least(2)]
_EXTENDS = never("its rungs compare all points, so others would have been stopped")


@maker
@declared
def halving(
    eta: _Eta = 3, first: PositiveInteger = 1, sampler: Sampler | Callable = random
) -> Scheduler:
    """Successive halving: at each rung the best 1/eta of the points continue.

    Rungs lie at first, first·eta, first·eta² ... epochs; n points become max(1, ⌊n/eta⌋). Points
    that diverged never continue; ties go to the lower number.
    Source: Jamieson & Talwalkar (2016).
    Raises TypeError if `sampler` is not a sampler whose points do not depend on scores; when it
    runs, ValueError if the first rung lies beyond the last epoch.

    >>> rounds = halving(eta=3).rounds(9, 9)
    >>> next(rounds).tolist()
    [1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> rounds.send(np.arange(81.0).reshape(9, 9)).tolist()
    [1, 1, 1, 1, 1, 1, 3, 3, 3]
    """
    sampler = as_design("halving", sampler)

    def rounds(points, epochs):
        _check_first("halving", first, epochs)
        yield from _race(np.arange(points), points, _levels(first, epochs, eta), eta)

    name = f"halving({eta=}, {first=}, {sampler.name})"
    return Scheduler(sampler, rounds, name=name, extends=_EXTENDS)


@maker
@declared
def hyperband(
    eta: _Eta = 3, first: PositiveInteger = 1, sampler: Sampler | Callable = random
) -> Scheduler:
    """Hyperband: several brackets of successive halving side by side, from many points that start
    with few epochs to a few points that are trained to the end.

    With R epochs and s_max = ⌊log_eta(R/first)⌋, the brackets s = s_max, ..., 0 have
    ⌈(s_max + 1)/(s + 1) · etaˢ⌉ points and their first rung at R·eta⁻ˢ epochs. If `trials` is
    given, the brackets share that many points in the same proportions.
    Source: Li, Jamieson, DeSalvo, Rostamizadeh & Talwalkar (2018).
    Raises what `halving` raises.

    >>> hyperband(eta=3).points(27)
    49
    """
    sampler = as_design("hyperband", sampler)

    def brackets(epochs) -> list[int]:
        """The number of points of each bracket, from s_max to 0."""
        _check_first("hyperband", first, epochs)
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

    name = f"hyperband({eta=}, {first=}, {sampler.name})"
    return Scheduler(sampler, rounds, lambda epochs: sum(brackets(epochs)), name, _EXTENDS)


def _check_first(caller: str, first: int, epochs: int) -> None:
    text = f"the first rung is at {first} epochs, but a trial has {epochs}"
    require(first <= epochs, f"{caller}: {text}; lower `first` or train longer.")


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
            except StopIteration:  # its points train no further
                running.remove(race)


def _shares(total: int, sizes: list[int]) -> list[int]:
    """`total` points shared among brackets in proportion to these sizes, by largest remainder."""
    exact = [total * size / sum(sizes) for size in sizes]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
