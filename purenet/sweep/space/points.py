"""Points of a space: their values, and their groups, whose points share all static values.

Each group is one program. It has only the leaves of the branches that it takes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.sweep.space.distributions import Branches, Choice, is_traced
from purenet.sweep.space.padded import Padded
from purenet.sweep.space.space import Space
from purenet.sweep.space.structure import group_values, structure


class Points(NamedTuple):
    """Points of a space, and their groups, whose points share all static values.

    >>> from purenet.sweep.space.space import take_apart
    >>> no_points(take_apart({"rate": 0.1})).groups
    ()
    """

    columns: tuple[np.ndarray, ...]  # (n,) values of each leaf; NaN or 0 where it is not taken
    group: np.ndarray  # (n,) the group of each point
    groups: tuple[tuple, ...]  # for each group: its static values, TRACED in place of numbers
    places: tuple[tuple, ...]  # for each group: those of `Space.grouped`, -1 for leaves not taken


def no_points(space: Space) -> Points:
    """The points of a space before any is drawn.

    >>> from purenet.sweep.space.space import take_apart
    >>> len(no_points(take_apart({"rate": 0.1})).group)
    0
    """
    empty = np.empty((0, len(space.distributions)))
    return Points(tuple(_columns(space, empty)[0]), np.empty(0, int), (), ())


def add_points(space: Space, points: Points, cube: np.ndarray) -> Points:
    """The points, and more from rows of the unit cube.

    Raises ValueError for values that are not finite, or that JAX's dtype cannot hold.

    >>> from purenet.sweep.space.space import take_apart
    >>> from purenet.sweep.space.distributions import uniform
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> add_points(space, no_points(space), np.array([[0.25]])).columns[0].tolist()
    [0.5]
    """
    columns, places = _columns(space, cube)
    taken = taken_rows(space, places, len(cube))
    for name, leaf, column, here in zip(space.names, space.leaves, columns, taken, strict=True):
        if is_traced(leaf) and not np.isfinite(column[here].astype(float)).all():
            raise ValueError(f"sweep: {leaf!r} of {name!r} returned a number that is not finite.")
    # static values are identified by their index in the choice, so any value will do
    told = [np.where(taken[i], places[i], -1).tolist() for i in space.grouped]
    keys = list(zip(*told, strict=True)) if told else [()] * len(cube)
    known = {place: i for i, place in enumerate(points.places)}
    groups = list(points.groups)
    for row, key in enumerate(keys):
        if key not in known:
            known[key] = len(groups)
            groups.append(group_values(space, [column[row] for column in columns], key))
    columns = [_blanked(c, here) for c, here in zip(columns, taken, strict=True)]
    both = zip(points.columns, columns, strict=True)
    return Points(
        tuple(np.concatenate(pair) for pair in both),
        np.concatenate([points.group, np.array([known[key] for key in keys], int)]),
        tuple(groups),
        tuple(known),
    )


def numbers(space: Space, points: Points, rows: np.ndarray | slice | int) -> tuple[np.ndarray, ...]:
    """The traced hyperparameters of some points, one row each: those of the branches taken.

    In a space with branches, all of the points must be of one group.

    >>> from purenet.sweep.space.space import take_apart
    >>> from purenet.sweep.space.distributions import uniform
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> numbers(space, add_points(space, no_points(space), np.array([[0.25]])), 0)[0].item()
    0.5
    """
    groups = np.unique(points.group[rows])
    assert len(groups) == 1 or not any(space.conditions)
    leaves = traced_leaves(space, points, groups[0] if len(groups) else None)
    return tuple(points.columns[i][rows] for i in leaves)


def traced_leaves(space: Space, points: Points, group: int | None) -> list[int]:
    """The leaves that reach the trial function of a group as traced numbers, in their order.

    >>> from purenet.sweep.space.space import take_apart
    >>> traced_leaves(take_apart({"depth": 3, "rate": 0.1}), no_points(take_apart(0.1)), None)
    [1]
    """
    taken = [True] * len(space.names) if group is None else space.taken(points.places[group])
    return [i for i, pair in enumerate(zip(space.traced, taken, strict=True)) if all(pair)]


def fresh_numbers(
    space: Space, points: Points, group: int, cube: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Values of the traced hyperparameters of a group for rows of the unit cube, whichever branches
    the rows would take.

    >>> from purenet.sweep.space.space import take_apart
    >>> from purenet.sweep.space.distributions import uniform
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> points = add_points(space, no_points(space), np.array([[0.25]]))
    >>> fresh_numbers(space, points, 0, np.array([[0.75]]))[0].tolist()
    [1.5]
    """
    columns, _ = _columns(space, cube)
    return tuple(columns[i] for i in traced_leaves(space, points, group))


def hyper_columns(
    space: Space, columns: Mapping[str, np.ndarray], taken: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """The columns of a table, from those of each leaf by key and the rows where it is `taken`; NaN
    where no branch taken has the hyperparameter.

    >>> from purenet.sweep.space.space import take_apart
    >>> hyper_columns(take_apart(0.5), {"value": np.array([0.5])}, [np.array([True])])
    {'value': array([0.5])}
    """
    keys, found = space.keys, dict[str, np.ndarray]()
    for i in space.written:
        name, column, here = space.names[i], columns[keys[i]], taken[i]
        if space.conditions[i] is not None:
            # integers have no NaN
            column = column.astype(column.dtype if column.dtype.kind == "f" else object)
            column[~here] = np.nan
        found[name] = np.where(here, column, found[name]) if name in found else column
    return {name: found[name] for name in space.shown}


def taken_rows(
    space: Space, places: Mapping[int, np.ndarray], count: int, last: int | None = None
) -> list[np.ndarray]:
    """For each leaf, up to the `last`, the rows (count,) where it is taken, from the indices in the
    choices of branches before it.

    >>> from purenet.sweep.space.space import take_apart
    >>> taken_rows(take_apart({"rate": 0.1}), {}, 2)[0].tolist()
    [True, True]
    """
    taken: list[np.ndarray] = []
    for condition in space.conditions[: None if last is None else last + 1]:
        if condition is None:
            taken.append(np.ones(count, bool))
        else:
            choice, place = condition
            taken.append(taken[choice] & (places[choice] == place))
    return taken


def taken_points(space: Space, points: Points) -> list[np.ndarray]:
    """For each leaf, the points (n,) where it is taken.

    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": 0.1})
    >>> taken_points(space, no_points(space))[0].shape
    (0,)
    """
    by_group = [space.taken(places) for places in points.places]
    table = np.array(by_group, bool).reshape(len(points.groups), len(space.names))
    return list(table[points.group].T)


def hyper_arrays(space: Space, points: Points, rows: np.ndarray) -> PyTree:
    """A pytree like the space with an array (n,) at each leaf. For a choice of dicts or a padded
    size it is an array of objects, as the trial function would get them.

    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": 0.1})
    >>> points = add_points(space, no_points(space), np.empty((1, 0)))
    >>> hyper_arrays(space, points, np.array([0]))["rate"].shape
    (1,)
    """
    leaves = range(len(space.names))
    top = [i for i in leaves if space.conditions[i] is None]
    columns = [points.columns[i][rows] for i in top]
    made = [k for k, i in enumerate(top) if isinstance(space.leaves[i], Branches | Padded)]
    for k in made:
        columns[k] = np.empty(len(rows), object)
    for group in np.unique(points.group[rows]) if made else ():
        places = points.places[group]
        form, taken = structure(space, places), space.taken(places)
        for at in np.flatnonzero(points.group[rows] == group):
            values = [points.columns[i][rows[at]] for i in leaves if taken[i]]
            parts = space.treedef.flatten_up_to(jax.tree.unflatten(form, values))
            for k in made:
                columns[k][at] = parts[k]
    return jax.tree.unflatten(space.treedef, columns)


# pieces
def _blanked(column: np.ndarray, here: np.ndarray) -> np.ndarray:
    if here.all():
        return column
    column = column.copy()
    column[~here] = 0 if column.dtype.kind in "iu" else np.nan
    return column


def _columns(space: Space, cube) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """The values of every leaf for rows of the cube, taken or not, and the indices of those that
    define groups."""
    columns, places = [], {}
    drawn = dict(zip(space.drawn, np.asarray(cube).T, strict=True))
    named = zip(space.keys, space.names, space.leaves, space.traced, strict=True)
    for i, (key, name, leaf, traced) in enumerate(named):
        if key in drawn:
            values = leaf.ppf(drawn[key])
            if isinstance(leaf, Padded):
                places[i] = leaf.rung(values)
            if isinstance(leaf, Choice):
                if not traced:
                    places[i] = values
                values = [leaf.values[place] for place in values]
        else:
            values = [leaf] * len(cube)
        if traced:  # as rounded on the device, so that records hold what was trained
            column = np.asarray(values)
            dtype = np.dtype("int32") if isinstance(leaf, Padded) else column.dtype
            kept = column.astype(jax.dtypes.canonicalize_dtype(dtype))
            if column.dtype.kind == "i" and (kept != column).any():
                raise ValueError(
                    f"sweep: {leaf!r} of {name!r} returned {column[kept != column][0]}, "
                    f"which {kept.dtype} cannot hold; enable jax_enable_x64, or lower it."
                )
            column = kept
        else:
            column = np.empty(len(cube), object)
            for row, value in enumerate(values):  # one by one: a shape must stay one value
                column[row] = value
        columns.append(column)
    return columns, places
