"""A pool of trials that take turns in the lanes of one compiled program.

A lane that becomes free, because its trial finished, was dropped or diverged, goes to the next
waiting trial. The trials in lanes are distributed over the devices so that all of these end at the
same time. A trial that waits keeps its state in the host's memory.
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
from purenet.sweep.engine.packing import Packing
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, quarantined
from purenet.sweep.engine.records import ProgramCost, Report, TrialCheckpoint, TrialRows
from purenet.sweep.engine.transfer import blank_lanes, read_rows, write_rows
from purenet.sweep.engine.turns import balanced, dealt, epochs_of, epochs_of_call, turns

_REPORT = 0.25  # seconds between two reports, as nearly as complete epochs allow
_WORTH = 0.03  # seconds that have to be saved if trials are to move to another device


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
        self._pace = 0.0  # seconds of a turn: an epoch of one block of lanes

    @property
    def layout(self) -> Layout:
        return self.compiled.program.layout

    @property
    def packing(self) -> Packing:
        """How a lane holds the leaves of a state."""
        return self.compiled.program.packing

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
        (held,) = read_rows(self.layout, self.lanes.state, np.array([lane]))
        return self.packing.split(held)

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        """The checkpoints of those rows that have a state here."""
        found = {row: self.waiting[row] for row in map(int, rows) if row in self.waiting}
        lane_of = {int(row): lane for lane, row in enumerate(self.lane_rows)}
        in_lanes = [row for row in map(int, rows) if row in lane_of and row not in found]
        if in_lanes:
            assert self.lanes is not None
            there = np.array([lane_of[row] for row in in_lanes])
            read = read_rows(self.layout, (self.lanes.numbers, self.lanes.state), there)
            for row, (numbers, held) in zip(in_lanes, read, strict=True):
                state = self.packing.split(held)
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
        layout, seats = self.layout, self.lane_rows
        seats = np.where(epochs_of(seats, remaining) > 0, seats, -1)
        wanted = remaining > 0
        wanted[seats[seats >= 0]] = False
        queue = np.flatnonzero(wanted)
        queue = queue[np.argsort(-remaining[queue], kind="stable")]
        coming = queue[: np.count_nonzero(seats < 0)]
        lane_rows = dealt(seats, coming, remaining, layout)
        better = balanced(lane_rows, remaining, layout)
        now, then = (turns(epochs_of(a, remaining), layout).max() for a in (lane_rows, better))
        if (now - then) * self._pace > _WORTH:
            lane_rows = better
        elif not len(coming):
            return

        leaving = np.setdiff1d(self.lane_rows[self.lane_rows >= 0], lane_rows)
        self.waiting |= self.records(leaving[keep[leaving]])
        if self.lanes is None:
            self.lanes = blank_lanes(layout, self.compiled.shapes)
        self._move(lane_rows)
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

    def _move(self, lane_rows) -> None:
        """Move what is in a lane, and in another one of `lane_rows`, there."""
        layout = self.layout
        lane_of = {int(row): lane for lane, row in enumerate(self.lane_rows) if row >= 0}
        source = np.array([lane_of.get(int(row), lane) for lane, row in enumerate(lane_rows)])
        there = np.flatnonzero(source != np.arange(layout.width))
        if not len(there):
            return
        assert self.lanes is not None
        if layout.block > 1:
            self.lanes = _moved(layout, self.lanes, source)
        else:
            rows = read_rows(layout, self.lanes, source[there])
            self.lanes = write_rows(layout, self.lanes, there, rows)

    def _bring_back(self, lanes) -> None:
        """Write the recorded states of the rows in these lanes into the lanes."""
        assert self.lanes is not None
        rows: list[Lanes] = []
        for row in map(int, self.lane_rows[lanes]):
            record, fold = self.waiting.pop(row), self.trials.fold[row]
            numbers, state = tuple(record.numbers), self.packing.join(record.state, np.concatenate)
            yes: Any = np.True_
            epochs: Any = record.epochs
            rows.append(Lanes(numbers, fold, yes, ~yes, epochs, state))
        self.lanes = write_rows(self.layout, self.lanes, lanes, rows)

    @quarantined
    def _advance(self, remaining) -> Report:
        layout, began = self.layout, time.perf_counter()
        left = epochs_of(self.lane_rows, remaining)
        lanes = np.flatnonzero(left)
        rows = self.lane_rows[lanes]
        busiest = int(turns(np.minimum(left, 1), layout).max())
        most = int(self.report_every / (self._pace * busiest)) if self._pace else 1
        worth = _WORTH / self._pace if self._pace else np.inf
        epochs = epochs_of_call(left, layout, int(np.clip(most, 1, BLOCK)), BLOCK, worth)
        epochs = epochs.astype(np.int32)
        longest, turned = int(epochs.max()), int(turns(epochs, layout).max())
        self.lanes, curves = self.compiled.advance(
            self.lanes, self.data, place(layout, epochs, split=True)
        )
        before = self.epochs[rows]
        self.epochs[rows] = jax.device_get(self.lanes.epochs)[lanes]
        self.alive[rows] = jax.device_get(self.lanes.alive)[lanes]
        self.ended[rows] = jax.device_get(self.lanes.ended)[lanes]
        curves = jax.tree.map(lambda a: a[lanes, :longest], jax.device_get(curves))
        self._pace = (time.perf_counter() - began) / turned
        status = self.alive[rows], self.ended[rows]
        return Report(rows, before, self.epochs[rows], *status, curves)


@functools.partial(jax.jit, static_argnums=0)
def _moved(layout: Layout, lanes: Lanes, source) -> Lanes:
    moved = jax.tree.map(lambda a: a[source], lanes)
    return jax.lax.with_sharding_constraint(moved, sharding(layout, split=True))
