"""Spaces of hyperparameters: distributions, ways to sample them, groups of static choices.

A space is a pytree whose leaves are distributions and constants. Numbers reach the trial function
traced, so that no value of them costs a compilation: drawn numbers, and constants and choices that
are floats. Everything else is static: strings, functions, shapes, and whole numbers in a constant
or a `choice` (they are widths, depths, batch sizes). Trials are grouped by their static values and
each group is one program.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.checks import takes, told, whole
from purenet.leaves import named_leaves as leaves_by_name
from purenet.types import Number, PyTree

_MAKERS: list[Callable] = []


def maker(function: Callable) -> Callable:
    """Mark a function that makes a sampler or a search, and is none itself.

    >>> maker(lambda: random).__name__
    '<lambda>'
    """
    _MAKERS.append(function)
    return function


@dataclasses.dataclass(frozen=True)
class Uniform:
    """What `uniform` makes.

    >>> Uniform(0.0, 2.0).ppf(0.25)
    0.5
    """

    low: float
    high: float

    def ppf(self, u: Number) -> Any:
        """The value below which a fraction u of all values lies."""
        return self.low + u * (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """What `loguniform` makes.

    >>> float(LogUniform(1e-4, 1.0).ppf(0.5))
    0.01
    """

    low: float
    high: float

    def ppf(self, u: Number) -> Any:
        """The value below which a fraction u of all values lies."""
        # the powers of ten are exact at both ends
        low, high = np.log10(self.low), np.log10(self.high)
        return np.clip(10 ** (low + u * (high - low)), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Normal:
    """What `normal` makes.

    >>> float(Normal(1.0, 2.0).ppf(0.5))
    1.0
    """

    mean: float
    std: float

    def ppf(self, u: Number) -> Any:
        """The value below which a fraction u of all values lies."""
        from scipy.special import ndtri

        return self.mean + self.std * ndtri(u)


@dataclasses.dataclass(frozen=True)
class RandInt:
    """What `randint` makes.

    >>> int(RandInt(0, 10).ppf(0.55))
    5
    """

    low: int
    high: int

    def ppf(self, u: Number) -> Any:
        """The value below which a fraction u of all values lies."""
        return np.minimum(self.low + np.floor(u * (self.high - self.low)), self.high - 1).astype(
            int
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `choice` makes.

    >>> int(Choice(("a", "b")).ppf(0.7))
    1
    """

    values: tuple

    def ppf(self, u: Number) -> Any:
        """The place of the chosen value."""
        return np.minimum(np.floor(u * len(self.values)), len(self.values) - 1).astype(int)


def uniform(low: float, high: float) -> Uniform:
    """U(low, high).

    Raises TypeError for ends that are no numbers, ValueError unless low < high and both finite.

    >>> uniform(0.0, 2.0).ppf(0.25)
    0.5
    """
    return Uniform(*_ordered("uniform", low, high))


def loguniform(low: float, high: float) -> LogUniform:
    """10^U(log₁₀ low, log₁₀ high): every decade is as likely.

    Raises TypeError for ends that are no numbers, ValueError unless 0 < low < high and both finite.

    >>> float(loguniform(1e-6, 1e-2).ppf(0.5))
    0.0001
    """
    low, high = _ordered("loguniform", low, high)
    if low <= 0:
        raise ValueError(f"loguniform: low is {low}, but the logarithm needs a number above 0.")
    return LogUniform(low, high)


def normal(mean: float, std: float) -> Normal:
    """N(mean, std²).

    Raises TypeError for what are no numbers, ValueError unless both are finite and std > 0.

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


def choice(values: Iterable, *more: Any) -> Choice:
    """One of the values, each as likely.

    Floats arrive traced; anything else (strings, functions, shapes, whole numbers) is static and
    makes one group, one compiled program, a value. Raises ValueError when there is no value, or one
    among floats that is not finite; TypeError for values without an order (a text, a dict, a set),
    for more arguments than one, and for a value that cannot be static, such as a list, or that is
    or holds a distribution.

    >>> choice(["adam", "sgd"])
    Choice(values=('adam', 'sgd'))
    """
    if more:
        raise TypeError(
            f"choice: {1 + len(more)} separate values came, from {told(values)} on, but one list "
            "of them is expected: choice([first, second])."
        )
    if isinstance(values, (str, bytes, dict, set, frozenset)) or not hasattr(values, "__iter__"):
        raise TypeError(
            f"choice: values is {told(values)}, but a list or a tuple of values is expected."
        )
    values = tuple(values)
    if not values:
        raise ValueError("choice: there is nothing to choose from; give at least one value.")
    for value in values:
        if hasattr(value, "ppf"):
            raise TypeError(
                f"choice: {value!r} is a distribution, but values are expected; what is chosen "
                "cannot be drawn again."
            )
        if _holds_distribution(value):
            raise TypeError(
                f"choice: the value {value!r} holds a distribution, which would arrive undrawn; "
                "give the distribution a name of its own in the space, beside the choice."
            )
        _hashable("choice", value)
    if all(map(_is_float, values)) and not np.isfinite(np.array(values, float)).all():
        raise ValueError(f"choice: the values are {values}, but finite numbers are expected.")
    return Choice(values)


# Samplers: (distributions, trials, seed) -> points of the unit cube (n, len(distributions)), to be
# sent through each distribution's ppf. Row i depends on the seed and on i, never on how many rows
# are drawn.


def random(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """Independent uniform points.

    Raises TypeError or ValueError for distributions, trials or a seed that are none.

    >>> random([uniform(0, 1)], 2, seed=0).shape
    (2, 1)
    """
    trials, seed = _checked_design("random", distributions, trials, seed)
    return np.random.default_rng(seed).random((trials, len(distributions)))


def sobol(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """A scrambled Sobol sequence: points that fill the space more evenly than chance.

    Raises TypeError or ValueError for distributions, trials or a seed that are none, ValueError for
    more than 2³⁰ trials.
    Source: Sobol' (1967), scrambled as in Owen (1998); scipy.stats.qmc.

    >>> sobol([uniform(0, 1), uniform(0, 1)], 3, seed=0).shape
    (3, 2)
    """
    trials, seed = _checked_design("sobol", distributions, trials, seed)
    if trials > 2**30:
        raise ValueError(f"sobol: trials is {trials}, but at most 2³⁰ points are distinct.")
    if not len(distributions):
        return np.empty((trials, 0))
    from scipy.stats import qmc

    # the sequence is balanced for powers of two: the beginning of the next one is what is used
    engine = qmc.Sobol(len(distributions), rng=np.random.default_rng(seed))
    return engine.random_base2(math.ceil(math.log2(trials)) if trials > 1 else 0)[:trials]


def latin_hypercube(distributions: Sequence, trials: int, seed: int) -> np.ndarray:
    """A Latin hypercube: each hyperparameter takes one value in each of `trials` equal parts.

    Which points there are depends on how many, unlike with `random` and `sobol`.
    Raises TypeError or ValueError for distributions, trials or a seed that are none.
    Source: McKay, Beckman & Conover (1979); scipy.stats.qmc.

    >>> np.sort(latin_hypercube([uniform(0, 1)], 4, seed=0)[:, 0] * 4).astype(int).tolist()
    [0, 1, 2, 3]
    """
    trials, seed = _checked_design("latin_hypercube", distributions, trials, seed)
    if not len(distributions):
        return np.empty((trials, 0))
    from scipy.stats import qmc

    return qmc.LatinHypercube(len(distributions), rng=np.random.default_rng(seed)).random(trials)


@maker
def grid(points: int = 5) -> Callable:
    """A sampler of every combination, the last hyperparameter that was written running fastest.

    `points` values of each continuous hyperparameter, evenly from one end of its distribution to
    the other (at the middles of equally likely parts, where an end is infinite or there is only
    one), and every value of a `choice` or a `randint`. `trials` may be left out; a number that is
    not the number of combinations raises ValueError, since nothing is dropped silently.
    Raises TypeError or ValueError for `points` below 1.

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
        _checked_design("grid", distributions, trials or 0, seed)
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


def checked_sampler(who: str, sampler: Any) -> Callable:
    """A function (distributions, trials, seed) -> points. Raises TypeError for anything else.

    >>> checked_sampler("halving", grid)
    Traceback (most recent call last):
    TypeError: halving: the sampler is the function grid; call it: sweep.grid().
    """
    if any(sampler is function for function in _MAKERS):
        name = sampler.__name__
        raise TypeError(f"{who}: the sampler is the function {name}; call it: sweep.{name}().")
    if not (callable(sampler) and takes(sampler, [], 1, 0)):
        raise TypeError(
            f"{who}: the sampler is {told(sampler)}, but a function (distributions, trials, seed) "
            "-> points is expected, such as sweep.random."
        )
    return sampler


def _checked_design(who, distributions, trials, seed) -> tuple[int, int]:
    if not (isinstance(distributions, (list, tuple)) and all(map(is_leaf, distributions))):
        raise TypeError(
            f"{who}: distributions is {told(distributions)}, but a list of distributions is "
            "expected."
        )
    return whole(f"{who}: trials", trials, least=0), whole(f"{who}: seed", seed, least=0)


class _Traced:
    """Stands in a group's static values where a traced number goes."""

    def __repr__(self):
        return "TRACED"

    def __reduce__(self):
        return "TRACED"  # the one and only, in another process too


TRACED = _Traced()


class Space(NamedTuple):
    """A space taken apart: its leaves in the order of the pytree.

    >>> take_apart({"rate": uniform(0, 1), "depth": 3}).traced
    [False, True]
    """

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

    >>> take_apart({"rate": uniform(0, 1), "layers": {"width": 8}}).names
    ('layers.width', 'rate')
    """
    pairs = named_leaves(space)
    for name, leaf in pairs:
        _hashable(f"sweep: the constant {name!r}", leaf)
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


def is_traced(leaf: Any) -> bool:
    """Whether the values of a leaf reach the trial function as traced numbers.

    >>> is_traced(0.5), is_traced(5)
    (True, False)
    """
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


def _hashable(who, value):
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{who}: {value!r} ({type(value).__name__}) cannot be a static value; write a list as "
            "a tuple, and close over arrays in the trial function."
        ) from None


def is_leaf(leaf: Any) -> bool:
    """Whether a pytree of hyperparameters ends here: at None, and at a distribution.

    >>> is_leaf(uniform(0, 1)), is_leaf({"rate": 0.1})
    (True, False)
    """
    return leaf is None or hasattr(leaf, "ppf")


def _holds_distribution(value) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list, set, frozenset)):
        return hasattr(value, "ppf")
    return any(map(_holds_distribution, value))


def _ordered(name, low, high):
    low, high = _number(f"{name}: low", low), _number(f"{name}: high", high)
    if low >= high:
        raise ValueError(f"{name}: low {low} must be below high {high}.")
    return low, high


def _number(name, value) -> float:
    try:
        if isinstance(value, (str, bytes, bool)) or np.ndim(value):
            raise TypeError
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {told(value)}, but a number is expected.") from None
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but a finite number is expected.")
    return value
