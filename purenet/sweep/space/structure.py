"""The groups of a space: what the trial function gets in each, and which parts are static."""

import dataclasses
import enum
from typing import Any

import jax

from purenet.core.padded import PaddedSize
from purenet.core.types import PyTree
from purenet.sweep.space.distributions import Branches, is_leaf
from purenet.sweep.space.padded import Padded
from purenet.sweep.space.space import Space, leaves_inside


@dataclasses.dataclass(frozen=True)
class Traced:
    """A placeholder for a traced number in a group's static values.

    >>> Traced(capacity=64)
    up to 64
    """

    capacity: int | None = None  # of a padded size

    def __repr__(self):
        return "TRACED" if self.capacity is None else f"up to {self.capacity}"


TRACED = Traced()


class Untaken(enum.Enum):
    """A placeholder for a leaf of a branch not taken in a group's static values."""

    UNTAKEN = enum.auto()


def group_values(space: Space, values: list, places: tuple[int, ...]) -> tuple:
    """The static values of a group, from the values of one of its points.

    >>> from purenet.sweep.space.space import take_apart
    >>> group_values(take_apart({"depth": 3, "rate": 0.1}), [3, 0.1], ())
    (3, TRACED)
    """
    at, taken = dict(zip(space.grouped, places, strict=True)), space.taken(places)
    found: list[Any] = []
    for i, (leaf, traced) in enumerate(zip(space.leaves, space.traced, strict=True)):
        padded = isinstance(leaf, Padded) and taken[i]
        number = Traced(leaf.to[at[i]]) if padded else TRACED
        found.append((number if traced else values[i]) if taken[i] else Untaken.UNTAKEN)
    return tuple(found)


def static_values(space: Space, group: tuple) -> dict[str, Any]:
    """The static values of a group by name, and the capacity of each padded size.

    >>> from purenet.sweep.space.space import take_apart
    >>> static_values(take_apart({"depth": 3, "rate": 0.1}), (3, TRACED))
    {'depth': 3}
    """
    shown = set(space.shown)
    hidden = (TRACED, Untaken.UNTAKEN)
    pairs = zip(space.names, group, strict=True)
    return {n: value for n, value in pairs if n in shown and not any(value is h for h in hidden)}


def structure(space: Space, places: tuple[int, ...]) -> Any:
    """The structure of the hyperparameters that the trial function of a group gets: a treedef with
    a leaf for each leaf taken. `places` are the group's indices in its `grouped` leaves.

    >>> from purenet.sweep.space.space import take_apart
    >>> structure(take_apart({"rate": 0.1}), ())
    PyTreeDef({'rate': *})
    """
    chosen = zip(space.grouped, places, strict=True)
    by_name = {space.names[i]: place for i, place in chosen if place >= 0}  # no two of one name
    top = [(name, leaf) for name, leaf, c in zip(*space[1:4], strict=True) if c is None]
    return jax.tree.structure(_built(top, space.treedef, by_name))


# pieces
class _Taken:
    """A branch in the structure of a group: its label is a leaf, which the dict does not show."""

    def __init__(self, label: Any, branch: PyTree):
        self.label, self.branch = label, branch


jax.tree_util.register_pytree_node(
    _Taken, lambda node: ((node.label, node.branch), None), lambda _, children: children[1]
)


def _built(pairs: list[tuple[str, Any]], treedef: Any, places: dict[str, int]) -> PyTree:
    """What the trial function gets, with 0 at each leaf."""
    leaves: list[Any] = []
    for name, leaf in pairs:
        if isinstance(leaf, Branches):
            branch = leaf.branches[places[name]]
            inner = jax.tree.structure(branch, is_leaf=is_leaf)
            leaves.append(_Taken(0, _built(leaves_inside(name, branch), inner, places)))
        else:
            padded = isinstance(leaf, Padded)
            leaves.append(PaddedSize(0, leaf.to[places[name]]) if padded else 0)
    return jax.tree.unflatten(treedef, leaves)
