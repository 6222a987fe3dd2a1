"""One folder for several processes: the first one reads and writes, and sends to the others."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.json_text import json_bytes
from purenet.distributed import multihost
from purenet.sweep.schedulers.extending import Extends, unsaid
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.reading import Known
from purenet.sweep.storage.records import from_bytes, to_bytes


class SharedStore:
    """The folder of the first process, as every process sees it."""

    def __init__(
        self, path: str | os.PathLike, settings: dict[str, Any], extends: Extends = unsaid
    ):
        self.folder = Path(path)
        self.store: Store | None = None

        def open_it():
            self.store = Store(path, settings, extends)
            return to_bytes({"resumes": np.array(self.store.resumes)})

        self.resumes = bool(from_bytes(multihost.broadcast_bytes(open_it))["resumes"])

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def save(self, rows: list[dict], curves: dict, states: dict, report: dict) -> None:
        if self.store is not None:
            self.store.save(rows, curves, states, report)

    @property
    def known(self) -> Known:
        """The content of the folder; every process must ask for it."""
        curves = self._broadcast(lambda store: store.known.curves)
        states = self._broadcast(lambda store: store.known.states)
        rest = json.loads(multihost.broadcast_bytes(lambda: json_bytes(self.store.known[2:])))  # type: ignore[union-attr]
        return Known(curves, states or {}, *rest)

    def _broadcast(self, read: Callable) -> dict[str, np.ndarray] | None:
        def write():
            arrays = read(self.store)
            return b"" if arrays is None else to_bytes(arrays)

        payload = multihost.broadcast_bytes(write)
        return from_bytes(payload) if payload else None
