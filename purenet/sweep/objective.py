"""What ranks trials, and how their score is followed while they train."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from purenet.core.validate import describe_value, integer, require
from purenet.sweep.engine.program import Monitor
from purenet.sweep.state import Objective


def checked_epochs(epochs: Any) -> int:
    """A number of epochs. Raises TypeError or ValueError for anything else, TypeError without one.

    >>> checked_epochs(20)
    20
    """
    if epochs is None:
        raise TypeError(
            "sweep: epochs is missing; say how many passes over the data a trial has, such as "
            "epochs=20."
        )
    return integer("sweep: epochs", epochs, least=1)


def objective(names: list[set[str]], metric: str | None, mode: str | None) -> Objective:
    """What trials are ranked by, and whether the largest is best.

    `names` are the metrics of each program. Raises TypeError or ValueError for a metric that one of
    them does not have, and for a `mode` that does not say.

    >>> objective([{"loss", "accuracy"}], None, None)
    Objective(metric='accuracy', maximize=True, best=False)
    """
    common = set.intersection(*names)
    usual = {"accuracy": "max", "loss": "min"}
    if not isinstance(metric, str | None):
        raise TypeError(
            f"sweep: metric is {describe_value(metric)}, but the name of one is expected."
        )
    if metric is None:
        metric = next((name for name in usual if name in common), None)
    if metric is None:
        raise ValueError(
            f"sweep: `evaluate` gives the metrics {sorted(common)}, neither accuracy nor loss; say "
            "which of them ranks the trials with metric=."
        )
    if metric not in common:
        raise ValueError(
            f"sweep: `evaluate` gives the metrics {sorted(common)}, and {metric!r} is not one of "
            "them; name one with metric=."
        )
    mode = usual.get(metric) if mode is None else mode
    if not isinstance(mode, str) or mode not in ("max", "min"):
        raise ValueError(
            f'sweep: mode is {mode!r}; say with mode="max" or mode="min" whether a large '
            f"or a small {metric} is good."
        )
    return Objective(metric, mode == "max")


def monitor(
    options: Mapping[str, Any], objective: Objective, epochs: int, targets: np.ndarray
) -> Monitor:
    """How the lanes follow the score. `targets` are the epochs of each point in the first round.

    Raises TypeError or ValueError for a patience, a selection or an interval that cannot be.

    >>> asked = {"patience": 3, "select": None, "evaluate_every": 1}
    >>> monitor(asked, Objective("loss", False), 9, np.array([9])).keep_best
    True
    """
    patience, select = options["patience"], options["select"]
    if patience is not None:
        patience = integer("sweep: patience", patience, least=1)
    require(
        select in (None, "best", "last"),
        f'sweep: select is {describe_value(select)}, but "best" or "last" is expected: the epoch '
        "of a trial that counts.",
    )
    every = integer("sweep: evaluate_every", options["evaluate_every"], least=1)
    first = int(min(targets[targets > 0], default=epochs))
    require(
        every <= first,
        f"sweep: evaluate_every is {every}, but the first decision falls after {first} epoch(s), "
        f"and needs a score; evaluate at least every {first}.",
    )
    best = select == "best" or (select is None and patience is not None)
    return Monitor(objective.metric, objective.sign, every, epochs, patience, best)
