"""A pool of trials that take turns in the lanes of one compiled program.

A lane that becomes free, because its trial finished, was dropped or diverged, goes to the next
waiting trial. The trials in lanes are distributed evenly over the devices and fill the first lanes
of each, so that empty lanes cost nothing. A trial that waits keeps its state in the host's memory.
"""

import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet.core.types import Key, PyTree
from purenet.sweep.engine.compile import Compiled
from purenet.sweep.engine.layout import Layout, place, sharding
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, quarantined
from purenet.sweep.engine.records import ProgramCost, Report, TrialCheckpoint, TrialRows
from purenet.sweep.engine.transfer import blank_lanes, read_rows, write_rows

_REPORT = 0.25  # seconds between two reports, as nearly as complete epochs allow


class LanePool(TrialRows):
    """The trials of one static group and the lanes that they train in."""

    def __init__(self, compiled: Compiled, key: Key, data: PyTree):
        super().__init__(tuple(np.empty(0, a.dtype) for a in compiled.shapes.numbers))
        self.compiled = compiled
        self.key, self.data = place(self.layout, key), place(self.layout, data)
        self.lanes: Lanes | None = None
        self.lane_rows = np.full(self.layout.width, -1)  # the row in each lane
        self.alive = np.empty(0, bool)
        self.ended = np.empty(0, bool)  # out of patience
        self._pace = 0.0  # seconds for an epoch of one block of lanes

    @property
    def layout(self) -> Layout:
        return self.compiled.program.layout

    @property
    def report_every(self) -> float:
        """Seconds between two reports."""
        return _REPORT

    @property
    def cost(self) -> ProgramCost:
        return ProgramCost(str(self.layout), self.compiled.seconds, self.compiled.bytes)

    def add(self, trials: LaneAssignment) -> None:
        """Append trials, a row each."""
        super().add(trials)
        new = len(trials.point)
        self.alive = np.append(self.alive, np.ones(new, bool))
        self.ended = np.append(self.ended, np.zeros(new, bool))

    def train(self, target_epochs: np.ndarray, keep: np.ndarray) -> Iterator[Report]:
        """Train every row to its target number of epochs, with regular reports.

        The state of a row that is not in `keep` is lost once another trial needs its lane.
        """
        needed = keep | (target_epochs > self.epochs)
        self.waiting = {row: record for row, record in self.waiting.items() if needed[row]}
        while True:
            going = self.alive & ~self.ended
            remaining = np.where(going, np.maximum(target_epochs - self.epochs, 0), 0)
            if not remaining.any():
                return
            self._fill_lanes(remaining, keep & going)
            yield self._advance(remaining)

    def state(self, row: int) -> list[np.ndarray]:
        """The state of a trial, packed; it must not have been lost."""
        if row in self.waiting:
            return self.waiting[row].state
        (lane,) = np.flatnonzero(self.lane_rows == row)
        assert self.lanes is not None
        (state,) = read_rows(self.layout, self.lanes.state, np.array([lane]))
        return state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        """The checkpoints of those rows that have a state here."""
        found = {row: self.waiting[row] for row in map(int, rows) if row in self.waiting}
        lane_of = {int(row): lane for lane, row in enumerate(self.lane_rows)}
        in_lanes = [row for row in map(int, rows) if row in lane_of and row not in found]
        if in_lanes:
            assert self.lanes is not None
            there = np.array([lane_of[row] for row in in_lanes])
            read = read_rows(self.layout, (self.lanes.numbers, self.lanes.state), there)
            for row, (numbers, state) in zip(in_lanes, read, strict=True):
                found[row] = TrialCheckpoint(numbers, int(self.epochs[row]), state)
        return found

    def lanes_of_all(self) -> np.ndarray:
        """The lane of every row, all of which are put into lanes; a row without a state gets an
        empty one."""
        self._fill_lanes(self.alive.astype(int), self.alive)
        absent = np.setdiff1d(np.arange(len(self.epochs)), self.lane_rows)
        self.lane_rows[np.flatnonzero(self.lane_rows < 0)[: len(absent)]] = absent
        return np.argsort(self.lane_rows, kind="stable")[-len(self.epochs) :]

    @property
    def failed(self) -> bool:
        """Whether the data could not be read."""
        return False

    def close(self) -> None:
        """End what works for the pool."""

    def release(self, keep: np.ndarray) -> None:
        """Free the devices' memory; the states of the rows in `keep` move to the host."""
        in_lanes = self.lane_rows[self.lane_rows >= 0]
        self.waiting |= self.records(in_lanes[(keep & self.alive)[in_lanes]])
        self.lanes, self.lane_rows = None, np.full(self.layout.width, -1)

    @quarantined
    def _fill_lanes(self, remaining, keep) -> None:
        """Put trials into the free lanes, those with the most epochs to train first."""
        layout = self.layout
        wanted = np.append(remaining > 0, False)  # an empty lane, -1, is not wanted
        staying = np.flatnonzero(wanted[self.lane_rows])
        wanted[self.lane_rows[staying]] = False
        queue = np.flatnonzero(wanted)
        queue = queue[np.argsort(-remaining[queue], kind="stable")]
        coming = queue[: layout.width - len(staying)]
        if not len(coming) and not _unbalanced(staying, layout):
            return
        active = np.concatenate([self.lane_rows[staying], coming])
        lane_rows = _round_robin(active[np.argsort(-remaining[active], kind="stable")], layout)

        leaving = np.setdiff1d(self.lane_rows[self.lane_rows >= 0], lane_rows)
        self.waiting |= self.records(leaving[keep[leaving]])
        if self.lanes is None:
            self.lanes = blank_lanes(layout, self.compiled.shapes)
        lane_of = {int(row): lane for lane, row in enumerate(self.lane_rows)}
        source = np.array([lane_of.get(int(row), lane) for lane, row in enumerate(lane_rows)])
        if len(staying) and (source != np.arange(layout.width)).any():
            self.lanes = _moved(layout, self.lanes, source)
        self.lane_rows = lane_rows
        new = np.isin(lane_rows, coming)
        back = new & np.isin(lane_rows, list(self.waiting))
        if (fresh := new & ~back).any():
            split = lambda tree: place(layout, tree, split=True)
            assigned = self.some(np.maximum(lane_rows, 0))
            self.lanes = self.compiled.start(self.lanes, self.key, split(assigned), split(fresh))
            self.epochs[lane_rows[fresh]] = 0
        if back.any():
            self._bring_back(np.flatnonzero(back))

    def _bring_back(self, lanes) -> None:
        """Write the recorded states of the rows in these lanes into the lanes."""
        assert self.lanes is not None
        rows: list[Lanes] = []
        for row in map(int, self.lane_rows[lanes]):
            record, fold = self.waiting.pop(row), self.trials.fold[row]
            numbers, state = tuple(record.numbers), list(record.state)
            yes: Any = np.True_
            epochs: Any = record.epochs
            rows.append(Lanes(numbers, fold, yes, ~yes, epochs, state))
        self.lanes = write_rows(self.layout, self.lanes, lanes, rows)

    @quarantined
    def _advance(self, remaining) -> Report:
        layout, began = self.layout, time.perf_counter()
        lanes = np.flatnonzero(np.append(remaining > 0, False)[self.lane_rows])
        rows = self.lane_rows[lanes]
        busiest = _busiest(lanes, layout)
        most = int(self.report_every / (self._pace * busiest)) if self._pace else 1
        epochs = np.zeros(layout.width, np.int32)
        epochs[lanes] = np.minimum(remaining[rows], np.clip(most, 1, BLOCK))
        longest = int(epochs.max())
        self.lanes, curves = self.compiled.advance(
            self.lanes, self.data, place(layout, epochs, split=True)
        )
        before = self.epochs[rows]
        self.epochs[rows] = jax.device_get(self.lanes.epochs)[lanes]
        self.alive[rows] = jax.device_get(self.lanes.alive)[lanes]
        self.ended[rows] = jax.device_get(self.lanes.ended)[lanes]
        curves = jax.tree.map(lambda a: a[lanes, :longest], jax.device_get(curves))
        self._pace = (time.perf_counter() - began) / (longest * busiest)
        status = self.alive[rows], self.ended[rows]
        return Report(rows, before, self.epochs[rows], *status, curves)


def _busiest(lanes, layout: Layout) -> int:
    """The number of blocks of lanes that the busiest device has to train."""
    blocks = np.unique(lanes // layout.block)
    return int(np.bincount(blocks // (layout.lanes // layout.block), minlength=1).max())


def _unbalanced(lanes, layout: Layout) -> bool:
    """Whether redistributing these lanes would finish them sooner."""
    each = -(-len(lanes) // len(layout.devices))
    return _busiest(lanes, layout) > -(-each // layout.block)


def _round_robin(rows, layout: Layout) -> np.ndarray:
    """The row of each lane, -1 for an empty one: the devices take turns, back and forth."""
    lane_rows = np.full((len(layout.devices), layout.lanes), -1)
    turn, device = np.divmod(np.arange(len(rows)), len(layout.devices))
    device = np.where(turn % 2, len(layout.devices) - 1 - device, device)
    lane_rows[device, turn] = rows
    return lane_rows.ravel()


@functools.partial(jax.jit, static_argnums=0)
def _moved(layout: Layout, lanes: Lanes, source) -> Lanes:
    moved = jax.tree.map(lambda a: a[source], lanes)
    return jax.lax.with_sharding_constraint(moved, sharding(layout, split=True))
