"""Points that the user gives: checked against the space, and taken into the table of points."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import describe_value, is_integer, is_number
from purenet.sweep.space.distributions import Choice, Normal
from purenet.sweep.space.schema import describe_leaf
from purenet.sweep.space.space import Points, Space, add_points, no_points


def checked_points(space: Space, points: Sequence[PyTree] | None) -> tuple[dict[str, Any], ...]:
    """The value of each hyperparameter that is drawn by name, for every point that was given; of a
    choice, the place of the value.

    A point is a pytree like the space, or a dict of the names that results have. Constants may be
    left out. Raises TypeError unless `points` is a list; ValueError, which names the point and the
    hyperparameter, for one that is missing or unknown and for a value that cannot be drawn.

    >>> from purenet.sweep.space.distributions import choice, uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": uniform(0, 1), "kind": choice(["a", "b"])})
    >>> checked_points(space, [{"rate": 0.5, "kind": "b"}])
    ({'rate': 0.5, 'kind': 1},)
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
    """The points with these values, which `checked_points` gave.

    >>> from purenet.sweep.space.distributions import uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> given_points(take_apart({"rate": uniform(0, 1)}), [{"rate": 0.5}]).columns[0].tolist()
    [0.5]
    """
    # where a number lies in the cube does not matter: it is written into its column as it is
    cube = np.full((len(given), len(space.drawn)), 0.5)
    for column, (name, leaf) in zip(cube.T, space.drawn.items(), strict=True):
        if isinstance(leaf, Choice):
            column[:] = [(point[name] + 0.5) / len(leaf.values) for point in given]
    points = add_points(space, no_points(space), cube)
    columns = list(points.columns)
    for i, name in enumerate(space.names):
        if name in space.drawn and not isinstance(space.leaves[i], Choice):
            columns[i] = np.array([point[name] for point in given], columns[i].dtype)
    return points._replace(columns=tuple(columns))


def described_points(space: Space, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The points with these values as JSON.

    >>> from purenet.sweep.space.distributions import choice
    >>> from purenet.sweep.space.space import take_apart
    >>> described_points(take_apart({"kind": choice(["a", "b"])}), [{"kind": 1}])
    [{'kind': 'b'}]
    """
    leaves = space.drawn
    value = lambda leaf, held: leaf.values[held] if isinstance(leaf, Choice) else held
    return [{n: describe_leaf(value(leaves[n], held)) for n, held in p.items()} for p in given]


def quantile(leaf: Any, value: Any) -> float | None:
    """Where in the unit interval a value lies, None where the distribution does not say.

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
    names = dict(zip(space.names, space.leaves, strict=True))
    if isinstance(point, Mapping) and point.keys() <= names.keys():
        found = dict(point)
    else:
        template = jax.tree.unflatten(space.treedef, space.names)
        found = dict(_by_name(caller, template, point, ""))
    if missing := [name for name in space.drawn if name not in found]:
        raise ValueError(
            f"{caller}: {missing[0]!r} is missing; give a value of each of "
            f"{', '.join(space.drawn)}."
        )
    for name in found.keys() - space.drawn.keys():
        _check_constant(caller, name, names[name], found[name])
    return {n: _value(f"{caller}: {n!r}", leaf, found[n]) for n, leaf in space.drawn.items()}


def _by_name(caller: str, template: PyTree, part: PyTree, where: str) -> Iterator[tuple[str, Any]]:
    """The values in a part of a point, by the names that the `template` has in their places."""
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
            f"{caller}: {name!r} is {describe_value(value)}, but {describe_value(constant)} in the "
            "space, where it is not drawn; leave it out."
        )


def _equal(one: Any, value: Any) -> bool:
    """Whether a value is one that the space has: a list stands for a tuple, the name of a function
    for the function, and a number for one that the device rounds alike."""
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
    """A number as the device holds it."""
    return np.asarray(value, jax.dtypes.canonicalize_dtype(float))


def _value(what: str, leaf: Any, value: Any) -> Any:
    """A value of a distribution as a plain number; of a choice, its place."""
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
