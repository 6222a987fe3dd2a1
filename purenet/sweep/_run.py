"""run: many trials of one training, from a space to a result."""

import concurrent.futures
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack, cast

import jax
import numpy as np

from purenet.core.files import as_path
from purenet.core.interrupts import InterruptFlag, Interrupts, until_interrupted
from purenet.core.progress import Progress
from purenet.core.types import PyTree
from purenet.core.validate import integer
from purenet.distributed import multihost
from purenet.sweep._plan import Plan
from purenet.sweep.backends import multihost as together
from purenet.sweep.backends.executor import ExecutorBackend, check
from purenet.sweep.backends.multihost import MultiHostPool
from purenet.sweep.backends.population import train
from purenet.sweep.config import SweepConfig, reach
from purenet.sweep.engine.records import ProgramRecord, Report
from purenet.sweep.group import Group, Pool, Work, Workplace
from purenet.sweep.options import SweepOptions, filled, with_options
from purenet.sweep.results.result import Costs, Result, Run
from purenet.sweep.results.trials import TrialTable
from purenet.sweep.schedulers.base import as_scheduler
from purenet.sweep.schedulers.pbt import Population
from purenet.sweep.state import SweepState
from purenet.sweep.storage import resume, shared
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.shared import SharedStore

_SAVING = 0.05  # of the time may be spent on saves before the last one


@with_options
def run(
    trial: Callable,
    space: PyTree,
    data: PyTree,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    *,
    plan: Plan | None = None,
    path: str | os.PathLike | None = None,
    keep: int = 1,
    executor: concurrent.futures.Executor | Callable[[], concurrent.futures.Executor] | None = None,
    trials_per_block: int | None = None,
    progress: bool | None = None,
    **options: Unpack[SweepOptions],
) -> Result:
    """Train many trials in one program per static group, and rank them.

    `trial(hyper)` makes a `Trainable` from one point of `space`, whose numbers arrive traced.
    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis:
    `epoch` gets the first, and `evaluate` runs on both after every epoch. A trial has at most
    `epochs` epochs, which has no default. Trial i depends on the seed and on i alone.

    - `search` decides which points are tried and for how long: a sampler (`random`, `sobol`,
      `latin_hypercube`, `grid(points)`) trains each point to the end; `halving`, `hyperband` and
      `median` stop bad points early; `pbt` lets bad ones copy good ones; `from_optuna` asks an
      Optuna sampler.
    - `seeds`: number of runs of each point, which is ranked by their mean.
    - `metric` ranks the trials, by its value on the validation data after the last epoch. It
      defaults to "accuracy" if `evaluate` gives it, else to "loss"; any other metric needs
      `mode` "max" or "min".
    - `devices`: the devices to use, or their number; defaults to all local ones. `plan`, from
      `sweep.plan`, decides how the trials are laid out on them.
    - `path`: a folder for the results so far. The same call resumes from it, under the same number
      settings of JAX and the same versions. Ctrl-C, SIGTERM and SIGHUP first save, and act at the
      next report; a second one acts at once.
    - `keep`: number of best points whose final weights are kept.
    - `executor`: a concurrent.futures executor (processes, Dask, MPI) whose workers train blocks of
      `trials_per_block` trials, which defaults to 1/16 of the trials; `devices` is then a number of
      devices per worker. The results are those without an executor; a block whose worker dies is
      trained again. A process pool breaks when a worker dies: give a function that makes one, and
      it is replaced.
    - `progress` shows a bar; it defaults to True on a terminal and in a notebook.

    A trial that becomes non-finite is frozen, marked "diverged" and never selected, so
    `jax_debug_nans` and `jax_debug_infs` are off in the programs of a sweep.
    Raises TypeError or ValueError for bad arguments, before anything is compiled; ValueError if
    `path` holds another sweep or files that do not belong together; OSError if it cannot be written
    and the sweep is not finished; BlockingIOError if another process uses it.

    >>> import purenet as pn
    >>> from purenet import sweep
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> def trial(hyper):
    ...     return pn.supervised(net=pn.mlp(), sizes=(4, 8, 2), optimizer=pn.sgd(hyper["rate"]),
    ...                          loss=pn.softmax_cross_entropy, batch_size=2)
    >>> space = {"rate": sweep.loguniform(1e-3, 1.0)}
    >>> result = sweep.run(trial, space, ((x, t), (x, t)), trials=5, epochs=3, seed=0)
    >>> result.curves["validation"]["accuracy"].shape
    (5, 3)
    """
    began = time.perf_counter()
    keep = integer("sweep: keep", keep, least=0)
    if plan is not None and not hasattr(plan, "layout"):
        raise TypeError(
            f"sweep: plan is {type(plan).__name__}, but the result of sweep.plan is expected."
        )
    path = None if path is None else as_path("sweep", path)
    asked = filled(options)
    devices: Any = asked["devices"]
    if executor is not None:
        check(executor, as_scheduler(asked["search"]), plan, devices)
        asked["devices"] = None  # those of the workers are not here
    elif trials_per_block is not None:
        raise ValueError("sweep: trials_per_block needs executor=; give one, or leave it out.")
    request = SweepConfig(trial, space, data, trials, epochs, seed, **asked)
    backend = None
    if executor is not None:
        backend = ExecutorBackend(executor, request, devices, trials_per_block, keep)  # type: ignore[arg-type]
    sweep = SweepRun(request, plan, keep, backend)
    store: Store | SharedStore | None = None
    several = multihost.count() > 1
    if several or path is not None:
        settings = request.settings() | {"data": request.fingerprint}
        if several:
            together.check(settings, request.search, executor)
            progress = progress if multihost.first() else False
        if path is not None:
            store = shared.SharedStore(path, settings) if several else Store(path, settings)
    with contextlib.closing(store) if store else contextlib.nullcontext():
        return sweep.run(progress, began, store)


class Saves:
    """Where a run saves, and when the next save is due."""

    def __init__(self, store: Store | SharedStore | None, began: float):
        self.store, self.began = store, began
        self.ended = 0.0  # the last one,
        self.took = 0.0  # in seconds

    def done(self, began: float) -> None:
        self.ended = time.perf_counter()
        self.took = self.ended - began

    def due(self) -> bool:
        return time.perf_counter() - self.ended >= self.took / _SAVING


class SweepRun:
    """One sweep while it runs: the rounds of its search, on the table of trials and their groups.

    Raises ValueError for a group whose training does not measure the metric that ranks trials.
    """

    def __init__(
        self,
        request: SweepConfig,
        plan: Plan | None,
        keep: int,
        executor: ExecutorBackend | None = None,
    ):
        self.request, self.plan, self.keep, self.executor = request, plan, keep, executor
        first = request.start.points
        self.state = SweepState(request.space, first, request.shape, request.objective)
        self.workplace = Workplace(request.seed, request.data, self._make_pool)
        self.groups: list[Group] = []
        self.saves = Saves(None, time.perf_counter())

    def run(self, progress: bool | None, began: float, store: Store | SharedStore | None) -> Result:
        request, state = self.request, self.state
        self.saves = Saves(store, began)
        self.add_groups()
        if store is not None and store.resumes:
            resume.load(store, state, self.groups)
        total = request.search.budget(request.trials, request.epochs) * request.seeds
        with (
            self.executor or contextlib.nullcontext(),
            Progress(total, "trial-epoch", progress, int(state.epochs.sum())) as self.bar,
            until_interrupted() as requested,
        ):
            programs = f"{len(self.groups)} program{'s' * (len(self.groups) != 1)}"
            self.bar.say(f"tracing and compiling ({programs})")
            agreed = requested if multihost.count() == 1 else InterruptFlag()
            self.interrupts = Interrupts(requested, agreed)
            if request.search.independent:
                self._rounds()
            else:
                epochs = resume.rejoin_population(state, self.groups)
                members = cast(Population, request.search)  # the one kind whose trials are not
                train(members, request.seed, state, self.groups, epochs, self.record)
            self._keep_best()
            self.bar.advance(0, state.status, total=self.bar.done)
            if store is not None and not state.restored.complete:
                self.save(finished=True)
            if requested and store is not None:
                self._say_how_to_resume(store)
        return self.result()

    # rounds
    def _rounds(self) -> None:
        request, state, target_epochs = self.request, self.state, self.request.start.targets
        before = np.zeros(request.trials, int)
        reached = before
        scored = 0  # points whose scores the sampler knows
        while True:
            self._draw(reach(target_epochs))
            self._train(target_epochs, target_epochs > before)
            before, reached = target_epochs, np.maximum(reached, target_epochs)
            # a folder knows more than has been trained so far: decide as if it did not
            asked = np.arange(request.epochs) < reached[:, None]
            scores = np.where(asked, state.scores(), np.nan)
            drawn = len(state.points.group)
            if scored < drawn:
                request.start.source.tell(np.arange(scored, drawn), scores[scored:drawn])
                scored = drawn
            try:
                target_epochs = request.start.rounds.send(scores)
            except StopIteration:
                return

    def _draw(self, count: int) -> None:
        """Ask the sampler for the points that are not drawn yet."""
        drawn = len(self.state.points.group)
        if count > drawn:
            self.state.draw(self.request.start.source.ask(count - drawn))
            self.add_groups()

    def add_groups(self) -> None:
        """Make the groups of points that are new, and add their new rows to all groups."""
        request, state = self.request, self.state
        for g, static in enumerate(state.points.groups):
            if g == len(self.groups):
                checked = g < len(request.programs)
                program = request.programs[g] if checked else request.program(state.points, g)
                planned = self.plan.layout(request.static(static)) if self.plan else None
                program = program._replace(layout=planned or program.layout)
                self.groups.append(Group(g, state, program, self.workplace))
                resume.restore(state, self.groups[g])
                if request.metric not in program.metrics:
                    raise ValueError(
                        f"sweep: `evaluate` of {request.static(static)} gives the metrics "
                        f"{list(program.metrics)}, but {request.metric!r} ranks the trials."
                    )
            self.groups[g].add_rows()
        state.add_metrics({name for group in self.groups for name in group.program.metrics})

    def _train(self, target_epochs: np.ndarray, racing: np.ndarray) -> None:
        """Train every point to its target; those that are `racing` may have to resume later."""
        state, seeds = self.state, self.request.seeds
        target_epochs, racing = np.repeat(target_epochs, seeds), np.repeat(racing, seeds)
        todo = np.where((state.epochs < target_epochs) & state.alive, target_epochs, 0)
        keep = racing & (target_epochs < self.request.epochs)
        work = [
            Work(group, todo[group.rows], keep[group.rows])
            for group in self.groups
            if todo[group.rows].any()
        ]
        remote = self.executor is not None
        for group, report in self.train_remote(work) if remote else self.train_local(work):
            self.record(group, report)

    def train_local(self, work: Sequence[Work]) -> Iterator[tuple[Group, Report]]:
        """Train one group after the other, each to its targets."""
        following = [*work, None][1:]
        for (group, target_epochs, keep), then in zip(work, following, strict=True):
            pool = group.training_pool()
            if then is not None:
                then.group.compile()  # while this group trains
            for report in pool.train(target_epochs, keep):
                yield group, report
            if len(self.groups) > 1:
                pool.release(keep)

    def train_remote(self, work: Sequence[Work]) -> Iterator[tuple[Group, Report]]:
        """Train all groups at once, by the workers of the executor."""
        assert self.executor is not None
        for group, _, _ in work:
            group.pool()
        try:
            yield from self.executor.train(work, self._stop_if_interrupted)
        except Exception:
            self.save(finished=False)  # the reports of the other tasks are not lost
            raise

    def _make_pool(self, group: Group) -> Pool:
        if self.executor is not None:
            return self.executor.pool(group)
        if multihost.count() == 1:
            return group.lanes()
        return MultiHostPool(group.lanes(), self.interrupts)

    # reports
    def record(self, group: Group, report: Report) -> None:
        new = group.record(report, self.keep * self.request.seeds)
        self.bar.advance(new, self.state.status)
        self._stop_if_interrupted()
        if self.saves.store is not None and multihost.broadcast(self.saves.due()):
            self.save(finished=False)

    def save(self, finished: bool) -> None:
        """Save everything that is known now, if the sweep has a folder."""
        if (store := self.saves.store) is None:
            return
        began, result = time.perf_counter(), self.result()
        about = (result.rows(), result.seconds, result.plan, result.programs)
        resume.save(store, self.state, self.groups, resume.Summary(finished, *about))
        self.saves.done(began)

    def _stop_if_interrupted(self) -> None:
        if not self.interrupts.agreed:
            return
        self.save(finished=False)
        if self.saves.store is not None:
            self._say_how_to_resume(self.saves.store)
        self.interrupts.requested.deliver()
        if multihost.count() > 1:  # the signal may have reached another process
            raise KeyboardInterrupt

    def _say_how_to_resume(self, store: Store | SharedStore) -> None:
        done, total = self.bar.done, self.bar.total
        print(
            f"\nsweep: interrupted; {done} of about {total} trial-epochs are in {store.folder}, "
            "and the same call resumes from there.",
            file=sys.stderr,
        )

    # the result
    def _keep_best(self) -> None:
        """Keep the final states of the best points, the few that are not at hand by training."""
        state, seeds, result = self.state, self.request.seeds, self.result()
        ranked = result.ranked()[: self.keep]
        rows = [point * seeds for point in ranked if result.status[point * seeds] == "done"]
        if not self.request.search.independent and {*rows} - {*state.kept}:
            state.kept = self._retrain_population()[0].kept
        state.kept = {
            row: state.kept[row] if row in state.kept else self._group_of(row).retrain(row)[0]
            for row in rows
        }

    def result(self) -> Result:
        """What is known so far, of the points that are drawn."""
        request, state, restored = self.request, self.state, self.state.restored
        statuses = state.statuses()
        seconds = 0.0 if restored.finished else time.perf_counter() - self.saves.began
        outcomes = TrialTable(
            hyper=state.hyper(),
            space=request.space.columns,
            seeds=request.seeds,
            status=statuses,
            epochs=state.epochs[: len(statuses)],
            curves=jax.tree.map(lambda curve: curve[: len(statuses)], state.curves),
            metric=request.metric,
            maximize=request.maximize,
        )
        costs = Costs(
            programs=tuple(self._program_records()),
            plan=self.plan.summary() if self.plan else restored.plan,
            seconds=restored.previous_seconds + seconds,
        )
        return Result(
            outcomes,
            request.settings(),
            costs,
            kept={row: self._group_of(row).unpack(row, s) for row, s in state.kept.items()},
            lineage=state.lineage,
            _retrain=self.retrain,
        )

    def _program_records(self) -> Iterator[ProgramRecord]:
        """For each group: what was compiled now, or else by an earlier process."""
        restored = self.state.restored.programs
        for group in self.groups:
            static = self.request.static(group.program.static)
            if group.cost is not None:
                yield ProgramRecord(static, len(group.rows), *group.cost)
            else:
                yield from (program for program in restored if program.static == static)

    def _group_of(self, row: int) -> Group:
        return self.groups[self.state.group_of(row)]

    def retrain(self, row: int) -> Run:
        """Train one run again: a member of a population with all the others, any other alone."""
        if not self.request.search.independent:
            _, result = self._retrain_population()
            own = {p: {n: c[row] for n, c in m.items()} for p, m in result.curves.items()}
            return Run(result.kept.get(row), own)
        group = self._group_of(row)
        packed, curves = group.retrain(row)
        return Run(group.unpack(row, packed), curves)

    def _retrain_population(self) -> tuple[SweepState, Result]:
        """Members copy one another: train all of them again, and keep every final state."""
        other = SweepRun(self.request, self.plan, keep=self.request.trials)
        result = other.run(False, time.perf_counter(), None)
        return other.state, result
