"""Trials that are trained elsewhere: blocks of them, handed to a concurrent.futures executor."""

import concurrent.futures
import math
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import integer
from purenet.sweep.backends.task import (
    DataMissing,
    DatasetRef,
    GroupSpec,
    Task,
    TaskFailed,
    TaskResult,
    run_task,
)
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.records import Report, TrialCheckpoint, TrialRows
from purenet.sweep.schedulers.base import Scheduler
from purenet.sweep.space.space import Points, numbers

_TRIES = 4  # of a block whose worker dies each time, and of executors that break at once
_POLL = 0.2  # seconds between two looks whether the user wants to stop
_BLOCKS = 16  # of a round, unless the user says how many trials a block has


class ExecutorPool(TrialRows):
    """The trials of one static group, as a pool of which the lanes are in other processes."""

    def __init__(self, setting: GroupSpec, data: DatasetRef):
        super().__init__(setting.numbers)
        self.setting, self.data = setting, data
        self.cost: tuple[str, float, int] | None = None  # of the program in a worker

    def blocks(self, goals: np.ndarray, keep: np.ndarray) -> list[Task]:
        """The work that brings every row to its goal, the longest first."""
        remaining = np.maximum(goals - self.epochs, 0)
        needed = keep | (remaining > 0)
        self.waiting = {row: record for row, record in self.waiting.items() if needed[row]}
        rows = np.flatnonzero(remaining)
        rows = rows[np.argsort(-remaining[rows], kind="stable")]
        size = min(self.setting.width, max(1, math.ceil(len(rows) / _BLOCKS)))
        return [
            self._block(np.sort(rows[i : i + size]), goals, keep) for i in range(0, len(rows), size)
        ]

    def _block(self, rows, goals, keep) -> Task:
        records = {int(row): self.waiting[row] for row in rows if row in self.waiting}
        numbers = tuple(column[rows] for column in self.numbers)
        points, seeds = self.points[rows], self.seeds[rows]
        return Task(
            self.setting, self.data, rows, points, seeds, numbers, goals[rows], keep[rows], records
        )

    def take(self, outcome: TaskResult) -> Report:
        """Remember what became of a block."""
        report = outcome.report
        for row in map(int, report.rows):
            self.waiting.pop(row, None)
        self.waiting |= outcome.records
        self.epochs[report.rows] = report.after
        self.cost = self.cost or (outcome.layout, outcome.seconds, outcome.bytes)
        return report

    def state(self, row: int) -> list[np.ndarray]:
        return self.waiting[row].state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        return {row: self.waiting[row] for row in map(int, rows) if row in self.waiting}


def check(executor: Any, search: Scheduler, plan: Any, devices: Any) -> None:
    """Refuse what cannot run blocks, and what cannot be asked of blocks."""
    if _is_executor(executor):
        _refuse_forks(executor)
    elif not callable(executor):
        raise TypeError(
            f"sweep: executor is {type(executor).__name__}, but a concurrent.futures executor is "
            "expected, such as ProcessPoolExecutor(...) or Client(...).get_executor() of Dask, or "
            "a function without arguments that makes one."
        )
    if not search.independent:
        raise ValueError(
            "sweep: the members of a population copy each other inside one program, so an executor "
            "cannot take them apart; leave out executor=, or choose another search."
        )
    if plan is not None:
        raise ValueError(
            "sweep: a plan lays trials out on the devices here, but an executor's workers have "
            "their own; leave out one of plan= and executor=."
        )
    if devices is not None:
        integer("sweep: devices of each worker", devices, least=1)


def _is_executor(value: Any) -> bool:
    """Whether this is an executor, and not a class or a function that makes one."""
    return callable(getattr(value, "submit", None)) and not isinstance(value, type)


def _refuse_forks(executor: Any) -> None:
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "sweep: the executor forks this process, whose JAX threads do not survive that; "
                'make it with mp_context=multiprocessing.get_context("spawn").'
            )


class Workers:
    """An executor, or one after the other of those that a function makes.

    One that breaks is replaced if it was made here, unless it is the fourth with no block done
    since the first.
    """

    def __init__(self, given: Any):
        self._make = None if _is_executor(given) else given
        self._executor: Any = None if self._make else given
        self._broken = 0  # in a row

    def submit(self, block: Task) -> tuple[concurrent.futures.Future, Any]:
        """The future of a block, and the executor that has taken it.

        Raises RuntimeError where no executor does.
        """
        while True:
            if self._executor is None:
                self._executor = self._made()
            try:
                return self._executor.submit(run_task, block), self._executor
            except Exception as error:
                if self._make is None:
                    raise RuntimeError(
                        f"sweep: the executor takes no more blocks ({type(error).__name__}: "
                        f"{error}); give executor= a function that makes one, and it is replaced. "
                        "With path=, the same call then goes on from what is done."
                    ) from error
                self.lost(self._executor, error)

    def lost(self, executor: Any, error: BaseException) -> bool:
        """Note that an executor broke; whether that was known or there will be another one."""
        if self._make is None:
            return False
        if executor is self._executor:
            executor.shutdown(wait=False)
            self._executor, self._broken = None, self._broken + 1
            if self._broken == _TRIES:
                raise RuntimeError(
                    f"sweep: the executor broke {_TRIES} times with no block done in between, the "
                    f"last time by {type(error).__name__}: {error}"
                ) from error
        return True

    def succeeded(self) -> None:
        """Note that a block is done."""
        self._broken = 0

    def close(self, wait: bool) -> None:
        """Let the workers end that were begun here."""
        if self._make is not None and self._executor is not None:
            self._executor.shutdown(wait=wait)
            self._executor = None

    def _made(self) -> Any:
        assert self._make is not None
        made = self._make()
        if not _is_executor(made):
            raise TypeError(
                f"sweep: executor() gave {type(made).__name__}, but a concurrent.futures executor "
                "is expected."
            )
        _refuse_forks(made)
        return made


class ExecutorBackend:
    """An executor, and what it is to be told of a sweep; as a context, it ends with it."""

    def __init__(
        self,
        executor: Any,
        request: SweepConfig,
        devices: int | None,
        trials_per_block: int | None,
        keep: int,
    ):
        self.workers, self.request, self.devices = Workers(executor), request, devices
        self.best = keep * request.seeds
        trials = request.trials * request.seeds
        self.width = math.ceil(trials / _BLOCKS)
        if trials_per_block is not None:
            self.width = integer("sweep: trials_per_block", trials_per_block, least=1)
        self.name = uuid.uuid4().hex  # of this sweep, wherever it is worked on
        self.data = DatasetRef(request.fingerprint, None)

    def __enter__(self) -> "ExecutorBackend":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # after an error, blocks that nobody waits for may still be running
        self.workers.close(wait=kind is None)

    def pool(self, points: Points, g: int) -> ExecutorPool:
        """For the trials of a group."""
        request, group = self.request, points.groups[g]
        one = numbers(request.space, points, np.flatnonzero(points.group == g)[0])
        setting = GroupSpec(
            name=f"{self.name} {g}",
            trial=request.trial,
            treedef=request.space.treedef,
            static=group,
            numbers=one,
            seed=request.seed,
            width=self.width,
            devices=self.devices,
            metric=request.metric,
            maximize=request.maximize,
            best=self.best,
        )
        return ExecutorPool(setting, self.data)

    def train(
        self, blocks: Iterable[tuple[int, Task]], pause: Callable[[], None]
    ) -> Iterator[tuple[int, TaskResult]]:
        return hand_out(self.workers, blocks, self.request.data, pause)


class _Try(NamedTuple):
    group: int
    block: Task
    number: int  # of the tries so far, this one counted
    executor: Any = None  # that has taken it


def hand_out(
    workers: Workers, blocks: Iterable[tuple[int, Task]], data: PyTree, pause: Callable[[], None]
) -> Iterator[tuple[int, TaskResult]]:
    """Have the blocks (with the numbers of their groups) trained; what comes back, as it comes.

    A block whose worker died is given to another one, four times at most. The data travels with
    one block for each process that says that it has none. `pause` is called several times a second.
    Raises RuntimeError for a block that fails in its worker and for an executor that takes no more
    of them, TypeError for a block that cannot be sent.
    """
    running: dict[concurrent.futures.Future, _Try] = {}
    held: list[_Try] = []  # until some process surely has the data
    lacking: set[str] = set()  # the processes that have said that they have none

    def submit(task: _Try, with_data: bool = False) -> None:
        carried = DatasetRef(task.block.data.name, data if with_data else None)
        task = task._replace(block=task.block._replace(data=carried))
        with warnings.catch_warnings():
            # Dask's advice is to send large data ahead; here it goes to each process once
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            future, executor = workers.submit(task.block)
        running[future] = task._replace(executor=executor)

    try:
        for group, block in blocks:
            submit(_Try(group, block, 1))
        while running:
            done, _ = concurrent.futures.wait(
                running, _POLL, return_when=concurrent.futures.FIRST_COMPLETED
            )
            pause()
            for future in sorted(done, key=_has_failed):  # what was done before the executor broke
                task = running.pop(future)
                outcome = _answer(future, task, workers)
                if isinstance(outcome, _Try):
                    submit(outcome)
                elif isinstance(outcome, DataMissing):
                    lacking.add(outcome.worker)
                    on_the_way = sum(t.block.data.parts is not None for t in running.values())
                    if on_the_way < len(lacking):
                        submit(task, with_data=True)
                    else:
                        held.append(task)
                else:
                    lacking.discard(outcome.worker)
                    workers.succeeded()
                    yield task.group, outcome
                    while held:
                        submit(held.pop())
            if held and not running:
                submit(held.pop(), with_data=True)
    finally:
        for future in running:
            future.cancel()


def _has_failed(future) -> bool:
    return future.cancelled() or future.exception() is not None


def _answer(future, task: _Try, workers: Workers) -> TaskResult | DataMissing | _Try:
    """What a block came back with, or the next try where its worker was lost."""
    rows = f"the block of {len(task.block.rows)} trials from {int(task.block.rows[0])} on"
    try:
        outcome = future.result()
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise TypeError(
            f"sweep: {rows} cannot be sent to another process: {error}. Define the trial function "
            "at the top of a module that the workers can import, or use an executor that sends "
            "functions by value, such as Dask's."
        ) from error
    except Exception as error:
        broken = isinstance(error, concurrent.futures.BrokenExecutor)
        if broken and workers.lost(task.executor, error):
            return task  # whichever block broke it took the others along: it counts for none
        if task.number == _TRIES:
            raise RuntimeError(
                f"sweep: {rows} was lost {_TRIES} times with its worker, the last time by "
                f"{type(error).__name__}: {error}"
            ) from error
        return task._replace(number=task.number + 1)
    if isinstance(outcome, TaskFailed):
        raise RuntimeError(
            f"sweep: {rows} failed in its worker with {outcome.message}\n{outcome.traceback}"
        )
    return outcome
