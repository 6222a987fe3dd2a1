"""Whether a sweep can get more trials or more epochs later.

A sweep that is extended decides everything anew, as one that was asked for at once does, and finds
the scores that it asks for in its folder. So nothing may have been trained that the larger sweep
does not train: no other points, and none of them for longer.
"""

from collections.abc import Callable
from typing import NamedTuple

from purenet.sweep.samplers.base import Sampler


class Extent(NamedTuple):
    """How many trials a sweep has, and how many epochs each of them.

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
    """The rule of a search that cannot be extended, and why that is.

    >>> never("its rungs compare all points")(Extent(40, 10), Extent(50, 10))
    'its rungs compare all points'
    """
    return lambda before, after: why


def unsaid(before: Extent, after: Extent) -> str | None:
    """The rule of a search that says nothing about it.

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
