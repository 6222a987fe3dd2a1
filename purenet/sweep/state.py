"""The table of trials: the records of each, and everything derived from them. No devices."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.sweep.engine.monitor import Objective
from purenet.sweep.engine.pareto import preference
from purenet.sweep.engine.records import Lineage, ProgramRecord, Report
from purenet.sweep.engine.scores import best_of, standings, statuses
from purenet.sweep.engine.training import PARTS
from purenet.sweep.space.points import (
    Points,
    add_points,
    hyper_columns,
    numbers,
    taken_points,
    traced_leaves,
)
from purenet.sweep.space.space import Space


class SweepShape(NamedTuple):
    """The size of a sweep.

    >>> SweepShape(points=4, seeds=3, epochs=10, folds=5).rows
    60
    """

    points: int  # all that will be drawn
    seeds: int
    epochs: int  # at most, of each run
    folds: int = 1

    @property
    def runs(self) -> int:
        """The runs of each point: each of its seeds on each fold."""
        return self.seeds * self.folds

    @property
    def rows(self) -> int:
        return self.points * self.runs

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(point, seed, fold) of each of these rows.

        >>> [a.tolist() for a in SweepShape(4, 2, 10, folds=3).places(np.array([0, 4, 11]))]
        [[0, 0, 1], [0, 1, 1], [0, 1, 2]]
        """
        runs, folds = np.divmod(rows, self.folds)
        return *np.divmod(runs, self.seeds), folds


class Restored(NamedTuple):
    """The content of the sweep's folder when it was opened.

    >>> Restored().finished
    False
    """

    curves_path: Path = Path()
    states_path: Path = Path()
    curves: dict[str, np.ndarray] | None = None  # None without a folder, and in a new one
    states: dict[str, np.ndarray] = {}  # noqa: RUF012
    finished: bool = False  # nothing is left to train
    complete: bool = False  # nothing is left to write either
    plan: dict[str, Any] | None = None
    programs: tuple[ProgramRecord, ...] = ()
    previous_seconds: float = 0.0  # spent by earlier processes


class Standing(NamedTuple):
    """How far each run has got, one row each.

    >>> int(Standing(np.zeros(2, int), np.ones(2, bool), np.zeros(2, bool)).alive.sum())
    2
    """

    epochs: np.ndarray  # with finite numbers
    alive: np.ndarray  # every number finite so far
    ended: np.ndarray  # out of patience


class SweepState:
    """One row per run. Those of point i are the rows i · runs to (i + 1) · runs - 1: its seeds one
    after the other, each of them on every fold.

    >>> from purenet.sweep.engine.monitor import Objective
    >>> from purenet.sweep.space.distributions import uniform
    >>> from purenet.sweep.space.points import no_points
    >>> from purenet.sweep.space.space import take_apart
    >>> space = take_apart({"rate": uniform(0.0, 2.0)})
    >>> state = SweepState(space, no_points(space), SweepShape(2, 1, 3), Objective("loss", False))
    >>> state.draw(np.array([[0.25], [0.5]]))
    >>> state.hyper()["rate"].tolist(), state.statuses().tolist()
    ([0.5, 1.0], ['stopped', 'stopped'])
    """

    def __init__(self, space: Space, points: Points, shape: SweepShape, objective: Objective):
        self.space, self.points = space, points  # the points drawn so far
        self.shape, self.objective = shape, objective
        of_all = lambda value: np.full(shape.rows, value)
        self.standing = Standing(epochs=of_all(0), alive=of_all(True), ended=of_all(False))
        self.curves: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
        self.kept: dict[int, list] = {}  # row -> its final state, packed
        self.lineage: Lineage | None = None
        self.restored = Restored()

    @property
    def epochs(self) -> np.ndarray:
        """Epochs that each run has completed with finite numbers."""
        return self.standing.epochs

    @property
    def alive(self) -> np.ndarray:
        """Whether every number of each run has been finite so far."""
        return self.standing.alive

    @property
    def ended(self) -> np.ndarray:
        """Whether each run is out of patience."""
        return self.standing.ended

    # the rows
    def draw(self, cube: np.ndarray) -> None:
        """Add points, given as rows of the unit cube."""
        self.points = add_points(self.space, self.points, cube)

    def add_metrics(self, names: set[str]) -> None:
        """Make a curve for each metric that has none yet."""
        shape = (self.shape.rows, self.shape.epochs)
        dtype = jax.dtypes.canonicalize_dtype(float)
        for name in sorted(names):
            for curves in self.curves.values():
                if name not in curves:
                    curves[name] = np.full(shape, np.nan, dtype)

    def rows_of(self, group: int) -> np.ndarray:
        """The rows of the points of a group that have been drawn."""
        points = np.flatnonzero(self.points.group == group)
        return (points[:, None] * self.shape.runs + np.arange(self.shape.runs)).ravel()

    def group_of(self, row: int) -> int:
        return int(self.points.group[row // self.shape.runs])

    # hyperparameters
    def numbers(self, points: np.ndarray | slice | int) -> tuple[np.ndarray, ...]:
        """The traced hyperparameters of some points, as they were drawn."""
        return numbers(self.space, self.points, points)

    def final_numbers(self, row: int) -> tuple:
        """The final traced hyperparameters of a run."""
        if self.lineage is not None:
            keys, group = self.space.keys, self.group_of(row)
            leaves = traced_leaves(self.space, self.points, group)
            return tuple(self.lineage.numbers[keys[i]][-1, row] for i in leaves)
        return self.numbers(row // self.shape.runs)

    def hyper(self) -> dict[str, np.ndarray]:
        """A column for each hyperparameter, a row for each run whose point has been drawn."""
        taken = taken_points(self.space, self.points)
        columns = hyper_columns(self.space, self.final_columns(), taken)
        return {name: np.repeat(column, self.shape.runs) for name, column in columns.items()}

    def final_columns(self) -> dict[str, np.ndarray]:
        """A column for each leaf of the space by key, a row for each point."""
        by_key = dict(zip(self.space.keys, self.points.columns, strict=True))
        if self.lineage is not None:  # the final values of the members
            by_key |= {key: column[-1] for key, column in self.lineage.numbers.items()}
        return by_key

    # measurements
    def record(self, rows: np.ndarray, report: Report) -> int:
        """Record a report on these rows. Returns the number of new epochs."""
        new = int((report.after - np.maximum(report.before, self.epochs[rows])).clip(0).sum())
        report.write(self.curves, rows)
        self.epochs[rows] = np.maximum(self.epochs[rows], report.after)
        self.alive[rows], self.ended[rows] = report.alive, report.ended
        return new

    @property
    def complete(self) -> np.ndarray:
        """Which runs have all their epochs, or ran out of patience."""
        return self.ended | (self.epochs == self.shape.epochs)

    def _standings(self) -> np.ndarray:
        """(points, runs, epochs): larger is better, NaN where unknown or diverged."""
        curve = self.objective.sign * self.curves["validation"][self.objective.metric]
        standing = standings(curve, self.epochs, self.ended, self.objective.best)
        return standing.reshape(self.shape.points, self.shape.runs, -1)

    def scores(self) -> np.ndarray:
        """(points, epochs): the standing of each point after every epoch, the mean over its runs;
        larger is better, NaN where unknown or diverged. With several objectives it is the rank
        among the points that got as far."""
        if not self.objective.goals:
            return self._standings().mean(axis=1).astype(float)
        goals, reached = self.objective.goals, self._reached
        columns = [np.where(reached, self._values(goal.name), np.nan) for goal in goals]
        by_epoch = [preference(goals, at) for at in np.stack(columns, axis=-1).swapaxes(0, 1)]
        return np.stack(by_epoch, axis=-1)

    @property
    def _reached(self) -> np.ndarray:
        """(points, epochs): whether all runs of a point have a score by that epoch."""
        return np.isfinite(self._standings()).all(axis=1)

    def _values(self, name: str) -> np.ndarray:
        """An objective of each point after every epoch, the mean over its runs."""
        points, runs, epochs = self.shape.points, self.shape.runs, self.shape.epochs
        if name in self.curves["validation"]:
            curve = self.curves["validation"][name]
            latest = standings(curve, self.epochs, self.ended, best=False)
            return latest.reshape(points, runs, -1).mean(axis=1)
        column = self.hyper()[name][::runs].astype(float)
        blank = np.full(points - len(column), np.nan)  # not drawn yet
        return np.repeat(np.concatenate([column, blank])[:, None], epochs, axis=1)

    def best_rows(self, count: int) -> set[int]:
        """The finished runs of the best points. A point is ranked by its finished runs, and not at
        all if one of its runs diverged."""
        of_points = lambda column: column.reshape(self.shape.points, self.shape.runs)
        finished, final = of_points(self.alive & self.complete), self._standings()[..., -1]
        ranked = finished.any(axis=1) & of_points(self.alive).all(axis=1)
        mean = np.where(finished, final, 0).sum(axis=1) / np.maximum(finished.sum(axis=1), 1)
        if self.objective.goals:
            mean = self.scores()[:, -1]
            ranked &= np.isfinite(mean)
        best = best_of(mean, ranked, count)
        rows = best[:, None] * self.shape.runs + np.arange(self.shape.runs)
        return set(rows[finished[best]].tolist())

    def statuses(self) -> np.ndarray:
        """The status of each run whose point has been drawn."""
        drawn = len(self.points.group) * self.shape.runs
        return statuses(self.alive, self.ended, self.epochs, self.shape.epochs)[:drawn]

    def status(self) -> dict[str, str]:
        """For the progress bar: the best score of the runs that are alive, and their number."""
        counts = {"alive": f"{self.alive.sum()}/{len(self.alive)}"}
        if lost := int((~self.alive).sum()):
            counts["diverged"] = str(lost)
        trial, score = self.leader()
        if trial is None:
            return counts
        return {f"best val {self.objective.metric}": f"{score:.4g} (trial {trial})"} | counts

    def leader(self) -> tuple[int | None, float]:
        """The run with the best score after any epoch, and that score; None and NaN without one."""
        sign = self.objective.sign
        rows = np.flatnonzero(self.alive & (self.epochs > 0))
        scores = sign * self.curves["validation"][self.objective.metric][rows]
        if np.isnan(scores).all():
            return None, float("nan")
        row, epoch = np.unravel_index(np.nanargmax(scores), scores.shape)
        return int(rows[row]), float(sign * scores[row, epoch])
