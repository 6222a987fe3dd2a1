"""Population based training: bad members copy good ones and change their hyperparameters."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from purenet.core.validate import integer, is_number
from purenet.sweep.samplers.base import checked_sampler, maker
from purenet.sweep.samplers.designs import random


class Population(NamedTuple):
    """What `pbt` makes: see there.

    >>> pbt(every=5).exchanges(20)
    3
    """

    sampler: Callable
    every: int
    fraction: float
    factors: tuple[float, float]
    resample: float
    name: str
    points: None = None  # a population does not know how large it is

    def exchanges(self, epochs: int) -> int:
        """How many there are: what the last one brought is trained `every` epochs or more."""
        return epochs // self.every - 1

    def rounds(self, points: int, epochs: int) -> Iterator[np.ndarray]:
        """One round: all members are trained to the end. Raises ValueError where there is no time
        for an exchange, or nobody to copy."""
        if self.exchanges(epochs) < 1:
            raise ValueError(
                f"pbt: with an exchange every {self.every} epochs a trial needs "
                f"{2 * self.every} or more, but it has {epochs}; lower `every` or train longer."
            )
        if points < 2:
            raise ValueError(f"pbt: a population of {points} has nobody to copy; use 2 or more.")
        yield np.full(points, epochs)


@maker
def pbt(
    every: int = 5,
    fraction: float = 0.25,
    factors: tuple[float, float] = (0.8, 1.2),
    resample: float = 0.25,
    sampler: Callable = random,
) -> Population:
    """Population based training: members that do badly take over the state of others that do well.

    After every `every` epochs, as long as so many are still to come, the worst `fraction` of the
    members and those that diverged take over the whole state of one of the best `fraction`
    (exploit), and change their hyperparameters (explore).

    To explore is to draw a hyperparameter anew from its distribution, with probability `resample`,
    or else to multiply it by one of `factors`, within the reach of the distribution; a choice of
    floats is drawn anew or kept. All of it happens in a compiled program, with nothing sent
    to the host but the scores. `result.lineage` tells who copied whom.
    Source: Jaderberg et al. (2017).
    Raises TypeError or ValueError for numbers out of range, TypeError for what is no sampler; when
    it runs, ValueError for a space with static choices, for several seeds, or a population that
    does not fit on the devices at once.

    >>> pbt(every=10).fraction
    0.25
    """
    every = integer("pbt: every", every, least=1)
    if not (is_number(fraction) and 0 < fraction <= 0.5):
        raise ValueError(f"pbt: fraction is {fraction!r}, expected a number above 0, at most 0.5.")
    if not (is_number(resample) and 0 <= resample <= 1):
        raise ValueError(f"pbt: resample is {resample!r}, expected a probability.")
    pair = isinstance(factors, (tuple, list)) and len(factors) == 2 and all(map(is_number, factors))
    if not (pair and all(0 < factor < math.inf for factor in factors)):
        raise ValueError(f"pbt: factors is {factors!r}, but two numbers above 0 are expected.")
    checked_sampler("pbt", sampler)
    kind = getattr(sampler, "__name__", repr(sampler))
    name = f"pbt({every=}, {fraction=}, {factors=}, {resample=}, {kind})"
    return Population(sampler, every, fraction, (factors[0], factors[1]), resample, name)
