"""load: a sweep's results, read back from its folder."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from purenet.sweep.engine import PARTS
from purenet.sweep.population import Lineage
from purenet.sweep.result import ProgramRecord, Result, Run
from purenet.sweep.space import is_traced
from purenet.sweep.store import (
    CURVES,
    REPORT,
    TRIALS,
    arrays,
    distribution_of,
    read_json,
    read_settings,
)


def load(path: str | os.PathLike) -> Result:
    """The result of a sweep that wrote its folder to `path`, finished or not.

    Functions among the hyperparameters come back as their names. Without the trial function nothing
    can be trained: for `replay` and `weights`, call `run` with the same arguments and path,
    which trains nothing that is finished. Nothing is unpickled or evaluated.
    Raises FileNotFoundError where there is no sweep, ValueError, which names the file, where one
    is damaged.
    """
    folder = Path(path)
    settings = read_settings(folder)
    known = arrays(folder / CURVES)
    if known is None:
        raise FileNotFoundError(f"{folder} holds no results yet: there is no {CURVES}.")
    space = {name: distribution_of(leaf) for name, leaf in settings["space"].items()}
    trials, seeds, epochs = settings["trials"], settings["seeds"], settings["epochs"]
    rows = _rows(folder / TRIALS, trials * seeds)
    for name, array in known.items():
        if not name.startswith("lineage "):
            if array.ndim not in (1, 2) or len(array) < len(rows):
                raise ValueError(
                    f"{folder / CURVES} is damaged: {name!r} has the shape {array.shape}, but "
                    f"there are {len(rows)} trials."
                )
            known[name] = array[: len(rows)]  # points that were not drawn yet have no row
    curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for name, array in known.items():
        part, _, metric = name.partition(" ")
        if part in curves:
            curves[part][metric] = array
    hyper = {}
    for name, leaf in space.items():
        if is_traced(leaf):
            hyper[name] = known[f"hyper {name}"]
        else:
            hyper[name] = np.empty(len(rows), object)
            hyper[name][:] = [_hashable(row[name]) for row in rows]
    alive, done = known["alive"].astype(bool), known["epochs"] == epochs
    report = read_json(folder / REPORT)

    def again(number: int) -> Run:
        raise ValueError(
            f"Result.replay: a result that was read from {folder} has no trial function; call run "
            "with the same arguments and path, which trains nothing that is finished."
        )

    lineage = None
    if "lineage parents" in known:
        numbers = {
            name.removeprefix("lineage number "): array
            for name, array in known.items()
            if name.startswith("lineage number ")
        }
        lineage = Lineage(int(known["lineage every"]), known["lineage parents"], numbers)
    return Result(
        hyper=hyper,
        space=space,
        seeds=seeds,
        status=np.where(alive, np.where(done, "done", "stopped"), "diverged"),
        epochs=known["epochs"],
        curves=curves,
        metric=settings["metric"],
        largest=settings["mode"] == "max",
        settings=settings,
        programs=tuple(ProgramRecord(**program) for program in report["programs"]),
        plan=report["plan"],
        seconds=report["seconds"],
        kept={},
        lineage=lineage,
        _again=again,
    )


def _rows(path: Path, count: int) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing, so there are no results to read.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    if not all(isinstance(row, dict) for row in rows) or not 0 < len(rows) <= count:
        raise ValueError(f"{path} is damaged: {count} rows, each an object, are expected.")
    return rows


def _hashable(value):
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
