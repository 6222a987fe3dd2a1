"""Rounds for points of which the first were given by the user, not drawn by a sampler."""

import numpy as np

from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.schedulers.base import Rounds, Scheduler, checked_rounds


def rounds_with(search: Scheduler, given: int, points: int, epochs: int) -> Rounds:
    """The rounds of a scheduler for all points, of which the first are given.

    The batches of a sampler are not split: given points train to the end, beside the first batch.

    >>> from purenet.sweep.samplers.designs import random
    >>> from purenet.sweep.schedulers.base import everything
    >>> next(rounds_with(everything(random), 1, 3, 5)).tolist()
    [5, 5, 5]
    """
    if not given or as_sampler("sweep: search", search.sampler).batch is None:
        yield from checked_rounds(search, points, epochs)
        return
    first = np.full(given, epochs)
    if given == points:
        yield first
        return
    rounds = checked_rounds(search, points - given, epochs)
    goals = next(rounds)
    while True:
        scores = yield np.append(first, goals)
        try:
            goals = rounds.send(scores[given:])
        except StopIteration:
            return
