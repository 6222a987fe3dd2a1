"""Tasks: some trials of one static group and how far to train each, as a pure function.

A task holds everything that its trials depend on, and its result everything they produced. It may
run in any process and, if that one dies, in another: the result is the same. A process keeps the
data that it was sent and the programs that it compiled, for later tasks.
"""

import contextlib
import functools
import os
import socket
import traceback
from typing import NamedTuple

import jax
import numpy as np

from purenet.core.software import differences, number_settings, versions
from purenet.core.types import PyTree
from purenet.core.validate import require
from purenet.sweep.engine import compile
from purenet.sweep.engine import layout as engine_layout
from purenet.sweep.engine.describe import describe
from purenet.sweep.engine.layout import chosen_devices, layout
from purenet.sweep.engine.monitor import Monitor
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import LaneAssignment, Program
from purenet.sweep.engine.records import ProgramCost, Report, TrialCheckpoint
from purenet.sweep.engine.scores import best_of, standings
from purenet.sweep.engine.stream_pool import StreamPool, feeds_of
from purenet.sweep.engine.streamed import streamed
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.engine.training import PARTS, Training

_PROGRAMS = 16  # compiled programs that a process keeps
_DATASETS = 2  # data sets that it keeps


class ProgramSource(NamedTuple):
    """What the program of a group is made of."""

    training: Training
    numbers: tuple  # those of one trial, for their dtypes
    monitor: Monitor


class GroupSpec:
    """What the tasks of one static group have in common; two are equal if their names are."""

    def __init__(
        self,
        name: str,
        source: ProgramSource,
        seed: int,
        width: int,
        devices: int | None,
        kept: int,
    ):
        self.name, self.source, self.seed = name, source, seed
        self.width, self.devices = width, devices  # trials of a full task, devices for them
        self.kept = kept  # number of the best finished trials of a task whose final states are sent
        self.software = software()

    def __eq__(self, other):
        return isinstance(other, GroupSpec) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


class DatasetRef:
    """(train, validation) and their fingerprint; without the arrays or streams if the process that
    will use them should have them already."""

    def __init__(self, name: str, parts: PyTree | None):
        self.name, self.parts = name, parts

    def __eq__(self, other):
        return isinstance(other, DatasetRef) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


class Task(NamedTuple):
    """Trials of one group, one row each, and the number of epochs to train each to."""

    spec: GroupSpec
    data: DatasetRef
    rows: np.ndarray  # their rows in the pool that made the task
    trials: LaneAssignment
    target_epochs: np.ndarray
    keep: np.ndarray  # whether a row may have to resume later
    records: dict[int, TrialCheckpoint]  # by row: what it resumes from; the others start afresh


class TaskResult(NamedTuple):
    """The result of a task."""

    report: Report
    records: dict[int, TrialCheckpoint]  # by row: of those to keep, and of the best finished ones
    worker: str  # the process that trained it
    cost: ProgramCost  # of the program there


class DataMissing(NamedTuple):
    """The process has not received the data yet."""

    worker: str


class TaskFailed(NamedTuple):
    """The task raised an error, which it would raise anywhere."""

    message: str
    traceback: str


def run_task(task: Task) -> TaskResult | DataMissing | TaskFailed:
    """Train the trials of a task; the function that an executor calls."""
    try:
        return _trained(task)
    except _AbsentError:
        return DataMissing(_worker())
    except Exception as error:
        return TaskFailed(f"{type(error).__name__}: {error}", traceback.format_exc())


def software() -> dict[str, str]:
    """What must be the same in two processes for a trial to be the same in both."""
    return versions() | number_settings()


class _AbsentError(Exception):
    pass


def _worker() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _trained(task: Task) -> TaskResult:
    spec = task.spec
    compiled, placed = _built(spec, task.data)
    key, stream = engine_layout.random_key(spec.seed), compiled.program.stream
    pool = LanePool(compiled, key, placed)
    if stream is not None:
        feeds = feeds_of(_held(task.data), stream.size, int(task.target_epochs.max()), key)
        pool = StreamPool(compiled, key, placed, feeds)
    pool.add(task.trials)
    local_row = {int(row): i for i, row in enumerate(task.rows)}
    for row, record in task.records.items():
        pool.put(local_row[row], record)
    before, shape = pool.epochs.copy(), (len(task.rows), int(task.target_epochs.max()))
    blank = lambda: np.full(shape, np.nan, jax.dtypes.canonicalize_dtype(float))
    curves: dict[str, dict[str, np.ndarray]] = {
        part: {name: blank() for name in compiled.program.metrics} for part in PARTS
    }
    # a finished state is kept until it is known whether it is one of the best
    with contextlib.closing(pool):
        for report in pool.train(task.target_epochs, np.ones(len(task.rows), bool)):
            report.write(curves, report.rows, before[report.rows])
    finished = pool.alive & (pool.ended | (pool.epochs == task.target_epochs)) & ~task.keep
    monitor = spec.source.monitor
    scores = monitor.sign * curves["validation"][monitor.metric]
    standing = standings(scores, pool.epochs - before, finished, monitor.keep_best)[:, -1]
    ranked = best_of(standing, finished, spec.kept)
    kept = pool.records(np.union1d(np.flatnonzero(task.keep & pool.alive), ranked))
    return TaskResult(
        Report(task.rows, before, pool.epochs, pool.alive, pool.ended, curves),
        {int(task.rows[i]): record for i, record in kept.items()},
        _worker(),
        pool.cost,
    )


@functools.lru_cache(maxsize=_DATASETS)
def _held(data: DatasetRef) -> PyTree:
    if data.parts is None:
        raise _AbsentError
    return data.parts


@functools.lru_cache(maxsize=_PROGRAMS)
def _built(spec: GroupSpec, data: DatasetRef) -> tuple[compile.Compiled, PyTree]:
    """The compiled programs of a group, and the data that lies on their devices."""
    _refuse_others(spec.software)
    parts, (training, numbers, monitor) = _held(data), spec.source
    where = layout(spec.width, chosen_devices(spec.devices))
    program = Program(training, where)
    if isinstance(parts, StreamedParts):
        program = describe(program, numbers, parts.examples)
        program, held = streamed(program, numbers, parts), parts.held
    else:
        program, held = describe(program, numbers, parts), parts
    program = program.monitored(monitor).in_cached_blocks()
    like = placed = engine_layout.place(where, held)
    if program.stream is not None:
        like = parts.like_chunk(program.stream.size)
    key = engine_layout.random_key(spec.seed)
    compiled = compile.Compilation(program, numbers, key, like).result()
    return compiled, engine_layout.place(compiled.program.layout, placed)


def _refuse_others(asked: dict[str, str]) -> None:
    others = "; ".join(differences(asked, software()))
    text = "a worker differs from the process that called run, so its results would differ"
    require(not others, f"sweep: {text}: {others}.")
