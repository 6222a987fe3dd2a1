"""Spaces of hyperparameters, flattened: their leaves, and the branches that these are in.

A space is a pytree whose leaves are distributions and constants. The trial function gets numbers
traced, so that new values need no compilation: drawn numbers, and constants and choices that are
floats. Everything else is static: strings, functions, shapes, and integers in a constant or a
`choice` (such as widths, depths, batch sizes).

A choice of dicts is a leaf too, with the leaves of all its branches after it; each of those has a
condition, the branch that it belongs to.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from purenet.core.tree import named_leaves as leaves_by_name
from purenet.core.types import PyTree
from purenet.sweep.space.distributions import (
    Choice,
    Conditional,
    check_hashable,
    is_leaf,
    is_traced,
)
from purenet.sweep.space.padded import Padded


class Condition(NamedTuple):
    """Where a leaf is taken: in the branch at `place` of the leaf number `choice`."""

    choice: int
    place: int


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """The leaves that share a name in several branches; at most one of them is taken.

    >>> Alternatives({"rate [a]": 0.1}, {"rate [a]": {"kind": "a"}}).taken({"kind": "a"})
    'rate [a]'
    """

    leaves: dict[str, Any]  # by key
    above: dict[str, dict[str, Any]]  # by key: the choices above the leaf, and their values there

    def taken(self, hyper: Mapping[str, Any]) -> str:
        """The key of the leaf that has a value in a trial of these hyperparameters."""
        has = lambda above: all(hyper.get(name) == value for name, value in above.items())
        return next(key for key, above in self.above.items() if has(above))


class Space(NamedTuple):
    """A flattened space: its leaves in the order of the pytree.

    >>> from purenet.sweep.space.distributions import uniform
    >>> take_apart({"rate": uniform(0, 1), "depth": 3}).traced
    [False, True]
    """

    treedef: Any  # a choice of dicts is one leaf of it
    names: tuple[str, ...]  # the columns; leaves of different branches may share one
    leaves: tuple
    conditions: tuple[Condition | None, ...]
    written: tuple[int, ...]  # the numbers of the leaves in the order in which the user wrote them

    @property
    def keys(self) -> list[str]:
        """A unique name for each leaf."""
        shared = {name for name in self.names if self.names.count(name) > 1}
        return [
            f"{name} [{', '.join(str(v) for v in self.above(i).values())}]"
            if name in shared
            else name
            for i, name in enumerate(self.names)
        ]

    @property
    def shown(self) -> list[str]:
        """The columns of tables, in the order in which the user wrote them."""
        return list(dict.fromkeys(self.names[i] for i in self.written if not self._is_label(i)))

    @property
    def top(self) -> dict[str, Any]:
        """The leaves outside branches by name, in the order in which the user wrote them."""
        return {self.names[i]: self.leaves[i] for i in self.written if self.conditions[i] is None}

    @property
    def tree(self) -> PyTree:
        """The space as the user wrote it."""
        top = [leaf for leaf, c in zip(self.leaves, self.conditions, strict=True) if c is None]
        return jax.tree.unflatten(self.treedef, top)

    @property
    def columns(self) -> dict[str, Any]:
        """The content of each column: a leaf, or `Alternatives` if branches share the name."""
        keys, found = self.keys, dict[str, Any]()
        for name in self.shown:
            same = [i for i in self.written if self.names[i] == name]
            found[name] = self.leaves[same[0]]
            if len(same) > 1:
                found[name] = Alternatives(
                    {keys[i]: self.leaves[i] for i in same}, {keys[i]: self.above(i) for i in same}
                )
        return found

    @property
    def drawn(self) -> dict[str, Any]:
        """The distributions by key, in the order in which the user wrote them; those in a branch
        are `Conditional`."""
        keys = self.keys
        found: dict[str, Any] = {}
        number: dict[int, int] = {}  # of each drawn leaf, among the drawn ones
        for i in self.written:
            leaf, condition = self.leaves[i], self.conditions[i]
            if hasattr(leaf, "ppf"):
                number[i] = len(found)
                if condition is not None:
                    leaf = Conditional(leaf, number[condition.choice], condition.place)
                found[keys[i]] = leaf
        return found

    @property
    def distributions(self) -> list:
        """The distributions, in the order in which the user wrote them."""
        return list(self.drawn.values())

    @property
    def traced(self) -> list[bool]:
        """Which leaves reach the trial function as traced numbers."""
        return [is_traced(leaf) for leaf in self.leaves]

    @property
    def grouped(self) -> list[int]:
        """The leaves that define groups: static choices and padded sizes."""
        pairs = enumerate(zip(self.leaves, self.traced, strict=True))
        static = lambda leaf, traced: isinstance(leaf, Choice) and not traced
        return [i for i, (leaf, t) in pairs if static(leaf, t) or isinstance(leaf, Padded)]

    def above(self, i: int) -> dict[str, Any]:
        """The choices above a leaf, from the outermost, and their values where it is taken."""
        condition = self.conditions[i]
        if condition is None:
            return {}
        choice, place = condition
        return self.above(choice) | {self.names[choice]: self.leaves[choice].values[place]}

    def taken(self, places: tuple[int, ...]) -> list[bool]:
        """Which leaves a group takes, from the indices in its `grouped` leaves."""
        at = dict(zip(self.grouped, places, strict=True))
        return [c is None or at[c.choice] == c.place for c in self.conditions]

    def _is_label(self, i: int) -> bool:
        """Whether a leaf is the "name" that labels its branch."""
        condition = self.conditions[i]
        if condition is None or not self.leaves[condition.choice].named:
            return False
        return self.names[i] == f"{self.names[condition.choice]}.name"


def take_apart(space: PyTree) -> Space:
    """The leaves of a space.

    Raises TypeError for a constant that cannot be static and for a dict whose keys cannot be
    ordered; ValueError for two leaves with the same name, unless they are in different branches of
    one choice.

    >>> from purenet.sweep.space.distributions import uniform
    >>> take_apart({"rate": uniform(0, 1), "layers": {"width": 8}}).names
    ('layers.width', 'rate')
    """
    pairs = named_leaves(space)
    for name, leaf in pairs:
        check_hashable(f"sweep: the constant {name!r}", leaf)
    return _expanded(pairs, _written_order(space), jax.tree.structure(space, is_leaf=is_leaf))


def of_columns(leaves: dict[str, Any]) -> Space:
    """A space from its leaves by name, as stored in a file.

    >>> of_columns({"layers.width": 8, "rate": 0.1}).shown
    ['layers.width', 'rate']
    """
    return _expanded(list(leaves.items()), list(range(len(leaves))), None)


def named_leaves(space: PyTree) -> list[tuple[str, Any]]:
    """Each distribution and constant with its name, the path to it: "rate", "layers.0.decay".

    Raises TypeError for a dict whose keys cannot be ordered, ValueError for two leaves with the
    same name.

    >>> named_leaves({"rate": 0.1})
    [('rate', 0.1)]
    """
    found = leaves_by_name("sweep", space, is_leaf)
    alone = jax.tree_util.all_leaves([space], is_leaf)
    return [("value" if alone else name, leaf) for name, leaf in found.items()]


def leaves_inside(name: str, branch: dict) -> list[tuple[str, Any]]:
    """The leaves of a branch of the choice `name`, with their names in the space.

    >>> leaves_inside("optimizer", {"rate": 0.1})
    [('optimizer.rate', 0.1)]
    """
    return [(f"{name}.{inner}", leaf) for inner, leaf in named_leaves(branch)]


# pieces
def _expanded(pairs: list[tuple[str, Any]], rank: list[int], treedef: Any) -> Space:
    """The space with the leaves of all branches after their choices."""
    names: list[str] = []
    leaves: list[Any] = []
    conditions: list[Condition | None] = []
    order: list[tuple[int, ...]] = []  # sorts the leaves in the order in which the user wrote them

    def add(pairs, rank, condition, first):
        for (name, leaf), at in zip(pairs, rank, strict=True):
            number, place = len(names), (*first, at)
            names.append(name)
            leaves.append(leaf)
            conditions.append(condition)
            order.append(place)
            for b, branch in enumerate(getattr(leaf, "branches", ())):
                inside, inner = leaves_inside(name, branch), _written_order(branch)
                add(inside, inner, Condition(number, b), (*place, b))

    add(pairs, rank, None, ())
    written = sorted(range(len(names)), key=order.__getitem__)
    space = Space(treedef, tuple(names), tuple(leaves), tuple(conditions), tuple(written))
    _check_names(space)
    return space


def _check_names(space: Space) -> None:
    """Raise ValueError for two leaves with the same name, if one point may take both."""
    chains = [_chain(space, i) for i in range(len(space.names))]
    first: dict[str, list[dict]] = {}
    for name, chain in zip(space.names, chains, strict=True):
        for other in first.setdefault(name, []):
            if all(other.get(choice, place) == place for choice, place in chain.items()):
                raise ValueError(f"sweep: two leaves have the name {name!r}; rename one of them.")
        first[name].append(chain)


def _chain(space: Space, i: int) -> dict[int, int]:
    """The branches that a leaf is in: choice -> place."""
    condition = space.conditions[i]
    if condition is None:
        return {}
    return _chain(space, condition.choice) | {condition.choice: condition.place}


def _written_order(tree: PyTree) -> list[int]:
    """People read hyperparameters in the order they wrote them; a pytree sorts a dict's keys."""
    own = [name for name, _ in named_leaves(tree)]
    if not isinstance(tree, dict):
        return list(range(len(own)))
    order = [name for key in tree for name, _ in named_leaves({key: tree[key]})]
    return [order.index(name) for name in own]
