"""load: a sweep's results, read back from its folder."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.files import as_path
from purenet.core.tree import short
from purenet.sweep.engine.monitor import Objective
from purenet.sweep.engine.pareto import Goal, goal
from purenet.sweep.engine.records import Lineage, program_records
from purenet.sweep.engine.scores import statuses
from purenet.sweep.engine.training import PARTS
from purenet.sweep.results.result import Costs, Result
from purenet.sweep.results.trials import TrialTable
from purenet.sweep.schedulers.extending import Extent
from purenet.sweep.space.distributions import Choice, is_numeric_leaf
from purenet.sweep.space.points import hyper_columns, taken_rows
from purenet.sweep.space.schema import distribution_of
from purenet.sweep.space.space import Space, of_columns
from purenet.sweep.storage.extend import earlier, padded
from purenet.sweep.storage.reading import (
    CURVES,
    REPORT,
    SETTINGS,
    check_known,
    read_settings,
    stamped_curves,
    stamped_report,
)


def load(path: str | os.PathLike) -> Result:
    """The result of a sweep that wrote its folder to `path`, finished or not.

    Functions among the hyperparameters are returned as their names. Nothing can be trained without
    the trial function: for `replay` and `weights`, call `run` with the same arguments and path,
    which does not retrain finished trials. Nothing is unpickled or evaluated, and `trials.jsonl`,
    which other programs may have changed, is not read.
    Raises FileNotFoundError if the folder holds no sweep, ValueError, naming the file, if one is
    damaged, TypeError if `path` is not a path.

    >>> load("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: no-such-folder holds no sweep: there is no settings.json.
    """
    folder = as_path("sweep.load", path)
    content = read_settings(folder)
    settings, sweep = content["settings"], content["sweep"]
    space, trials, seeds, folds, epochs = _read_request(folder / SETTINGS, settings)
    known = stamped_curves(folder / CURVES, sweep)
    if known is None:
        raise FileNotFoundError(f"{folder} holds no results yet: there is no {CURVES}.")
    runs = seeds * folds
    known = padded(known, earlier(folder / SETTINGS, content), Extent(trials, epochs), runs)
    rows = check_known(folder / CURVES, known, trials, runs, epochs, settings["metric"])
    for name, array in known.items():
        if array.ndim and not name.startswith("lineage "):
            known[name] = array[:rows]  # without points that are not drawn yet
    curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for name, array in known.items():
        part, _, metric = name.partition(" ")
        if part in curves:
            curves[part][metric] = array
    status = statuses(known["alive"], known["ended"], known["epochs"], epochs)
    report, _ = stamped_report(folder / REPORT, sweep)
    outcomes = TrialTable(
        hyper=_hyper(folder / CURVES, known, space, rows),
        space=space.columns,
        seeds=seeds,
        folds=folds,
        status=status,
        epochs=known["epochs"],
        curves=curves,
        objective=Objective(
            settings["metric"],
            settings["mode"] == "max",
            settings["select"] == "best",
            _goals(folder / SETTINGS, settings, space, curves["validation"]),
        ),
    )
    costs = Costs(
        programs=program_records(folder / REPORT, report["programs"]),
        plan=report["plan"],
        seconds=float(report["seconds"]),
    )

    lineage = _lineage(folder / CURVES, known)
    return Result(outcomes, settings, costs, kept={}, lineage=lineage, _trainer=None)


def _read_request(path: Path, settings: dict[str, Any]) -> tuple:
    """(space, trials, seeds, folds, epochs) of the settings, validated."""
    counts = [settings.get(name) for name in ("trials", "seeds", "folds", "epochs")]
    space, metric, mode = (settings.get(name) for name in ("space", "metric", "mode"))
    legal = mode in ("max", "min") and settings.get("select") in ("best", "last")
    if not all(type(n) is int and 0 < n < 2**31 for n in counts):
        raise ValueError(
            f"{path} is damaged: trials, seeds, folds and epochs are {short(counts)}, but positive "
            "integers are expected."
        )
    if not (isinstance(space, dict) and isinstance(metric, str) and legal):
        select = settings.get("select")
        raise ValueError(
            f"{path} is damaged: space, metric, mode and select are "
            f"{short([space, metric, mode, select])}."
        )
    leaves = {}
    for name, leaf in space.items():
        try:
            leaves[name] = distribution_of(leaf)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged: {short(name)} of the space is {short(leaf)} ({error})."
            ) from None
    try:
        return of_columns(leaves), *counts
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _goals(path: Path, settings: dict[str, Any], space: Space, metrics: Any) -> tuple[Goal, ...]:
    asked = settings.get("objectives")
    numbers = {name for name, leaf in space.columns.items() if is_numeric_leaf(leaf)}
    if not isinstance(asked, dict) or not {*asked} <= {*metrics} | numbers:
        raise ValueError(f"{path} is damaged: its objectives are {short(asked)}.")
    try:
        goals = tuple(goal(name, each) for name, each in asked.items())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if goals and all(one.bound is not None for one in goals):
        raise ValueError(f"{path} is damaged: all of its objectives, {short(asked)}, are bounds.")
    return goals


def _hyper(path: Path, known: dict[str, np.ndarray], space: Space, rows: int):
    """The column of each hyperparameter."""
    columns: dict[str, np.ndarray] = {}
    places: dict[int, np.ndarray] = {}
    pairs = zip(space.keys, space.leaves, space.traced, strict=True)
    for i, (key, leaf, traced) in enumerate(pairs):
        here = taken_rows(space, places, rows, last=i)[i]
        if traced:
            columns[key] = _sampled(path, known, key)
        else:
            columns[key], places[i] = _static(path, known, key, leaf, here)
    return hyper_columns(space, columns, taken_rows(space, places, rows))


def _sampled(path: Path, known: dict[str, np.ndarray], name: str) -> np.ndarray:
    column = known.get(f"hyper {name}")
    if column is None or column.ndim != 1 or column.dtype.kind not in "fi":
        raise ValueError(f"{path} is damaged: it has no column of numbers 'hyper {name}'.")
    return column


def _static(path: Path, known: dict[str, np.ndarray], name: str, leaf: Any, here: np.ndarray):
    """The values of a constant, or of a choice whose positions the file holds, and those
    positions, in the rows where it is taken."""
    values, places = (leaf,), np.zeros(len(here), int)
    if isinstance(leaf, Choice):
        values, places = leaf.values, known.get(f"choice {name}", places.astype(float))
    inside = (places >= 0) & (places < len(values))
    if places.dtype.kind != "i" or not inside[here].all():
        raise ValueError(
            f"{path} is damaged: it has no column 'choice {name}' of numbers from 0 to "
            f"{len(values) - 1}."
        )
    column = np.full(len(here), np.nan, object)
    for row in np.flatnonzero(here):  # one by one: a shape must stay one value
        column[row] = _hashable(values[places[row]])
    return column, np.where(here, places, -1)


def _lineage(path: Path, known: dict[str, np.ndarray]) -> Lineage | None:
    if "lineage parents" not in known:
        return None
    first = "lineage number "
    numbers = {n.removeprefix(first): a for n, a in known.items() if n.startswith(first)}
    every, parents = known.get("lineage every"), known["lineage parents"]
    members = len(known["epochs"])
    legal = (
        every is not None
        and every.shape == ()
        and every.dtype.kind == "i"
        and every > 0
        and parents.ndim == 2
        and parents.shape[1] == members
        and parents.dtype.kind == "i"
        and ((parents >= 0) & (parents < members)).all()
        and all(a.shape == (len(parents) + 1, members) for a in numbers.values())
        and all(a.dtype.kind in "fi" for a in numbers.values())
    )
    if not legal:
        raise ValueError(
            f"{path} is damaged: its lineage has the shape {parents.shape}, or holds numbers "
            f"out of range, for {members} members."
        )
    return Lineage(int(every), parents, numbers)  # type: ignore[arg-type]


def _hashable(value):
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
