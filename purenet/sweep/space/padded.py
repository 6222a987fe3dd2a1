"""Sizes that are drawn as any integer and padded to one of a few, with one program for each."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from purenet.core.types import Number
from purenet.core.validate import describe_value, integer
from purenet.sweep.space.distributions import Choice, LogRandInt, RandInt


@dataclasses.dataclass(frozen=True)
class Padded:
    """The distribution of `padded`.

    >>> sizes = Padded(RandInt(8, 1025), (64, 256, 1024))
    >>> sizes.rung(np.array([8, 64, 65, 1024])).tolist()
    [0, 0, 1, 2]
    """

    distribution: RandInt | LogRandInt | Choice
    to: tuple[int, ...]

    def ppf(self, u: Number) -> Any:
        """The value below which a fraction u of all values lies."""
        drawn = self.distribution.ppf(u)
        if isinstance(self.distribution, Choice):
            return np.asarray(self.distribution.values)[drawn]
        return drawn

    def rung(self, sizes: Any) -> np.ndarray:
        """The index in `to` of the capacity for each of the sizes."""
        return np.searchsorted(self.to, sizes)


def padded(distribution: RandInt | LogRandInt | Choice, to: Iterable) -> Padded:
    """A size n, in arrays that are padded to the next larger size in `to`; the results are exact.

    The trial function gets a `PaddedSize(size, capacity)`: `size` is n, traced, and `capacity` the
    first of `to` that is at least n. So there is one program for each of `to` instead of one for
    each value, and small sizes do not pay for large ones. Results show and hold n.

    `distribution` is a `randint`, a `lograndint` or a `choice` of integers; `to` are increasing
    positive integers, the last of them at least the largest n.
    Raises TypeError for any other distribution and for anything but integers in `to`, ValueError
    for integers that do not increase or are too small, and for a distribution that goes below 1.

    >>> from purenet.sweep.space.distributions import randint
    >>> padded(randint(8, 1025), to=(64, 256, 1024)).ppf(0.5).item()
    516
    """
    values = _reach(distribution)
    if isinstance(to, (str, bytes, dict)) or not hasattr(to, "__iter__"):
        raise TypeError(
            f"padded: to is {describe_value(to)}, but a tuple of integers is expected, such as "
            "(64, 256, 1024)."
        )
    sizes = tuple(integer("padded: one of `to`", size, least=1) for size in to)
    if not sizes or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"padded: to is {sizes}, but increasing integers are expected.")
    if min(values) < 1 or max(values) > sizes[-1]:
        raise ValueError(
            f"padded: {distribution!r} goes from {min(values)} to {max(values)}, but sizes from 1 "
            f"to {sizes[-1]}, the last of `to`, are expected; change one of them."
        )
    return Padded(distribution, sizes)


def _reach(distribution: Any) -> tuple[int, ...]:
    """The smallest and the largest value of a distribution of integers, or all of them."""
    if isinstance(distribution, (RandInt, LogRandInt)):
        return distribution.low, distribution.high - 1
    values = getattr(distribution, "values", ())
    if not (isinstance(distribution, Choice) and values and all(map(_is_integer, values))):
        raise TypeError(
            f"padded: the distribution is {describe_value(distribution)}, but a randint, a "
            "lograndint or a choice of integers is expected."
        )
    return values


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
