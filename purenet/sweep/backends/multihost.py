"""Several processes, one sweep: each trains its share of the trials on its own devices.

Every process runs the same sweep and, since they tell each other what they have measured after
every report, knows the same of it and comes to the same decisions. Only the first one writes.
"""

import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet.core.interrupts import InterruptFlag
from purenet.core.json_text import json_bytes
from purenet.distributed import multihost
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import PARTS
from purenet.sweep.engine.records import Report, TrialCheckpoint
from purenet.sweep.schedulers.base import Scheduler
from purenet.sweep.storage.records import from_bytes, pack_records, to_bytes, unpack_records


class MultiHostPool:
    """The trials of one static group, as a pool that has lanes in every process.

    `pool` are this process's lanes, and knows all of the trials; `pressed` says whether the user
    wants to stop here, and `interrupted` is raised where they do anywhere.
    """

    def __init__(
        self, pool: LanePool, interrupt_requested: InterruptFlag, interrupted: InterruptFlag
    ):
        self.pool, self.interrupt_requested, self.interrupted = (
            pool,
            interrupt_requested,
            interrupted,
        )
        self.cost = pool.cost
        self.owner = np.empty(0, int)  # the process that has a row's state, -1 where all or none do
        self.epochs = np.empty(0, int)  # that this state has

    def add(self, points: np.ndarray, seeds: np.ndarray, numbers: tuple) -> None:
        self.pool.add(points, seeds, numbers)
        self.owner = np.append(self.owner, np.full(len(points), -1))
        self.epochs = np.append(self.epochs, np.zeros(len(points), int))

    def put(self, row: int, record: TrialCheckpoint) -> None:
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
            told = multihost.all_gather_bytes(_packed(report, bool(self.interrupt_requested)))
            found = [_unpacked(payload) for payload in told]
            self.interrupted.raised = any(interrupt_requested for _, interrupt_requested in found)
            those = [report for report, _ in found if report is not None]
            if not those:
                return
            for report in those:
                self.epochs[report.rows] = report.after
                yield report

    def state(self, row: int) -> list[np.ndarray]:
        return self.records([row])[row].state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        """Those of the rows that have a state anywhere; to be called in every process."""
        rows = np.asarray(rows, int)
        mine = self.pool.records(rows[np.isin(self.owner[rows], (-1, jax.process_index()))])
        found: dict[int, TrialCheckpoint] = {}
        for payload in multihost.all_gather_bytes(to_bytes(pack_records([mine]))):
            found |= unpack_records(from_bytes(payload), 0)
        return {row: self._viewed(found[row]) for row in map(int, rows) if row in found}

    def release(self, keep: np.ndarray) -> None:
        self.pool.release(keep & (self.owner == jax.process_index()))

    def _viewed(self, record: TrialCheckpoint) -> TrialCheckpoint:
        """With the dtypes of a state, some of which travel as whole numbers."""
        pairs = zip(record.state, self.pool.compiled.program.leaves, strict=True)
        return record._replace(state=[np.asarray(a).view(like.dtype) for a, like in pairs])

    def _deal(self, remaining: np.ndarray) -> None:
        """Share the work out: to whoever has the state of a row, unless that would be unfair."""
        owner = dealt(remaining, self.owner, multihost.count())
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


def check(settings: dict[str, Any], search: Scheduler, executor: Any) -> None:
    """Refuse what several processes cannot do together. Raises ValueError."""
    if executor is not None:
        raise ValueError(
            f"sweep: an executor has workers of its own, but {multihost.count()} processes call "
            "run; call it in one, or leave out executor=."
        )
    if not search.independent:
        raise ValueError(
            "sweep: the members of a population copy each other inside one program, so "
            f"{multihost.count()} processes cannot share them; choose another search."
        )
    asked = [json.loads(payload) for payload in multihost.all_gather_bytes(json_bytes(settings))]
    for number, other in enumerate(asked):
        for name, value in asked[0].items():
            if other[name] != value:
                raise ValueError(
                    f"sweep: process {number} was asked for another sweep than process 0: {name} "
                    f"is {other[name]!r} there, but {value!r} here; call run with the same "
                    "arguments in every process."
                )


def _packed(report: Report | None, interrupt_requested: bool) -> bytes:
    arrays = {"interrupted": np.array(interrupt_requested)}
    if report is not None:
        arrays |= {name: getattr(report, name) for name in ("rows", "before", "after", "alive")}
        for part, metrics in report.curves.items():
            arrays |= {f"{part} {name}": latest for name, latest in metrics.items()}
    return to_bytes(arrays)


def _unpacked(payload: bytes) -> tuple[Report | None, bool]:
    arrays = from_bytes(payload)
    interrupt_requested = bool(arrays.pop("interrupted"))
    if not arrays:
        return None, interrupt_requested
    named = {name: arrays.pop(name) for name in ("rows", "before", "after", "alive")}
    curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for name, latest in arrays.items():
        part, _, metric = name.partition(" ")
        curves[part][metric] = latest
    return Report(**named, curves=curves), interrupt_requested
