"""Median stopping."""

from collections.abc import Callable

import numpy as np

from purenet.core.validate import integer
from purenet.sweep.samplers.base import checked_sampler, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Search, sampler_name


@maker
def median_stopping(grace: int = 5, every: int = 1, sampler: Callable = random) -> Search:
    """Median stopping: a point is stopped whose best score so far is below the median, over all
    points that got as far, of their mean score so far.

    Points are compared after `grace` epochs and then after every `every` more.
    Source: Golovin et al. (2017), section 3.2.1.
    Raises TypeError or ValueError for numbers below 1, TypeError for what is no sampler.

    >>> rounds = median_stopping(grace=1).rounds(3, 2)
    >>> next(rounds).tolist()
    [1, 1, 1]
    >>> rounds.send(np.array([[0.1, np.nan], [0.5, np.nan], [0.9, np.nan]])).tolist()
    [1, 2, 2]
    """
    grace, every = (
        integer("median: grace", grace, least=1),
        integer("median: every", every, least=1),
    )
    checked_sampler("median", sampler)

    def rounds(points, epochs):
        goals = np.full(points, min(grace, epochs))
        alive = np.arange(points)
        while True:
            scores = yield goals.copy()
            level = int(goals.max(initial=0))
            if level >= epochs:
                return
            mean = scores[:, :level].mean(axis=1)  # NaN for those that got less far
            alive = alive[np.isfinite(mean[alive])]
            if not len(alive):
                return
            alive = alive[scores[alive, :level].max(axis=1) >= np.nanmedian(mean)]
            goals[alive] = min(level + every, epochs)

    return Search(
        sampler, rounds, name=f"median(grace={grace}, every={every}, {sampler_name(sampler)})"
    )
