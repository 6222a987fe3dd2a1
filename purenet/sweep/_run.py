"""run: many trials of one training, from a space to a result."""

import concurrent.futures
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Unpack

import jax
import numpy as np

from purenet.core.files import as_path
from purenet.core.interrupts import InterruptFlag, until_interrupted
from purenet.core.progress import Progress
from purenet.core.types import PyTree
from purenet.core.validate import integer
from purenet.distributed import multihost
from purenet.sweep._plan import Plan
from purenet.sweep.backends import multihost as together
from purenet.sweep.backends.executor import ExecutorBackend, ExecutorPool, check
from purenet.sweep.backends.multihost import MultiHostPool
from purenet.sweep.backends.population import train
from purenet.sweep.config import SweepConfig, reach
from purenet.sweep.engine.compile import Compilation, Compiled
from purenet.sweep.engine.layout import Layout, place, random_key
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import PARTS, Program
from purenet.sweep.engine.records import Lineage, ProgramRecord, Report, best_of
from purenet.sweep.options import SweepOptions, filled, with_options
from purenet.sweep.results.result import Result, Run
from purenet.sweep.schedulers.base import as_scheduler
from purenet.sweep.space.space import add_points, numbers
from purenet.sweep.storage import resume, shared
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.shared import SharedStore

_SAVING = 0.05  # of the time may go into writing what is known, between begin and end


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
    """Train many trials in one program a static group, and rank them.

    `trial(hyper)` makes a `Trainable` from one point of `space`, whose numbers arrive traced.
    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis:
    `epoch` gets the first, `evaluate` is run on both after every epoch, and a trial has `epochs` of
    them at most, a number without a default. Trial i depends on the seed and on i alone.

    - `search` says which points are tried and how long: a sampler (`random`, `sobol`,
      `latin_hypercube`, `grid(points)`) trains every one to the end; `halving`, `hyperband` and
      `median` stop the bad ones early; `pbt` lets them copy the good ones; `from_optuna` asks
      an Optuna sampler.
    - `seeds`: so many runs of every point, which are ranked by their mean.
    - Trials are ranked by `metric` on the validation data after the last epoch: by itself
      "accuracy" where there is one, else "loss"; `mode` "max" or "min" is needed for any other.
    - `devices` are those to use, or how many: by itself all local ones. `plan`, from
      `sweep.plan`, says how the trials lie on them.
    - `path`: a folder for what is known so far. The same call resumes where that one stopped, under
      the same number settings of JAX and the same versions. Ctrl-C, SIGTERM and SIGHUP save first,
      and act at the next report; a second one acts at once.
    - `keep`: the final weights of so many of the best points stay with the result.
    - `executor`: a concurrent.futures executor (processes, Dask, MPI) whose workers train blocks of
      `trials_per_block` trials, by itself a sixteenth of them; `devices` are then so many of each
      worker's. The results are those without it; a block whose worker dies is trained again. A
      process pool breaks when a worker dies: give a function that makes one, and it is replaced.
    - `progress` shows a bar (by itself: on a terminal and in a notebook).

    A trial that becomes non-finite is frozen, marked "diverged" and never selected, so
    `jax_debug_nans` and `jax_debug_infs` are off in the programs of a sweep.
    Raises TypeError or ValueError for bad arguments, before anything is compiled; ValueError for a
    `path` that holds another sweep or files that do not belong together; OSError where it cannot be
    written and the sweep is not finished, BlockingIOError where another process uses it.

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
            f"sweep: plan is {type(plan).__name__}, but what sweep.plan gave is expected."
        )
    path = None if path is None else as_path("sweep", path)
    asked = filled(options)
    devices: Any = asked["devices"]
    if executor is not None:
        check(executor, as_scheduler(asked["search"]), plan, devices)
        asked["devices"] = None  # those of the workers are not here
    elif trials_per_block is not None:
        raise ValueError("sweep: trials_per_block is for an executor; give one, or leave it out.")
    request = SweepConfig(trial, space, data, trials, epochs, seed, **asked)
    sweep = SweepRun(request, plan, keep)
    if executor is not None:
        sweep.hand_over(executor, devices, trials_per_block)
    several = multihost.count() > 1
    if path is None and not several:
        return sweep.run(progress, began, None)
    settings = request.settings() | {"data": request.fingerprint}
    if several:
        together.check(settings, request.search, executor)
        progress = progress if multihost.first() else False
    if path is None:
        return sweep.run(progress, began, None)
    store = shared.SharedStore(path, settings) if several else Store(path, settings)
    with contextlib.closing(store):
        return sweep.run(progress, began, store)


class SweepRun:
    """One sweep on its way: what is known of every trial, and the pools that train them.

    A row is a run: point `row // seeds` with seed `row % seeds`.
    """

    def __init__(self, request: SweepConfig, plan: Plan | None, keep: int):
        self.request, self.plan, self.keep = request, plan, keep
        self.points, self.key = request.first, random_key(request.seed)
        rows = request.trials * request.seeds
        self.epochs, self.alive = np.zeros(rows, int), np.ones(rows, bool)
        self.curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
        self.kept: dict[int, list] = {}  # row -> its final state, packed
        self.programs: list[Program] = []
        self.building: dict[int, Compilation] = {}
        self.compiled_here: dict[int, Compiled] = {}
        self.pools: dict[int, LanePool | ExecutorPool | MultiHostPool] = {}
        self.hands: ExecutorBackend | None = None  # where trials are trained, if not here
        self.members: list[np.ndarray] = []  # the rows of each group, in the order of its pool
        self.data: dict[tuple, PyTree] = {}  # on the devices of a layout
        self.lineage: Lineage | None = None
        self.finished = False  # nothing was left to train there
        self.complete = False  # nor to write
        self.planned: dict | None = None  # what was planned there
        self.costs: tuple[ProgramRecord, ...] = ()  # and compiled
        self.earlier = 0.0  # seconds that went before, in other processes
        self.known: dict[str, np.ndarray] | None = None  # what the folder held: curves, states
        self.loaded: dict[str, np.ndarray] = {}

    def hand_over(self, executor: Any, devices: Any, trials_per_block: int | None) -> None:
        """Let the workers of an executor train the trials."""
        self.hands = ExecutorBackend(executor, self.request, devices, trials_per_block, self.keep)

    def run(self, progress: bool | None, began: float, store: Store | SharedStore | None) -> Result:
        request = self.request
        self.began, self.store = began, store
        self.saved_at, self.saving = 0.0, 0.0
        self._add_groups()
        if store is not None and store.goes_on:
            resume.load(self, store)
        total = request.search.budget(request.trials, request.epochs) * request.seeds
        with (
            self.hands or contextlib.nullcontext(),
            Progress(total, "trial-epoch", progress, int(self.epochs.sum())) as self.bar,
            until_interrupted() as self.interrupt_requested,
        ):
            programs = f"{len(self.programs)} program{'s' * (len(self.programs) != 1)}"
            self.bar.say(f"tracing and compiling ({programs})")
            # where there are several processes, the flag that all of them raise at once
            self.interrupted = (
                self.interrupt_requested if multihost.count() == 1 else InterruptFlag()
            )
            if request.search.independent:
                self._rounds()
            else:
                train(self, resume.back_together(self))
            self._keep_best()
            self.bar.advance(0, self._standing, total=self.bar.done)
            if store is not None and not self.complete:
                resume.save(self, finished=True)
            if self.interrupt_requested and store is not None:
                self._say_how_to_resume()
        return self.result()

    # rounds
    def _rounds(self) -> None:
        request, goals = self.request, self.request.goals
        before = np.zeros(request.trials, int)
        reached = before
        told = 0
        while True:
            self._draw(reach(goals))
            self._train(goals, goals > before)
            before, reached = goals, np.maximum(reached, goals)
            # a folder knows more than has been trained so far: decide as if it did not
            asked = np.arange(request.epochs) < reached[:, None]
            scores = np.where(asked, self.scores(), np.nan)
            known = len(self.points.group)
            if told < known:
                request.source.tell(np.arange(told, known), scores[told:known])
                told = known
            try:
                goals = request.rounds.send(scores)
            except StopIteration:
                return

    def _draw(self, count: int) -> None:
        """Ask for the points that are not drawn yet."""
        known = len(self.points.group)
        if count > known:
            drawn = self.request.source.ask(count - known)
            self.points = add_points(self.request.space, self.points, drawn)
            self._add_groups()

    def _add_groups(self) -> None:
        """A program and a pool for every group of the points; their new rows too."""
        request, seeds = self.request, self.request.seeds
        for g, group in enumerate(self.points.groups):
            if g == len(self.programs):
                known = g < len(request.programs)
                program = request.programs[g] if known else request.program(self.points, g)
                planned = self.plan.layout(request.static(group)) if self.plan else None
                self.programs.append(program._replace(layout=planned or program.layout))
                self.members.append(np.empty(0, int))
                missing = {request.metric} - set(self.programs[g].metrics)
                if missing:
                    raise ValueError(
                        f"sweep: `evaluate` of {request.static(group)} gives the metrics "
                        f"{list(self.programs[g].metrics)}, but {request.metric!r} is what trials "
                        "are ranked by."
                    )
            points = np.flatnonzero(self.points.group == g)
            rows = (points[:, None] * seeds + np.arange(seeds)).ravel()
            new = rows[len(self.members[g]) :]
            self.members[g] = rows
            if g in self.pools and len(new):
                self._add_rows(self.pools[g], new)
        shape = (len(self.epochs), request.epochs)
        dtype = jax.dtypes.canonicalize_dtype(float)
        for name in sorted({name for program in self.programs for name in program.metrics}):
            for curves in self.curves.values():
                if name not in curves:
                    curves[name] = np.full(shape, np.nan, dtype)

    def _add_rows(self, pool: "LanePool | ExecutorPool | MultiHostPool", rows) -> None:
        points, seeds = np.divmod(rows, self.request.seeds)
        pool.add(points, seeds, numbers(self.request.space, self.points, points))

    def _train(self, goals: np.ndarray, racing: np.ndarray) -> None:
        """Train every point to its goal; those that are `racing` may have to go on later."""
        seeds, last = self.request.seeds, self.request.epochs
        goals, racing = np.repeat(goals, seeds), np.repeat(racing, seeds)
        wanted = np.where((self.epochs < goals) & self.alive, goals, 0)
        busy = [g for g, rows in enumerate(self.members) if wanted[rows].any()]
        keep = racing & (goals < last)
        work = {g: (wanted[rows], keep[rows]) for g, rows in enumerate(self.members) if g in busy}
        for g, report in self._here(work) if self.hands is None else self._there(work, self.hands):
            self.record(g, report)

    def _here(self, work) -> Iterator[tuple[int, Report]]:
        """Train one group after the other, each to its goals."""
        following = [*work, None][1:]
        for (g, (goals, keep)), then in zip(work.items(), following, strict=True):
            pool = self.pool(g)
            if then is not None:
                self._build(then)  # compiles while this group trains
            for report in pool.train(goals, keep):
                yield g, report
            if len(self.programs) > 1:
                pool.release(keep)

    def _there(self, work, hands: ExecutorBackend) -> Iterator[tuple[int, Report]]:
        """The blocks of all groups at once, by the workers of the executor."""
        blocks = [(g, block) for g, what in work.items() for block in self.pool(g).blocks(*what)]
        try:
            for g, outcome in hands.train(blocks, self._stop_if_interrupted):
                yield g, self.pool(g).take(outcome)
        except Exception:
            if self.store is not None:  # what the other blocks brought is not lost
                resume.save(self, finished=False)
            raise

    def _build(self, g: int) -> Compilation:
        if g not in self.building:
            program = self.programs[g]
            point = np.flatnonzero(self.points.group == g)[0]
            one = numbers(self.request.space, self.points, point)
            data = self._placed(program.layout)
            self.building[g] = Compilation(program, one, self.key, data)
        return self.building[g]

    def _placed(self, layout: Layout) -> PyTree:
        if layout.devices not in self.data:
            self.data[layout.devices] = place(layout, self.request.data)
        return self.data[layout.devices]

    def _compiled(self, g: int) -> Compiled:
        if g not in self.compiled_here:
            self.compiled_here[g] = self._build(g).result()
        return self.compiled_here[g]

    def _new_pool(self, g: int) -> "LanePool | ExecutorPool | MultiHostPool":
        if self.hands is not None:
            return self.hands.pool(self.points, g)
        compiled = self._compiled(g)
        pool = LanePool(compiled, self.key, self._placed(compiled.program.layout))
        if multihost.count() == 1:
            return pool
        return MultiHostPool(pool, self.interrupt_requested, self.interrupted)

    def pool(self, g: int) -> Any:
        if g not in self.pools:
            pool = self.pools[g] = self._new_pool(g)
            self._add_rows(pool, self.members[g])
            place_of = {int(row): k for k, row in enumerate(self.members[g])}
            for row, record in resume.loaded(self, g).items():
                if row not in place_of:
                    raise resume.refused(self, f"one of row {row}, which is of another group")
                if self.alive[row] and record.epochs <= self.epochs[row]:
                    pool.put(place_of[row], record)
        return self.pools[g]

    # what is known
    def record(self, g: int, report: Report) -> None:
        rows = self.members[g][report.rows]
        new = int((report.after - np.maximum(report.before, self.epochs[rows])).clip(0).sum())
        report.write(self.curves, rows)
        self.epochs[rows] = np.maximum(self.epochs[rows], report.after)
        self.alive[rows] = report.alive
        self._keep(g, report.rows[report.after == self.request.epochs])
        self.bar.advance(new, self._standing)
        self._stop_if_interrupted()
        due = time.perf_counter() - self.saved_at >= self.saving / _SAVING
        if self.store is not None and multihost.broadcast(due):
            resume.save(self, finished=False)

    def _stop_if_interrupted(self) -> None:
        if not self.interrupted:
            return
        if self.store is not None:
            resume.save(self, finished=False)
            self._say_how_to_resume()
        self.interrupt_requested.deliver()
        if multihost.count() > 1:  # another process was told to stop
            raise KeyboardInterrupt

    def _say_how_to_resume(self) -> None:
        done, total = self.bar.done, self.bar.total
        print(
            f"\nsweep: interrupted; {done} of about {total} trial-epochs are in "
            f"{self.store.folder}, and the same call resumes from there.",  # type: ignore[union-attr]
            file=sys.stderr,
        )

    def _keep(self, g: int, finished) -> None:
        """Hold on to the states of the best that are finished."""
        if not self.keep or not len(finished):
            return
        best = self._best_rows()
        self.kept = {row: state for row, state in self.kept.items() if row in best}
        for local in finished:
            if (row := int(self.members[g][local])) in best:
                self.kept[row] = self.pools[g].state(int(local))

    def _best_rows(self) -> set[int]:
        scores = self.curves["validation"][self.request.metric][:, -1]
        finished = self.alive & (self.epochs == self.request.epochs)
        count = self.keep * self.request.seeds
        return set(best_of(scores, finished, self.request.maximize, count).tolist())

    def _keep_best(self) -> None:
        """The final states of the best points, the few that are not at hand trained again."""
        result = self.result()
        ranked = result.ranked()[: self.keep]
        ranked = [point for point in ranked if result.status[point * self.request.seeds] == "done"]
        rows = [point * self.request.seeds for point in ranked]
        if not self.request.search.independent and {*rows} - {*self.kept}:
            self.kept = self._population_again()[0].kept
        self.kept = {
            row: self.kept[row] if row in self.kept else self._again_packed(row)[0] for row in rows
        }

    def scores(self) -> np.ndarray:
        """(points, epochs): larger is better, NaN where unknown or diverged."""
        curve = self._sign() * self.curves["validation"][self.request.metric]
        by_point = curve.reshape(self.request.trials, self.request.seeds, -1)
        return by_point.mean(axis=1).astype(float)

    def _sign(self) -> int:
        return 1 if self.request.maximize else -1

    def _standing(self) -> dict[str, str]:
        """The progress bar's words: the best score so far of the trials alive, and their number."""
        rows = np.flatnonzero(self.alive & (self.epochs > 0))
        scores = self._sign() * self.curves["validation"][self.request.metric][rows]
        counts = {"alive": f"{self.alive.sum()}/{len(self.alive)}"}
        if lost := int((~self.alive).sum()):
            counts["diverged"] = str(lost)
        if np.isnan(scores).all():
            return counts
        row, epoch = np.unravel_index(np.nanargmax(scores), scores.shape)
        best = f"{self._sign() * scores[row, epoch]:.4g} (trial {rows[row]})"
        return {f"best val {self.request.metric}": best} | counts

    def numbers(self) -> tuple[np.ndarray, ...]:
        """The traced hyperparameters of every point that is drawn."""
        return numbers(self.request.space, self.points, slice(None))

    # the result
    def result(self) -> Result:
        """What is known so far, of the points that are drawn."""
        request, rows = self.request, len(self.points.group) * self.request.seeds
        stopped = np.where(self.epochs < request.epochs, "stopped", "done")
        by_name = dict(zip(request.space.names, self.points.columns, strict=True))
        if self.lineage is not None:  # what the members have in the end
            by_name |= {name: column[-1] for name, column in self.lineage.numbers.items()}
        leaves = dict(zip(request.space.names, request.space.leaves, strict=True))
        return Result(
            hyper={name: np.repeat(by_name[name], request.seeds) for name in request.space.shown},
            space={name: leaves[name] for name in request.space.shown},
            seeds=request.seeds,
            status=np.where(self.alive, stopped, "diverged")[:rows],
            epochs=self.epochs[:rows],
            curves=jax.tree.map(lambda curve: curve[:rows], self.curves),
            metric=request.metric,
            maximize=request.maximize,
            settings=request.settings(),
            programs=tuple(self._program_records()),
            plan=self.plan.summary() if self.plan else self.planned,
            seconds=self.earlier + (0.0 if self.finished else time.perf_counter() - self.began),
            kept={row: self._unpacked(row, state) for row, state in self.kept.items()},
            lineage=self.lineage,
            _again=self._again,
        )

    def _program_records(self) -> Iterator[ProgramRecord]:
        """Of each group: what was compiled now, or else in the process that began."""
        for g, group in enumerate(self.points.groups):
            static = self.request.static(group)
            cost = self.pools[g].cost if g in self.pools else None
            if cost is not None:
                yield ProgramRecord(static, len(self.members[g]), *cost)
            else:
                yield from (program for program in self.costs if program.static == static)

    def group_of(self, row: int) -> int:
        return int(self.points.group[row // self.request.seeds])

    def _unpacked(self, row: int, state: list) -> PyTree:
        program = self.programs[self.group_of(row)]
        with jax.transfer_guard_host_to_device("allow"):
            return program.unpack(state, lambda: program.trainable(self._numbers_of(row)))

    def _numbers_of(self, row: int) -> tuple:
        """The traced hyperparameters that a run has in the end."""
        if self.lineage is not None:
            return tuple(column[-1, row] for column in self.lineage.numbers.values())
        return numbers(self.request.space, self.points, row // self.request.seeds)

    def _again_packed(self, row: int) -> tuple[list, dict]:
        """Train one run again, alone, in the program of its group."""
        compiled = self._compiled(self.group_of(row))
        pool = LanePool(compiled, self.key, self._placed(compiled.program.layout))
        self._add_rows(pool, np.array([row]))
        last = self.request.epochs
        stopped = self.alive[row] and self.epochs[row] < last
        goal = self.epochs[row] if stopped else last
        curves = jax.tree.map(lambda curve: np.full((1, last), np.nan, curve.dtype), self.curves)
        for report in pool.train(np.array([goal]), np.array([True])):
            report.write(curves, report.rows)
        return pool.state(0), jax.tree.map(lambda curve: curve[0], curves)

    def _again(self, row: int) -> Run:
        if not self.request.search.independent:
            _, result = self._population_again()
            own = {p: {n: c[row] for n, c in m.items()} for p, m in result.curves.items()}
            return Run(result.kept.get(row), own)
        state, curves = self._again_packed(row)
        return Run(self._unpacked(row, state), curves)

    def _population_again(self) -> tuple["SweepRun", Result]:
        """A member is nothing without the others: train all of them again, and keep every one."""
        other = SweepRun(self.request, self.plan, keep=self.request.trials)
        return other, other.run(False, time.perf_counter(), None)
