"""A group: the trials that share their static values, and the one program that trains them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from purenet.core.types import PyTree, Trainable
from purenet.sweep.engine.compile import Compilation, Compiled
from purenet.sweep.engine.layout import Layout, place, random_key
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import LaneAssignment, Program
from purenet.sweep.engine.records import ProgramCost, Report, TrialCheckpoint, damaged
from purenet.sweep.engine.stream_pool import Feeds, StreamPool, feeds_of
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.state import SweepState


class Pool(Protocol):
    """What trains the trials of a group, here or elsewhere; its rows are 0, 1, 2, ..."""

    @property
    def cost(self) -> ProgramCost | None: ...

    def add(self, trials: LaneAssignment) -> None: ...

    def put(self, row: int, record: TrialCheckpoint) -> None: ...

    def state(self, row: int) -> list[np.ndarray]: ...

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]: ...


@runtime_checkable
class TrainingPool(Pool, Protocol):
    """A pool that trains while its reports are read."""

    def train(self, target_epochs: np.ndarray, keep: np.ndarray) -> Iterator[Report]: ...

    def release(self, keep: np.ndarray) -> None: ...


class Workplace:
    """What the groups of a sweep train with: the random key and the data, on the devices of each
    layout, and the function that makes the pool of a group."""

    def __init__(
        self,
        seed: int,
        data: PyTree | StreamedParts,
        make_pool: "Callable[[Group], Pool]",
        epochs: int = 0,
    ):
        self.key, self.data, self.make_pool = random_key(seed), data, make_pool
        self.epochs = epochs  # of a trial, at most
        self.placed: dict[tuple, PyTree] = {}
        self.feeds: dict[int, Feeds] = {}  # by batch size

    def data_on(self, layout: Layout) -> PyTree:
        if layout.devices not in self.placed:
            held = self.data.held if isinstance(self.data, StreamedParts) else self.data
            self.placed[layout.devices] = place(layout, held)
        return self.placed[layout.devices]

    def feeds_of(self, size: int) -> Feeds:
        """What reads minibatches of this size."""
        if size not in self.feeds:
            assert isinstance(self.data, StreamedParts)
            self.feeds[size] = feeds_of(self.data, size, self.epochs, self.key)
        return self.feeds[size]

    @property
    def failed(self) -> bool:
        """Whether streamed data could not be read."""
        return any(feeds.failed for feeds in self.feeds.values())

    def close(self) -> None:
        """End the threads that read."""
        for feeds in self.feeds.values():
            feeds.close()


class Group:
    """The runs of one combination of static values, their program and their pool.

    `rows` are their rows in the sweep's table, in the order of the pool's own rows. Programs
    are compiled, and pools made, only when they are needed.
    """

    def __init__(self, number: int, state: SweepState, program: Program, workplace: Workplace):
        self.number, self.state = number, state
        self.program, self.workplace = program, workplace
        self.rows = np.empty(0, int)
        self.restored: dict[int, TrialCheckpoint] = {}  # by row: those in the folder
        self._compilation: Compilation | None = None
        self._compiled: Compiled | None = None
        self._pool: Pool | None = None

    def add_rows(self) -> None:
        """Add the rows of the points that were drawn since the last call."""
        rows = self.state.rows_of(self.number)
        new = rows[len(self.rows) :]
        self.rows = rows
        if self._pool is not None and len(new):
            self._add(self._pool, new)

    def _add(self, pool: Pool, rows: np.ndarray) -> None:
        points, seeds, folds = self.state.shape.places(rows)
        pool.add(LaneAssignment(points, seeds, folds, self.state.numbers(points)))

    # the program
    def first_numbers(self) -> tuple:
        """The traced hyperparameters of the group's first trial."""
        return self.state.numbers(int(np.flatnonzero(self.state.points.group == self.number)[0]))

    def compile(self) -> Compilation:
        """Start compiling, unless it was started before."""
        if self._compilation is None:
            stream = self.program.stream
            if stream is None:
                data = self.workplace.data_on(self.program.layout)
            else:
                data = self.workplace.data.like_chunk(stream.size)
            self._compilation = Compilation(
                self.program, self.first_numbers(), self.workplace.key, data
            )
        return self._compilation

    def lanes(self, wanted: Callable[[], bool] = lambda: True) -> LanePool:
        """New, empty lanes for trials of this group on the devices of this process, which wait for
        streamed data as long as it is `wanted()`."""
        if self._compiled is None:
            self._compiled = self.compile().result()
        data, stream = self.workplace.data_on(self._compiled.program.layout), self.program.stream
        if stream is not None:
            feeds = self.workplace.feeds_of(stream.size)
            return StreamPool(self._compiled, self.workplace.key, data, feeds, wanted)
        return LanePool(self._compiled, self.workplace.key, data)

    @property
    def cost(self) -> ProgramCost | None:
        """The cost of the program, None if this process has not compiled it."""
        return None if self._pool is None else self._pool.cost

    # training
    def pool(self) -> Pool:
        """The group's pool, with all of its rows and the states that were restored."""
        if self._pool is None:
            pool = self._pool = self.workplace.make_pool(self)
            self._add(pool, self.rows)
            local_row = {int(row): k for k, row in enumerate(self.rows)}
            for row, record in self.restored.items():
                if row not in local_row:
                    raise damaged(
                        self.state.restored.states_path,
                        f"it holds a state of row {row}, which belongs to another group",
                    )
                if self.state.alive[row] and record.epochs <= self.state.epochs[row]:
                    pool.put(local_row[row], record)
        return self._pool

    def training_pool(self) -> TrainingPool:
        pool = self.pool()
        assert isinstance(pool, TrainingPool)  # an executor trains the tasks of all groups at once
        return pool

    def record(self, report: Report, best: int) -> int:
        """Record a report of the pool in the table, and keep the final states of the `best` points.
        Returns the number of new epochs."""
        state = self.state
        new = state.record(self.rows[report.rows], report)
        finished = report.rows[(report.after == state.shape.epochs) | report.ended]
        if best and len(finished):
            among = state.best_rows(best)
            state.kept = {row: packed for row, packed in state.kept.items() if row in among}
            for local in map(int, finished):
                if (row := int(self.rows[local])) in among:
                    state.kept[row] = self.pool().state(local)
        return new

    def records(self, finished: bool) -> dict[int, TrialCheckpoint]:
        """By row: the final states of the best, and the states that unfinished runs resume from.

        The members of a population resume together, including those that are finished: a member
        without a state has diverged.
        """
        state = self.state
        kept = {
            row: TrialCheckpoint(
                state.numbers(row // state.shape.runs), int(state.epochs[row]), packed
            )
            for row, packed in state.kept.items()
            if state.group_of(row) == self.number
        }
        if finished:
            return kept
        if self._pool is None:
            return {row: rec for row, rec in self.restored.items() if row not in kept} | kept
        together = state.lineage is not None
        resumable = state.alive if together else state.alive & ~state.complete
        found = self._pool.records(np.flatnonzero(resumable[self.rows]))
        return kept | {int(self.rows[local]): record for local, record in found.items()}

    def retrain(self, row: int) -> tuple[list[np.ndarray], dict]:
        """Retrain one run, alone in the program of its group: its final state, packed, and its
        curves. That of a run which diverged is the last that was finite."""
        state, last = self.state, self.state.shape.epochs
        pool = self.lanes()
        self._add(pool, np.array([row]))
        stopped = state.alive[row] and not state.complete[row]
        # on streamed data, the epoch that diverges overwrites the state before it
        stopped |= self.program.stream is not None and not state.alive[row]
        target = state.epochs[row] if stopped else last
        curves = jax.tree.map(lambda curve: np.full((1, last), np.nan, curve.dtype), state.curves)
        with contextlib.closing(self.workplace):
            for report in pool.train(np.array([target]), np.array([True])):
                report.write(curves, report.rows)
        pool.lanes_of_all()  # without an epoch it has not begun
        return pool.state(0), jax.tree.map(lambda curve: curve[0], curves)

    def unpack(self, row: int, packed: list) -> PyTree:
        """The state of a run, unpacked: the latest, or that of its best epoch."""
        with jax.transfer_guard_host_to_device("allow"):
            state = self.program.unpack(packed, lambda: self.trainable(row))
        monitor = self.program.monitor
        if monitor.tracks:
            state = state.best if monitor.keep_best else state.state
        return state if self.program.stream is None else state.state

    def trainable(self, row: int) -> Trainable:
        """The Trainable of a run, with its final hyperparameters."""
        return self.program.trainable(self.state.final_numbers(row))


class Work(NamedTuple):
    """The work of a group in one round, by row of its pool."""

    group: Group
    target_epochs: np.ndarray  # 0: nothing to do
    keep: np.ndarray  # whether a run may have to resume later

    def is_left(self) -> bool:
        """Whether any run has not reached its target yet."""
        state, rows = self.group.state, self.group.rows
        return bool((state.alive[rows] & (state.epochs[rows] < self.target_epochs)).any())
