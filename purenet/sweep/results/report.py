"""A sweep as one page for a browser, which needs no network.

The charts are those of Plotly.js, which the Python package `plotly` ships: it has parallel
coordinates with brushes and draws hundreds of thousands of points by WebGL, where Vega would need a
specification of our own for the brushes and redraws every curve on the processor. The library and
the numbers are compressed in the page (gzip, base64), and the browser unpacks them, so that a page
of 2,000 trials and 100 epochs stays below 6 MB.
"""

import base64
import gzip
import html
import importlib.resources
import os
import re
from typing import Any

import numpy as np

from purenet.core.extras import extra
from purenet.core.files import writable, write_bytes
from purenet.core.json_text import json_bytes, plain
from purenet.core.tree import printable
from purenet.core.validate import Positive, declared
from purenet.plots.schedulers import ancestry, rung_counts
from purenet.sweep.engine.records import Lineage
from purenet.sweep.results import figures, ranking
from purenet.sweep.results.importance import described, importances
from purenet.sweep.results.trials import SHORT_NAMES, TrialTable, is_absent, value_text

_MOST = 600_000  # numbers of curves in a page: 3.3 MB of it
_PAGE = "page"  # the folder of its template
_SCRIPTS = ("state.js", "charts.js", "table.js", "main.js")


@declared
def write_report(
    path: str | os.PathLike,
    trials: TrialTable,
    lineage: Lineage | None,
    seconds: float,
    title: str = "Sweep",
    reload: Positive | None = None,
) -> None:
    """Write the page; with `reload`, it loads itself again after so many seconds.

    Raises ModuleNotFoundError without plotly, and what `purenet.core.files.writable` and
    `write_bytes` raise.
    """
    path = writable("Result.to_html", path)
    library = extra("plotly.offline", "to_html: the report needs plotly", "report").get_plotlyjs()
    found = content(trials, lineage) | {"reload": reload}
    headline = "\n".join([ranking.headline(trials, seconds), *ranking.cells(trials, 1)[1]])
    folder = importlib.resources.files("purenet.sweep.results") / _PAGE
    read = lambda name: (folder / name).read_text(encoding="utf-8")
    parts = {
        "title": html.escape(printable(title)),
        "headline": html.escape(headline),
        "style": read("page.css"),
        "script": "\n".join(map(read, _SCRIPTS)),
        "library": _packed(library.encode()),
        "data": _packed(json_bytes(found)),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("page.html"))
    write_bytes(path, page.encode("utf-8", "backslashreplace"))


def content(trials: TrialTable, lineage: Lineage | None) -> dict[str, Any]:
    """What the page shows, as JSON has it: texts, numbers, and curves as float32 in base64.

    The runs of a point are averaged, as in the pictures.
    """
    columns = figures.varied(trials)
    log = figures.labels(trials, columns)["log"]
    ranks = np.zeros(len(trials) // trials.runs, int)
    ranks[trials.ranked()] = np.arange(1, len(trials.ranked()) + 1)
    worst = np.array([ranking.STATUSES.index(s) for s in trials.status])
    constant = {n: c[0] for n, c in trials.hyper.items() if n not in columns}
    return {
        "metric": trials.metric,
        "score": f"validation {trials.metric}",
        "maximize": trials.maximize,
        "epochs": trials.score_curves.shape[1],
        "runs": trials.runs,
        "number": (np.arange(len(ranks)) * trials.runs).tolist(),
        "rank": ranks.tolist(),  # 0 for those that diverged
        "status": [ranking.STATUSES[i] for i in trials.by_point(worst).max(axis=1)],
        "trained": trials.by_point(trials.epochs).min(axis=1).tolist(),
        "hyper": [_column(name, column, name in log) for name, column in columns.items()],
        "constants": [f"{printable(n)} = {value_text(value)}" for n, value in constant.items()],
        "metrics": _metrics(trials),
        "curves": _curves(trials),
        "objectives": _objectives(trials),
        "importance": _importance(trials, columns),
        "rungs": _rungs(trials),
        "lineage": None if lineage is None else _lineage(trials, lineage),
    }


# pieces
def _packed(content: bytes) -> str:
    # without a time, so that the same sweep gives the same page
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _rounded(values: np.ndarray, digits: int = 7) -> list[float | None]:
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values.astype(float)]


def _column(name: str, column: np.ndarray, log: bool) -> dict[str, Any]:
    """A hyperparameter, a value per point: numbers, or the places of texts among its names."""
    absent = np.array([is_absent(value) for value in column], bool)
    number = lambda v: isinstance(plain(v), int | float) and not isinstance(plain(v), bool)
    found: dict[str, Any] = {"name": printable(name), "log": log}
    if all(number(value) for value in column[~absent]):
        return found | {"values": _rounded(np.array(column, float))}
    distinct = {value_text(value): value for value in column[~absent]}
    try:
        names = sorted(distinct, key=distinct.__getitem__)
    except (TypeError, ValueError):  # of functions, or of several kinds
        names = sorted(distinct)
    places = [
        None if a else names.index(value_text(v)) for v, a in zip(column, absent, strict=True)
    ]
    return found | {"log": False, "values": places, "names": names}


def _metrics(trials: TrialTable) -> list[dict[str, Any]]:
    """Each metric at the epoch that counts, that which ranks first; its interval after it."""
    parts = [(p, n) for n in trials.curves["validation"] for p in ("validation", "train")]
    parts.sort(key=lambda pair: pair[1] != trials.metric)
    found = []
    for part, name in parts:
        if name not in trials.curves[part]:
            continue
        by_run = trials.by_point(trials.at_epoch(trials.curves[part][name]).astype(float))
        label = f"{SHORT_NAMES.get(part, part)} {SHORT_NAMES.get(name, name)}"
        of = printable(name) if part == "validation" else None
        values = _rounded(by_run.mean(axis=1))
        found.append({"name": printable(label), "of": of, "values": values})
        if len(found) == 1 and trials.runs > 1:
            found.append({"name": "±", "values": _rounded(_intervals(by_run), 3)})
    return found


def _intervals(by_run: np.ndarray) -> np.ndarray:
    from scipy.special import stdtrit

    runs = by_run.shape[1]
    return stdtrit(runs - 1, 0.975) * by_run.std(axis=1, ddof=1) / np.sqrt(runs)


def _curves(trials: TrialTable) -> dict[str, Any]:
    """The curves of every metric, or if they are too many those of the ranking metric, and if these
    are too many every k-th epoch of them."""
    first = trials.metric
    names = sorted(trials.curves["validation"], key=lambda name: name != first)
    points, epochs = len(trials) // trials.runs, trials.score_curves.shape[1]
    if 2 * len(names) * points * epochs > _MOST:
        names = names[:1]
    every = max(1, -(-2 * len(names) * points * epochs // _MOST))
    shown = np.arange(epochs)[::-every][::-1]  # the last is among them
    parts = {}
    for name in names:
        parts[name] = {
            part: _base64(trials, trials.curves[part][name][:, shown])
            for part in ("validation", "train")
            if name in trials.curves[part]
        }
    parts = {printable(name): part for name, part in parts.items()}
    return {"x": (1 + shown).tolist(), "every": every, "metrics": parts}


def _base64(trials: TrialTable, curve: np.ndarray) -> str:
    mean = curve.reshape(-1, trials.runs, curve.shape[1]).astype(float).mean(axis=1)
    return base64.b64encode(mean.astype("<f4").tobytes()).decode()


def _objectives(trials: TrialTable) -> dict[str, Any] | None:
    if not trials.goals:
        return None
    columns = [_rounded(column) for column in trials.objectives().T]
    told = [{"name": printable(g.name), "maximize": g.sign > 0} for g in trials.goals]
    bounds = [g.bound for g in trials.goals]
    rows = zip(told, columns, bounds, strict=True)
    goals = [goal | {"values": values, "bound": bound} for goal, values, bound in rows]
    return {"goals": goals, "front": trials.front()}


def _importance(trials: TrialTable, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    try:
        found = described(importances(trials, columns))
    except (ModuleNotFoundError, ValueError) as error:
        return {"names": [], "values": [], "note": str(error)}
    return found | {"names": [printable(name) for name in found["names"]]}


def _rungs(trials: TrialTable) -> dict[str, Any] | None:
    """Where the scheduler stopped trials: (epoch, how many reached it, how many went beyond)."""
    if not (trials.status == "stopped").any():
        return None
    levels = np.unique(trials.epochs[(trials.status != "diverged") & (trials.epochs > 0)]).tolist()
    return {"levels": levels, "counts": rung_counts(trials.epochs, levels)}


def _lineage(trials: TrialTable, lineage: Lineage) -> dict[str, Any]:
    """How the hyperparameters of the members moved, and the ancestors of the best one."""
    ranked = trials.ranked()
    line = ancestry(lineage.parents, ranked[0]) if ranked else []
    numbers = {
        printable(name): [_rounded(row) for row in column]
        for name, column in lineage.numbers.items()
    }
    return {"every": lineage.every, "ancestors": line, "numbers": numbers}
