"""Population based training: bad members copy good ones and change their hyperparameters."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np

from purenet.core.validate import PositiveInteger, declared, is_number, require, satisfying
from purenet.sweep.samplers.base import Sampler, as_design, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Rounds, Scheduler
from purenet.sweep.schedulers.extending import never


def _are_factors(value: Any) -> bool:
    two = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))
    return two and all(0 < factor < math.inf for factor in value)


HALF = satisfying(
    lambda value: is_number(value) and 0 < value <= 0.5, "a number above 0, at most 0.5", ValueError
)
UNIT = satisfying(lambda value: is_number(value) and 0 <= value <= 1, "a probability", ValueError)
_Fraction = Annotated[float, HALF]
_Probability = Annotated[float, UNIT]
_Factors = Annotated[
    tuple[float, float], satisfying(_are_factors, "a pair of numbers above 0", ValueError)
]


class Descent(NamedTuple):
    """How the members of a population walk down their own hypergradients.

    >>> Descent(step=0.3, horizon=1, metric="loss").horizon
    1
    """

    step: float  # the length of the first, in the unit cube
    horizon: int  # epochs to look ahead
    metric: str  # made small


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population(Scheduler):
    """The scheduler that `pbt` and `descent` return.

    >>> pbt(every=5).exchanges(20)
    3
    """

    every: int
    fraction: float
    factors: tuple[float, float]
    resample: float
    descent: Descent | None = None  # of a population whose members walk as well

    @property
    def kind(self) -> str:
        """The name of the function that made it."""
        return self.name.partition("(")[0]

    @property
    def independent(self) -> bool:
        """Whether a point can be trained without the others: members copy one another."""
        return False

    def exchanges(self, epochs: int) -> int:
        """The number of exchanges: the last one is followed by at least `every` epochs."""
        return epochs // self.every - 1


@maker
@declared
def pbt(
    every: PositiveInteger = 5,
    fraction: _Fraction = 0.25,
    factors: _Factors = (0.8, 1.2),
    resample: _Probability = 0.25,
    sampler: Sampler | Callable = random,
) -> Population:
    """Population based training: bad members copy the state of good ones.

    After every `every` epochs, as long as that many are left, the worst `fraction` of the members
    and those that diverged copy the whole state of one of the best `fraction` (exploit) and change
    their hyperparameters (explore).

    To explore, a hyperparameter is drawn again from its distribution with probability `resample`,
    or else multiplied by one of `factors`, within the range of the distribution; a choice of floats
    is drawn again or kept; a padded size is copied with the state. Members whose static choices
    differ, such as branches of a `choice` of dicts or the capacities of `padded`, do not copy one
    another: each combination is a population of its own, in its own program, and a member keeps its
    branch. Everything happens in a compiled program; only the scores are sent to the host.
    `result.lineage` records who copied whom.
    Source: Jaderberg et al. (2017).
    Raises TypeError if `sampler` is not a sampler whose points do not depend on scores; when it
    runs, ValueError for several seeds or folds, if there is no time for an exchange or no other
    member to copy, or if the population does not fit on the devices at once.

    >>> pbt(every=10).fraction
    0.25
    """
    sampler = as_design("pbt", sampler)
    name = f"pbt({every=}, {fraction=}, {factors=}, {resample=}, {sampler.name})"
    return Population(
        sampler, functools.partial(rounds, "pbt", every), name=name, every=every, fraction=fraction,
        factors=(factors[0], factors[1]), resample=resample,
        extends=never("its members copy one another, at exchanges that depend on both numbers"),
    )  # fmt: skip


def rounds(kind: str, every: int, points: int, epochs: int) -> Rounds:
    """One round: all members are trained to the end.

    >>> next(rounds("pbt", 1, 2, 3)).tolist()
    [3, 3]
    """
    require(
        epochs >= 2 * every,
        f"{kind}: with an exchange every {every} epochs a trial needs {2 * every} or more, but it "
        f"has {epochs}; lower `every` or train longer.",
    )
    require(
        points > 1,
        f"{kind}: a population of {points} has no other member to copy; use 2 or more.",
    )
    yield np.full(points, epochs)
