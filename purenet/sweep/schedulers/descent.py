"""Descent: every member of a population walks down its own hypergradient."""

import functools
from collections.abc import Callable
from typing import Annotated

from purenet.core.validate import (
    Positive,
    PositiveInteger,
    declared,
    satisfying,
)
from purenet.sweep.samplers.base import Sampler, as_design, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.extending import never
from purenet.sweep.schedulers.pbt import HALF, UNIT, Descent, Population, rounds

_Name = Annotated[str, satisfying(lambda value: isinstance(value, str), 'a name such as "loss"')]


@maker
@declared
def descent(
    every: PositiveInteger = 5,
    step: Positive = 0.3,
    horizon: PositiveInteger = 1,
    fraction: Annotated[float, HALF] = 0.25,
    resample: Annotated[float, UNIT] = 0.25,
    metric: _Name = "loss",
    sampler: Sampler | Callable = random,
) -> Population:
    """Every member of a population walks down its own hypergradient as it trains.

    After every `every` epochs, as long as that many are left, each member takes a step:

        u ← u - sₑ ∇L / ‖∇L‖        sₑ = step · (1 - e / exchanges),    e = 0, 1, ...

    u are its hyperparameters in the unit cube, the logarithms of those of `loguniform`, and L is
    the `metric` on the validation data after `horizon` more epochs of training from where it is,
    with these hyperparameters; the member itself then continues from where it was. A step stays
    within the range of the distribution. Those of `uniform`, `loguniform` and `normal` move, all
    others are kept.

    Before the step, the worst `fraction` of the members and those that diverged restart: they copy
    the whole state of one of the best `fraction`, and each hyperparameter is drawn again with
    probability `resample`. What `pbt` says about static choices holds here too, and
    `result.lineage` records who copied whom and how the hyperparameters moved. A step costs the
    time of about (1 + 2 k) · horizon epochs for k hyperparameters that move.

    The metric is made small, whatever ranks the trials, and it must be smooth: not the accuracy. If
    a hyperparameter changes the loss itself, as label smoothing does, give the Trainable a metric
    without it.
    Source: Franceschi, Donini, Frasconi & Pontil (2017), Forward and reverse gradient-based
    hyperparameter optimization, the real-time variant; restarts of Jaderberg et al. (2017).
    Raises TypeError if `sampler` is not a sampler whose points do not depend on scores; when it
    runs, what `pbt` raises, and ValueError if `evaluate` does not return the metric, if no
    hyperparameter can move, and for streamed data.

    >>> descent(every=10).descent.horizon
    1
    """
    sampler = as_design("descent", sampler)
    name = (
        f"descent({every=}, {step=}, {horizon=}, {fraction=}, {resample=}, {metric=}, "
        f"{sampler.name})"
    )
    return Population(
        sampler, functools.partial(rounds, "descent", every), name=name, every=every,
        fraction=fraction, factors=(1.0, 1.0), resample=resample,
        descent=Descent(float(step), horizon, metric),
        extends=never("its members copy one another, at exchanges that depend on both numbers"),
    )  # fmt: skip
