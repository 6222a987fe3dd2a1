"""A run's records: its progress, its folder, and how to resume it after an interruption."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from purenet.core.autosave import Autosave
from purenet.core.interrupts import InterruptFlag, Interrupts, until_interrupted
from purenet.core.progress import Progress
from purenet.distributed import multihost
from purenet.sweep.engine.records import Report
from purenet.sweep.group import Group
from purenet.sweep.state import SweepState
from purenet.sweep.storage import resume
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.shared import SharedStore


class OutOfTimeError(Exception):
    """The time of a run is up, but some training is left."""


class SweepProgress(NamedTuple):
    """How far a sweep is: what `run(on_report=f)` passes to `f`.

    >>> SweepProgress(20, 80, 1.5, 0.93, 3, 8, 8).best
    0.93
    """

    done: int  # trial-epochs
    total: int  # trial-epochs, about
    seconds: float  # since the call
    best: float  # the best value so far of the metric that ranks trials, NaN if there is none
    trial: int | None  # the trial that reached it
    alive: int  # trials that have not diverged
    trials: int


class Journal:
    """Records the reports of a run in its table, shows and saves its progress, and ends it on
    request.

    `summary(finished)` returns what is saved beside the state; without a `store` nothing is saved.
    `on_report` gets a SweepProgress after every report and at the end.
    The run `began` at that `time.perf_counter()` and may take that many `seconds`.
    """

    def __init__(
        self,
        state: SweepState,
        groups: Sequence[Group],
        summary: Callable[[bool], resume.Summary],
        store: Store | SharedStore | None = None,
        began: float = 0.0,
        seconds: float | None = None,
        on_report: Callable[[SweepProgress], Any] | None = None,
    ):
        self.state, self.groups, self.summary = state, groups, summary
        self.store, self.began, self.seconds = store, began, seconds
        self.on_report = on_report
        self.autosave = Autosave()
        self.bar = Progress(0, "trial-epoch", show=False)
        self.interrupts = Interrupts(InterruptFlag(), InterruptFlag())

    @contextlib.contextmanager
    def open(self, total: int, progress: bool | None) -> Iterator[None]:
        """Show the progress towards `total` trial-epochs and watch for signals; save at the end.

        A run that is out of time ends here.
        """
        with (
            Progress(total, "trial-epoch", progress, int(self.state.epochs.sum())) as self.bar,
            until_interrupted() as requested,
        ):
            programs = f"{len(self.groups)} program{'s' * (len(self.groups) != 1)}"
            self.bar.say(f"tracing and compiling ({programs})")
            agreed = requested if multihost.count() == 1 else InterruptFlag()
            self.interrupts = Interrupts(requested, agreed)
            try:
                yield
            except OutOfTimeError:
                self.save(finished=False)
                if multihost.first():
                    self._say_how_to_resume(f"stopped after {self.seconds:g} s")
                return
            self.bar.advance(0, self.state.status, total=self.bar.done)
            if not self.state.restored.complete:
                self.save(finished=True)
            if self.on_report is not None:
                self.on_report(self.progress())
            if requested:
                self._say_how_to_resume("interrupted")

    def record(self, group: Group, report: Report, keep: int) -> None:
        """Record a report of a group, keeping the final states of the `keep` best points."""
        new = group.record(report, keep)
        self.bar.advance(new, self.state.status)
        self._report()
        self.stop_if_interrupted()
        if self.store is not None and multihost.broadcast(self.autosave.is_due()):
            self.save(finished=False)

    def save(self, finished: bool) -> None:
        """Save everything known so far, if the run has a folder."""
        if self.store is None:
            return
        began = time.perf_counter()
        resume.save(self.store, self.state, self.groups, self.summary(finished))
        self.autosave.saved(began)

    def stop_if_interrupted(self) -> None:
        """Save and let the signal act, if one arrived in any process."""
        if not self.interrupts.agreed:
            return
        self.save(finished=False)
        self._say_how_to_resume("interrupted")
        self.interrupts.requested.deliver()
        if multihost.count() > 1:  # the signal may have reached another process
            raise KeyboardInterrupt

    # reports to the caller
    def progress(self) -> SweepProgress:
        """How far the run is."""
        state, seconds = self.state, time.perf_counter() - self.began
        trial, best = state.leader()
        alive, trials = int(state.alive.sum()), len(state.alive)
        return SweepProgress(self.bar.done, self.bar.total, seconds, best, trial, alive, trials)

    def _report(self) -> None:
        """Call `on_report`; if it raises, everything so far is saved first."""
        if self.on_report is None:
            return
        try:
            self.on_report(self.progress())
        except BaseException:
            self.save(finished=False)
            raise

    # the time limit
    def is_late(self) -> bool:
        """Whether the time of the run is up, as the first process sees it."""
        if self.seconds is None:
            return False
        return multihost.broadcast(time.perf_counter() - self.began >= self.seconds)

    def stop_if_late(self) -> None:
        """Raises OutOfTimeError if the time of the run is up."""
        if self.is_late():
            raise OutOfTimeError

    def _say_how_to_resume(self, ended: str) -> None:
        if self.store is None:
            return
        print(
            f"\nsweep: {ended}; {self.bar.done} of about {self.bar.total} trial-epochs are in "
            f"{self.store.folder}, and the same call resumes from there.",
            file=sys.stderr,
        )
