"""A sweep's folder on disk: its settings, its results so far, and what it resumes from.

    settings.json   the sweep's settings, with the versions and number settings it started with
    trials.jsonl    one row per trial, for people and other programs: it is never read
    curves.npz      epochs, status, hyperparameters and every metric's curve
    states.npz      the states that unfinished trials resume from, and those of the best
    report.json     programs, plan and time; whether the sweep is finished

Every file is complete or absent, and names its sweep and the number of the save that wrote it. A
trial is determined by the settings, so states may be older than curves, as a process leaves them if
it is killed between the two: training resumes from the states and repeats the rest.
"""

import contextlib
import errno
import os
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from purenet.checkpoint import npz
from purenet.core.files import write_bytes
from purenet.core.json_text import json_bytes
from purenet.core.software import check_resumable, described
from purenet.sweep.schedulers.extending import Extends, unsaid
from purenet.sweep.storage.extend import extended, with_room
from purenet.sweep.storage.lock import Lock
from purenet.sweep.storage.reading import (
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

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Store:
    """One sweep's folder, locked for other processes while it is open."""

    def __init__(
        self, path: str | os.PathLike, settings: dict[str, Any], extends: Extends = unsaid
    ):
        """Start a sweep in a new folder, or resume one with the same settings.

        A sweep with fewer trials or epochs is extended if `extends` returns no reason against it.
        A finished sweep can also be opened from a read-only folder.
        Raises ValueError for a folder that holds another sweep, files that are damaged or do not
        belong together, or an unfinished sweep from other software; BlockingIOError if another
        process uses the folder; OSError if it cannot be written.
        """
        self.folder = Path(path)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but a folder for the results is expected.")
        self._lock: Lock | None = None
        self._saves, self.known = 0, Known()
        unwritable = self._locked()
        try:
            self.resumes = (self.folder / SETTINGS).exists()
            if self.resumes:
                self._find(settings, extends, unwritable)
            else:
                self._begin(settings)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> OSError | None:
        """Lock the folder. If it holds a sweep but cannot be written, returns the reason."""
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
                f"{self.folder} holds {', '.join(strays)} but no {SETTINGS}, so their sweep is "
                "unknown; choose another folder, or remove them."
            )
        self.sweep = uuid.uuid4().hex
        content = {"format": FORMAT, "sweep": self.sweep, "settings": settings} | described()
        content["python"] = platform.python_version()
        self._write(SETTINGS, json_bytes(content, indent=2))

    def _find(self, settings: dict[str, Any], extends: Extends, unwritable: OSError | None) -> None:
        found = read_settings(self.folder)
        self.sweep = found["sweep"]
        content = extended(self.folder, found, settings, extends)
        self._saves, known = read_folder(self.folder, self.sweep)
        self.known = with_room(self.folder, content, known)
        if unwritable is not None:
            if not self.known.finished:
                raise unwritable
            self.known = self.known._replace(complete=True)
        check_resumable(str(self.folder), content, self.known.finished)
        if content != found:
            self._write(SETTINGS, json_bytes(content, indent=2))

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def save(self, rows: list[dict], curves: dict, states: dict, report: dict) -> None:
        """Write everything known so far.

        The curves come first, so that a state is never newer than its curve.
        """
        self._saves += 1
        stamp = Stamp(self.sweep, self._saves, report["finished"])
        trials = b"".join(json_bytes(row) for row in rows)
        self._write(CURVES, npz.write(curves, stamp.text()))
        self._write(STATES, npz.write(states, stamp.text()))
        self._write(TRIALS, trials)
        said = report | stamp._asdict() | {"trials": digest(trials)}
        self._write(REPORT, json_bytes(said, indent=2))

    def _write(self, name: str, content: bytes) -> None:
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
            saved = "; what was saved before is complete, and the same call resumes from it"
            before = saved if (self.folder / CURVES).exists() else ""
            message = f"{what} {self.folder}: {error.strerror or error}{before}"
            raise OSError(error.errno, message) from None
