"""Spaces of hyperparameters: distributions, ways to sample them, groups of static choices.

A space is a pytree whose leaves are distributions and constants. Numbers reach the trial function
traced, so that no value of them costs a compilation: drawn numbers, and constants and choices that
are floats. Everything else is static: strings, functions, shapes, and whole numbers in a constant
or a `choice` (they are widths, depths, batch sizes). Trials are grouped by their static values and
each group is one program.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.checks import whole
from purenet.types import PyTree


@dataclasses.dataclass(frozen=True)
class Uniform:
    low: float
    high: float

    def ppf(self, u):
        return self.low + u * (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    low: float
    high: float

    def ppf(self, u):
        # the powers of ten are exact at both ends
        low, high = np.log10(self.low), np.log10(self.high)
        return np.clip(10 ** (low + u * (high - low)), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Normal:
    mean: float
    std: float

    def ppf(self, u):
        from scipy.special import ndtri

        return self.mean + self.std * ndtri(u)


@dataclasses.dataclass(frozen=True)
class RandInt:
    low: int
    high: int

    def ppf(self, u):
        return np.minimum(self.low + np.floor(u * (self.high - self.low)), self.high - 1).astype(
            int
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    values: tuple

    def ppf(self, u):
        """The place of the chosen value."""
        return np.minimum(np.floor(u * len(self.values)), len(self.values) - 1).astype(int)


def uniform(low: float, high: float) -> Uniform:
    """U(low, high). Raises ValueError unless low < high.

    >>> uniform(0.0, 2.0).ppf(0.25)
    0.5
    """
    return Uniform(*_ordered("uniform", low, high))


def loguniform(low: float, high: float) -> LogUniform:
    """10^U(log₁₀ low, log₁₀ high): every decade is as likely.

    Raises ValueError unless 0 < low < high.

    >>> float(loguniform(1e-6, 1e-2).ppf(0.5))
    0.0001
    """
    low, high = _ordered("loguniform", low, high)
    if low <= 0:
        raise ValueError(f"loguniform: low is {low}, but the logarithm needs a number above 0.")
    return LogUniform(low, high)


def normal(mean: float, std: float) -> Normal:
    """N(mean, std²). Raises ValueError unless std > 0.

    >>> float(normal(1.0, 2.0).ppf(0.5))
    1.0
    """
    mean, std = _number("normal: mean", mean), _number("normal: std", std)
    if std <= 0:
        raise ValueError(f"normal: std is {std}, but a number above 0 is expected.")
    return Normal(mean, std)


def randint(low: int, high: int) -> RandInt:
    """A whole number, low <= n < high, as NumPy counts; it arrives traced.

    Raises TypeError unless both are whole numbers, ValueError unless low < high.

    >>> randint(1, 4).ppf(np.array([0.0, 0.5, 0.99])).tolist()
    [1, 2, 3]
    """
    least = -(2**31)
    low, high = whole("randint: low", low, least), whole("randint: high", high, least)
    if low >= high:
        raise ValueError(f"randint: low {low} must be below high {high}, which is not included.")
    return RandInt(low, high)


def choice(values) -> Choice:
    """One of the values, each as likely.

    Floats arrive traced; anything else (strings, functions, shapes, whole numbers) is static and
    makes one group, one compiled program, a value. Raises ValueError when there is no value,
    TypeError for a value that cannot be static, such as a list.

    >>> choice(["adam", "sgd"])
    Choice(values=('adam', 'sgd'))
    """
    values = tuple(values)
    if not values:
        raise ValueError("choice: there is nothing to choose from; give at least one value.")
    for value in values:
        _hashable("choice", value)
    return Choice(values)


# Samplers: (distributions, trials, seed) -> points of the unit cube (n, len(distributions)), to be
# sent through each distribution's ppf. Row i depends on the seed and on i, never on how many rows
# are drawn.


def random(distributions, trials: int, seed: int) -> np.ndarray:
    """Independent uniform points.

    >>> random([uniform(0, 1)], 2, seed=0).shape
    (2, 1)
    """
    return np.random.default_rng(seed).random((trials, len(distributions)))


def sobol(distributions, trials: int, seed: int) -> np.ndarray:
    """A scrambled Sobol sequence: points that fill the space more evenly than chance.

    Source: Sobol' (1967), scrambled as in Owen (1998); scipy.stats.qmc. At most 2³⁰ trials.

    >>> sobol([uniform(0, 1), uniform(0, 1)], 3, seed=0).shape
    (3, 2)
    """
    if not distributions:
        return np.empty((trials, 0))
    from scipy.stats import qmc

    # the sequence is balanced for powers of two: the beginning of the next one is what is used
    engine = qmc.Sobol(len(distributions), rng=np.random.default_rng(seed))
    return engine.random_base2(math.ceil(math.log2(trials)) if trials > 1 else 0)[:trials]


def latin_hypercube(distributions, trials: int, seed: int) -> np.ndarray:
    """A Latin hypercube: each hyperparameter takes one value in each of `trials` equal parts.

    Which points there are depends on how many, unlike with `random` and `sobol`.
    Source: McKay, Beckman & Conover (1979); scipy.stats.qmc.

    >>> np.sort(latin_hypercube([uniform(0, 1)], 4, seed=0)[:, 0] * 4).astype(int).tolist()
    [0, 1, 2, 3]
    """
    if not distributions:
        return np.empty((trials, 0))
    from scipy.stats import qmc

    return qmc.LatinHypercube(len(distributions), rng=np.random.default_rng(seed)).random(trials)


def grid(points: int = 5) -> Callable:
    """A sampler of every combination, the last hyperparameter that was written running fastest.

    `points` values of each continuous hyperparameter, evenly from one end of its distribution to
    the other (at the middles of equally likely parts, where an end is infinite or there is only
    one), and every value of a `choice` or a `randint`. `trials` may be left out; a number that is
    not the number of combinations raises ValueError, since nothing is dropped silently.

    >>> grid(3)([uniform(0, 1), choice(["a", "b"])], None, seed=0).shape
    (6, 2)
    """
    points = whole("grid: points", points, least=1)

    def quantiles(distribution):
        if isinstance(distribution, Choice):
            n = len(distribution.values)
        elif isinstance(distribution, RandInt):
            n = distribution.high - distribution.low
        else:
            ends = np.linspace(0.0, 1.0, points)
            if points > 1 and np.isfinite(distribution.ppf(ends)).all():
                return ends
            n = points
        return (np.arange(n) + 0.5) / n

    def sample(distributions, trials, seed):
        del seed
        axes = [quantiles(d) for d in distributions]
        total = math.prod(map(len, axes))
        if trials is not None and trials != total:
            shape = " x ".join(str(len(axis)) for axis in axes) or "1"
            raise ValueError(
                f"grid: {shape} = {total} combinations, but trials is {trials}; leave `trials` "
                "out, or change `points` or the space."
            )
        mesh = np.meshgrid(*axes, indexing="ij")
        return np.stack([a.ravel() for a in mesh], axis=-1) if axes else np.empty((1, 0))

    return sample


class _Traced:
    """Stands in a group's static values where a traced number goes."""

    def __repr__(self):
        return "TRACED"

    def __reduce__(self):
        return "TRACED"  # the one and only, in another process too


TRACED = _Traced()


class Space(NamedTuple):
    """A space taken apart: its leaves in the order of the pytree."""

    treedef: Any
    names: tuple[str, ...]
    leaves: tuple
    shown: tuple[str, ...]  # the names in the order they were written

    @property
    def distributions(self) -> list:
        """What is drawn, in the order in which it was written."""
        named = dict(zip(self.names, self.leaves, strict=True))
        return [named[name] for name in self.shown if hasattr(named[name], "ppf")]

    @property
    def traced(self) -> list[bool]:
        return [is_traced(leaf) for leaf in self.leaves]


class Points(NamedTuple):
    """Points of a space, and the groups of them that share their static values."""

    columns: tuple[np.ndarray, ...]  # (n,) values of each leaf
    group: np.ndarray  # (n,) the group of each point
    groups: tuple[tuple, ...]  # of each group: its static values, TRACED in place of numbers
    places: tuple[tuple, ...]  # of each group: which values of the static choices those are


def take_apart(space: PyTree) -> Space:
    """The leaves of a space. Raises TypeError for a constant that cannot be static."""
    pairs = named_leaves(space)
    for name, leaf in pairs:
        _hashable(f"sweep: the constant {name!r}", leaf)
    names = tuple(name for name, _ in pairs)
    shown = sorted(names, key=_written_order(space)) if isinstance(space, dict) else names
    treedef = jax.tree.structure(space, is_leaf=_is_leaf)
    return Space(treedef, names, tuple(leaf for _, leaf in pairs), tuple(shown))


def no_points(space: Space) -> Points:
    empty = np.empty((0, len(space.distributions)))
    return Points(tuple(_columns(space, empty)[0]), np.empty(0, int), (), ())


def add_points(space: Space, points: Points, cube: np.ndarray) -> Points:
    """The points and some more, from rows of the unit cube.

    Raises ValueError for values outside a distribution's reach.
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


def numbers(space: Space, points: Points, rows) -> tuple[np.ndarray, ...]:
    """The traced hyperparameters of some points, a row a point."""
    pairs = zip(points.columns, space.traced, strict=True)
    return tuple(column[rows] for column, traced in pairs if traced)


def named_leaves(space: PyTree) -> list[tuple[str, Any]]:
    """Each distribution and constant with its name, the path to it: "rate", "layers.0.decay"."""
    paths, _ = jax.tree_util.tree_flatten_with_path(space, is_leaf=_is_leaf)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".") or "value"
    return [(name(path), leaf) for path, leaf in paths]


def is_traced(leaf) -> bool:
    """Whether the values of a leaf reach the trial function as traced numbers."""
    if isinstance(leaf, Choice):
        return all(map(_is_float, leaf.values))
    return hasattr(leaf, "ppf") or _is_float(leaf)


def _is_float(value) -> bool:
    return np.ndim(value) == 0 and np.issubdtype(getattr(value, "dtype", type(value)), np.floating)


def _columns(space: Space, cube) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The values of every leaf for rows of the cube, and of the static choices the places."""
    columns, choices, named = [], [], dict(zip(space.names, space.leaves, strict=True))
    written = (name for name in space.shown if hasattr(named[name], "ppf"))
    drawn = dict(zip(written, np.asarray(cube).T, strict=True))
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
            column = column.astype(jax.dtypes.canonicalize_dtype(column.dtype))
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


def _hashable(who, value):
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{who}: {value!r} ({type(value).__name__}) cannot be a static value; write a list as "
            "a tuple, and close over arrays in the trial function."
        ) from None


def _is_leaf(leaf) -> bool:
    return leaf is None or hasattr(leaf, "ppf")


def _ordered(name, low, high):
    low, high = _number(f"{name}: low", low), _number(f"{name}: high", high)
    if low >= high:
        raise ValueError(f"{name}: low {low} must be below high {high}.")
    return low, high


def _number(name, value) -> float:
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, but a number is expected.") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but a finite number is expected.")
    return value
