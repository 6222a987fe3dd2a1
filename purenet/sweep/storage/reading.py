"""Read a sweep's folder, checking each file, and that all of them belong to one sweep.

Each file except `trials.jsonl` has a stamp: its sweep, and its save. Nothing is unpickled.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purenet.checkpoint import npz
from purenet.core.files import open_file
from purenet.core.json_text import read_json, strict_json
from purenet.core.tree import short
from purenet.sweep.engine.records import damaged

SETTINGS, TRIALS, CURVES = "settings.json", "trials.jsonl", "curves.npz"
STATES, REPORT = "states.npz", "report.json"
FORMAT = 3


class Stamp(NamedTuple):
    """The stamp of each file except `trials.jsonl`.

    >>> read_stamp(Path("curves.npz"), json.loads(Stamp("a", 3, False).text()))
    Stamp(sweep='a', save=3, finished=False)
    """

    sweep: str  # drawn at random when the sweep started, and stored in its settings
    save: int  # 1 is the first; the files of one save have the same number
    finished: bool  # whether nothing was left to train

    def text(self) -> str:
        return json.dumps(self._asdict())


class Known(NamedTuple):
    """The content of a folder when it was opened.

    >>> Known().finished
    False
    """

    curves: dict[str, np.ndarray] | None = None
    states: dict[str, np.ndarray] = {}  # noqa: RUF012
    report: dict[str, Any] = {}  # noqa: RUF012
    finished: bool = False  # nothing is left to train
    complete: bool = False  # nothing is left to write either


def read_stamp(path: Path, content: Any) -> Stamp:
    """The stamp in the text of a file. Raises ValueError, naming the file, if it has none.

    >>> read_stamp(Path("curves.npz"), {"save": 1})
    Traceback (most recent call last):
    ValueError: curves.npz is damaged: it does not name its sweep and its save.
    """
    found = content if isinstance(content, dict) else {}
    stamp = Stamp(*(found.get(name) for name in Stamp._fields))  # type: ignore[arg-type]
    legal = (
        isinstance(stamp.sweep, str)
        and type(stamp.save) is int
        and 0 < stamp.save < 2**53
        and isinstance(stamp.finished, bool)
    )
    if not legal:
        raise ValueError(f"{path} is damaged: it does not name its sweep and its save.")
    return stamp


def check_sweep(path: Path, stamp: Stamp, sweep: str) -> None:
    """Raises ValueError, naming the file, for a file of another sweep.

    >>> check_sweep(Path("curves.npz"), Stamp("a", 1, False), "a")
    """
    if stamp.sweep != sweep:
        raise ValueError(
            f"{path} belongs to another sweep than settings.json; remove it, and its contents "
            "are recomputed."
        )


def check_order(curves: Path, curves_save: int, states: Path, states_save: int) -> None:
    """Raises ValueError, naming the files, for states that are newer than the curves they continue.
    No process leaves them so: it writes the curves first.

    >>> check_order(Path("curves.npz"), 2, Path("states.npz"), 2)
    """
    if states_save > curves_save:
        raise ValueError(
            f"{curves} is of save {curves_save}, older than {states} of save {states_save}, so one "
            f"of them was replaced; remove {states.name}, and its contents are recomputed."
        )


def read_folder(folder: Path, sweep: str) -> tuple[int, Known]:
    """The number of the last save, and the content of the folder.

    Raises ValueError, naming the file, for files that are damaged, of another sweep than `sweep`,
    or not in the order in which they are written.
    """
    paths = {name: folder / name for name in (CURVES, STATES, REPORT)}
    curves, curves_stamp = _stamped(paths[CURVES], sweep)
    states, states_stamp = _stamped(paths[STATES], sweep)
    report, report_stamp = stamped_report(paths[REPORT], sweep)
    last = max(stamp.save for stamp in (curves_stamp, states_stamp, report_stamp))
    if curves is None:
        return last, Known()
    check_order(paths[CURVES], curves_stamp.save, paths[STATES], states_stamp.save)
    finished = curves_stamp.finished and curves_stamp == states_stamp
    complete = finished and curves_stamp == report_stamp
    if complete and (folder / TRIALS).is_file():
        with open_file(folder / TRIALS, "sweep") as file:
            complete = digest(file.read()) == report.get("trials")
    else:
        complete = False
    return last, Known(curves, states or {}, report, finished, complete)


def digest(content: bytes) -> str:
    """A hash of the content.

    >>> digest(b"") == digest(b" ")
    False
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _stamped(path: Path, sweep: str) -> tuple[dict[str, np.ndarray] | None, Stamp]:
    """The arrays of a file and their stamp; without a file, None and the stamp of save 0."""
    if not os.path.lexists(path):
        return None, Stamp(sweep, 0, False)
    found, text = _read_arrays(path)
    try:
        content = strict_json(text)
    except (ValueError, RecursionError):
        content = None
    stamp = read_stamp(path, content)
    check_sweep(path, stamp, sweep)
    return found, stamp


def stamped_curves(path: Path, sweep: str) -> dict[str, np.ndarray] | None:
    """The arrays of a file of the `sweep`, None if there is no file. Raises ValueError, naming the
    file, if it is damaged or another sweep's."""
    return _stamped(path, sweep)[0]


def stamped_report(path: Path, sweep: str) -> tuple[dict[str, Any], Stamp]:
    """The report of the `sweep` with its stamp; an empty one of save 0 if there is no file. Raises
    ValueError, naming the file, if it is damaged or another sweep's."""
    if not os.path.lexists(path):
        return {"seconds": 0.0, "plan": None, "programs": []}, Stamp(sweep, 0, False)
    report = read_report(path)
    stamp = read_stamp(path, report)
    check_sweep(path, stamp, sweep)
    return report, stamp


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one of purenet's .npz files.

    Raises ValueError, naming the file, if it is damaged. Nothing is unpickled.
    """
    return _read_arrays(path)[0]


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        with npz.opened("sweep", path) as reader:
            return {name: reader.read(name) for name in reader.names}, reader.text
    except ValueError as error:
        raise ValueError(f"{error} Remove it, and its contents are recomputed.") from None


def read_report(path: Path) -> dict[str, Any]:
    """The report. Raises ValueError, naming the file, if parts of it are missing or malformed."""
    report = read_json(path)
    seconds, plan, programs = (report.get(name) for name in ("seconds", "plan", "programs"))
    legal = (
        "plan" in report
        and isinstance(seconds, (int, float))
        and 0 <= seconds < 1e300
        and isinstance(report.get("finished"), bool)
        and isinstance(plan, (dict, type(None)))
        and isinstance(programs, list)
    )
    if not legal:
        raise ValueError(
            f"{path} is damaged: seconds, finished, plan and programs are {short(seconds)}, "
            f"{short(report.get('finished'))}, {short(plan)} and {short(programs)}."
        )
    return report


def check_known(
    path: Path, known: dict[str, np.ndarray], trials: int, runs: int, epochs: int, metric: str
) -> int:
    """The number of trials in the arrays of curves.npz: those whose points have been drawn.

    Raises ValueError, naming the first array that does not fit the sweep.
    """

    def refuse(name, what):
        raise damaged(path, f"{name!r} {what}")

    for name in ("epochs", "alive", "ended", f"validation {metric}"):
        if name not in known:
            refuse(name, "is missing")
    count = known.get("rows", np.zeros(0))
    if count.shape != () or count.dtype.kind != "i" or not 0 < count <= trials * runs:
        refuse("rows", f"is not a number of trials from 1 to {trials * runs}")
    rows = int(count)
    if rows % runs:
        refuse("rows", f"is {rows}, which is not {runs} per point")
    for name, array in known.items():
        if name.startswith("lineage ") or name == "rows":
            continue
        columns = name in ("epochs", "alive", "ended") or name.startswith(("hyper ", "choice "))
        expected = (1,) if columns else (2,)
        kinds = {"epochs": "i", "alive": "b", "ended": "b"}.get(name, "fi")
        curve = expected == (2,)
        if array.ndim not in expected or len(array) < rows or array.dtype.kind not in kinds:
            refuse(
                name, f"has the shape {array.shape} of {array.dtype}, but there are {rows} trials"
            )
        if curve and (array.shape[1] != epochs or array.dtype.kind != "f"):
            refuse(name, f"has the shape {array.shape} of {array.dtype} for {epochs} epochs")
    counts = known["epochs"]
    if not ((counts >= 0) & (counts <= epochs)).all():
        refuse("epochs", f"holds numbers outside 0 to {epochs}")
    return rows


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of settings.json. Raises FileNotFoundError if there is none, ValueError if it is
    malformed."""
    path = folder / SETTINGS
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no sweep: there is no {SETTINGS}.")
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {short(content.get('format'))}, but {FORMAT} is what this "
            "version of purenet reads."
        )
    if not (isinstance(content.get("settings"), dict) and isinstance(content.get("sweep"), str)):
        raise ValueError(f"{path} is damaged: it does not name its sweep.")
    return content


def fitting(path: Path, known: dict[str, np.ndarray], name: str, mine: np.ndarray) -> np.ndarray:
    """One of the arrays of curves.npz. Raises ValueError unless it has the shape and the dtype of
    `mine`."""
    found = known.get(name)
    if found is None or (found.shape, found.dtype) != (mine.shape, mine.dtype):
        what = "is missing" if found is None else f"is {found.dtype} {found.shape}"
        raise ValueError(
            f"{path} is damaged, or from another setting of jax_enable_x64: {name!r} {what}, but "
            f"{mine.dtype} {mine.shape} is expected; remove it, and its contents are recomputed."
        )
    return found
