"""Successive halving and Hyperband."""

import math
from collections.abc import Callable

import numpy as np

from purenet.core.validate import integer
from purenet.sweep.samplers.base import checked_sampler, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Rounds, Search, sampler_name


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
    eta, first = integer("halving: eta", eta, least=2), integer("halving: first", first, least=1)
    checked_sampler("halving", sampler)

    def rounds(points, epochs):
        if first > epochs:
            raise ValueError(
                f"halving: the first rung is at {first} epochs, but a trial has {epochs}; lower "
                "`first` or train longer."
            )
        yield from _race(np.arange(points), points, _levels(first, epochs, eta), eta)

    return Search(
        sampler, rounds, name=f"halving(eta={eta}, first={first}, {sampler_name(sampler)})"
    )


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
    eta, first = (
        integer("hyperband: eta", eta, least=2),
        integer("hyperband: first", first, least=1),
    )
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
        f"hyperband(eta={eta}, first={first}, {sampler_name(sampler)})",
    )


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
