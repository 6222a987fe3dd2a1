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

import purenet
from purenet import npz_format
from purenet.files import write_bytes
from purenet.sweep.pool import Record
from purenet.sweep.space import Choice, LogUniform, Normal, RandInt, Uniform

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
                versions = {m.__name__: m.__version__ for m in (purenet, jax, jaxlib, np)}
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
        return read_json(path) if path.exists() else {}

    def fitting(self, known: dict[str, np.ndarray], name: str, mine: np.ndarray) -> np.ndarray:
        """One of the arrays of the curves, if it is what `mine` can take."""
        found = known.get(name)
        if found is None or found.shape != mine.shape:
            shape = None if found is None else found.shape
            raise ValueError(
                f"{self.folder / CURVES} is damaged: {name!r} has the shape {shape}, but "
                f"{mine.shape} is expected; remove it, and what it held is computed again."
            )
        return found

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


def describe_leaf(leaf) -> Any:
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
    of another library is text."""
    if not isinstance(described, dict):
        return described
    ((kind, values),) = described.items()
    of = _DISTRIBUTIONS[kind]
    return of(tuple(values)) if of is Choice else of(*values)


def plain(value) -> Any:
    """A value as files hold it: numbers as they are, functions by name."""
    if isinstance(value, np.generic):
        value = value.item()
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return value


def fingerprint(data) -> str:
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
    known = stacked.dtype.kind in "biufc"
    return stacked if known else stacked.view(f"u{stacked.dtype.itemsize}")


def unpack_records(packed: dict[str, np.ndarray], g: int) -> dict[int, Record]:
    """Those of one group."""

    def rows_of(kind):
        leaves: list[np.ndarray] = []
        while (name := f"{g} {kind} {len(leaves)}") in packed:
            leaves.append(packed[name])
        return zip(*leaves, strict=True) if leaves else iter(lambda: (), None)

    heads = zip(packed.get(f"{g} rows", ()), packed.get(f"{g} epochs", ()), strict=True)
    parts = zip(heads, rows_of("numbers"), rows_of("state"), strict=False)
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
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds {type(content).__name__}, not an object.")
    return content


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


def json_bytes(content, indent=None) -> bytes:
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
