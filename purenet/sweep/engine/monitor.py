"""What a sweep is ranked by, and how lanes follow their score while they train."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.types import Array
from purenet.sweep.engine.pareto import Goal

# What counts the weights of a network, wherever that is named.
PARAMETERS = "parameters"


class Objective(NamedTuple):
    """The metric that ranks trials, measured on the validation data.

    >>> Objective("loss", maximize=False).sign
    -1
    """

    metric: str
    maximize: bool
    best: bool = False  # whether the best epoch of a trial counts, or else the last
    goals: tuple[Goal, ...] = ()  # of several objectives

    @property
    def sign(self) -> int:
        """What the metric is multiplied by so that larger is better."""
        return 1 if self.maximize else -1


class Monitor(NamedTuple):
    """How often the score of a lane is looked at, and what follows from it.

    >>> Monitor().tracks, Monitor(patience=3).tracks
    (False, True)
    """

    metric: str = ""  # on the validation data
    sign: int = 1  # what it is multiplied by so that larger is better
    every: int = 1  # epochs between two evaluations
    last: int = 0  # the epoch that is evaluated in any case
    patience: int | None = None  # evaluations without a better score that end the training
    keep_best: bool = False  # the state of the best epoch, beside the latest
    goals: tuple[Goal, ...] = ()  # of several objectives

    @property
    def tracks(self) -> bool:
        """Whether a lane remembers its best score."""
        return self.patience is not None or self.keep_best

    @property
    def added(self) -> tuple[str, ...]:
        """Metrics that are measured beside those of `evaluate`."""
        return tuple(goal.name for goal in self.goals if goal.name == PARAMETERS)

    def due(self, epochs: Array) -> jax.Array:
        """Which lanes, after so many epochs, are evaluated at the end of the next one.

        >>> Monitor(every=2, last=3).due(jnp.arange(3)).tolist()
        [False, True, True]
        """
        if self.every == 1:
            return jnp.ones_like(epochs, bool)
        return ((epochs + 1) % self.every == 0) | (epochs + 1 == self.last)
