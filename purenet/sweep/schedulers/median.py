"""Median stopping."""

from collections.abc import Callable

import numpy as np

from purenet.core.validate import PositiveInteger, declared
from purenet.sweep.samplers.base import Sampler, as_design, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Scheduler
from purenet.sweep.schedulers.extending import Extent, by_sampler


@maker
@declared
def median_stopping(
    grace: PositiveInteger = 5, every: PositiveInteger = 1, sampler: Sampler | Callable = random
) -> Scheduler:
    """Median stopping: stop a point whose best score so far is below the median of the mean scores
    so far, over all points that got as far.

    Points are compared after `grace` epochs and then after every `every` more.
    Source: Golovin et al. (2017), section 3.2.1.
    Raises TypeError if `sampler` is not a sampler whose points do not depend on scores.

    >>> rounds = median_stopping(grace=1).rounds(3, 2)
    >>> next(rounds).tolist()
    [1, 1, 1]
    >>> rounds.send(np.array([[0.1, np.nan], [0.5, np.nan], [0.9, np.nan]])).tolist()
    [1, 2, 2]
    """
    sampler = as_design("median_stopping", sampler)

    def rounds(points, epochs):
        goals = np.full(points, min(grace, epochs))
        alive = np.arange(points)
        while True:
            scores = yield goals.copy()
            level = int(goals.max(initial=0))
            if level >= epochs:
                return
            mean = scores[:, :level].mean(axis=1)  # NaN for those that did not get as far
            alive = alive[np.isfinite(mean[alive])]
            if not len(alive):
                return
            alive = alive[scores[alive, :level].max(axis=1) >= np.nanmedian(mean)]
            goals[alive] = min(level + every, epochs)

    def extends(before: Extent, after: Extent) -> str | None:
        # with more epochs, the same points continue at each level
        if after.trials != before.trials:
            return "the median of more points differs, so others would have been stopped"
        return by_sampler(sampler)(before, after)

    name = f"median({grace=}, {every=}, {sampler.name})"
    return Scheduler(sampler, rounds, name=name, extends=extends)
