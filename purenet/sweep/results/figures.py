"""The pictures of a result."""

import os
from typing import Any

import numpy as np

from purenet.core.json_text import plain
from purenet.core.validate import describe_value, require
from purenet.plots.fronts import front as draw_front
from purenet.plots.history import history as draw_history
from purenet.plots.history import importances as draw_importances
from purenet.plots.lines import curve_grid
from purenet.plots.schedulers import lineage as draw_lineage
from purenet.plots.schedulers import rungs as draw_rungs
from purenet.plots.sweeps import pairwise, parallel_coordinates
from purenet.plots.sweeps import slices as draw_slices
from purenet.sweep.engine.records import Lineage
from purenet.sweep.results.importance import importances
from purenet.sweep.results.ranking import all_diverged, best_points
from purenet.sweep.results.trials import SHORT_NAMES, TrialTable, is_absent, value_text
from purenet.sweep.space.distributions import LogRandInt, LogUniform, Uniform, is_traced
from purenet.sweep.space.space import Alternatives

_LOG_RANGE = 100  # a range that spans more than this factor gets a logarithmic axis

Path = str | os.PathLike | None  # without one, the figure is returned


def learning_curves(trials: TrialTable, path: Path, n: int) -> Any:
    """The curves of the best `n` points in a grid. Raises ValueError if every trial diverged."""
    panels, stopped, metric = [], [], SHORT_NAMES.get(trials.metric, trials.metric)
    best = best_points(trials, n)
    for rank, point in enumerate(best, 1):
        values = "  ".join(f"{name} {value_text(v)}" for name, v in point.hyper.items())
        title = f"Best-{rank}\n{metric} {value_text(point.score)}  {values}"
        rows = slice(point.number, point.number + trials.runs)
        mean = lambda part, rows=rows: trials.curves[part][trials.metric][rows].mean(axis=0)
        panels.append((title, {part: mean(part) for part in ("validation", "train")}))
        if point.status == "stopped":
            stopped.append(rank - 1)
    known = [curve for _, named in panels for curve in named.values()]
    limits = zoomed(known, trials.objective.sign, 1.0 if trials.metric == "accuracy" else None)
    title = f"The best {len(best)} of {_count(trials)}, by validation {trials.metric}"
    looks: dict[str, Any] = {"limits": limits, "stopped": stopped, "title": title}
    return curve_grid(path, panels, y_label=trials.metric, **looks)


def parallel(trials: TrialTable, path: Path) -> Any:
    """Parallel coordinates of the hyperparameters that vary."""
    columns = varied(trials)
    return parallel_coordinates(
        path, columns, trials.point_scores(), title=_title(trials), **labels(trials, columns)
    )


def slices(trials: TrialTable, path: Path) -> Any:
    """The score over each hyperparameter that varies."""
    columns = varied(trials)
    return draw_slices(
        path, columns, trials.point_scores(), title=_title(trials), **labels(trials, columns)
    )


def pairs(trials: TrialTable, path: Path, names: Any) -> Any:
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
    return pairwise(
        path, columns, trials.point_scores(), title=_title(trials), **labels(trials, columns)
    )


def pareto(trials: TrialTable, path: Path) -> Any:
    """The points by their first two objectives. Raises ValueError for fewer of them."""
    require(
        len(trials.goals) >= 2,
        "Result.plot_pareto: two objectives are needed; pass run objectives= with two or more.",
    )
    x, y = trials.objectives()[:, :2].T
    if not np.isfinite(x).any():
        raise all_diverged(trials)
    first, second, *_ = trials.goals
    return draw_front(
        path, x, y, trials.front(), labels=(first.name, second.name), title=_title(trials)
    )


def history(trials: TrialTable, path: Path) -> Any:
    """The best score so far, in the order of the points."""
    scores = trials.point_scores()
    if not np.isfinite(scores).any():
        raise all_diverged(trials)
    known = [scores[np.isfinite(scores), None]]
    limits = zoomed(known, trials.objective.sign, None)
    looks: dict[str, Any] = {"score_label": f"validation {trials.metric}", "title": _title(trials)}
    return draw_history(path, scores, maximize=trials.maximize, limits=limits, **looks)


def importance(trials: TrialTable, path: Path) -> Any:
    """How much the score depends on each hyperparameter that varies."""
    found = importances(trials, varied(trials))
    label = f"R² lost by shuffling; the forest has {found.explained:.2f}"
    title = f"What validation {trials.metric} depends on, {_count(trials)}"
    return draw_importances(path, found.losses, label, title)


def rungs(trials: TrialTable, path: Path) -> Any:
    """How far each trial that began was trained. Raises ValueError if every trial diverged."""
    if (trials.status == "diverged").all():
        raise all_diverged(trials)
    lost = trials.status == "diverged"
    begun = (trials.epochs > 0) | lost | ~trials.epochs.any()
    return draw_rungs(
        path,
        trials.score_curves[begun],
        trials.epochs[begun],
        np.unique(trials.epochs[begun & ~lost]).tolist(),
        ["done" if status == "plateaued" else status for status in trials.status[begun]],
        score_label=f"validation {trials.metric}",
        maximize=trials.maximize,
        title=_title(trials),
    )


def lineage(trials: TrialTable, path: Path, found: Lineage | None) -> Any:
    """Who copied whom. Raises ValueError if the sweep did not train a population."""
    if found is None:
        raise ValueError(
            "Result.plot_lineage: only a sweep with search=pbt() or descent() has a lineage."
        )
    pairs = [pair for name, leaf in trials.space.items() for pair in _leaves(name, leaf).items()]
    sampled = {key for key, leaf in pairs if hasattr(leaf, "ppf")}
    columns = {key: column for key, column in found.numbers.items() if key in sampled}
    return draw_lineage(
        path, trials.score_curves, found.parents, found.every, columns, **labels(trials, columns)
    )


# pieces
def _count(trials: TrialTable) -> str:
    points = len(trials) // trials.runs
    return f"{points} points of {trials.runs} runs" if trials.runs > 1 else f"{points} trials"


def _title(trials: TrialTable) -> str:
    return f"{_count(trials)}, validation {trials.metric}"


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


def zoomed(curves: list[np.ndarray], sign: int, bound: float | None) -> tuple[float, float] | None:
    """Limits of the scores that show where curves end, not how they begin; None without any.

    All last scores are inside, and of all scores at least the better three quarters. `sign` is -1
    where small scores are good. No axis goes beyond the `bound` of good scores.

    >>> zoomed([np.array([0.1, 0.9, 0.95, 0.97, 0.98])], 1, 1.0)
    (0.896, 0.984)
    """
    found = [sign * curve[np.isfinite(curve)] for curve in curves if np.isfinite(curve).any()]
    if not found:
        return None
    good = np.concatenate(found)
    low = min(min(curve[-1] for curve in found), np.quantile(good, 0.25))
    margin = 0.05 * (good.max() - low) or 0.01 * abs(low) or 0.5
    ends = float(sign * (low - margin)), float(sign * (good.max() + margin))
    low, high = (round(end, 9) for end in sorted(ends))
    return (low, high) if bound is None else (low, max(min(high, bound), low + margin))


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
