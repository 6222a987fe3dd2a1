"""A pool of trials that take turns in the lanes of one compiled program.

A lane that becomes free, because its trial is done, was dropped or diverged, goes to the next trial
that waits. The trials in lanes are dealt evenly to the devices and to the front of each, so that
lanes nobody sits in cost nothing. A trial that must wait keeps its state in the host's memory.
"""

import functools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.types import Key, PyTree
from purenet.sweep.engine.compile import Compiled
from purenet.sweep.engine.layout import Layout, place, sharding
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, quarantined
from purenet.sweep.engine.records import Report, TrialCheckpoint, TrialRows

_REPORT = 0.25  # seconds between two reports, as nearly as whole epochs allow


class LanePool(TrialRows):
    """The trials of one static group and the lanes that they train in."""

    def __init__(self, compiled: Compiled, key: Key, data: PyTree):
        super().__init__(tuple(np.empty(0, a.dtype) for a in compiled.shapes.numbers))
        layout = compiled.program.layout
        self.compiled, self.layout = compiled, layout
        self.key, self.data = place(layout, key), place(layout, data)
        self.lanes: Lanes | None = None
        self.lane_rows = np.full(layout.width, -1)  # the row in each lane
        self.alive = np.empty(0, bool)
        self.cost = (str(layout), compiled.seconds, compiled.bytes)  # of the program
        self._pace = 0.0  # seconds for an epoch of one block of lanes

    def add(self, points: np.ndarray, seeds: np.ndarray, numbers: tuple) -> None:
        """More trials, which are rows from now on."""
        super().add(points, seeds, numbers)
        self.alive = np.append(self.alive, np.ones(len(points), bool))

    def train(self, goals: np.ndarray, keep: np.ndarray) -> Iterator[Report]:
        """Train every row until it has as many epochs as its goal, reporting every now and then.

        The state of a row that is not to `keep` is forgotten once somebody else needs its lane.
        """
        needed = keep | (goals > self.epochs)
        self.waiting = {row: record for row, record in self.waiting.items() if needed[row]}
        while True:
            remaining = np.where(self.alive, np.maximum(goals - self.epochs, 0), 0)
            if not remaining.any():
                return
            self._take_seats(remaining, keep & self.alive)
            yield self._advance(remaining)

    def state(self, row: int) -> list[np.ndarray]:
        """The state of a trial that has not been forgotten, packed."""
        if row in self.waiting:
            return self.waiting[row].state
        (lane,) = np.flatnonzero(self.lane_rows == row)
        assert self.lanes is not None
        device, place = divmod(lane, self.layout.lanes)
        here = lambda shards: next(s for s in shards if s.device == self.layout.devices[device])
        shards = [here(a.addressable_shards).data for a in self.lanes.state]
        return [a[place].copy() for a in jax.device_get(shards)]

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        """Those of the rows that have a state here."""
        found = {row: self.waiting[row] for row in map(int, rows) if row in self.waiting}
        seats = {int(row): lane for lane, row in enumerate(self.lane_rows)}
        seated = [row for row in map(int, rows) if row in seats and row not in found]
        if seated:
            lanes = jax.device_get(self.lanes)
            for row in seated:
                one = lambda a, lane=seats[row]: a[lane].copy()
                state = jax.tree.map(one, lanes.state)
                numbers = jax.tree.map(one, lanes.numbers)
                found[row] = TrialCheckpoint(numbers, int(self.epochs[row]), state)
        return found

    def lanes_of_all(self) -> np.ndarray:
        """The lane of every row, all of them seated; one that has no state gets an empty lane."""
        self._take_seats(self.alive.astype(int), self.alive)
        absent = np.setdiff1d(np.arange(len(self.points)), self.lane_rows)
        self.lane_rows[np.flatnonzero(self.lane_rows < 0)[: len(absent)]] = absent
        return np.argsort(self.lane_rows, kind="stable")[-len(self.points) :]

    def release(self, keep: np.ndarray) -> None:
        """Free the devices' memory; the rows to `keep` wait in the host's."""
        seated = self.lane_rows[self.lane_rows >= 0]
        self.waiting |= self.records(seated[(keep & self.alive)[seated]])
        self.lanes, self.lane_rows = None, np.full(self.layout.width, -1)

    @quarantined
    def _take_seats(self, remaining, keep) -> None:
        """Bring trials into the free lanes, those with most to do first."""
        layout = self.layout
        wanted = np.append(remaining > 0, False)  # and nobody, -1, is not wanted
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
            blank = lambda a: np.zeros(a.shape, a.dtype)
            self.lanes = place(layout, jax.tree.map(blank, self.compiled.shapes), split=True)
        lane_of = {int(row): lane for lane, row in enumerate(self.lane_rows)}
        source = np.array([lane_of.get(int(row), lane) for lane, row in enumerate(lane_rows)])
        if len(staying) and (source != np.arange(layout.width)).any():
            self.lanes = _moved(layout, self.lanes, source)
        self.lane_rows = lane_rows
        new = np.isin(lane_rows, coming)
        back = new & np.isin(lane_rows, list(self.waiting))
        if (fresh := new & ~back).any():
            split = lambda tree: place(layout, tree, split=True)
            rows = np.maximum(lane_rows, 0)
            numbers = tuple(column[rows] for column in self.numbers)
            seats = LaneAssignment(self.points[rows], self.seeds[rows], numbers)
            self.lanes = self.compiled.start(self.lanes, self.key, split(seats), split(fresh))
            self.epochs[lane_rows[fresh]] = 0
        if back.any():
            self._bring_back(np.flatnonzero(back))

    def _bring_back(self, lanes) -> None:
        """Put the recorded states of the rows that sit in these lanes there."""
        blank = lambda a: np.zeros(a.shape, a.dtype)
        incoming: Lanes = jax.tree.map(blank, self.compiled.shapes)
        back = np.zeros(self.layout.width, bool)
        for lane in lanes:
            record = self.waiting.pop(int(self.lane_rows[lane]))
            back[lane] = incoming.alive[lane] = True
            incoming.epochs[lane] = record.epochs
            for whole, one in zip(
                jax.tree.leaves((incoming.numbers, incoming.state)),
                jax.tree.leaves((record.numbers, record.state)),
                strict=True,
            ):
                whole[lane] = one
        split = place(self.layout, (incoming, back), split=True)
        self.lanes = _replaced(self.lanes, *split)

    @quarantined
    def _advance(self, remaining) -> Report:
        layout, began = self.layout, time.perf_counter()
        lanes = np.flatnonzero(np.append(remaining > 0, False)[self.lane_rows])
        rows = self.lane_rows[lanes]
        busiest = _busiest(lanes, layout)
        most = int(_REPORT / (self._pace * busiest)) if self._pace else 1
        epochs = np.zeros(layout.width, np.int32)
        epochs[lanes] = np.minimum(remaining[rows], np.clip(most, 1, BLOCK))
        longest = int(epochs.max())
        self.lanes, curves = self.compiled.advance(
            self.lanes, self.data, place(layout, epochs, split=True)
        )
        before = self.epochs[rows]
        self.epochs[rows] = jax.device_get(self.lanes.epochs)[lanes]
        self.alive[rows] = jax.device_get(self.lanes.alive)[lanes]
        curves = jax.tree.map(lambda a: a[lanes, :longest], jax.device_get(curves))
        self._pace = (time.perf_counter() - began) / (longest * busiest)
        return Report(rows, before, self.epochs[rows], self.alive[rows], curves)


def _busiest(lanes, layout: Layout) -> int:
    """How many blocks of lanes the device with the most to do has to train."""
    blocks = np.unique(lanes // layout.block)
    return int(np.bincount(blocks // (layout.lanes // layout.block)).max())


def _unbalanced(lanes, layout: Layout) -> bool:
    """Whether these lanes could be trained sooner if they were dealt anew."""
    each = -(-len(lanes) // len(layout.devices))
    return _busiest(lanes, layout) > -(-each // layout.block)


def _round_robin(rows, layout: Layout) -> np.ndarray:
    """A row for each lane, -1 where it stays empty: dealt to the devices to and fro."""
    lane_rows = np.full((len(layout.devices), layout.lanes), -1)
    turn, device = np.divmod(np.arange(len(rows)), len(layout.devices))
    device = np.where(turn % 2, len(layout.devices) - 1 - device, device)
    lane_rows[device, turn] = rows
    return lane_rows.ravel()


@functools.partial(jax.jit, static_argnums=0)
def _moved(layout: Layout, lanes: Lanes, source) -> Lanes:
    moved = jax.tree.map(lambda a: a[source], lanes)
    return jax.lax.with_sharding_constraint(moved, sharding(layout, split=True))


@functools.partial(jax.jit, donate_argnums=0)
def _replaced(lanes: Lanes, incoming: Lanes, where) -> Lanes:
    put = lambda a, b: jnp.where(where.reshape(-1, *[1] * (a.ndim - 1)), b, a)
    return jax.tree.map(put, lanes, incoming)
