"""The objective that ranks trials, and how lanes monitor their score while they train."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.types import Array
from purenet.sweep.engine.pareto import Goal

# The name of the objective that counts a network's weights.
PARAMETERS = "parameters"


class Objective(NamedTuple):
    """The metric that ranks trials, measured on the validation data.

    >>> Objective("loss", maximize=False).sign
    -1
    """

    metric: str
    maximize: bool
    best: bool = False  # whether the best epoch of a trial counts, not the last
    goals: tuple[Goal, ...] = ()  # of several objectives

    @property
    def sign(self) -> int:
        """The factor that makes larger values of the metric better."""
        return 1 if self.maximize else -1


class Monitor(NamedTuple):
    """How often a lane's score is evaluated, and what is done with it.

    >>> Monitor().tracks, Monitor(patience=3).tracks
    (False, True)
    """

    metric: str = ""  # on the validation data
    sign: int = 1  # the factor that makes larger values better
    every: int = 1  # epochs between two evaluations
    last: int = 0  # the epoch that is always evaluated
    patience: int | None = None  # evaluations without improvement that end the training
    keep_best: bool = False  # whether the state of the best epoch is kept beside the latest
    goals: tuple[Goal, ...] = ()  # of several objectives

    @property
    def tracks(self) -> bool:
        """Whether a lane tracks its best score."""
        return self.patience is not None or self.keep_best

    @property
    def added(self) -> tuple[str, ...]:
        """Metrics that are measured in addition to those of `evaluate`."""
        return tuple(goal.name for goal in self.goals if goal.name == PARAMETERS)

    def due(self, epochs: Array) -> jax.Array:
        """Which lanes, after this many epochs each, are evaluated at the end of the next one.

        >>> Monitor(every=2, last=3).due(jnp.arange(3)).tolist()
        [False, True, True]
        """
        if self.every == 1:
            return jnp.ones_like(epochs, bool)
        return ((epochs + 1) % self.every == 0) | (epochs + 1 == self.last)
