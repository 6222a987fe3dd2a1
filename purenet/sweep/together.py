"""Several processes, one sweep: each trains its share of the trials on its own devices.

Every process runs the same sweep and, since they tell each other what they have measured after
every report, knows the same of it and comes to the same decisions. Only the first one writes.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purenet import processes
from purenet.sweep.engine import PARTS
from purenet.sweep.interrupts import Flag
from purenet.sweep.pool import Pool, Record, Report
from purenet.sweep.population import Population
from purenet.sweep.reading import Known
from purenet.sweep.store import Store, json_bytes, pack_records, unpack_records


class Together:
    """The trials of one static group, as a pool that has lanes in every process.

    `pool` are this process's lanes, and knows all of the trials; `pressed` says whether the user
    wants to stop here, and `interrupted` is raised where they do anywhere.
    """

    def __init__(self, pool: Pool, pressed: Flag, interrupted: Flag):
        self.pool, self.pressed, self.interrupted = pool, pressed, interrupted
        self.cost = pool.cost
        self.owner = np.empty(0, int)  # the process that has a row's state, -1 where all or none do
        self.epochs = np.empty(0, int)  # that this state has

    def add(self, points: np.ndarray, seeds: np.ndarray, numbers: tuple) -> None:
        self.pool.add(points, seeds, numbers)
        self.owner = np.append(self.owner, np.full(len(points), -1))
        self.epochs = np.append(self.epochs, np.zeros(len(points), int))

    def put(self, row: int, record: Record) -> None:
        self.pool.put(row, record)
        self.epochs[row] = record.epochs

    def train(self, goals: np.ndarray, keep: np.ndarray) -> Iterator[Report]:
        """Train every row to its goal, somewhere; what was measured anywhere, in the same order in
        every process."""
        self._deal(np.maximum(goals - self.epochs, 0))
        mine = self.owner == jax.process_index()
        reports = self.pool.train(np.where(mine, goals, 0), keep & mine)
        while True:
            report = next(reports, None)
            told = processes.exchanged(_packed(report, bool(self.pressed)))
            found = [_unpacked(payload) for payload in told]
            self.interrupted.raised = any(pressed for _, pressed in found)
            those = [report for report, _ in found if report is not None]
            if not those:
                return
            for report in those:
                self.epochs[report.rows] = report.after
                yield report

    def state(self, row: int) -> list[np.ndarray]:
        return self.records([row])[row].state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, Record]:
        """Those of the rows that have a state anywhere; to be called in every process."""
        rows = np.asarray(rows, int)
        mine = self.pool.records(rows[np.isin(self.owner[rows], (-1, jax.process_index()))])
        found: dict[int, Record] = {}
        for payload in processes.exchanged(_bytes(pack_records([mine]))):
            found |= unpack_records(_arrays(payload), 0)
        return {row: self._viewed(found[row]) for row in map(int, rows) if row in found}

    def release(self, keep: np.ndarray) -> None:
        self.pool.release(keep & (self.owner == jax.process_index()))

    def _viewed(self, record: Record) -> Record:
        """With the dtypes of a state, some of which travel as whole numbers."""
        pairs = zip(record.state, self.pool.compiled.program.leaves, strict=True)
        return record._replace(state=[np.asarray(a).view(like.dtype) for a, like in pairs])

    def _deal(self, remaining: np.ndarray) -> None:
        """Share the work out: to whoever has the state of a row, unless that would be unfair."""
        owner = dealt(remaining, self.owner, processes.count())
        moved = np.flatnonzero((owner != self.owner) & (self.owner >= 0))
        if len(moved):
            for row, record in self.records(moved).items():
                if owner[row] == jax.process_index():
                    self.pool.put(row, record)
        self.owner = owner


def dealt(remaining: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The process of every row with epochs remaining: its owner where that one has not got more
    than its share by then, else the one with the least to do.

    >>> dealt(np.array([4, 4, 4, 0]), np.array([0, 0, 0, 1]), 2).tolist()
    [0, 1, 0, 1]
    """
    owner, load = owner.copy(), np.zeros(count, int)
    share = remaining.sum() / count
    for row in np.argsort(-remaining, kind="stable")[: np.count_nonzero(remaining)]:
        mine = owner[row]
        if mine < 0 or load[mine] + remaining[row] > max(share, remaining[row]):
            owner[row] = mine = int(load.argmin())
        load[mine] += remaining[row]
    return owner


class SharedStore:
    """The folder of the first process, of which the others are told."""

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any]):
        self.folder = Path(path)
        self.store: Store | None = None

        def open_it():
            self.store = Store(path, settings)
            return _bytes({"goes on": np.array(self.store.goes_on)})

        self.goes_on = bool(_arrays(processes.told(open_it))["goes on"])

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def save(self, *known: Any) -> None:
        if self.store is not None:
            self.store.save(*known)

    @property
    def known(self) -> Known:
        """To be asked for in every process."""
        curves = self._arrays_told(lambda store: store.known.curves)
        states = self._arrays_told(lambda store: store.known.states)
        rest = json.loads(processes.told(lambda: json_bytes(self.store.known[2:])))  # type: ignore[union-attr]
        return Known(curves, states or {}, *rest)

    def _arrays_told(self, read: Callable) -> dict[str, np.ndarray] | None:
        def write():
            arrays = read(self.store)
            return b"" if arrays is None else _bytes(arrays)

        payload = processes.told(write)
        return _arrays(payload) if payload else None


def check(settings: dict[str, Any], search: Any, executor: Any) -> None:
    """Refuse what several processes cannot do together. Raises ValueError."""
    if executor is not None:
        raise ValueError(
            f"sweep: an executor has workers of its own, but {processes.count()} processes call "
            "run; call it in one, or leave out executor=."
        )
    if isinstance(search, Population):
        raise ValueError(
            "sweep: the members of a population copy each other inside one program, so "
            f"{processes.count()} processes cannot share them; choose another search."
        )
    asked = [json.loads(payload) for payload in processes.exchanged(json_bytes(settings))]
    for number, other in enumerate(asked):
        for name, value in asked[0].items():
            if other[name] != value:
                raise ValueError(
                    f"sweep: process {number} was asked for another sweep than process 0: {name} "
                    f"is {other[name]!r} there, but {value!r} here; call run with the same "
                    "arguments in every process."
                )


def _packed(report: Report | None, pressed: bool) -> bytes:
    arrays = {"pressed": np.array(pressed)}
    if report is not None:
        arrays |= {name: getattr(report, name) for name in ("rows", "before", "after", "alive")}
        for part, metrics in report.curves.items():
            arrays |= {f"{part} {name}": latest for name, latest in metrics.items()}
    return _bytes(arrays)


def _unpacked(payload: bytes) -> tuple[Report | None, bool]:
    arrays = _arrays(payload)
    pressed = bool(arrays.pop("pressed"))
    if not arrays:
        return None, pressed
    named = {name: arrays.pop(name) for name in ("rows", "before", "after", "alive")}
    curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for name, latest in arrays.items():
        part, _, metric = name.partition(" ")
        curves[part][metric] = latest
    return Report(**named, curves=curves), pressed


def _bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _arrays(payload: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
