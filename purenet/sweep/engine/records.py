"""Records of trials: checkpoints, reports, programs, lineage."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from purenet.core.tree import short
from purenet.sweep.engine.program import LaneAssignment


class TrialCheckpoint(NamedTuple):
    """A trial that waits for a lane, in the host's memory."""

    numbers: tuple  # its traced hyperparameters
    epochs: int
    state: list[np.ndarray]  # its leaves, packed


class Report(NamedTuple):
    """The measurements of a few more epochs, one row for each trial that was in a lane."""

    rows: np.ndarray
    before: np.ndarray  # epochs before
    after: np.ndarray  # epochs after, with finite numbers
    alive: np.ndarray
    ended: np.ndarray  # whether it ran out of patience
    curves: dict[str, dict[str, np.ndarray]]  # part -> metric -> (n, epochs since `before`)

    def write(
        self,
        curves: dict[str, dict[str, np.ndarray]],
        rows: np.ndarray,
        first: np.ndarray | int = 0,
    ) -> None:
        """Write the measurements into the curves of these `rows`; column 0 of the curves is the
        epoch after `first`."""
        measured = self.after - self.before
        run, epoch = np.nonzero(np.arange(measured.max(initial=0)) < measured[:, None])
        at = (self.before - first)[run] + epoch
        for part, metrics in self.curves.items():
            for name, latest in metrics.items():
                curves[part][name][rows[run], at] = latest[run, epoch]


class TrialRows:
    """The trials of one group, one row each, and the states of those that wait for a lane."""

    def __init__(self, numbers: tuple):
        """`numbers`: the hyperparameters of any trial, for their dtypes."""
        columns = tuple(np.empty(0, np.asarray(a).dtype) for a in numbers)
        none = np.empty(0, np.int32)
        self.trials = LaneAssignment(none, none, none, columns)
        self.epochs = np.empty(0, int)  # of each row's state
        self.waiting: dict[int, TrialCheckpoint] = {}

    def add(self, trials: LaneAssignment) -> None:
        """Append trials, a row each."""
        self.trials = jax.tree.map(
            lambda mine, new: np.append(mine, np.asarray(new, mine.dtype)), self.trials, trials
        )
        self.epochs = np.append(self.epochs, np.zeros(len(trials.point), int))

    def put(self, row: int, record: TrialCheckpoint) -> None:
        """Let a trial resume from a recorded state."""
        self.waiting[row], self.epochs[row] = record, record.epochs

    def some(self, rows: np.ndarray) -> LaneAssignment:
        """These trials, in this order."""
        return jax.tree.map(lambda column: column[rows], self.trials)


class Lineage(NamedTuple):
    """Who copied whom, and how the hyperparameters of each member moved.

    >>> Lineage(5, np.array([[0, 0]]), {"rate": np.ones((2, 2))}).parents.tolist()
    [[0, 0]]
    """

    every: int  # epochs between two exchanges
    parents: np.ndarray  # (exchanges, members): whose state each member continues, usually its own
    numbers: dict[str, np.ndarray]  # (exchanges + 1, members) of each traced hyperparameter

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the lineage, by name."""
        named = {f"lineage number {name}": column for name, column in self.numbers.items()}
        return {"lineage parents": self.parents} | named


class ProgramCost(NamedTuple):
    """The size of a compiled program, and what it cost.

    >>> ProgramCost("1 cpu device(s)", 0.5, 1 << 20).bytes_per_device
    1048576
    """

    layout: str
    compile_seconds: float
    bytes_per_device: int


class ProgramRecord(NamedTuple):
    """One compiled program of a sweep: which trials it trained, and what it cost.

    >>> ProgramRecord({}, 8, "1 cpu device(s)", 0.5, 1 << 20).trials
    8
    """

    static: dict[str, str]
    trials: int
    layout: str
    compile_seconds: float
    bytes_per_device: int


def program_records(path: Path, programs: Iterable) -> tuple[ProgramRecord, ...]:
    """The records in a file, from JSON. Raises ValueError, naming the file, for anything else.

    >>> program_records(Path("report.json"), [])
    ()
    """
    found = []
    for program in programs:
        fields = program.keys() if isinstance(program, dict) else ()
        if set(fields) != set(ProgramRecord._fields):
            raise ValueError(f"{path} is damaged: one of its programs is {short(program)}.")
        found.append(ProgramRecord(**program))
    return tuple(found)


def damaged(path: Path, what: str) -> ValueError:
    """The error for a file whose content cannot be used.

    >>> print(damaged(Path("curves.npz"), "'epochs' is missing"))
    curves.npz is damaged: 'epochs' is missing; remove it, and its contents are recomputed.
    """
    return ValueError(f"{path} is damaged: {what}; remove it, and its contents are recomputed.")
