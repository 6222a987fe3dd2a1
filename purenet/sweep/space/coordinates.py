"""Points of a space as vectors, for models that compare points by their distances."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purenet.sweep.space.distributions import (
    Branches,
    Choice,
    Conditional,
    LogRandInt,
    LogUniform,
    RandInt,
    Uniform,
)
from purenet.sweep.space.given import quantile
from purenet.sweep.space.padded import Padded


class Coordinates(NamedTuple):
    """Points as vectors: hyperparameters that differ as much as they can are 1 apart.

    >>> Coordinates(np.zeros((2, 3)), np.array([0, 1, 1])).hyperparameters
    2
    """

    places: np.ndarray  # (points, columns)
    owners: np.ndarray  # (columns,) the number of the hyperparameter that each column belongs to

    @property
    def hyperparameters(self) -> int:
        """The number of hyperparameters."""
        return int(self.owners.max(initial=-1)) + 1


def coordinates(
    drawn: Mapping[str, Any], given: Sequence[Mapping[str, Any]], cube: np.ndarray
) -> Coordinates:
    """The coordinates of given points, as `checked_points` returns them, and of rows of the unit
    cube after them: a choice is one-hot, and a hyperparameter in a branch that a point does not
    take is in its middle.

    >>> from purenet.sweep.space.distributions import choice, uniform
    >>> drawn = {"rate": uniform(0, 2), "kind": choice(["a", "b"])}
    >>> coordinates(drawn, [{"rate": 0.5, "kind": 1}], np.empty((0, 2))).places.round(2).tolist()
    [[0.25, 0.0, 0.71]]
    """
    first = np.full((len(given), len(drawn)), 0.5)
    for column, (key, leaf) in zip(first.T, drawn.items(), strict=True):
        for row, point in enumerate(given):
            if key in point:
                column[row] = _place_of_given(leaf, point[key])
    cube = np.concatenate([first, cube])
    columns: list[np.ndarray] = []
    owners: list[int] = []
    taken: list[np.ndarray] = []  # of each hyperparameter, the points that take it
    branch: list[np.ndarray] = []  # of each choice of branches, the one that points take
    for number, (leaf, u) in enumerate(zip(drawn.values(), cube.T, strict=True)):
        here = np.ones(len(cube), bool)
        if isinstance(leaf, Conditional):
            here = taken[leaf.choice] & (branch[leaf.choice] == leaf.place)
            leaf = leaf.leaf
        new = _columns(leaf, u, here)
        columns += new
        owners += [number] * len(new)
        taken.append(here)
        branch.append(leaf.ppf(u) if isinstance(leaf, Branches) else np.zeros(len(cube), int))
    places = np.stack(columns, axis=1) if columns else np.empty((len(cube), 0))
    return Coordinates(places, np.array(owners, int))


def place_of(leaf: Any, value: Any) -> Any:
    """The number in the unit interval that a distribution's ppf maps to a value: the middle of
    those for an integer and, by its index, for a choice; the value itself for other distributions.

    >>> place_of(RandInt(0, 4), 1), place_of(Choice(("a", "b")), 1)
    (0.375, 0.75)
    """
    if isinstance(leaf, Padded):
        return place_of(leaf.distribution, value)
    if isinstance(leaf, Uniform):
        return (value - leaf.low) / (leaf.high - leaf.low)
    if isinstance(leaf, LogUniform):
        return np.log(value / leaf.low) / np.log(leaf.high / leaf.low)
    if isinstance(leaf, RandInt):
        return (value - leaf.low + 0.5) / (leaf.high - leaf.low)
    if isinstance(leaf, LogRandInt):
        return np.log((value + 0.5) / leaf.low) / np.log(leaf.high / leaf.low)
    if isinstance(leaf, Choice):
        return (value + 0.5) / len(leaf.values)
    return value


# pieces
def _place_of_given(leaf: Any, value: Any) -> float:
    leaf = leaf.leaf if isinstance(leaf, Conditional) else leaf
    if isinstance(leaf, Padded) and isinstance(leaf.distribution, Choice):
        value = leaf.distribution.values.index(value)
    known = isinstance(leaf, Padded | Uniform | LogUniform | RandInt | LogRandInt | Choice)
    place = place_of(leaf, value) if known else quantile(leaf, value)
    return 0.5 if place is None else min(max(place, 0.0), 1.0)


def _columns(leaf: Any, u: np.ndarray, here: np.ndarray) -> list[np.ndarray]:
    """The columns of one hyperparameter."""
    leaf = leaf.distribution if isinstance(leaf, Padded) else leaf
    if isinstance(leaf, Choice):
        index = leaf.ppf(u)
        return [((index == i) & here) / np.sqrt(2) for i in range(len(leaf.values))]
    if isinstance(leaf, RandInt):  # all that is drawn as one integer is one point
        u = place_of(leaf, leaf.ppf(u))
    return [np.where(here, u, 0.5)]
