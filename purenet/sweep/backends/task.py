"""Blocks: some trials of one static group and how far to train each, as a function of its argument.

A block holds everything that its trials depend on, and its outcome everything they became, so it
may be run in any process and, should that one die, in another: the outcome is the same. A process
keeps the data it was sent and the programs it compiled for the blocks to come.
"""

import functools
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.software import differences, number_settings, versions
from purenet.core.types import PyTree
from purenet.sweep.engine import compile
from purenet.sweep.engine import layout as engine_layout
from purenet.sweep.engine import program as engine_program
from purenet.sweep.engine.layout import chosen_devices, layout
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.records import Report, TrialCheckpoint, best_of

_PROGRAMS = 16  # a process keeps so many compiled programs
_DATASETS = 2  # and so many sets of data


class GroupSpec:
    """What the blocks of one static group have in common; told apart by its name."""

    def __init__(
        self,
        name: str,
        trial: Callable,
        treedef: Any,
        static: tuple,
        numbers: tuple,
        seed: int,
        width: int,
        devices: int | None,
        metric: str,
        maximize: bool,
        best: int,
    ):
        self.name, self.trial, self.treedef, self.static = name, trial, treedef, static
        self.numbers, self.seed = numbers, seed  # those of one trial, for their dtypes
        self.width, self.devices = width, devices  # trials of a full block, devices for them
        self.metric, self.maximize, self.best = metric, maximize, best  # whose final state returns
        self.software = software()

    def __eq__(self, other):
        return isinstance(other, GroupSpec) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


class DatasetRef:
    """(train, validation) and what tells them apart; without the arrays where the process that is
    to use them has them already."""

    def __init__(self, name: str, parts: PyTree | None):
        self.name, self.parts = name, parts

    def __eq__(self, other):
        return isinstance(other, DatasetRef) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


class Task(NamedTuple):
    """Trials of one group, a row each, and the epochs that each should have in the end."""

    setting: GroupSpec
    data: DatasetRef
    rows: np.ndarray  # what they are called by whoever made the block
    points: np.ndarray
    seeds: np.ndarray
    numbers: tuple  # the traced hyperparameters, an array each
    goals: np.ndarray
    keep: np.ndarray  # whether a row may have to go on later
    records: dict[int, TrialCheckpoint]  # by row: where it goes on; the others begin


class TaskResult(NamedTuple):
    """What became of a block."""

    report: Report
    records: dict[
        int, TrialCheckpoint
    ]  # by row: of those to keep, and of the best that are finished
    worker: str  # which process trained it,
    layout: str  # in what program,
    seconds: float  # what compiling that cost,
    bytes: int  # and what it takes of a device's memory


class DataMissing(NamedTuple):
    """The process has not been sent the data yet."""

    worker: str


class TaskFailed(NamedTuple):
    """The block raised an error, which it would raise anywhere."""

    message: str
    traceback: str


def run_task(block: Task) -> TaskResult | DataMissing | TaskFailed:
    """Train the trials of a block; what the executor is given to call."""
    try:
        return _trained(block)
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


def _trained(block: Task) -> TaskResult:
    setting = block.setting
    compiled, data = _built(setting, block.data)
    pool = LanePool(compiled, engine_layout.random_key(setting.seed), data)
    pool.add(block.points, block.seeds, block.numbers)
    place = {int(row): i for i, row in enumerate(block.rows)}
    for row, record in block.records.items():
        pool.put(place[row], record)
    before, shape = pool.epochs.copy(), (len(block.rows), int(block.goals.max()))
    blank = lambda: np.full(shape, np.nan, jax.dtypes.canonicalize_dtype(float))
    curves: dict[str, dict[str, np.ndarray]] = {
        part: {name: blank() for name in compiled.program.metrics} for part in engine_program.PARTS
    }
    # a finished state is kept until it is known whether it is one of the best
    for report in pool.train(block.goals, np.ones(len(block.rows), bool)):
        report.write(curves, report.rows, before[report.rows])
    finished = pool.alive & (pool.epochs == block.goals) & ~block.keep
    scores = curves["validation"][setting.metric][
        np.arange(len(before)), np.maximum(pool.epochs - before, 1) - 1
    ]
    best = best_of(scores, finished, setting.maximize, setting.best)
    kept = pool.records(np.union1d(np.flatnonzero(block.keep & pool.alive), best))
    return TaskResult(
        Report(block.rows, before, pool.epochs, pool.alive, curves),
        {int(block.rows[i]): record for i, record in kept.items()},
        _worker(),
        str(compiled.program.layout),
        compiled.seconds,
        compiled.bytes,
    )


@functools.lru_cache(maxsize=_DATASETS)
def _held(data: DatasetRef) -> PyTree:
    if data.parts is None:
        raise _AbsentError
    return data.parts


@functools.lru_cache(maxsize=_PROGRAMS)
def _built(setting: GroupSpec, data: DatasetRef) -> tuple[compile.Compiled, PyTree]:
    """The programs of a group, and the data where they want it."""
    _refuse_others(setting.software)
    parts = _held(data)
    where = layout(setting.width, chosen_devices(setting.devices))
    program = engine_program.Program(setting.trial, setting.treedef, setting.static, where)
    program = engine_program.describe(program, setting.numbers, parts)
    placed = engine_layout.place(where, parts)
    key = engine_layout.random_key(setting.seed)
    compiled = compile.Compilation(program, setting.numbers, key, placed).result()
    return compiled, engine_layout.place(compiled.program.layout, placed)


def _refuse_others(asked: dict[str, str]) -> None:
    if others := differences(asked, software()):
        raise ValueError(
            "sweep: a worker differs from the process that called run, so its trials would not be "
            f"the same: {'; '.join(others)}."
        )
