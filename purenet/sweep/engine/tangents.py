"""Derivatives with respect to hyperparameters through epochs of training, in forward mode.

Every number has a tangent of the training state beside the state itself, and no step is kept: the
memory does not depend on the number of steps.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purenet.core.contracts import checked_metrics, observed, traced_code
from purenet.core.forward import without_rules
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import expect, require
from purenet.sweep.engine.training import given, trained


def slopes(
    trainable_of: Callable[[tuple], Trainable],
    begin: Callable[[Trainable], PyTree],
    parts: tuple,
    epochs: int,
    metric: str,
    numbers: tuple,
) -> tuple[tuple, dict[str, Any]]:
    """The derivatives of a validation metric with respect to each of the `numbers`, and all
    validation metrics, after `epochs` epochs from the state `begin(trainable)`.

    Raises ValueError for an unknown metric, TypeError for one that is no float.

    >>> decay = lambda numbers: Trainable(
    ...     lambda key: 1.0, lambda s, data: (s * numbers[0], {}), lambda s, data: {"loss": s}
    ... )
    >>> found, metrics = slopes(decay, lambda t: t.init(None), (0, 0), 3, "loss", (0.5,))
    >>> float(found[0]), float(metrics["loss"])
    (0.75, 0.125)
    """

    def measure(trainable, state):
        with traced_code("sweep: `evaluate`"):
            return given(trainable, lambda data: trainable.evaluate(state, data), parts[1])

    def measured(numbers):
        trainable = trainable_of(numbers)
        leaves, structure = jax.tree.flatten(begin(trainable))

        def one(leaves, _):
            after = trained(trainable, jax.tree.unflatten(structure, leaves), parts)
            if trainable.observe is not None:
                after = observed("sweep", trainable, after, measure(trainable, after))
            return jax.tree.leaves(after), None

        leaves, _ = jax.lax.scan(one, leaves, length=epochs)
        state = jax.tree.unflatten(structure, leaves)
        metrics = measure(trainable, state)
        return _chosen(metrics, metric), metrics

    plain = without_rules(measured)
    if len(numbers) > 1:
        return jax.jacfwd(plain, has_aux=True)(numbers)
    # one tangent is no batch of one: products of batches run slower
    one = jax.tree.map(jax.numpy.ones_like, numbers)
    _, slope, metrics = jax.jvp(plain, (numbers,), (one,), has_aux=True)
    return (slope,), metrics


def _chosen(metrics: Any, metric: str) -> Any:
    checked_metrics("sweep: `evaluate`", metrics)
    require(
        metric in metrics,
        f"sweep: `evaluate` returns the metrics {sorted(metrics)}, but {metric!r} is to be "
        "differentiated.",
    )
    value = metrics[metric]
    smooth = jax.numpy.issubdtype(jax.numpy.result_type(value), np.floating)
    expect(smooth, f"sweep: the metric {metric!r}", value, "a float, which has a derivative,")
    return value
