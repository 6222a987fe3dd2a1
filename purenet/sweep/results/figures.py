"""The pictures of a result."""

import os
from typing import Any

import numpy as np

from purenet.core.json_text import plain
from purenet.core.validate import describe_value, require
from purenet.plots.fronts import front as draw_front
from purenet.plots.lines import curve_grid
from purenet.plots.schedulers import lineage as draw_lineage
from purenet.plots.schedulers import rungs as draw_rungs
from purenet.plots.sweeps import pairwise, parallel_coordinates
from purenet.plots.sweeps import slices as draw_slices
from purenet.sweep.engine.records import Lineage
from purenet.sweep.results.ranking import all_diverged, best_points
from purenet.sweep.results.trials import SHORT_NAMES, TrialTable, is_absent, value_text
from purenet.sweep.space.distributions import LogRandInt, LogUniform, Uniform, is_traced
from purenet.sweep.space.space import Alternatives

_LOG_RANGE = 100  # a range that spans more than this factor gets a logarithmic axis

Path = str | os.PathLike


def learning_curves(trials: TrialTable, path: Path, n: int) -> None:
    """The curves of the best `n` points in a grid. Raises ValueError if every trial diverged."""
    panels, metric = [], SHORT_NAMES.get(trials.metric, trials.metric)
    for rank, point in enumerate(best_points(trials, n), 1):
        values = "  ".join(f"{name} {value_text(v)}" for name, v in point.hyper.items())
        title = f"Best-{rank}\n{metric} {value_text(point.score)}  {values}"
        rows = slice(point.number, point.number + trials.runs)
        mean = lambda part, rows=rows: trials.curves[part][trials.metric][rows].mean(axis=0)
        panels.append((title, {part: mean(part) for part in ("validation", "train")}))
    limits = (0, 1) if trials.metric == "accuracy" else None
    curve_grid(path, panels, y_label=trials.metric, limits=limits)


def parallel(trials: TrialTable, path: Path) -> None:
    """Parallel coordinates of the hyperparameters that vary."""
    columns = varied(trials)
    parallel_coordinates(path, columns, trials.point_scores(), **labels(trials, columns))


def slices(trials: TrialTable, path: Path) -> None:
    """The score over each hyperparameter that varies."""
    columns = varied(trials)
    draw_slices(path, columns, trials.point_scores(), **labels(trials, columns))


def pairs(trials: TrialTable, path: Path, names: Any) -> None:
    """The score over pairs of hyperparameters: those named, or those that vary.

    Raises TypeError unless `names` is a list, a tuple or None, ValueError for unknown names.
    """
    columns = varied(trials)
    if names is not None:
        if not isinstance(names, list | tuple):
            raise TypeError(
                f"Result.plot_map: names is {describe_value(names)}, but a tuple of names is "
                "expected."
            )
        if unknown := [name for name in names if name not in trials.hyper]:
            raise ValueError(f"Result.plot_map: {unknown} unknown; choose from {[*trials.hyper]}.")
        columns = {name: trials.hyper[name][:: trials.runs] for name in names}
    pairwise(path, columns, trials.point_scores(), **labels(trials, columns))


def pareto(trials: TrialTable, path: Path) -> None:
    """The points by their first two objectives. Raises ValueError for fewer of them."""
    require(
        len(trials.goals) >= 2,
        "Result.plot_pareto: two objectives are needed; pass run objectives= with two or more.",
    )
    x, y = trials.objectives()[:, :2].T
    if not np.isfinite(x).any():
        raise all_diverged(trials)
    first, second, *_ = trials.goals
    draw_front(path, x, y, trials.front(), labels=(first.name, second.name))


def rungs(trials: TrialTable, path: Path) -> None:
    """How far each trial was trained. Raises ValueError if every trial diverged."""
    if (trials.status == "diverged").all():
        raise all_diverged(trials)
    draw_rungs(
        path,
        trials.score_curves,
        trials.epochs,
        np.unique(trials.epochs[trials.status != "diverged"]).tolist(),
        trials.status.tolist(),
        score_label=f"validation {trials.metric}",
        maximize=trials.maximize,
    )


def lineage(trials: TrialTable, path: Path, found: Lineage | None) -> None:
    """Who copied whom. Raises ValueError if the sweep did not train a population."""
    if found is None:
        raise ValueError("Result.plot_lineage: only a sweep with search=pbt() has a lineage.")
    pairs = [pair for name, leaf in trials.space.items() for pair in _leaves(name, leaf).items()]
    sampled = {key for key, leaf in pairs if hasattr(leaf, "ppf")}
    columns = {key: column for key, column in found.numbers.items() if key in sampled}
    draw_lineage(
        path, trials.score_curves, found.parents, found.every, columns, **labels(trials, columns)
    )


# pieces
def varied(trials: TrialTable) -> dict[str, np.ndarray]:
    """The hyperparameters that differ between trials, or all if none do: one value per point."""
    by_point = {name: column[:: trials.runs] for name, column in trials.hyper.items()}
    differs = lambda column: len({str(plain(value)) for value in column}) > 1
    return {name: by_point[name] for name, c in trials.hyper.items() if differs(c)} or by_point


def labels(trials: TrialTable, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """The options of the plots of `purenet.plots` for the columns and the score."""
    log = [name for name, column in columns.items() if _is_wide(trials, name, column)]
    label = f"validation {trials.metric}"
    return {"log": log, "score_label": label, "maximize": trials.maximize}


def _leaves(name: str, leaf: Any) -> dict[str, Any]:
    """The leaf, or those of several branches that share its name."""
    return leaf.leaves if isinstance(leaf, Alternatives) else {name: leaf}


def _is_wide(trials: TrialTable, name: str, column: np.ndarray) -> bool:
    """Whether the values span several decades."""
    leaves = list(_leaves(name, trials.space.get(name)).values())
    if all(isinstance(leaf, LogUniform | LogRandInt) for leaf in leaves):
        return True
    known = [leaf is None or isinstance(leaf, Uniform) or not is_traced(leaf) for leaf in leaves]
    numbers = np.array([value for value in column.ravel() if not is_absent(value)])
    if any(known) or not len(numbers):
        return False
    low, high = np.min(numbers), np.max(numbers)
    return bool(low > 0 and high / low > _LOG_RANGE)
