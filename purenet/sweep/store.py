"""A sweep's folder on disk: what was asked, what is known so far, and how to go on.

    settings.json   what the sweep is, with the versions it was begun with; written once
    trials.jsonl    one row a trial
    curves.npz      epochs, status and every metric's curve
    states.npz      the states that unfinished trials go on from, and those of the best
    report.json     programs, plan and time; whether the sweep is finished

Every file is complete or absent. What a trial will do follows from the settings, so the folder may
be any moments old: training goes on from the states it has, and repeats what it must.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from purenet import npz_format
from purenet._version import __version__
from purenet.files import write_bytes
from purenet.leaves import short
from purenet.sweep.pool import Record
from purenet.sweep.space import (
    Choice,
    LogUniform,
    Normal,
    RandInt,
    Uniform,
    loguniform,
    normal,
    randint,
    uniform,
)
from purenet.types import PyTree

SETTINGS, TRIALS, CURVES = "settings.json", "trials.jsonl", "curves.npz"
STATES, REPORT, _LOCK = "states.npz", "report.json", ".lock"
_FILES = (SETTINGS, TRIALS, CURVES, STATES, REPORT)
_FORMAT = 1
_DISTRIBUTIONS: dict[str, Any] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "normal": Normal,
    "randint": RandInt,
    "choice": Choice,
}
_CHECKED: dict[str, Any] = {
    "uniform": uniform, "loguniform": loguniform, "normal": normal, "randint": randint,
}  # fmt: skip


class Store:
    """One sweep's folder, which no other process may use while it is open."""

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any]):
        """Begin a sweep in a new folder, or find one of the same settings to go on with.

        Raises ValueError for a folder that holds another sweep, or files that are damaged;
        BlockingIOError where another process uses it; OSError where it cannot be written.
        """
        self.folder = Path(path)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but a folder for the results is expected.")
        with self._said("cannot write results to"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
            for name in _FILES:  # what a process that was killed left unfinished
                for half in self.folder.glob(f".{name}.*"):
                    half.unlink()
        try:
            self.goes_on = (self.folder / SETTINGS).exists()
            if self.goes_on:
                _refuse_others(self.folder, settings)
            else:
                versions = {"purenet": __version__}
                versions |= {m.__name__: m.__version__ for m in (jax, jaxlib, np)}
                versions["python"] = platform.python_version()
                content = {"format": _FORMAT, "settings": settings, "versions": versions}
                self._write(SETTINGS, json_bytes(content, indent=2))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._lock.close()

    def save(self, rows: list[dict], curves: dict, states: dict, report: dict) -> None:
        """Write what is known now.

        The curves come first: a state is never newer than the curve that it continues.
        """
        self._write(CURVES, npz_format.write(curves, "{}"))
        self._write(STATES, npz_format.write(states, "{}"))
        self._write(TRIALS, b"".join(json_bytes(row) for row in rows))
        self._write(REPORT, json_bytes(report, indent=2))

    def curves(self) -> dict[str, np.ndarray] | None:
        return arrays(self.folder / CURVES)

    def states(self) -> dict[str, np.ndarray] | None:
        return arrays(self.folder / STATES)

    def report(self) -> dict[str, Any]:
        path = self.folder / REPORT
        return read_report(path) if path.exists() else {}

    def _write(self, name: str, content: bytes | memoryview) -> None:
        with self._said(f"cannot write {name} to"):
            write_bytes(self.folder / name, content)

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            saved = "; what was saved before is complete, and the same call goes on from it"
            before = saved if (self.folder / CURVES).exists() else ""
            message = f"{what} {self.folder}: {error.strerror or error}{before}"
            raise OSError(error.errno, message) from None


def fitting(folder: Path, known: dict[str, np.ndarray], name: str, mine: np.ndarray) -> np.ndarray:
    """One of the arrays of a folder's curves, if it is what `mine` can take."""
    found = known.get(name)
    if found is None or (found.shape, found.dtype) != (mine.shape, mine.dtype):
        what = "is missing" if found is None else f"is {found.dtype} {found.shape}"
        raise ValueError(
            f"{folder / CURVES} is damaged, or of another jax_enable_x64: {name!r} {what}, but "
            f"{mine.dtype} {mine.shape} is expected; remove it, and what it held is computed again."
        )
    return found


def describe_leaf(leaf: Any) -> Any:
    """A distribution or a constant as JSON that says the same in every process."""
    for kind, of in _DISTRIBUTIONS.items():
        if isinstance(leaf, of):
            values = leaf.values if of is Choice else dataclasses.astuple(leaf)
            return {kind: [plain(value) for value in values]}
    value = plain(leaf)
    if isinstance(value, (int, float, str, bool, list, type(None))):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def distribution_of(described: Any) -> Any:
    """What was described, as far as text can tell: functions are their names, and a distribution
    of another library is text. Raises TypeError or ValueError for what describes none."""
    if not isinstance(described, dict):
        if not is_value(described):
            raise ValueError("a value is expected")
        return described
    if len(described) != 1 or not isinstance(values := next(iter(described.values())), list):
        raise ValueError("a name of a distribution with a list is expected")
    (kind,) = described
    if kind not in _DISTRIBUTIONS:
        raise ValueError(f"{short(kind)} is no distribution")
    if kind != "choice":
        return _CHECKED[kind](*values)
    if not values or not is_value(values):
        raise ValueError("a choice has values")
    return Choice(tuple(values))


def is_value(content: Any, depth: int = 0) -> bool:
    """Whether JSON stands for a hyperparameter: no object, and no deep nesting of lists."""
    if isinstance(content, list):
        return depth < 32 and all(is_value(part, depth + 1) for part in content)
    return not isinstance(content, dict)


def plain(value: Any) -> Any:
    """A value as files hold it: numbers as they are, functions by name."""
    if isinstance(value, np.generic):
        value = value.item()
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return value


def fingerprint(data: PyTree) -> str:
    """What tells data apart: shapes, dtypes and every number."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_flatten_with_path(data)[0]:
        leaf = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(leaf.view(np.uint8).data if leaf.size else b"")
    return digest.hexdigest()


def pack_records(groups: list[dict[int, Record]]) -> dict[str, np.ndarray]:
    """The states of some trials of each group as arrays, a row a trial."""
    packed: dict[str, np.ndarray] = {}
    for g, records in enumerate(groups):
        if not records:
            continue
        packed[f"{g} rows"] = np.array(list(records))
        packed[f"{g} epochs"] = np.array([record.epochs for record in records.values()])
        for kind in ("numbers", "state"):
            leaves = zip(*(getattr(record, kind) for record in records.values()), strict=True)
            packed |= {f"{g} {kind} {i}": _plain_bits(leaf) for i, leaf in enumerate(leaves)}
    return packed


def _plain_bits(leaf) -> np.ndarray:
    """Stacked, and numbers that NumPy has no name for (bfloat16) as whole numbers of their size."""
    stacked = np.stack(leaf)
    return stacked.view(stored_dtype(stacked.dtype))


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """That of the file for an array of `dtype`."""
    return dtype if dtype.kind in "biufc" else np.dtype(f"u{dtype.itemsize}")


def unpack_records(packed: dict[str, np.ndarray], g: int) -> dict[int, Record]:
    """Those of one group. Raises ValueError where the arrays do not belong together."""
    rows, epochs = (packed.get(f"{g} {name}", np.empty(0, int)) for name in ("rows", "epochs"))
    many = [a for name, a in packed.items() if name.startswith((f"{g} numbers ", f"{g} state "))]
    counts = {a.shape[:1] for a in (rows, epochs, *many)}
    kinds = {(a.ndim, a.dtype.kind) for a in (rows, epochs)}
    if len(counts) != 1 or kinds != {(1, "i")} or len(set(rows.tolist())) < len(rows):
        raise ValueError(f"the rows of group {g} do not belong together")

    def rows_of(kind):
        leaves: list[np.ndarray] = []
        while (name := f"{g} {kind} {len(leaves)}") in packed:
            leaves.append(packed[name])
        return zip(*leaves, strict=True) if leaves else iter(lambda: (), None)

    parts = zip(zip(rows, epochs, strict=True), rows_of("numbers"), rows_of("state"), strict=False)
    return {int(row): Record(n, int(e), list(state)) for (row, e), n, state in parts}


def arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of one of our .npz files, None where there is none.

    Raises ValueError, which names the file, where it is damaged. Nothing is unpickled.
    """
    if not path.exists():
        return None
    try:
        with npz_format.opened("sweep", path) as reader:
            return {name: reader.read(name) for name in reader.names}
    except ValueError as error:
        raise ValueError(f"{error} Remove it, and what it held is computed again.") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError, which names the file, for anything else."""
    try:
        content = strict_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds {type(content).__name__}, not an object.")
    return content


def strict_json(text: str) -> Any:
    """What JSON says, without the numbers that only Python's reader knows, NaN and infinities."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read_report(path: Path) -> dict[str, Any]:
    """The report. Raises ValueError, which names the file, for one that lacks its parts."""
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
    path: Path, known: dict[str, np.ndarray], rows: int, epochs: int, metric: str
) -> None:
    """Refuse arrays of curves.npz that cannot be those of so many trials, naming the first."""

    def refuse(name, what):
        raise ValueError(
            f"{path} is damaged: {name!r} {what}; remove it, and what it held is computed again."
        )

    for name in ("epochs", "alive", f"validation {metric}"):
        if name not in known:
            refuse(name, "is missing")
    for name, array in known.items():
        if name.startswith("lineage "):
            continue
        expected = (1,) if name in ("epochs", "alive") or name.startswith("hyper ") else (2,)
        kinds = {"epochs": "i", "alive": "b"}.get(name, "fi")
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


def read_settings(folder: Path) -> dict[str, Any]:
    """What a folder's sweep was asked to do. Raises ValueError where that cannot be read."""
    path = folder / SETTINGS
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no sweep: there is no {SETTINGS}.")
    content = read_json(path)
    if content.get("format") != _FORMAT or not isinstance(content.get("settings"), dict):
        raise ValueError(
            f"{path} has the format {content.get('format')!r}, but {_FORMAT} is what this version "
            "of purenet reads."
        )
    return content["settings"]


def _refuse_others(folder: Path, settings: dict[str, Any]) -> None:
    found, asked = read_settings(folder), json.loads(json_bytes(settings))
    names = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
    if names:
        lines = [f"  {n}: there {found.get(n)!r}, asked {asked.get(n)!r}" for n in names]
        raise ValueError(
            f"{folder} holds another sweep; name another folder, or ask for the same:\n"
            + "\n".join(lines)
        )


def _locked(folder: Path):
    """A file that is locked while it is open; the lock goes with the process, however it ends."""
    file = open(folder / _LOCK, "ab")  # noqa: SIM115
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # a system without such locks
    except OSError:
        file.close()
        raise BlockingIOError(
            f"{folder} is in use: another process runs the sweep there; wait for it to end, or "
            "name another folder."
        ) from None
    return file


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """One line of strict JSON, or several: what is not finite is null."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(part) for key, part in value.items()}
        value = plain(value)
        if isinstance(value, list):
            return [clean(part) for part in value]
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)

    text = json.dumps(clean(content), indent=indent, allow_nan=False)
    return (text + "\n").encode()
