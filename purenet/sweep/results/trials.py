"""The trials of a sweep as a table: a row per trial, a column per hyperparameter and curve."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from purenet.core.tree import printable
from purenet.core.validate import integer
from purenet.sweep.engine.monitor import Objective
from purenet.sweep.engine.pareto import Goal, preference
from purenet.sweep.engine.scores import chosen_epochs

# short names in tables of the usual metrics and the parts of the data
SHORT_NAMES = {"accuracy": "acc", "validation": "val"}
STATUSES = ("done", "plateaued", "stopped", "diverged")  # from good to bad


class Trial(NamedTuple):
    """One trial: its hyperparameters and its result. Prints as one line.

    For a point with several runs (seeds, folds), as `best` returns it, the metrics are means over
    the runs.

    >>> print(Trial(3, {"rate": 0.1}, "done", 5, "accuracy", 0.9, {}))
    (val acc:0.9) | rate:0.1
    """

    number: int
    hyper: dict[str, Any]
    status: str  # "done", "plateaued", "stopped" or "diverged"
    epochs: int  # completed with finite numbers
    metric: str  # the metric that trials are ranked by, on the validation data
    score: float  # its value at the epoch that counts; NaN if there is none
    metrics: dict[str, dict[str, float]]  # part -> metric -> its value at that epoch
    epoch: int = 0  # the epoch that counts: the last one evaluated, or the best; 0 if there is none
    runs: int = 1  # number of runs averaged
    interval: float = np.nan  # the mean score lies in score ± interval with 95% confidence

    def __str__(self):
        named = ((value_text(name.replace("_", " ")), v) for name, v in self.hyper.items())
        values = ", ".join(f"{name}:{value_text(value)}" for name, value in named)
        spread = f" ± {value_text(self.interval)}" if self.runs > 1 else ""
        name = value_text(SHORT_NAMES.get(self.metric, self.metric))
        return f"(val {name}:{value_text(self.score)}{spread}) | {values}"


@dataclasses.dataclass(frozen=True, eq=False)
class TrialTable:
    """The measurements of a sweep. The runs of point i are the rows i·runs to (i + 1)·runs - 1: its
    seeds one after the other, each of them on every fold."""

    hyper: dict[str, np.ndarray]  # (trials,) each, NaN where its branch is not taken
    space: dict[str, Any]  # the distribution, constant or `Alternatives` of each hyperparameter
    seeds: int
    status: np.ndarray  # (trials,)
    epochs: np.ndarray  # (trials,)
    curves: dict[str, dict[str, np.ndarray]]  # part -> metric -> (trials, epochs)
    objective: Objective
    folds: int = 1

    @property
    def metric(self) -> str:
        """The metric that ranks trials, on the validation data."""
        return self.objective.metric

    @property
    def maximize(self) -> bool:
        """Whether large values of the metric are good."""
        return self.objective.maximize

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives, if there are several."""
        return self.objective.goals

    @property
    def runs(self) -> int:
        """The number of runs of each point."""
        return self.seeds * self.folds

    def __len__(self) -> int:
        return len(self.status)

    @property
    def score_curves(self) -> np.ndarray:
        """The metric that trials are ranked by on the validation data: (trials, epochs)."""
        return self.curves["validation"][self.metric]

    def by_point(self, column: np.ndarray) -> np.ndarray:
        """A column (trials,) as (points, runs)."""
        return column.reshape(-1, self.runs)

    @functools.cached_property
    def epoch(self) -> np.ndarray:
        """The epoch of each trial that counts: the last one evaluated, or the best; 0 if there is
        none."""
        curves = self.objective.sign * self.score_curves
        return 1 + chosen_epochs(curves, self.epochs, self.objective.best)

    def at_epoch(self, curve: np.ndarray) -> np.ndarray:
        """The value of each trial's curve at the epoch that counts, NaN if there is none."""
        values = curve[np.arange(len(self)), np.maximum(self.epoch - 1, 0)]
        return np.where(self.epoch > 0, values, np.nan)

    def scores(self) -> np.ndarray:
        """The score of each trial at the epoch that counts."""
        return self.at_epoch(self.score_curves)

    def point_scores(self) -> np.ndarray:
        """The score of each point, the mean over its runs; NaN if any of them diverged."""
        scores = self.scores().astype(float)
        return self.by_point(np.where(self.status == "diverged", np.nan, scores)).mean(axis=1)

    def objectives(self) -> np.ndarray:
        """The objectives of each point, means over its runs: (points, objectives). NaN for points
        that diverged or were not trained."""
        curves, known = self.curves["validation"], np.isfinite(self.point_scores())
        of = lambda name: self.at_epoch(curves[name]) if name in curves else self.hyper[name]
        columns = [self.by_point(of(goal.name).astype(float)).mean(axis=1) for goal in self.goals]
        return np.where(known[:, None], np.stack(columns, axis=1), np.nan)

    def front(self) -> list[int]:
        """The Pareto front: the points within all bounds that no other point dominates, in the
        order of the first objective."""
        values = self.objectives()
        on = np.flatnonzero(preference(self.goals, values) > -1)
        first = next(i for i, goal in enumerate(self.goals) if goal.bound is None)
        order = np.argsort(-self.goals[first].sign * values[on, first], kind="stable")
        return on[order].tolist()

    def trial(self, number: int) -> Trial:
        """One row."""
        epoch = int(self.epoch[number])
        metrics = {
            part: {n: c[number, epoch - 1] if epoch else np.nan for n, c in curves.items()}
            for part, curves in self.curves.items()
        }
        return Trial(
            number,
            {n: c[number] for n, c in self.hyper.items() if not is_absent(c[number])},
            str(self.status[number]),
            int(self.epochs[number]),
            self.metric,
            metrics["validation"].get(self.metric, np.nan),
            metrics,
            epoch,
        )

    def point(self, number: int) -> Trial:
        """One point of the space, its metrics averaged over its runs."""
        runs = [self.trial(i) for i in range(number * self.runs, (number + 1) * self.runs)]
        if self.runs == 1:
            return runs[0]
        from scipy.special import stdtrit

        scores = np.array([run.score for run in runs], float)
        mean = lambda part, name: float(np.mean([run.metrics[part][name] for run in runs]))
        metrics = {p: {n: mean(p, n) for n in named} for p, named in runs[0].metrics.items()}
        error = scores.std(ddof=1) / np.sqrt(self.runs)
        worst = max(runs, key=lambda run: STATUSES.index(run.status))
        return runs[0]._replace(
            status=worst.status,
            epochs=min(run.epochs for run in runs),
            score=scores.mean(),
            metrics=metrics,
            epoch=round(np.mean([run.epoch for run in runs])),
            runs=self.runs,
            interval=float(stdtrit(self.runs - 1, 0.975) * error),
        )

    def ranked(self) -> list[int]:
        """The points of the space, best first, without those that diverged."""
        scores = self.by_point(self.scores()).mean(axis=1)
        scores = scores if self.maximize else -scores
        if self.goals:
            scores = preference(self.goals, self.objectives())
        # one that ran out of patience is compared with those that trained to the end
        reached = np.where(self.status == "plateaued", self.score_curves.shape[1], self.epochs)
        epochs = self.by_point(reached).min(axis=1)
        order = np.lexsort((-scores, -epochs))
        eligible = (self.by_point(self.status) != "diverged").all(axis=1) & (epochs > 0)
        return order[eligible[order]].tolist()

    def number(self, caller: str, value: Any, kind: str = "trial") -> int:
        """The number of a trial, or of a point where `kind` is that.

        Raises TypeError unless it is an integer or a Trial, ValueError if it is out of range.
        """
        value = value.number if kind == "trial" and isinstance(value, Trial) else value
        number = integer(f"{caller}: number", value, least=0)
        count = len(self) // (self.runs if kind == "point" else 1)
        if number >= count:
            raise ValueError(
                f"{caller}: there is no {kind} {number}; {kind}s are numbered 0 to {count - 1}."
            )
        return number


def value_name(value: Any) -> Any:
    """A hyperparameter for output: numbers unchanged, functions by name.

    >>> value_name(len), value_name(0.5)
    ('len', 0.5)
    """
    return value.__name__ if callable(value) and hasattr(value, "__name__") else value


def is_absent(value: Any) -> bool:
    """Whether a column of hyperparameters has no value here, because its branch is not taken.

    >>> is_absent(np.nan), is_absent(0.5), is_absent(None)
    (True, False, False)
    """
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def value_text(value: Any) -> str:
    """A hyperparameter or a score in a few printable characters.

    >>> value_text(0.123456), value_text(7), value_text(len)
    ('0.123', '7', 'len')
    """
    value = value_name(value)
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else printable(value)
