"""Whether a sweep can be extended with more trials or more epochs.

An extended sweep makes all decisions again, as if it had that size from the start, and finds the
scores that it needs in its folder. So nothing may have been trained that the larger sweep does not
train: no other points, and no point for longer.
"""

from collections.abc import Callable
from typing import NamedTuple

from purenet.sweep.samplers.base import Sampler


class Extent(NamedTuple):
    """The number of trials of a sweep, and of epochs of each trial.

    >>> print(Extent(40, 10))
    40 trials of 10 epochs
    """

    trials: int
    epochs: int

    def __str__(self):
        return f"{self.trials} trials of {self.epochs} epochs"


# why a sweep of the first extent cannot become one of the second, None if it can
Extends = Callable[[Extent, Extent], str | None]


def never(why: str) -> Extends:
    """The rule of a search that cannot be extended, with the reason.

    >>> never("its rungs compare all points")(Extent(40, 10), Extent(50, 10))
    'its rungs compare all points'
    """
    return lambda before, after: why


def unsaid(before: Extent, after: Extent) -> str | None:
    """The rule of a search that does not define one.

    >>> unsaid(Extent(40, 10), Extent(50, 10))
    'its scheduler does not say that it can be extended'
    """
    return "its scheduler does not say that it can be extended"


def by_sampler(sampler: Sampler) -> Extends:
    """The rule of a search that trains every point of a sampler to the end.

    >>> from purenet.sweep.samplers.base import as_sampler
    >>> from purenet.sweep.samplers.designs import latin_hypercube
    >>> by_sampler(as_sampler("sweep", latin_hypercube))(Extent(40, 10), Extent(50, 10))
    'each point of latin_hypercube depends on their number'
    """

    def extends(before: Extent, after: Extent) -> str | None:
        name, batch = sampler.name, sampler.batch
        if after.trials != before.trials and not sampler.prefix:
            return f"each point of {name} depends on their number"
        if batch is not None and after.epochs != before.epochs:
            return f"the points of {name} depend on the scores after the last epoch"
        if batch is not None and before.trials % batch:
            return f"the points of {name} come in batches, and the last of them is not full"
        return None

    return extends
