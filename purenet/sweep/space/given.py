"""Points that the user gives: checked against the space, and added to the table of points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import describe_value, is_integer, is_number, require
from purenet.sweep.space.distributions import (
    Branches,
    Choice,
    Conditional,
    LogRandInt,
    Normal,
    is_leaf,
)
from purenet.sweep.space.padded import Padded
from purenet.sweep.space.points import Points, add_points, no_points
from purenet.sweep.space.schema import describe_leaf
from purenet.sweep.space.space import Space, named_leaves


def checked_points(space: Space, points: Sequence[PyTree] | None) -> tuple[dict[str, Any], ...]:
    """The value of each drawn hyperparameter by name, for every given point; for a choice, the
    index of the value.

    A point is a pytree like the space, or a dict with the names used in results. Constants may be
    left out. Raises TypeError unless `points` is a list; ValueError, naming the point and the
    hyperparameter, for one that is missing or unknown, and for a value that cannot be drawn.

    >>> from purenet.sweep.space.distributions import choice, uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": uniform(0, 1), "kind": choice(["a", "b"])})
    >>> checked_points(space, [{"rate": 0.5, "kind": "b"}])
    ({'kind': 1, 'rate': 0.5},)
    """
    if points is None:
        return ()
    if not isinstance(points, (list, tuple)):
        raise TypeError(
            f"sweep: points is {describe_value(points)}, but a list of points of the space is "
            "expected."
        )
    return tuple(_checked(f"sweep: points[{i}]", space, point) for i, point in enumerate(points))


def given_points(space: Space, given: Sequence[Mapping[str, Any]]) -> Points:
    """The points with these values, as returned by `checked_points`.

    >>> from purenet.sweep.space.distributions import uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> given_points(take_apart({"rate": uniform(0, 1)}), [{"rate": 0.5}]).columns[0].tolist()
    [0.5]
    """
    # the place of a number in the cube does not matter: it is written into its column unchanged
    cube = np.full((len(given), len(space.drawn)), 0.5)
    for column, (key, leaf) in zip(cube.T, space.drawn.items(), strict=True):
        for row, point in enumerate(given):
            if key in point:
                column[row] = _place_in_cube(leaf, point[key])
    points = add_points(space, no_points(space), cube)
    columns = list(points.columns)
    for i, (key, leaf) in enumerate(zip(space.keys, space.leaves, strict=True)):
        if hasattr(leaf, "ppf") and not isinstance(leaf, Choice):
            columns[i] = columns[i].copy()
            for row, point in enumerate(given):
                if key in point:
                    columns[i][row] = point[key]
    return points._replace(columns=tuple(columns))


def _place_in_cube(leaf: Any, value: Any) -> float:
    """A place that draws this choice, or this capacity of a padded size; any for other numbers."""
    leaf = leaf.leaf if isinstance(leaf, Conditional) else leaf
    if isinstance(leaf, Choice):
        return (value + 0.5) / len(leaf.values)
    if isinstance(leaf, Padded):
        drawn = leaf.distribution
        if isinstance(drawn, Choice):
            return _place_in_cube(drawn, drawn.values.index(value))
        if isinstance(drawn, LogRandInt):
            low, high = np.log(drawn.low), np.log(drawn.high)
            return float((np.log(value + 0.5) - low) / (high - low))
        return (value + 0.5 - drawn.low) / (drawn.high - drawn.low)
    return 0.5


def changed(
    space: Space, columns: Mapping[str, np.ndarray], row: int, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The space with constants in place of some hyperparameters, and a point of it: that in a row
    of a table. Raises ValueError for no names, or names that the space does not have.

    >>> from purenet.sweep.space.distributions import uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": uniform(0, 1), "width": 8})
    >>> changed(space, {"rate": np.array([0.5]), "width": np.array([8])}, 0, {"width": 64})[1]
    {'rate': 0.5}
    """
    tree = space.tree
    # in the order in which the user wrote them
    names = sorted(tree, key=_place(space)) if isinstance(tree, dict) else []
    listed = ", ".join(map(str, names)) or "none, since the space is not a dict"
    other = [name for name in changes if name not in names]
    text = f"{other[0]!r} is not one" if other else "none was named"
    require(
        not other and len(changes) > 0,
        f"Result.transfer: give new values for hyperparameters of the space, but {text}; they are "
        f"{listed}.",
    )
    within = lambda name: name.partition(".")[0] in changes
    held = {name: column[row] for name, column in columns.items() if not within(name)}
    plain = lambda value: value.item() if isinstance(value, np.generic) else value
    point = {name: plain(value) for name, value in held.items() if value == value}  # not NaN
    return {name: changes.get(name, tree[name]) for name in names}, point


def _place(space: Space) -> Callable[[Any], int]:
    """The place of an entry of the space in the order in which the user wrote it."""
    first = [name.partition(".")[0] for name in space.top]
    return lambda name: first.index(str(name).partition(".")[0])


def described_points(space: Space, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The points with these values as JSON.

    >>> from purenet.sweep.space.distributions import choice
    >>> from purenet.sweep.space.space import take_apart
    >>> described_points(take_apart({"kind": choice(["a", "b"])}), [{"kind": 1}])
    [{'kind': 'b'}]
    """
    leaves = dict(zip(space.keys, space.leaves, strict=True))
    value = lambda leaf, held: leaf.values[held] if isinstance(leaf, Choice) else held
    return [{n: describe_leaf(value(leaves[n], held)) for n, held in p.items()} for p in given]


def quantile(leaf: Any, value: Any) -> float | None:
    """The place of a value in the unit interval; None if the distribution does not tell.

    >>> from purenet.sweep.space.distributions import normal
    >>> float(quantile(normal(1.0, 2.0), 1.0))
    0.5
    """
    if isinstance(leaf, Normal):
        from scipy.special import ndtr

        return float(ndtr((value - leaf.mean) / leaf.std))
    return float(leaf.cdf(value)) if hasattr(leaf, "cdf") else None


# pieces
def _checked(caller: str, space: Space, point: PyTree) -> dict[str, Any]:
    if isinstance(point, Mapping) and point.keys() <= {*space.names}:
        found = dict(point)
    else:
        pairs = zip(space.names, space.conditions, strict=True)
        template = jax.tree.unflatten(space.treedef, [name for name, c in pairs if c is None])
        found = dict(_by_name(caller, template, point, ""))
    values: dict[str, Any] = {}
    places: dict[int, int] = {}  # of each choice that is taken
    used = set()
    for i, (key, name, leaf) in enumerate(zip(space.keys, *space[1:3], strict=True)):
        above = space.conditions[i]
        if above is not None and places.get(above.choice) != above.place:
            continue
        used.add(name)
        if not hasattr(leaf, "ppf"):
            if name in found:
                _check_constant(caller, name, leaf, found[name])
            continue
        require(
            name in found,
            f"{caller}: {name!r} is missing; give a value for each of {', '.join(space.drawn)}.",
        )
        if isinstance(leaf, Branches):
            values[key], inner = _branch(f"{caller}: {name!r}", leaf, found[name])
            found |= {f"{name}.{inside}": value for inside, value in inner.items()}
        else:
            values[key] = _value(f"{caller}: {name!r}", leaf, found[name])
        if isinstance(leaf, Choice):
            places[i] = values[key]
    others = [name for name in found if name not in used]
    require(
        not others,
        f"{caller}: {others[:1]} is in a branch that the point does not take; leave it out.",
    )
    return values


def _branch(what: str, leaf: Branches, value: Any) -> tuple[int, dict[str, Any]]:
    """The index of the branch that a name or a dict stands for, and the values in the dict by
    name."""
    meant: list[tuple[int, dict[str, Any]]] = []
    for place, branch in enumerate(leaf.branches):
        if not isinstance(value, Mapping):
            if _equal(leaf.values[place], value):
                meant.append((place, {}))
            continue
        pairs = named_leaves(branch)
        template = jax.tree.unflatten(
            jax.tree.structure(branch, is_leaf=is_leaf), [name for name, _ in pairs]
        )
        try:
            inner = dict(_by_name(what, template, value, ""))
        except ValueError:
            continue
        fixed = {name: leaf for name, leaf in pairs if not hasattr(leaf, "ppf")}
        if all(_equal(fixed[name], inner[name]) for name in fixed if name in inner):
            meant.append((place, inner))
    listed = ", ".join(map(str, leaf.values))
    require(
        len(meant) == 1,
        f"{what} is {describe_value(value)}, which matches {len(meant) or 'none'} of its branches "
        f"{listed}; give the dict of one of them, with its constants and its own numbers.",
    )
    return meant[0]


def _by_name(caller: str, template: PyTree, part: PyTree, where: str) -> Iterator[tuple[str, Any]]:
    """The values in a part of a point, by the names in their places in the `template`."""
    if isinstance(template, str):
        yield template, part
        return
    inside = f" in {where!r}" if where else ""
    if isinstance(template, dict):
        if not isinstance(part, Mapping):
            raise ValueError(f"{caller} is {describe_value(part)}{inside}, but a dict is expected.")
        pairs = [(key, part[key]) for key in template if key in part]
        if unknown := [key for key in part if key not in template]:
            raise ValueError(
                f"{caller}: {unknown[0]!r} is not a hyperparameter{inside}; they are "
                f"{', '.join(map(str, template))}."
            )
    elif isinstance(template, (list, tuple)):
        if not isinstance(part, (list, tuple)) or len(part) != len(template):
            raise ValueError(
                f"{caller} is {describe_value(part)}{inside}, but {len(template)} values are "
                "expected there, as in the space."
            )
        pairs = list(enumerate(part))
    else:  # a node of the user's own
        treedef: Any = jax.tree.structure(template)
        yield from zip(jax.tree.leaves(template), treedef.flatten_up_to(part), strict=True)
        return
    for key, value in pairs:
        yield from _by_name(caller, template[key], value, f"{where}.{key}".lstrip("."))


def _check_constant(caller: str, name: str, constant: Any, value: Any) -> None:
    if not _equal(constant, value):
        raise ValueError(
            f"{caller}: {name!r} is {describe_value(value)}, but the space has the constant "
            f"{describe_value(constant)} there; leave it out."
        )


def _equal(one: Any, value: Any) -> bool:
    """Whether a value is this one of the space: a list stands for a tuple, the name of a function
    for the function, and a number for one that the device rounds to the same value."""
    value = _as_tuple(value)
    if isinstance(value, str) and callable(one):
        return getattr(one, "__name__", None) == value
    if _is_plain(one) and _is_plain(value):
        alike = not is_integer(one) and _rounded(one) == _rounded(value)
        return bool(one == value or alike)
    return one is value or (type(one) is type(value) and bool(one == value))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    return is_number(value) and not isinstance(value, (bool, np.bool_))


def _rounded(value: Any) -> Any:
    """A number as rounded on the device."""
    return np.asarray(value, jax.dtypes.canonicalize_dtype(float))


def _value(what: str, leaf: Any, value: Any) -> Any:
    """A value of a distribution as a plain number; for a choice, its index."""
    if isinstance(leaf, Padded) and isinstance(leaf.distribution, Choice):
        return leaf.distribution.values[_value(what, leaf.distribution, value)]
    if isinstance(leaf, Choice):
        places = (place for place, known in enumerate(leaf.values) if _equal(known, value))
        if (place := next(places, None)) is None:
            listed = ", ".join(map(describe_value, leaf.values))
            raise ValueError(f"{what} is {describe_value(value)}, but one of {listed} is expected.")
        return place
    with np.errstate(all="ignore"):
        ends = [leaf.ppf(end) for end in (0.0, 1.0)]
    whole = np.asarray(leaf.ppf(0.5)).dtype.kind == "i"
    if not _is_plain(value) or (whole and not is_integer(value)) or not np.isfinite(value):
        kind = "an integer" if whole else "a finite number"
        raise ValueError(f"{what} is {describe_value(value)}, but {kind} is expected.")
    low, high = ends if whole else map(_rounded, ends)
    if not low <= (value if whole else _rounded(value)) <= high:
        raise ValueError(f"{what} is {value}, but {leaf!r} goes from {ends[0]} to {ends[1]}.")
    return int(value) if whole else float(value)
