"""Distributions of hyperparameters."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from purenet.core.tree import named_leaves
from purenet.core.types import Number
from purenet.core.validate import describe_value, integer, is_number


@dataclasses.dataclass(frozen=True)
class Uniform:
    """The distribution of `uniform`.

    >>> Uniform(0.0, 2.0).ppf(0.25)
    0.5
    """

    low: float
    high: float

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        return self.low + u * (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """The distribution of `loguniform`.

    >>> float(LogUniform(1e-4, 1.0).ppf(0.5))
    0.01
    """

    low: float
    high: float

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        # the powers of ten are exact at both ends
        low, high = np.log10(self.low), np.log10(self.high)
        return np.clip(10 ** (low + u * (high - low)), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Normal:
    """The distribution of `normal`.

    >>> float(Normal(1.0, 2.0).ppf(0.5))
    1.0
    """

    mean: float
    std: float

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        from scipy.special import ndtri

        return self.mean + self.std * ndtri(u)


@dataclasses.dataclass(frozen=True)
class RandInt:
    """The distribution of `randint`.

    >>> int(RandInt(0, 10).ppf(0.55))
    5
    """

    low: int
    high: int

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        return np.minimum(self.low + np.floor(u * (self.high - self.low)), self.high - 1).astype(
            int
        )


@dataclasses.dataclass(frozen=True)
class LogRandInt:
    """The distribution of `lograndint`.

    >>> int(LogRandInt(1, 1001).ppf(0.5))
    31
    """

    low: int
    high: int

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        low, high = math.log(self.low), math.log(self.high)
        value = np.floor(np.exp(low + np.asarray(u) * (high - low)))
        return np.clip(value, self.low, self.high - 1).astype(int)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The distribution of `choice`.

    >>> int(Choice(("a", "b")).ppf(0.7))
    1
    """

    values: tuple

    def ppf(self, u: Number) -> Any:
        """The index of the chosen value."""
        return np.minimum(np.floor(u * len(self.values)), len(self.values) - 1).astype(int)


@dataclasses.dataclass(frozen=True)
class Branches(Choice):
    """The distribution of a `choice` of dicts; `values` are their names in tables.

    >>> Branches(("a", "b"), ({"name": "a"}, {"name": "b", "rate": uniform(0, 1)})).named
    True
    """

    branches: tuple[dict, ...] = dataclasses.field(hash=False)

    @property
    def named(self) -> bool:
        """Whether the names of the branches are what they hold under "name"."""
        return self.values == tuple(branch.get("name") for branch in self.branches)


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A distribution in a branch, as samplers see it: its value counts only where the branch is
    taken.

    >>> Conditional(Uniform(0.0, 2.0), choice=0, place=1).ppf(0.25)
    0.5
    """

    leaf: Any
    choice: int  # the number of the choice of branches, among the distributions that are drawn
    place: int  # the index of the branch in that choice

    def ppf(self, u: Number) -> Any:
        """The value at quantile u."""
        return self.leaf.ppf(u)


def uniform(low: float, high: float) -> Uniform:
    """U(low, high).

    Raises TypeError unless both are numbers, ValueError unless low < high and both are finite.

    >>> uniform(0.0, 2.0).ppf(0.25)
    0.5
    """
    return Uniform(*_ordered("uniform", low, high))


def loguniform(low: float, high: float) -> LogUniform:
    """10^U(log₁₀ low, log₁₀ high): all decades are equally likely.

    Raises TypeError unless both are numbers, ValueError unless 0 < low < high and both are finite.

    >>> float(loguniform(1e-6, 1e-2).ppf(0.5))
    0.0001
    """
    low, high = _ordered("loguniform", low, high)
    if low <= 0:
        raise ValueError(f"loguniform: low is {low}, but a number above 0 is expected.")
    return LogUniform(low, high)


def normal(mean: float, std: float) -> Normal:
    """N(mean, std²).

    Raises TypeError unless both are numbers, ValueError unless both are finite and std > 0.

    >>> float(normal(1.0, 2.0).ppf(0.5))
    1.0
    """
    mean, std = _number("normal: mean", mean), _number("normal: std", std)
    if std <= 0:
        raise ValueError(f"normal: std is {std}, but a number above 0 is expected.")
    return Normal(mean, std)


def randint(low: int, high: int) -> RandInt:
    """An integer, low <= n < high, as in NumPy; the trial function gets it traced.

    Raises TypeError unless both are integers, ValueError unless low < high.

    >>> randint(1, 4).ppf(np.array([0.0, 0.5, 0.99])).tolist()
    [1, 2, 3]
    """
    least = -(2**31)
    low, high = integer("randint: low", low, least), integer("randint: high", high, least)
    if low >= high:
        raise ValueError(f"randint: low {low} must be below high {high}, which is not included.")
    return RandInt(low, high)


def lograndint(low: int, high: int) -> LogRandInt:
    """An integer, low <= n < high, uniform in its logarithm: ⌊exp U(log low, log high)⌋.

    For sizes: 8 to 16 is as likely as 512 to 1,024. The trial function gets it traced.
    Raises TypeError unless both are integers, ValueError unless 0 < low < high.

    >>> lograndint(1, 1001).ppf(np.array([0.0, 0.5, 1.0])).tolist()
    [1, 31, 1000]
    """
    low, high = integer("lograndint: low", low, 1), integer("lograndint: high", high, 1)
    if low >= high:
        raise ValueError(f"lograndint: low {low} must be below high {high}, which is not included.")
    return LogRandInt(low, high)


def choice(values: Iterable, *more: Any) -> Choice:
    """One of the values, all equally likely.

    The trial function gets floats traced. Anything else (strings, functions, shapes, integers) is
    static: each value makes a group, with its own compiled program.

    Dicts are branches. They may hold distributions, constants and further choices of dicts; the
    trial function gets the dict that was taken, with its distributions drawn. The contents of a
    branch are drawn, shown and exported only where it is taken. In tables a branch is named by what
    it holds under "name", if those are different strings, or else by its constants, or its index.

    Raises ValueError for no values, and for floats that are not finite; TypeError for values
    without an order (a string, a dict, a set), for more than one argument, and for a value that
    cannot be static (such as a list), that is a distribution, or that holds one outside a dict.

    >>> choice(["adam", "sgd"])
    Choice(values=('adam', 'sgd'))
    >>> choice([{"name": "adam", "b1": uniform(0.8, 1)}, {"name": "sgd"}]).values
    ('adam', 'sgd')
    """
    if more:
        raise TypeError(
            f"choice: got {1 + len(more)} arguments, the first of them {describe_value(values)}, "
            "but one list of values is expected: choice([first, second])."
        )
    if isinstance(values, (str, bytes, dict, set, frozenset)) or not hasattr(values, "__iter__"):
        raise TypeError(
            f"choice: values is {describe_value(values)}, but a list or a tuple of values is "
            "expected."
        )
    values = tuple(values)
    if not values:
        raise ValueError("choice: values is empty; give at least one value.")
    if all(isinstance(value, dict) for value in values):
        return _branches(values)
    for value in values:
        if hasattr(value, "ppf"):
            raise TypeError(
                f"choice: {value!r} is a distribution, but values are expected; to draw from it "
                'only where it is chosen, use a dict: choice([{"rate": uniform(0, 1)}, ...]).'
            )
        if _holds_distribution(value):
            raise TypeError(
                f"choice: the value {value!r} holds a distribution, which would not be drawn; "
                "give the distribution its own name in the space, beside the choice, or write "
                "every value as a dict, whose distributions are drawn where it is taken."
            )
        check_hashable("choice", value)
    if all(map(_is_float, values)) and not np.isfinite(np.array(values, float)).all():
        raise ValueError(f"choice: the values are {values}, but finite numbers are expected.")
    return Choice(values)


def _branches(branches: tuple[dict, ...]) -> Branches:
    constants = []  # of each branch, as text
    for branch in branches:
        leaves: dict[str, Any] = {}  # in the order in which they were written
        named_leaves("choice", branch, is_leaf)
        for key, part in branch.items():
            leaves |= named_leaves("choice", {key: part}, is_leaf)
        for name, leaf in leaves.items():
            check_hashable(f"choice: {name!r}", leaf)
        fixed = {name: leaf for name, leaf in leaves.items() if not hasattr(leaf, "ppf")}
        pairs = [f"{name} {getattr(leaf, '__name__', leaf)}" for name, leaf in fixed.items()]
        constants.append(", ".join(pairs))
    for labels in ([branch.get("name") for branch in branches], constants):
        texts = [label for label in labels if label and isinstance(label, str)]
        if len(set(texts)) == len(branches):
            return Branches(tuple(labels), branches)
    return Branches(tuple(range(len(branches))), branches)


def is_traced(leaf: Any) -> bool:
    """Whether the values of a leaf reach the trial function as traced numbers.

    >>> is_traced(0.5), is_traced(5)
    (True, False)
    """
    if isinstance(leaf, Choice):
        return all(map(_is_float, leaf.values))
    return hasattr(leaf, "ppf") or _is_float(leaf)


def is_numeric_leaf(leaf: Any) -> bool:
    """Whether the values of a leaf are numbers, traced or not.

    >>> is_numeric_leaf(choice([1, 2])), is_numeric_leaf(choice(["a", "b"])), is_numeric_leaf(0.5)
    (True, False, True)
    """
    if isinstance(leaf, Choice):
        return all(map(is_number, leaf.values))
    return is_number(leaf) or (hasattr(leaf, "ppf") and not isinstance(leaf, Branches))


def _is_float(value) -> bool:
    return np.ndim(value) == 0 and np.issubdtype(getattr(value, "dtype", type(value)), np.floating)


def check_hashable(caller: str, value: Any) -> None:
    """Raises TypeError if `value` cannot be static, such as a list or an array.

    >>> check_hashable("choice", (8, 8))
    """
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{caller}: {value!r} ({type(value).__name__}) cannot be a static value; write a list "
            "as a tuple, and close over arrays in the trial function."
        ) from None


def is_leaf(leaf: Any) -> bool:
    """Whether this is a leaf of a pytree of hyperparameters: None, or a distribution.

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
        raise TypeError(f"{name} is {describe_value(value)}, but a number is expected.") from None
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but a finite number is expected.")
    return value
