"""Spaces of hyperparameters: distributions, ways to sample them, groups of static choices.

A space is a pytree whose leaves are distributions and constants. Numbers reach the trial function
traced, so that no value of them costs a compilation: drawn numbers, and constants and choices that
are floats. Everything else is static: strings, functions, shapes, and whole numbers in a constant
or a `choice` (they are widths, depths, batch sizes). Trials are grouped by their static values and
each group is one program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.tree import named_leaves as leaves_by_name
from purenet.core.types import PyTree
from purenet.sweep.space.distributions import Choice, check_hashable, is_leaf, is_traced


class _Traced:
    """Stands in a group's static values where a traced number goes."""

    def __repr__(self):
        return "TRACED"

    def __reduce__(self):
        return "TRACED"  # the one and only, in another process too


TRACED = _Traced()


class Space(NamedTuple):
    """A space taken apart: its leaves in the order of the pytree.

    >>> from purenet.sweep.space.distributions import uniform
    >>> take_apart({"rate": uniform(0, 1), "depth": 3}).traced
    [False, True]
    """

    treedef: Any
    names: tuple[str, ...]
    leaves: tuple
    shown: tuple[str, ...]  # the names in the order they were written

    @property
    def drawn(self) -> dict[str, Any]:
        """The distributions by name, in the order in which they were written."""
        named = dict(zip(self.names, self.leaves, strict=True))
        return {name: named[name] for name in self.shown if hasattr(named[name], "ppf")}

    @property
    def distributions(self) -> list:
        """What is drawn, in the order in which it was written."""
        return list(self.drawn.values())

    @property
    def traced(self) -> list[bool]:
        """Which leaves reach the trial function as traced numbers."""
        return [is_traced(leaf) for leaf in self.leaves]


class Points(NamedTuple):
    """Points of a space, and the groups of them that share their static values.

    >>> no_points(take_apart({"rate": 0.1})).groups
    ()
    """

    columns: tuple[np.ndarray, ...]  # (n,) values of each leaf
    group: np.ndarray  # (n,) the group of each point
    groups: tuple[tuple, ...]  # of each group: its static values, TRACED in place of numbers
    places: tuple[tuple, ...]  # of each group: which values of the static choices those are


def take_apart(space: PyTree) -> Space:
    """The leaves of a space.

    Raises TypeError for a constant that cannot be static and for a dict whose keys have no order;
    ValueError for two leaves of one name.

    >>> from purenet.sweep.space.distributions import uniform
    >>> take_apart({"rate": uniform(0, 1), "layers": {"width": 8}}).names
    ('layers.width', 'rate')
    """
    pairs = named_leaves(space)
    for name, leaf in pairs:
        check_hashable(f"sweep: the constant {name!r}", leaf)
    names = tuple(name for name, _ in pairs)
    shown = sorted(names, key=_written_order(space)) if isinstance(space, dict) else names
    treedef = jax.tree.structure(space, is_leaf=is_leaf)
    return Space(treedef, names, tuple(leaf for _, leaf in pairs), tuple(shown))


def no_points(space: Space) -> Points:
    """The points of a space before any is drawn.

    >>> len(no_points(take_apart({"rate": 0.1})).group)
    0
    """
    empty = np.empty((0, len(space.distributions)))
    return Points(tuple(_columns(space, empty)[0]), np.empty(0, int), (), ())


def add_points(space: Space, points: Points, cube: np.ndarray) -> Points:
    """The points and some more, from rows of the unit cube.

    Raises ValueError for values outside a distribution's reach, or beyond the numbers of JAX.

    >>> from purenet.sweep.space.distributions import uniform
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> add_points(space, no_points(space), np.array([[0.25]])).columns[0].tolist()
    [0.5]
    """
    columns, choices = _columns(space, cube)
    for name, leaf, column in zip(space.names, space.leaves, columns, strict=True):
        if is_traced(leaf) and not np.isfinite(column.astype(float)).all():
            raise ValueError(f"sweep: {leaf!r} of {name!r} gave a number that is not finite.")
    # static values are told apart by their place in the choice, so that any value will do
    keys = list(zip(*(c.tolist() for c in choices), strict=True)) if choices else [()] * len(cube)
    known = {place: i for i, place in enumerate(points.places)}
    groups = list(points.groups)
    for row, key in enumerate(keys):
        if key not in known:
            known[key] = len(groups)
            pairs = zip(columns, space.traced, strict=True)
            groups.append(tuple(TRACED if traced else c[row] for c, traced in pairs))
    both = zip(points.columns, columns, strict=True)
    return Points(
        tuple(np.concatenate(pair) for pair in both),
        np.concatenate([points.group, np.array([known[key] for key in keys], int)]),
        tuple(groups),
        tuple(known),
    )


def numbers(space: Space, points: Points, rows: np.ndarray | slice | int) -> tuple[np.ndarray, ...]:
    """The traced hyperparameters of some points, a row a point.

    >>> from purenet.sweep.space.distributions import uniform
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> numbers(space, add_points(space, no_points(space), np.array([[0.25]])), 0)[0].item()
    0.5
    """
    pairs = zip(points.columns, space.traced, strict=True)
    return tuple(column[rows] for column, traced in pairs if traced)


def named_leaves(space: PyTree) -> list[tuple[str, Any]]:
    """Each distribution and constant with its name, the path to it: "rate", "layers.0.decay".

    Raises TypeError for a dict whose keys have no order, ValueError for two leaves of one name.

    >>> named_leaves({"rate": 0.1})
    [('rate', 0.1)]
    """
    found = leaves_by_name("sweep", space, is_leaf)
    alone = jax.tree_util.all_leaves([space], is_leaf)
    return [("value" if alone else name, leaf) for name, leaf in found.items()]


def _columns(space: Space, cube) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The values of every leaf for rows of the cube, and of the static choices the places."""
    columns, choices = [], []
    drawn = dict(zip(space.drawn, np.asarray(cube).T, strict=True))
    for name, leaf, traced in zip(space.names, space.leaves, space.traced, strict=True):
        if name in drawn:
            values = leaf.ppf(drawn[name])
            if isinstance(leaf, Choice):
                if not traced:
                    choices.append(values)
                values = [leaf.values[place] for place in values]
        else:
            values = [leaf] * len(cube)
        if traced:  # as the device holds it, so that what is recorded is what was trained
            column = np.asarray(values)
            kept = column.astype(jax.dtypes.canonicalize_dtype(column.dtype))
            if column.dtype.kind == "i" and (kept != column).any():
                raise ValueError(
                    f"sweep: {leaf!r} of {name!r} gave {column[kept != column][0]}, which "
                    f"{kept.dtype} cannot hold; switch on jax_enable_x64, or lower it."
                )
            column = kept
        else:
            column = np.empty(len(cube), object)
            for row, value in enumerate(values):  # one by one: a shape must stay one value
                column[row] = value
        columns.append(column)
    return columns, choices


def _written_order(space: dict) -> Callable[[str], int]:
    """People read hyperparameters in the order they wrote them; a pytree sorts a dict's keys."""
    order = [name for key in space for name, _ in named_leaves({key: space[key]})]
    return order.index
