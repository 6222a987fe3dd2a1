"""Several processes, one sweep: each trains its share of the trials on its own devices.

Every process runs the same sweep. They exchange their measurements after every report, so that all
have the same information and make the same decisions. Only the first one writes files.
"""

import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet.core.interrupts import Interrupts
from purenet.core.json_text import json_bytes
from purenet.core.validate import require
from purenet.distributed import multihost
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import LaneAssignment
from purenet.sweep.engine.records import Report, TrialCheckpoint
from purenet.sweep.engine.training import PARTS
from purenet.sweep.schedulers.base import Scheduler
from purenet.sweep.storage.records import from_bytes, pack_records, to_bytes, unpack_records

_COLUMNS = ("rows", "before", "after", "alive", "ended")  # of a report


class MultiHostPool:
    """The trials of one static group, as a pool that has lanes in every process.

    `pool` holds this process's lanes and a row for every trial, wherever it trains.
    """

    def __init__(self, pool: LanePool, interrupts: Interrupts):
        self.pool, self.interrupts = pool, interrupts
        self.cost = pool.cost
        self.owner = np.empty(0, int)  # the process that has a row's state, -1 where all or none do
        self.epochs = np.empty(0, int)  # that this state has

    def add(self, trials: LaneAssignment) -> None:
        self.pool.add(trials)
        self.owner = np.append(self.owner, np.full(len(trials.point), -1))
        self.epochs = np.append(self.epochs, np.zeros(len(trials.point), int))

    def put(self, row: int, record: TrialCheckpoint) -> None:
        self.pool.put(row, record)
        self.epochs[row] = record.epochs

    def train(self, target_epochs: np.ndarray, keep: np.ndarray) -> Iterator[Report]:
        """Train every row to its target in one of the processes. Yields the reports of all
        processes, in the same order in each.

        If one of them cannot read its data, it raises that error, and the others PeerError.
        """
        self._distribute(np.maximum(target_epochs - self.epochs, 0))
        mine = self.owner == jax.process_index()
        local = self.pool.train(np.where(mine, target_epochs, 0), keep & mine)
        while True:
            try:
                report = next(local, None)
                payload: Any = _packed(report, bool(self.interrupts.requested))
            except Exception as error:
                if not self.pool.failed:
                    raise
                payload = error
            received = [_unpacked(each) for each in multihost.exchange(payload)]
            self.interrupts.agreed.raised = any(requested for _, requested in received)
            reports = [report for report, _ in received if report is not None]
            if not reports:
                return
            for report in reports:
                self.epochs[report.rows] = report.after
                yield report

    def state(self, row: int) -> list[np.ndarray]:
        return self.records([row])[row].state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        """The checkpoints of those rows that have a state in any process; every process must call
        this."""
        rows = np.asarray(rows, int)
        mine = self.pool.records(rows[np.isin(self.owner[rows], (-1, jax.process_index()))])
        found: dict[int, TrialCheckpoint] = {}
        for payload in multihost.all_gather_bytes(to_bytes(pack_records([mine]))):
            found |= unpack_records(from_bytes(payload), 0)
        return {row: self._viewed(found[row]) for row in map(int, rows) if row in found}

    def release(self, keep: np.ndarray) -> None:
        self.pool.release(keep & (self.owner == jax.process_index()))

    def _viewed(self, record: TrialCheckpoint) -> TrialCheckpoint:
        """With the dtypes of a state, some of which are sent as integers."""
        pairs = zip(record.state, self.pool.compiled.program.leaves, strict=True)
        return record._replace(state=[np.asarray(a).view(like.dtype) for a, like in pairs])

    def _distribute(self, remaining: np.ndarray) -> None:
        """Distribute the work: a row goes to the process that has its state, unless that would be
        unbalanced."""
        owner = dealt(remaining, self.owner, multihost.count())
        moved = np.flatnonzero((owner != self.owner) & (self.owner >= 0))
        if len(moved):
            for row, record in self.records(moved).items():
                if owner[row] == jax.process_index():
                    self.pool.put(row, record)
        self.owner = owner


def dealt(remaining: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The process that trains each row: its owner, unless that one already has its share; otherwise
    the one with the least work.

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


def check(settings: dict[str, Any], search: Scheduler, executor: object) -> None:
    """Raise ValueError for what several processes cannot do together."""
    count = multihost.count()
    require(
        executor is None,
        f"sweep: an executor has workers of its own, but {count} processes call run; call it in "
        "one process, or leave out executor=.",
    )
    require(
        search.independent,
        "sweep: the members of a population copy each other inside one program, so "
        f"{count} processes cannot share them; choose another search.",
    )
    require(
        getattr(search, "located", None) is None,
        f"sweep: the model of {search.name} depends on rounding, which may differ between the "
        f"{count} processes that call run; call it in one process, or choose another search.",
    )
    asked = [json.loads(payload) for payload in multihost.all_gather_bytes(json_bytes(settings))]
    for number, other in enumerate(asked):
        for name, value in asked[0].items():
            require(
                other[name] == value,
                f"sweep: process {number} does not run the same sweep as process 0: {name} is "
                f"{other[name]!r} there, but {value!r} here; call run with the same arguments in "
                "every process.",
            )


def _packed(report: Report | None, interrupted: bool) -> bytes:
    arrays = {"interrupted": np.array(interrupted)}
    if report is not None:
        arrays |= {name: getattr(report, name) for name in _COLUMNS}
        for part, metrics in report.curves.items():
            arrays |= {f"{part} {name}": latest for name, latest in metrics.items()}
    return to_bytes(arrays)


def _unpacked(payload: bytes) -> tuple[Report | None, bool]:
    arrays = from_bytes(payload)
    interrupted = bool(arrays.pop("interrupted"))
    if not arrays:
        return None, interrupted
    named = {name: arrays.pop(name) for name in _COLUMNS}
    curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for name, latest in arrays.items():
        part, _, metric = name.partition(" ")
        curves[part][metric] = latest
    return Report(**named, curves=curves), interrupted
