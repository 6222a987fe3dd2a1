"""The metric that ranks trials, and how often it is evaluated while they train."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from purenet.core.score import choose_metric
from purenet.core.validate import describe_value, integer, require
from purenet.sweep.engine.monitor import PARAMETERS, Monitor, Objective
from purenet.sweep.engine.pareto import Goal, goal
from purenet.sweep.space.distributions import is_numeric_leaf
from purenet.sweep.space.space import Space


def checked_epochs(epochs: Any) -> int:
    """A number of epochs. Raises TypeError or ValueError for anything else, TypeError for None.

    >>> checked_epochs(20)
    20
    """
    if epochs is None:
        raise TypeError(
            "sweep: epochs is missing; pass the number of passes over the data, such as epochs=20."
        )
    return integer("sweep: epochs", epochs, least=1)


def objective(names: list[set[str]], metric: str | None, mode: str | None) -> Objective:
    """The metric that trials are ranked by, and whether the largest value is best.

    `names` are the metrics of each program. Raises what `choose_metric` raises, also for a metric
    that only some of them have.

    >>> objective([{"loss", "accuracy"}], None, None)
    Objective(metric='accuracy', maximize=True, best=False, goals=())
    """
    return Objective(*choose_metric("sweep", set.intersection(*names), metric, mode))


def checked_goals(objectives: Any, metrics: list[set[str]], space: Space) -> tuple[Goal, ...]:
    """Several objectives, by name. Raises TypeError or ValueError for anything else.

    >>> from purenet.sweep.space.space import take_apart
    >>> asked = {"accuracy": "max", "parameters": ("<=", 1e5)}
    >>> [goal.name for goal in checked_goals(asked, [{"accuracy"}], take_apart({"rate": 0.1}))]
    ['accuracy', 'parameters']
    """
    if objectives is None:
        return ()
    such = 'such as {"accuracy": "max", "parameters": "min"}'
    legal = isinstance(objectives, Mapping) and len(objectives) > 0
    require(
        legal,
        f"sweep: objectives is {describe_value(objectives)}, but a dict is expected, {such}.",
        TypeError,
    )
    common = set.intersection(*metrics)
    numbers = {name for name, leaf in space.columns.items() if is_numeric_leaf(leaf)}
    for name in objectives:
        require(
            name in common | numbers | {PARAMETERS},
            f"sweep: the objective {name!r} is unknown; it may be one of the metrics "
            f"{sorted(common)}, of the numeric hyperparameters {sorted(numbers)}, or "
            f"{PARAMETERS!r}.",
        )
    goals = tuple(goal(name, asked) for name, asked in objectives.items())
    require(
        any(one.bound is None and one.name in common for one in goals),
        f"sweep: none of the objectives {sorted(objectives)} is a metric to maximise or minimise, "
        "but one is needed to compare single trials.",
    )
    return goals


def ranked_by(
    goals: tuple[Goal, ...], metrics: list[set[str]], metric: str | None, mode: str | None
) -> tuple[str | None, str | None]:
    """The metric and the mode, from the first of several objectives that is a metric without a
    bound. Raises ValueError if they are passed as well.

    >>> ranked_by((goal("parameters", "min"), goal("loss", "min")), [{"loss"}], None, None)
    ('loss', 'min')
    """
    if not goals:
        return metric, mode
    require(
        metric is None and mode is None,
        "sweep: with objectives=, the first objective sets metric= and mode=; leave them out.",
    )
    common = set.intersection(*metrics)
    first = next(one for one in goals if one.bound is None and one.name in common)
    return first.name, "max" if first.maximize else "min"


def monitor(
    options: Mapping[str, Any], objective: Objective, epochs: int, targets: np.ndarray
) -> Monitor:
    """How the lanes monitor the score. `targets` are the epochs of each point in the first round.

    Raises TypeError or ValueError for a patience, a selection or an interval out of range.

    >>> asked = {"patience": 3, "select": None, "evaluate_every": 1}
    >>> monitor(asked, Objective("loss", False), 9, np.array([9])).keep_best
    True
    """
    patience, select = options["patience"], options["select"]
    if patience is not None:
        patience = integer("sweep: patience", patience, least=1)
    require(
        select in (None, "best", "last"),
        f'sweep: select is {describe_value(select)}, but "best" or "last" is expected: which '
        "epoch of a trial counts.",
    )
    every = integer("sweep: evaluate_every", options["evaluate_every"], least=1)
    first = int(min(targets[targets > 0], default=epochs))
    require(
        every <= first,
        f"sweep: evaluate_every is {every}, but the first decision comes after {first} epoch(s) "
        f"and needs a score; evaluate at least every {first}.",
    )
    best = select == "best" or (select is None and patience is not None)
    last = epochs if every > 1 else 0  # else a program serves any number of epochs
    return Monitor(objective.metric, objective.sign, every, last, patience, best, objective.goals)
