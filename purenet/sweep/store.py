"""A sweep's folder on disk: what was asked, what is known so far, and how to go on.

    settings.json   what the sweep is, and the versions and number settings it was begun with
    trials.jsonl    one row a trial, for people and other programs: it is never read
    curves.npz      epochs, status, hyperparameters and every metric's curve
    states.npz      the states that unfinished trials go on from, and those of the best
    report.json     programs, plan and time; whether the sweep is finished

Every file is complete or absent, says whose it is, and is one of a numbered save. What a trial will
do follows from the settings, so that states may be older than curves, as a process leaves them that
is killed between the two: training goes on from the states there are, and repeats what it must.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purenet import npz_format
from purenet.files import write_bytes
from purenet.leaves import printable, short
from purenet.software import check_resumable, described
from purenet.sweep.lock import Lock
from purenet.sweep.pool import Record
from purenet.sweep.reading import (
    CURVES,
    FORMAT,
    REPORT,
    SETTINGS,
    STATES,
    TRIALS,
    Known,
    Stamp,
    digest,
    read_folder,
    read_settings,
)
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

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
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

        A finished sweep is also found where nothing can be written.
        Raises ValueError for a folder that holds another sweep, or files that are damaged or do not
        belong together, and where other software began what is not finished; BlockingIOError where
        another process uses it; OSError where it cannot be written.
        """
        self.folder = Path(path)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but a folder for the results is expected.")
        self._lock: Lock | None = None
        self._saves, self.known = 0, Known()
        unwritable = self._locked()
        try:
            self.goes_on = (self.folder / SETTINGS).exists()
            if self.goes_on:
                self._find(settings, unwritable)
            else:
                self._begin(settings)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> OSError | None:
        """Lock the folder. Why it cannot be written, where there is a sweep all the same."""
        try:
            with self._said("cannot write results to"):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock = Lock(self.folder)
        except OSError as error:
            if error.errno not in _READ_ONLY or not (self.folder / SETTINGS).exists():
                raise
            return error
        return None

    def _begin(self, settings: dict[str, Any]) -> None:
        strays = [n for n in (CURVES, STATES, REPORT, TRIALS) if os.path.lexists(self.folder / n)]
        if strays:
            raise ValueError(
                f"{self.folder} holds {', '.join(strays)} but no {SETTINGS}, so nobody knows of "
                "which sweep; name another folder, or remove them."
            )
        self.sweep = uuid.uuid4().hex
        content = {"format": FORMAT, "sweep": self.sweep, "settings": settings} | described()
        content["python"] = platform.python_version()
        self._write(SETTINGS, json_bytes(content, indent=2))

    def _find(self, settings: dict[str, Any], unwritable: OSError | None) -> None:
        content = read_settings(self.folder)
        self.sweep = content["sweep"]
        _refuse_others(self.folder, content["settings"], settings)
        self._saves, self.known = read_folder(self.folder, self.sweep)
        if unwritable is not None:
            if not self.known.finished:
                raise unwritable
            self.known = self.known._replace(complete=True)
        check_resumable(str(self.folder), content, self.known.finished)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def save(self, rows: list[dict], curves: dict, states: dict, report: dict) -> None:
        """Write what is known now.

        The curves come first: a state is never newer than the curve that it continues.
        """
        self._saves += 1
        stamp = Stamp(self.sweep, self._saves, report["finished"])
        trials = b"".join(json_bytes(row) for row in rows)
        self._write(CURVES, npz_format.write(curves, stamp.text()))
        self._write(STATES, npz_format.write(states, stamp.text()))
        self._write(TRIALS, trials)
        said = report | stamp._asdict() | {"trials": digest(trials)}
        self._write(REPORT, json_bytes(said, indent=2))

    def _write(self, name: str, content: bytes | memoryview) -> None:
        with self._said(f"cannot write {name} to"):
            assert self._lock is not None
            self._lock.check()
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


def _refuse_others(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    asked = json.loads(json_bytes(asked))
    names = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
    if names:
        lines = [f"  {printable(n)}: there {found.get(n)!r}, asked {asked.get(n)!r}" for n in names]
        raise ValueError(
            f"{folder} holds another sweep; name another folder, or ask for the same:\n"
            + "\n".join(lines)
        )


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
