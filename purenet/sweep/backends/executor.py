"""Trials that train in other processes: tasks for a concurrent.futures executor."""

import concurrent.futures
import math
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import expect, integer, require
from purenet.sweep.backends.task import (
    DataMissing,
    DatasetRef,
    GroupSpec,
    ProgramSource,
    Task,
    TaskFailed,
    TaskResult,
    run_task,
)
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.records import ProgramCost, Report, TrialCheckpoint, TrialRows
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.group import Group, Work
from purenet.sweep.schedulers.base import Scheduler

_TRIES = 4  # of a task whose worker dies each time, and of executors that break at once
_POLL = 0.2  # seconds between two checks for an interrupt
_EXECUTOR = (
    "a concurrent.futures executor, such as ProcessPoolExecutor(...) or Dask's "
    "Client(...).get_executor()"
)
_SEND = (
    "Define the trial function, and one that opens the source of a stream, at the top of a module "
    "that the workers can import, or use an executor that sends functions by value, such as Dask's."
)
_TASKS = 16  # of a round, unless the user sets the number of trials in each


class ExecutorPool(TrialRows):
    """The trials of one static group, as a pool whose lanes are in other processes."""

    def __init__(self, spec: GroupSpec, data: DatasetRef):
        super().__init__(spec.source.numbers)
        self.spec, self.data = spec, data
        self.cost: ProgramCost | None = None  # of the program in a worker

    def tasks(self, target_epochs: np.ndarray, keep: np.ndarray) -> list[Task]:
        """The work that brings every row to its target, the longest first."""
        remaining = np.maximum(target_epochs - self.epochs, 0)
        needed = keep | (remaining > 0)
        self.waiting = {row: record for row, record in self.waiting.items() if needed[row]}
        rows = np.flatnonzero(remaining)
        rows = rows[np.argsort(-remaining[rows], kind="stable")]
        size = min(self.spec.width, max(1, math.ceil(len(rows) / _TASKS)))
        parts = (np.sort(rows[i : i + size]) for i in range(0, len(rows), size))
        return [
            Task(
                spec=self.spec,
                data=self.data,
                rows=part,
                trials=self.some(part),
                target_epochs=target_epochs[part],
                keep=keep[part],
                records=self.records(part),
            )
            for part in parts
        ]

    def take(self, result: TaskResult) -> Report:
        """Record the result of a task."""
        report = result.report
        for row in map(int, report.rows):
            self.waiting.pop(row, None)
        self.waiting |= result.records
        self.epochs[report.rows] = report.after
        self.cost = self.cost or result.cost
        return report

    def state(self, row: int) -> list[np.ndarray]:
        return self.waiting[row].state

    def records(self, rows: np.ndarray | list[int]) -> dict[int, TrialCheckpoint]:
        return {row: self.waiting[row] for row in map(int, rows) if row in self.waiting}


def check(executor: object, search: Scheduler, plan: object, devices: object) -> None:
    """Raise TypeError or ValueError for an executor that cannot run tasks, or a sweep that cannot
    be split into tasks."""
    if _is_executor(executor):
        _refuse_forks(executor)
    else:
        such = f"{_EXECUTOR}, or a function that returns one,"
        expect(callable(executor), "sweep: executor", executor, such)
    require(
        search.independent,
        "sweep: the members of a population copy each other inside one program, so an executor "
        "cannot split them up; leave out executor=, or choose another search.",
    )
    require(
        plan is None,
        "sweep: a plan assigns trials to the devices of this process, but an executor's workers "
        "have their own; leave out plan= or executor=.",
    )
    if devices is not None:
        integer("sweep: devices of each worker", devices, least=1)


def _is_executor(value: Any) -> bool:
    """Whether this is an executor, and not a class or a function that makes one."""
    return callable(getattr(value, "submit", None)) and not isinstance(value, type)


def _refuse_forks(executor: Any) -> None:
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        context = getattr(executor, "_mp_context", None)
        require(
            context is None or context.get_start_method() != "fork",
            "sweep: the executor forks this process, and JAX's threads do not survive a fork; "
            'create it with mp_context=multiprocessing.get_context("spawn").',
        )


def _failed(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Workers:
    """An executor, or those that a function returns, one after another.

    An executor made here is replaced when it breaks, unless it is the fourth in a row to break
    with no task finished in between.
    """

    def __init__(self, given: Any):
        self._make = None if _is_executor(given) else given
        self._executor: Any = None if self._make else given
        self._broken = 0  # in a row

    def submit(self, task: Task) -> tuple[concurrent.futures.Future, Any]:
        """The future of a task, and the executor that took it.

        Raises RuntimeError if no executor takes it.
        """
        while True:
            if self._executor is None:
                self._executor = self._made()
            try:
                return self._executor.submit(run_task, task), self._executor
            except Exception as error:
                if self._make is None:
                    raise RuntimeError(
                        f"sweep: the executor accepts no more blocks ({_failed(error)}); pass a "
                        "function that returns an executor as executor= to have it replaced. With "
                        "path=, the same call resumes the sweep."
                    ) from error
                self.lost(self._executor, error)

    def lost(self, executor: Any, error: BaseException) -> bool:
        """Note that an executor broke. Returns whether a new one takes its place."""
        if self._make is None:
            return False
        if executor is self._executor:
            executor.shutdown(wait=False)
            self._executor, self._broken = None, self._broken + 1
            if self._broken == _TRIES:
                raise RuntimeError(
                    f"sweep: the executor broke {_TRIES} times with no block finished in between, "
                    f"the last time by {_failed(error)}"
                ) from error
        return True

    def succeeded(self) -> None:
        """Note that a task has finished."""
        self._broken = 0

    def close(self, wait: bool) -> None:
        """End the workers that were started here."""
        if self._make is not None and self._executor is not None:
            self._executor.shutdown(wait=wait)
            self._executor = None

    def _made(self) -> Any:
        assert self._make is not None
        made = self._make()
        expect(_is_executor(made), "sweep: the return value of executor()", made, _EXECUTOR)
        _refuse_forks(made)
        return made


class ExecutorBackend:
    """An executor that trains the trials of a sweep; as a context, it ends with the sweep."""

    def __init__(
        self,
        executor: Any,
        request: SweepConfig,
        devices: int | None,
        trials_per_block: int | None,
        keep: int,
    ):
        self.workers, self.request, self.devices = Workers(executor), request, devices
        self.kept = keep * request.shape.runs
        self.width = math.ceil(request.shape.rows / _TASKS)
        if trials_per_block is not None:
            self.width = integer("sweep: trials_per_block", trials_per_block, least=1)
        self.name = uuid.uuid4().hex  # of this sweep, in every process
        self.pools: dict[int, ExecutorPool] = {}

    def __enter__(self) -> "ExecutorBackend":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # after an error, tasks that nobody waits for may still be running
        self.workers.close(wait=kind is None)

    def pool(self, group: Group) -> ExecutorPool:
        """A new pool for the trials of a group."""
        program, request = group.program, self.request
        spec = GroupSpec(
            name=f"{self.name} {group.number}",
            source=ProgramSource(program.training, group.first_numbers(), program.monitor),
            seed=request.seed,
            width=self.width,
            devices=self.devices,
            kept=self.kept,
        )
        data = request.fingerprint
        if isinstance(request.data, StreamedParts):
            data = f"{data} {self.name}"  # known by some examples only, so by those of this sweep
        pool = self.pools[group.number] = ExecutorPool(spec, DatasetRef(data, None))
        return pool

    def train(
        self, work: Iterable[Work], pause: Callable[[], bool]
    ) -> Iterator[tuple[Group, Report]]:
        """Train all groups, whose pools were made here, at once. Yields the report of each task
        when it is done; `pause` is called several times a second and returns True once no further
        task may start."""
        groups, tasks = {}, []
        for group, target_epochs, keep in work:
            groups[group.number] = group
            todo = self.pools[group.number].tasks(target_epochs, keep)
            tasks += [(group.number, task) for task in todo]
        for number, result in hand_out(self.workers, tasks, self.request.data, pause):
            yield groups[number], self.pools[number].take(result)


class _Try(NamedTuple):
    group: int
    task: Task
    number: int  # of the tries so far, this one included
    executor: Any = None  # that took it


def hand_out(
    workers: Workers, tasks: Iterable[tuple[int, Task]], data: PyTree, pause: Callable[[], bool]
) -> Iterator[tuple[int, TaskResult]]:
    """Submit tasks, given with the numbers of their groups; yields each result as it arrives.

    A task whose worker dies is tried four times at most. The data is sent along with one task for
    each process that reports that it has none. `pause` is called several times a second; once it
    returns True, only the running tasks are waited for.
    Raises RuntimeError for a task that fails in its worker and for an executor that accepts no
    more tasks, TypeError for a task that cannot be sent.
    """
    running: dict[concurrent.futures.Future, _Try] = {}
    held: list[_Try] = []  # until some process certainly has the data
    lacking: set[str] = set()  # the processes that have reported that they have none
    late = False

    def submit(attempt: _Try, with_data: bool = False) -> None:
        carried = DatasetRef(attempt.task.data.name, data if with_data else None)
        attempt = attempt._replace(task=attempt.task._replace(data=carried))
        with warnings.catch_warnings():
            # Dask's advice is to send large data ahead; here it goes to each process once
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            future, executor = workers.submit(attempt.task)
        running[future] = attempt._replace(executor=executor)

    try:
        for group, task in tasks:
            submit(_Try(group, task, 1))
        while running:
            done, _ = concurrent.futures.wait(
                running, _POLL, return_when=concurrent.futures.FIRST_COMPLETED
            )
            if pause():
                late = True
                held.clear()
                running = {future: t for future, t in running.items() if not future.cancel()}
                done &= running.keys()
            for future in sorted(done, key=_has_failed):  # what was done before the executor broke
                attempt = running.pop(future)
                result = _answer(future, attempt, workers)
                if late and not isinstance(result, TaskResult):
                    continue
                if isinstance(result, _Try):
                    submit(result)
                elif isinstance(result, DataMissing):
                    lacking.add(result.worker)
                    on_the_way = sum(t.task.data.parts is not None for t in running.values())
                    if on_the_way < len(lacking):
                        submit(attempt, with_data=True)
                    else:
                        held.append(attempt)
                else:
                    lacking.discard(result.worker)
                    workers.succeeded()
                    yield attempt.group, result
                    while held:
                        submit(held.pop())
            if held and not running:
                submit(held.pop(), with_data=True)
    finally:
        for future in running:
            future.cancel()


def _has_failed(future) -> bool:
    return future.cancelled() or future.exception() is not None


def _answer(future, attempt: _Try, workers: Workers) -> TaskResult | DataMissing | _Try:
    """What a task returned, or the next try if its worker was lost."""
    rows = attempt.task.rows
    block = f"the block of {len(rows)} trials that starts at trial {int(rows[0])}"
    try:
        result = future.result()
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise TypeError(
            f"sweep: {block} cannot be sent to another process: {error}. {_SEND}"
        ) from error
    except Exception as error:
        broken = isinstance(error, concurrent.futures.BrokenExecutor)
        if broken and workers.lost(attempt.executor, error):
            return attempt  # all its blocks fail, whichever broke it: the try counts for none
        if attempt.number == _TRIES:
            text = f"sweep: {block} lost its worker {_TRIES} times, the last time by "
            raise RuntimeError(text + _failed(error)) from error
        return attempt._replace(number=attempt.number + 1)
    if isinstance(result, TaskFailed):
        raise RuntimeError(
            f"sweep: {block} failed in its worker with {result.message}\n{result.traceback}"
        )
    return result
