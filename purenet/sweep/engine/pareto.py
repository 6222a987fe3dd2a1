"""Comparing points by several objectives: Pareto fronts and constraints."""

import bisect
from typing import Any, NamedTuple

import numpy as np

from purenet.core.validate import describe_value, is_number


class Goal(NamedTuple):
    """One of several objectives: to maximise, to minimise, or to keep within a bound.

    >>> Goal("parameters", maximize=False, bound=1e5).violation(np.array([9e4, 3e5])).tolist()
    [0.0, 200000.0]
    """

    name: str  # of a metric on the validation data, of a hyperparameter, or "parameters"
    maximize: bool
    bound: float | None = None  # at most, or at least if it is to be maximised

    @property
    def asked(self) -> str | list:
        """As passed by the user, for JSON.

        >>> Goal("parameters", maximize=False, bound=1e5).asked
        ['<=', 100000.0]
        """
        if self.bound is None:
            return "max" if self.maximize else "min"
        return [">=" if self.maximize else "<=", self.bound]

    @property
    def sign(self) -> int:
        """The factor that makes larger values better."""
        return 1 if self.maximize else -1

    def violation(self, values: np.ndarray) -> np.ndarray:
        """How far values lie beyond the bound; 0 for those within it, and without a bound."""
        if self.bound is None:
            return np.zeros_like(values, float)
        return np.maximum(self.sign * (self.bound - values), 0.0)


def goal(name: str, asked: Any) -> Goal:
    """An objective: "max", "min", ("<=", number) or (">=", number).

    Raises ValueError for anything else.

    >>> goal("loss", "min").maximize
    False
    """
    if isinstance(asked, str) and asked in ("max", "min"):
        return Goal(name, asked == "max")
    pair = isinstance(asked, (tuple, list)) and len(asked) == 2
    if pair and asked[0] in ("<=", ">=") and is_number(asked[1]) and np.isfinite(asked[1]):
        return Goal(name, asked[0] == ">=", float(asked[1]))
    raise ValueError(
        f'sweep: the objective {name!r} is {describe_value(asked)}, but "max", "min" or a bound '
        'such as ("<=", 1e5) is expected.'
    )


def preference(goals: tuple[Goal, ...], values: np.ndarray) -> np.ndarray:
    """The rank of each point among the others: (points,), larger is better, NaN where unknown.

    `values` (points, goals). Points within all bounds come first; the others are ordered by how far
    beyond they are. Those within are ranked by non-dominated fronts: 0 for the Pareto front, -1 for
    the front without it, and so on. Within a front, points in sparse regions come before those in
    crowded ones, by less than 1.
    Source: Deb, Pratap, Agarwal & Meyarivan (2002), sections III and VI.

    >>> goals = Goal("accuracy", True), Goal("parameters", False)
    >>> values = np.array([[0.9, 100.0], [0.8, 10.0], [0.7, 50.0], [np.nan, 1.0]])
    >>> np.ceil(preference(goals, values)).tolist()
    [0.0, 0.0, -1.0, nan]
    """
    known = np.isfinite(values).all(axis=1)
    found = np.full(len(values), np.nan)
    if not known.any():
        return found
    beyond = np.sum([goal.violation(values[:, i]) for i, goal in enumerate(goals)], axis=0)
    free = [i for i, goal in enumerate(goals) if goal.bound is None]
    signed = values[:, free] * [goals[i].sign for i in free]
    within = np.flatnonzero(known & (beyond == 0))
    rank = _fronts(signed[within])
    found[within] = -rank - 0.99 * (1 - _spread(signed[within], rank))
    others = np.flatnonzero(known & (beyond > 0))
    lowest = -float(rank.max(initial=0)) - 1
    # from just below the last front, down by at most 1
    found[others] = lowest - beyond[others] / (1 + beyond[others])
    return found


def _fronts(values: np.ndarray) -> np.ndarray:
    """The front of each point (n, k), from 0 on; larger is better in every column."""
    n, k = values.shape
    front = np.zeros(n, int)
    if not n:
        return front
    order = np.lexsort(tuple(-values[:, i] for i in range(k - 1, -1, -1)))
    if k == 1:
        _, front = np.unique(-values[:, 0], return_inverse=True)
        return front
    if k == 2:
        # each front's largest second value so far; the first values were all as large
        tops: list[float] = []
        for before, row in zip([order[0], *order], order, strict=False):
            if row != before and (values[row] == values[before]).all():  # on the same front
                front[row] = front[before]
                continue
            second = -values[row, 1]
            front[row] = place = bisect.bisect_right(tops, second)
            tops[place : place + 1] = [second]
        return front
    for i, row in enumerate(order):  # every point that dominates this one comes before it
        before = order[:i]
        ahead = (values[before] >= values[row]).all(axis=1)
        ahead &= (values[before] > values[row]).any(axis=1)
        front[row] = front[before[ahead]].max(initial=-1) + 1
    return front


def _spread(values: np.ndarray, front: np.ndarray) -> np.ndarray:
    """The distance of each point's neighbours on its front, from 0 to 1; 1 at the ends."""
    spread = np.zeros(len(values))
    for level in np.unique(front):
        rows = np.flatnonzero(front == level)
        for column in values[rows].T:
            order = np.argsort(column, kind="stable")
            ordered = column[order]
            width = ordered[-1] - ordered[0]
            gap = np.full(len(rows), np.inf)
            if width > 0:
                gap[order[1:-1]] = (ordered[2:] - ordered[:-2]) / width
            spread[rows] += gap
    ends = np.isinf(spread)
    return np.where(ends, 1.0, spread / (1 + np.where(ends, 0, spread)))
