"""The protocol of samplers, which decide what points of a space to try."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from purenet.core.validate import accepts, describe_value, expect, integer, real_numbers, require
from purenet.sweep.space.distributions import is_leaf

F = TypeVar("F", bound=Callable)


class Source(Protocol):
    """Hands out the points of one sweep, and receives their scores.

    `points` is the total number, or None if it is unlimited. `ask(n)` returns the next `n`, shape
    (n, distributions), in the unit cube. `tell(numbers, scores)` passes scores (n, epochs): larger
    is better, NaN where unknown or diverged. If a source also has a method
    `tell_given(points, scores)`, it is first told the points that the user gave: name -> value, or
    the index of the value in a choice.

    >>> from purenet.sweep.samplers.designs import random
    >>> FixedDesign(as_sampler("sweep", random), {}, None, 0).points is None
    True
    """

    @property
    def points(self) -> int | None: ...

    def ask(self, n: int) -> np.ndarray: ...

    def tell(self, numbers: np.ndarray, scores: np.ndarray) -> None: ...


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Which points of a space to try. A plain function `draw` is a sampler too, with the defaults
    below. `sweep.testing.check_sampler` tests one of your own.

    - `draw(distributions, trials, seed)` returns points of the unit cube, shape (trials,
      len(distributions)), each coordinate for its distribution's ppf. With `trials` None it returns
      all of its points, or raises TypeError if it does not know their number. A distribution in a
      branch of a `choice` of dicts is a `Conditional(leaf, choice, place)`: its column counts only
      if distribution number `choice` takes that place.
    - `name` appears in results, and identifies the sampler when a sweep resumes.
    - `prefix`: point i is the same however many are drawn, so more can be drawn later.
    - `batch`: the number of points asked for at a time; None asks for all at once.
    - `learn(distributions by name, trials, seed)` returns a `Source`, with `ask` and `tell`, for
      points that depend on scores. Without it, the points are those of `draw`, in order.

    >>> middle = lambda distributions, trials, seed: np.full((trials, len(distributions)), 0.5)
    >>> Sampler(middle, "middle", prefix=True).source({"rate": None}, None, 0).ask(2).tolist()
    [[0.5], [0.5]]
    """

    draw: Callable[[list, int | None, int], np.ndarray]
    name: str
    prefix: bool = False
    batch: int | None = None
    learn: Callable[[Mapping[str, Any], int | None, int], Source] | None = None

    def __call__(self, distributions: list, trials: int | None, seed: int) -> np.ndarray:
        return self.draw(distributions, trials, seed)

    def source(self, distributions: Mapping[str, Any], trials: int | None, seed: int) -> Source:
        """The source of the points of one sweep. Raises ValueError if it needs their number and
        `trials` is None; TypeError or ValueError if `draw` does not return points of the unit
        cube."""
        if self.learn is not None:
            return self.learn(distributions, trials, seed)
        return FixedDesign(self, distributions, trials, seed)


class FixedDesign:
    """Points that do not depend on scores, handed out in order.

    Raises TypeError or ValueError if the sampler does not return points of the unit cube,
    ValueError if it needs their number and `trials` is None.

    >>> from purenet.sweep.samplers.designs import random
    >>> from purenet.sweep.space.distributions import uniform
    >>> FixedDesign(as_sampler("sweep", random), {"rate": uniform(0, 1)}, 3, 0).ask(2).shape
    (2, 1)
    """

    def __init__(self, sampler: Sampler, distributions: Mapping, trials: int | None, seed: int):
        self._sampler, self._seed, self._given = sampler, seed, 0
        self._distributions = list(distributions.values())
        endless = trials is None and sampler.prefix
        self._cube = None if endless else self._draw(trials)

    @property
    def points(self) -> int | None:
        """The total number, or None if it is unlimited."""
        return None if self._cube is None else len(self._cube)

    def ask(self, n: int) -> np.ndarray:
        """The next `n` points. Raises ValueError if fewer are left."""
        first, self._given = self._given, self._given + n
        cube = self._draw(self._given) if self._cube is None else self._cube
        require(
            self._given <= len(cube),
            f"AskTell.ask: {n} more points are requested, but {len(cube) - first} of the "
            f"{len(cube)} points of this design are left.",
        )
        return cube[first : self._given]

    def tell(self, numbers: np.ndarray, scores: np.ndarray) -> None:
        """A fixed design learns nothing."""

    def _draw(self, trials: int | None) -> np.ndarray:
        try:
            cube = self._sampler.draw(self._distributions, trials, self._seed)
        except TypeError as error:
            if trials is not None:
                raise
            name = describe_value(self._sampler.draw)
            raise ValueError(
                f"sweep: trials is missing, and {name} does not know how many points there are "
                f"({error}); pass trials=N."
            ) from error
        return checked_cube(cube, trials, len(self._distributions))


def checked_cube(cube: Any, trials: int | None, distributions: int) -> np.ndarray:
    """Points of the unit cube, shape (trials, distributions); any number of them if `trials` is
    None. Raises TypeError or ValueError for anything else.

    >>> checked_cube([[0.5]], 1, 1).tolist()
    [[0.5]]
    """
    cube = real_numbers("sweep", "the return value of the sampler", cube)
    expected = (len(cube) if trials is None and cube.ndim else trials, distributions)
    require(
        cube.shape == expected,
        f"sweep: the sampler returned points of shape {cube.shape}, but {expected} is expected: a "
        "row for each trial, a column for each distribution.",
    )
    outside = cube[~((cube >= 0) & (cube <= 1))].tolist()  # NaN among them
    require(
        not outside,
        f"sweep: the sampler returned {str(outside[:1])[1:-1]}, but numbers from 0 to 1 are "
        "expected: each goes through its distribution's ppf.",
    )
    return cube


def maker(function: F) -> F:
    """Mark a function that returns a sampler or a scheduler, so that an error explains if a user
    forgets to call it.

    >>> maker(lambda: None).maker
    True
    """
    vars(function).update(maker=True)
    return function


def prefix_stable(function: F) -> F:
    """Declare that point i of a sampler is the same however many are drawn.

    >>> prefix_stable(lambda distributions, trials, seed: None).prefix
    True
    """
    vars(function).update(prefix=True)
    return function


def as_sampler(caller: str, sampler: "Sampler | Callable") -> Sampler:
    """A sampler, from a sampler or a function (distributions, trials, seed) -> points.

    Raises TypeError for anything else.

    >>> from purenet.sweep.samplers.designs import grid, random
    >>> as_sampler("halving", random).prefix
    True
    >>> as_sampler("halving", grid)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: halving: the sampler is the function grid, but ...; call it: sweep.grid().
    """
    if hasattr(sampler, "source"):
        return sampler  # type: ignore[return-value]
    made = not getattr(sampler, "maker", False)
    name = getattr(sampler, "__name__", "")
    legal = made and callable(sampler) and accepts(sampler, [], 1, 0)
    such = "a function (distributions, trials, seed) -> points such as sweep.random"
    hint = "" if made else f"; call it: sweep.{name}()"
    expect(legal, f"{caller}: the sampler", sampler, such, hint=hint)
    return Sampler(sampler, name_of(sampler), getattr(sampler, "prefix", False))


def as_design(caller: str, sampler: "Sampler | Callable") -> Sampler:
    """A sampler whose points do not depend on scores, for a scheduler that compares all at once.

    Raises TypeError for anything else.

    >>> from purenet.sweep.samplers.designs import random
    >>> as_design("halving", random).name
    'random'
    """
    sampler = as_sampler(caller, sampler)
    require(
        sampler.batch is None,
        f"{caller}: the sampler is {sampler.name}, whose points come in batches that depend on "
        f"scores, but {caller} needs all points at once; use it alone: search={sampler.name}.",
        TypeError,
    )
    return sampler


def name_of(function: Any) -> str:
    """The name of a function, the same in every process.

    >>> name_of(print)
    'print'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", getattr(function, "__name__", repr(function)))


def checked_design(caller: str, distributions: Any, trials: Any, seed: Any) -> tuple[int, int]:
    """The number of trials and the seed of a design. Raises TypeError or ValueError unless
    `distributions` is a list of them, and `trials` and `seed` are non-negative integers.

    >>> checked_design("random", [], 3, 0)
    (3, 0)
    """
    legal = isinstance(distributions, (list, tuple)) and all(map(is_leaf, distributions))
    expect(legal, f"{caller}: distributions", distributions, "a list of distributions")
    return integer(f"{caller}: trials", trials, least=0), integer(f"{caller}: seed", seed, least=0)
