"""The objective that ranks trials, and how lanes monitor their metrics while they train."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.padded import parameter_count
from purenet.core.types import Array, PyTree
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


def checked_parts(monitor: Monitor, state: PyTree, metrics: dict) -> dict:
    """What `evaluate` gave on both parts, and what is added to it. Raises ValueError unless both
    have the same metrics."""
    if {*metrics["train"]} != {*metrics["validation"]}:
        raise ValueError(
            f"sweep: `evaluate` returned the metrics {sorted(metrics['train'])} on the training "
            f"data, but {sorted(metrics['validation'])} on the validation data; both must match."
        )
    if monitor.added:
        params = getattr(state, "params", state)
        weights, stats = getattr(params, "weights", params), getattr(params, "stats", ())
        added = {PARAMETERS: parameter_count(weights, stats)}
        metrics = {name: part | added for name, part in metrics.items()}
    return jax.tree.map(lambda m: jnp.asarray(m, jnp.result_type(float)), metrics)


def all_finite(tree: PyTree) -> jax.Array:
    """Whether no number in the tree is NaN or infinite.

    >>> bool(all_finite({"a": jnp.ones(2), "b": jnp.array([0.0, jnp.inf])}))
    False
    """
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    # the largest of each, not every entry: the same, and XLA repeats less of it where it is used
    largest = [jnp.abs(a).max(initial=0) for a in floats]
    finite = jnp.stack([jnp.isfinite(a) for a in largest]).astype(jnp.float32)
    # a product, which XLA computes once: an `all` it repeats in the kernel of each array kept
    return finite @ jnp.ones(len(largest), jnp.float32) == len(largest)
