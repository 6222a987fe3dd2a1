"""What hands out the points of a sampler, and is told the scores."""

from collections.abc import Callable

import numpy as np

from purenet.core.validate import describe_value, real_numbers
from purenet.sweep.samplers.designs import latin_hypercube, random, sobol
from purenet.sweep.samplers.optuna import _Optuna, _OptunaSource
from purenet.sweep.space.space import Space

# Samplers whose first points stay the same however many there are.
_ENDLESS = (random, sobol)


def needs_trials(sampler: Callable) -> bool:
    """Whether a sampler does not say by itself how many points there are.

    >>> needs_trials(random)
    True
    """
    return sampler in (*_ENDLESS, latin_hypercube) or isinstance(sampler, _Optuna)


class FixedDesign:
    """Points of a sampler, handed out in order.

    Raises TypeError or ValueError where the sampler gives no points of the unit cube, ValueError
    where it needs their number and gets none.

    >>> from purenet.sweep.space.distributions import Uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> FixedDesign(random, take_apart({"rate": Uniform(0, 1)}), 3, 0).ask(2).shape
    (2, 1)
    """

    def __init__(self, sampler: Callable, space: Space, points: int | None, seed: int):
        self._sampler, self._space, self._seed, self._given = sampler, space, seed, 0
        self._cube = None if points is None and sampler in _ENDLESS else self._draw(points)

    @property
    def points(self) -> int | None:
        """How many there are in all, None where there is no end."""
        return None if self._cube is None else len(self._cube)

    def ask(self, n: int) -> np.ndarray:
        """The next `n` points. Raises ValueError where there are not so many left."""
        first, self._given = self._given, self._given + n
        cube = self._draw(self._given) if self._cube is None else self._cube
        if self._given > len(cube):
            raise ValueError(
                f"AskTell.ask: {n} more points are asked for, but {len(cube) - first} of the "
                f"{len(cube)} of this design are left."
            )
        return cube[first : self._given]

    def tell(self, numbers: np.ndarray, scores: np.ndarray) -> None:
        """A design learns nothing."""

    def _draw(self, points: int | None) -> np.ndarray:
        distributions = self._space.distributions
        try:
            cube = self._sampler(distributions, points, self._seed)
        except TypeError as error:
            if points is not None:
                raise
            raise ValueError(
                f"sweep: trials is missing, and {describe_value(self._sampler)} does not know how "
                "many "
                f"points there are ({error}); say how many with trials=."
            ) from error
        cube = real_numbers("sweep", "what the sampler gave", cube)
        count = len(cube) if points is None and cube.ndim else points
        if cube.shape != (count, len(distributions)):
            raise ValueError(
                f"sweep: the sampler gave points of shape {cube.shape}, but "
                f"{(count, len(distributions))} is expected: a row a trial, a column a "
                "distribution."
            )
        inside = (cube >= 0) & (cube <= 1)
        if not inside.all():
            raise ValueError(
                f"sweep: the sampler gave {cube[~inside][0]}, but numbers from "
                "0 to 1 are expected: each goes through its distribution's ppf."
            )
        return cube


def source(
    sampler: Callable, space: Space, points: int | None, seed: int
) -> "FixedDesign | _OptunaSource":
    """What hands out the points of a sampler, and is told the scores.

    >>> from purenet.sweep.space.distributions import Uniform
    >>> from purenet.sweep.space.space import take_apart
    >>> source(random, take_apart({"rate": Uniform(0, 1)}), 3, 0).ask(2).shape
    (2, 1)
    """
    if isinstance(sampler, _Optuna):
        return _OptunaSource(sampler.make, space, seed)
    return FixedDesign(sampler, space, points, seed)
