"""run: train many trials, from a space to a result."""

import concurrent.futures
import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack, cast

import numpy as np

from purenet.core.ensemble import Member
from purenet.core.files import as_path
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import accepts, describe_value, integer, positive, require
from purenet.distributed import multihost
from purenet.sweep._plan import Plan
from purenet.sweep.backends import multihost as together
from purenet.sweep.backends.executor import ExecutorBackend, check
from purenet.sweep.backends.multihost import MultiHostPool
from purenet.sweep.backends.population import train
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.records import Report
from purenet.sweep.group import Group, Pool, Work, Workplace
from purenet.sweep.journal import Journal, SweepProgress
from purenet.sweep.options import SweepOptions, filled, with_options
from purenet.sweep.results.networks import Run
from purenet.sweep.results.outcome import outcome
from purenet.sweep.results.result import Result
from purenet.sweep.rounds import follow
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import as_scheduler
from purenet.sweep.schedulers.pbt import Population
from purenet.sweep.space.given import changed
from purenet.sweep.state import SweepState
from purenet.sweep.storage import resume, shared
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.shared import SharedStore


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
    seconds: float | None = None,
    executor: concurrent.futures.Executor | Callable[[], concurrent.futures.Executor] | None = None,
    trials_per_block: int | None = None,
    progress: bool | None = None,
    on_report: Callable[[SweepProgress], Any] | None = None,
    **options: Unpack[SweepOptions],
) -> Result:
    """Train many trials in one program per static group, and rank them.

    `trial(hyper)` returns a `Trainable` for one point of `space`, whose numbers are traced.
    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis:
    `epoch` gets the first, and `evaluate` runs on both after every epoch. A trial has at most
    `epochs` epochs; there is no default. Trial i depends only on the seed and on i.

    Data that does not fit in memory is a `data.stream` in place of a part's arrays. Each chunk of
    minibatches is then read once for all trials, which see the examples in one order; training
    curves are means over minibatches, and a sweep with a `path` resumes within an epoch. The
    training needs `steps`, as that of `supervised` has. With `folds` the data is one stream. If
    there are several processes, each reads all of it.

    - `search` decides which points to try, and how long to train them: a sampler (`random`,
      `sobol`, `latin_hypercube`, `grid(points)`) trains each point to the end; `halving`,
      `hyperband` and `median_stopping` stop bad points early, `freeze_thaw` those whose forecast is
      bad; `pbt` lets bad ones copy good ones; `descent` lets all walk down their hypergradients;
      `from_optuna` asks an Optuna sampler.
    - `seeds`: number of runs of each point, with different seeds; points are ranked by the mean.
    - `folds`: cross-validation. `data` is then one data set, and each point is trained on every
      fold: an integer k (shuffled by the seed; stratified if data is (x, t) with integer labels),
      or pairs (training rows, validation rows) as from scikit-learn's splitters.
    - `metric` ranks the trials, by its value on the validation data after the last epoch. It
      defaults to "accuracy" if `evaluate` returns it, else to "loss"; any other metric needs
      `mode` "max" or "min".
    - `objectives`: several objectives in place of a metric, such as {"accuracy": "max",
      "parameters": ("<=", 1e5)}: metrics, numeric hyperparameters, or the number of parameters,
      each "max", "min" or a bound. Points are ranked by Pareto fronts; schedulers use that rank,
      patience the first metric.
    - `patience`: a trial ends, as "plateaued", when its score has not improved for this many
      evaluations. `select` says which epoch counts and provides the weights: "last", or "best",
      the default with patience. `evaluate_every` is the number of epochs between evaluations; the
      last epoch is always evaluated.
    - `points`: points to try first, such as `[{"rate": 0.1}]`, as pytrees like the space, in which
      constants may be left out. They count towards `trials`, except with a grid, which is added to
      them. The points of the sampler follow, unchanged; `from_optuna` learns from both.
    - `devices`: the devices to use, or their number; defaults to all local ones. `plan`, from
      `sweep.plan`, decides how the trials are laid out on them.
    - `path`: a folder for the results so far. The same call resumes from it, with the same number
      settings of JAX and the same versions. Ctrl-C, SIGTERM and SIGHUP save before they act, at
      the next report; a second one acts at once. With more `trials` or `epochs` the sweep is
      extended, with the result of a sweep of that size from the start. Trials that get more epochs
      resume from their final states if these were kept, and start again if not. ValueError says
      why a search cannot be extended: `halving`, `hyperband`, `freeze_thaw`, `pbt` and `descent`
      never can, and a sampler whose points depend on their number cannot get more of them.
    - `keep`: number of best points whose final weights are kept.
    - `seconds`: no block of epochs starts later than this after the call, compilation included. The
      result so far is returned, with unfinished trials as "stopped"; with `path=` the same call
      resumes from there, with a new limit.
    - `executor`: a concurrent.futures executor (processes, Dask, MPI) whose workers train blocks of
      `trials_per_block` trials, which defaults to 1/16 of the trials; `devices` is then the number
      of devices per worker. The results are the same as without an executor; a block whose worker
      dies is trained again. A process pool breaks when a worker dies: pass a function that
      returns one, and it is replaced. Workers read streamed data themselves, once for each block.
    - `progress` shows a bar; it defaults to True on a terminal and in a notebook.
    - `on_report(progress)` is called with a `SweepProgress` after every block of epochs, and at the
      end, in the calling thread: for a tracker or a display of your own. If it raises an exception,
      the sweep saves everything to `path` and ends with it. A sweep in several processes has none.

    A trial that becomes non-finite is frozen, marked "diverged" and never selected;
    `jax_debug_nans` and `jax_debug_infs` are therefore off in the programs of a sweep.
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
    if seconds is not None:
        positive("sweep", seconds=seconds)
    if plan is not None and not hasattr(plan, "layout"):
        raise TypeError(
            f"sweep: plan is {type(plan).__name__}, but the result of sweep.plan is expected."
        )
    path = None if path is None else as_path("sweep", path)
    asked = filled(options)
    devices: Any = asked["devices"]
    if executor is not None:
        check(executor, as_scheduler(asked["search"]), plan, devices)
        asked["devices"] = None  # the workers have their own
    elif trials_per_block is not None:
        raise ValueError("sweep: trials_per_block needs executor=; pass both, or leave it out.")
    request = SweepConfig(trial, space, data, trials, epochs, seed, **asked)
    backend = None
    if executor is not None:
        backend = ExecutorBackend(executor, request, devices, trials_per_block, keep)  # type: ignore[arg-type]
    others: dict[str, Any] = {**asked, "search": random, "progress": progress}
    again = functools.partial(run, trial, data=data, epochs=epochs, seed=seed, **others)
    sweep = SweepRun(request, plan, keep, backend, again)
    store: Store | SharedStore | None = None
    several = multihost.count() > 1
    if on_report is not None:
        text = f"sweep: on_report is {describe_value(on_report)}, but a function f(progress) is"
        require(accepts(on_report, None), f"{text} expected.", TypeError)
        text = "sweep: on_report works in a single process, but there are several; leave it out."
        require(not several, text)
    if several or path is not None:
        settings = request.settings() | {"data": request.fingerprint}
        if several:
            together.check(settings | {"seconds": seconds}, request.search, executor)
            progress = progress if multihost.first() else False
        if path is not None:
            kind = shared.SharedStore if several else Store
            store = kind(path, settings, request.extends)
    with contextlib.closing(store) if store else contextlib.nullcontext():
        return sweep.run(progress, began, store, seconds, on_report)


class SweepRun:
    """One sweep while it runs: the rounds of its search, on the table of trials and their groups.

    Raises ValueError for a group whose training does not return the metric that ranks trials.
    """

    def __init__(
        self,
        request: SweepConfig,
        plan: Plan | None,
        keep: int,
        executor: ExecutorBackend | None = None,
        again: Callable[..., Result] | None = None,
    ):
        self.request, self.plan, self.keep, self.executor = request, plan, keep, executor
        self.again = again
        first = request.start.points
        self.state = SweepState(request.space, first, request.shape, request.objective)
        self.workplace = Workplace(request.seed, request.data, self._make_pool, request.epochs)
        self.groups: list[Group] = []
        self.journal = Journal(self.state, self.groups, self._summary)

    def run(
        self,
        progress: bool | None,
        began: float,
        store: Store | SharedStore | None,
        seconds: float | None = None,
        on_report: Callable[[SweepProgress], Any] | None = None,
    ) -> Result:
        request, state = self.request, self.state
        self.journal = Journal(state, self.groups, self._summary, store, began, seconds, on_report)
        self.add_groups()
        if store is not None and store.resumes:
            resume.load(store, state, self.groups)
        total = request.search.budget(request.trials, request.epochs) * request.shape.runs
        with (
            self.executor or contextlib.nullcontext(),
            contextlib.closing(self.workplace),
            self.journal.open(total, progress),
        ):
            try:
                if request.search.independent:
                    follow(request, state, self._draw, self._train)
                else:
                    self._train_population(cast(Population, request.search))  # the one such kind
                self._keep_best()
            except Exception as error:
                if self.workplace.failed or isinstance(error, multihost.PeerError):
                    self.save(finished=False)  # the same call resumes at that minibatch
                raise
        return self.result()

    # steps of the search
    def _draw(self, count: int) -> None:
        """Ask the sampler for the points that have not been drawn yet."""
        drawn = len(self.state.points.group)
        if count > drawn:
            self.state.draw(self.request.start.source.ask(count - drawn))
            self.add_groups()

    def add_groups(self) -> None:
        """Make the groups of new points, and add the new rows to all groups."""
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
                        f"sweep: `evaluate` of {request.static(static)} returns the metrics "
                        f"{list(program.metrics)}, but {request.metric!r} ranks the trials."
                    )
            self.groups[g].add_rows()
        state.add_metrics({name for group in self.groups for name in group.program.metrics})

    def _train(self, target_epochs: np.ndarray, racing: np.ndarray) -> None:
        """Train every point to its target; those that are `racing` may have to resume later."""
        state, runs = self.state, self.request.shape.runs
        target_epochs, racing = np.repeat(target_epochs, runs), np.repeat(racing, runs)
        going = state.alive & ~state.ended & (state.epochs < target_epochs)
        todo = np.where(going, target_epochs, 0)
        keep = racing & (target_epochs < self.request.epochs)
        work = [
            Work(group, todo[group.rows], keep[group.rows])
            for group in self.groups
            if todo[group.rows].any()
        ]
        remote = self.executor is not None
        for group, report in self.train_remote(work) if remote else self.train_local(work):
            self.record(group, report)

    def _train_population(self, search: Population) -> None:
        """Train the members of a population together."""
        epochs = resume.rejoin_population(self.state, self.groups)
        late = self.journal.stop_if_late
        train(search, self.request.seed, self.state, self.groups, epochs, self.record, late)

    def train_local(self, work: Sequence[Work]) -> Iterator[tuple[Group, Report]]:
        """Train one group after the other, each to its targets."""
        cores = os.cpu_count() or 1
        for place, one in enumerate(work):
            group, target_epochs, keep = one
            self.journal.stop_if_late()
            # what comes next compiles beside this group, and while it trains
            for later in work[place : place + 1 + cores]:
                later.group.compile()
            pool = group.training_pool()
            self.journal.stop_if_late()  # compiling took a while
            for report in pool.train(target_epochs, keep):
                yield group, report
                if one.is_left():
                    self.journal.stop_if_late()
            if len(self.groups) > 1:
                pool.release(keep)

    def train_remote(self, work: Sequence[Work]) -> Iterator[tuple[Group, Report]]:
        """Train all groups at once, by the workers of the executor."""
        assert self.executor is not None
        self.journal.stop_if_late()
        for group, _, _ in work:
            group.pool()
        try:
            yield from self.executor.train(work, self._pause)
        except Exception:
            self.save(finished=False)  # the reports of the other tasks are not lost
            raise
        if any(one.is_left() for one in work):
            self.journal.stop_if_late()

    def _pause(self) -> bool:
        """Called while the workers train. Returns whether no further tasks may start."""
        self.journal.stop_if_interrupted()
        return self.journal.is_late()

    def _make_pool(self, group: Group) -> Pool:
        if self.executor is not None:
            return self.executor.pool(group)
        interrupts = self.journal.interrupts
        lanes = group.lanes(wanted=lambda: not interrupts.requested)
        return lanes if multihost.count() == 1 else MultiHostPool(lanes, interrupts)

    def record(self, group: Group, report: Report) -> None:
        self.journal.record(group, report, self.keep)

    def save(self, finished: bool) -> None:
        self.journal.save(finished)

    # the result
    def _keep_best(self) -> None:
        """Keep the final states of the best points, retraining the few that are missing."""
        state, runs, result = self.state, self.request.shape.runs, self.result()
        best = np.array(result.ranked()[: self.keep], int)
        every = (best[:, None] * runs + np.arange(runs)).ravel().tolist()
        rows = [row for row in every if state.complete[row]]
        if not self.request.search.independent and {*rows} - {*state.kept}:
            self.journal.stop_if_late()
            state.kept = self._retrain_population()[0].kept
        for row in rows:
            if row not in state.kept:
                self.journal.stop_if_late()
                retrain = functools.partial(self._group_of(row).retrain, row)
                state.kept[row] = multihost.run_on_each(retrain)[0]
        state.kept = {row: state.kept[row] for row in rows}

    def result(self) -> Result:
        """The result so far, of the points that have been drawn."""
        seconds = time.perf_counter() - self.journal.began
        plan = self.plan.summary() if self.plan else None
        return outcome(self.request, self.state, self.groups, plan, seconds, self)

    def _summary(self, finished: bool) -> resume.Summary:
        result = self.result()
        return resume.Summary(finished, result.rows(), result.seconds, result.plan, result.programs)

    def _group_of(self, row: int) -> Group:
        return self.groups[self.state.group_of(row)]

    def retrain(self, row: int) -> Run:
        """Retrain one run: a member of a population with all the others, any other run alone."""
        if not self.request.search.independent:
            _, result = self._retrain_population()
            own = {p: {n: c[row] for n, c in m.items()} for p, m in result.curves.items()}
            return Run(result.kept.get(row), own)
        group = self._group_of(row)
        packed, curves = group.retrain(row)
        return Run(group.unpack(row, packed), curves)

    @property
    def data(self) -> PyTree:
        """The data that the trials train and validate on."""
        return self.request.data

    def transfer(self, row: int, changes: dict[str, Any]) -> Result:
        """A sweep of one point: that of a run, with other values of some hyperparameters."""
        assert self.again is not None
        space, point = changed(self.request.space, self.state.hyper(), row, changes)
        return self.again(space=space, trials=1, points=[point])

    def trainable(self, row: int) -> Trainable:
        """The training of one run."""
        return self._group_of(row).trainable(row)

    def member(self, row: int, state: PyTree) -> Member:
        """A run in this state as a member of an ensemble."""
        group, numbers = self._group_of(row), self.state.final_numbers(row)
        return Member(row, group.number, group.program.predictor, numbers, state)

    def _retrain_population(self) -> tuple[SweepState, Result]:
        """Members copy one another, so retrain all of them, and keep every final state."""
        other = SweepRun(self.request, self.plan, keep=self.request.trials)
        result = other.run(False, time.perf_counter(), None)
        return other.state, result
