"""What a sweep found: the best trials, a table, curves, pictures, files, and any trial again."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from purenet.core import display
from purenet.core.files import writable, write_bytes
from purenet.core.json_text import json_bytes, plain
from purenet.core.tree import printable
from purenet.core.types import PyTree
from purenet.core.validate import describe_value, integer
from purenet.sweep.engine.records import Lineage, ProgramRecord
from purenet.sweep.samplers.optuna import optuna_distribution, optuna_module
from purenet.sweep.space.distributions import Choice, LogUniform, Uniform, is_traced

if TYPE_CHECKING:
    import optuna
    import pandas

# what a table calls the usual metrics and the parts of the data
_SHORT = {"accuracy": "acc", "validation": "val"}
_TEXT, _PAGE = 5, 10  # trials that are shown at a prompt and in a notebook
_STATUSES = ("done", "stopped", "diverged")  # from good to bad
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a text that begins so is one to a spreadsheet
_LOG_RANGE = 100  # a range that spans more than this factor is drawn on a logarithmic axis


class Trial(NamedTuple):
    """One trial: what it was given and where it ended. Prints as one line.

    Of a point with several seeds, as `best` gives it, the metrics are means over them.

    >>> print(Trial(3, {"rate": 0.1}, "done", 5, "accuracy", 0.9, {}))
    (val acc:0.9) | rate:0.1
    """

    number: int
    hyper: dict[str, Any]
    status: str  # "done", "stopped" or "diverged"
    epochs: int  # completed with finite numbers
    metric: str  # what trials are ranked by, measured on the validation data
    score: float  # its value after those epochs; NaN where there is none
    metrics: dict[str, dict[str, float]]  # part -> metric -> its value after those epochs
    seeds: int = 1  # so many runs are averaged
    interval: float = np.nan  # the mean score lies in score ± interval with 95% confidence

    def __str__(self):
        named = ((_text(name.replace("_", " ")), value) for name, value in self.hyper.items())
        values = ", ".join(f"{name}:{_text(value)}" for name, value in named)
        spread = f" ± {_text(self.interval)}" if self.seeds > 1 else ""
        name = _text(_SHORT.get(self.metric, self.metric))
        return f"(val {name}:{_text(self.score)}{spread}) | {values}"


class Run(NamedTuple):
    """A trial run again: its final state, and its curves, part -> metric -> (epochs,).

    >>> Run({"w": 1.0}, {"train": {"loss": np.ones(2)}}).state["w"]
    1.0
    """

    state: PyTree
    curves: dict[str, dict[str, np.ndarray]]

    def __repr__(self):
        return display.run_text("Run", self.state, self.curves)


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """The outcome of a sweep: a column a hyperparameter, a row a trial.

    `curves["validation"]["accuracy"]` is (trials, epochs), NaN after a trial was stopped or
    diverged. With several seeds, the runs of point i are the trials i·seeds to (i + 1)·seeds - 1.
    Files are written completely or not at all. The methods that draw or write raise TypeError for
    what is no path, FileNotFoundError or IsADirectoryError where none can be written, and those
    that draw ModuleNotFoundError without matplotlib.

    >>> from purenet import sweep
    >>> from purenet.core import types
    >>> halve = lambda hyper: types.Trainable(
    ...     init=lambda key: hyper["start"],
    ...     epoch=lambda state, data: (state / 2, {}),
    ...     evaluate=lambda state, data: {"loss": state},
    ... )
    >>> space, nothing = {"start": sweep.uniform(1.0, 2.0)}, (np.zeros(1), np.zeros(1))
    >>> result = sweep.run(halve, space, nothing, trials=3, epochs=2)
    >>> bool(result.best().number == result.hyper["start"].argmin())
    True
    >>> print(result.table(1).splitlines()[0])
    rank  trial  val loss  train loss  start
    >>> [row["status"] for row in result.rows()]
    ['done', 'done', 'done']
    >>> result.replay(2).curves["train"]["loss"].shape
    (2,)
    """

    hyper: dict[str, np.ndarray]
    space: dict[str, Any]  # the distribution or constant of each hyperparameter
    seeds: int
    status: np.ndarray
    epochs: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]
    metric: str
    maximize: bool
    settings: dict[str, Any]
    programs: tuple[ProgramRecord, ...]
    plan: dict[str, Any] | None  # what was planned: strategy, memory, time
    seconds: float
    kept: dict[int, PyTree]  # trial -> its final state
    lineage: Lineage | None
    _again: Callable[[int], Run]

    def __repr__(self):
        return display.as_text(self._headline(), self.table(_TEXT))

    def _repr_html_(self) -> str:
        """The best trials as a table: what a notebook shows."""
        rows, notes = self._table(_PAGE)
        return display.as_html(self._headline(), rows, notes)

    def _headline(self) -> str:
        counts = [f"{n} {s}" for s in _STATUSES if (n := int((self.status == s).sum()))]
        return (
            f"Result: {self.trials} trials ({', '.join(counts)}), {self.epochs.sum()} trial-epochs "
            f"in {self.seconds:.1f} s, best first by validation {self.metric}"
        )

    @property
    def trials(self) -> int:
        """How many there are, every seed of a point counted."""
        return len(self.status)

    def trial(self, number: int) -> Trial:
        """What is known of one trial. Raises TypeError or ValueError for another number."""
        number = self._number("Result.trial", number)
        last = int(self.epochs[number]) - 1
        metrics = {
            part: {n: c[number, last] if last >= 0 else np.nan for n, c in curves.items()}
            for part, curves in self.curves.items()
        }
        return Trial(
            number,
            {name: column[number] for name, column in self.hyper.items()},
            str(self.status[number]),
            int(self.epochs[number]),
            self.metric,
            metrics["validation"].get(self.metric, np.nan),
            metrics,
        )

    def point(self, number: int) -> Trial:
        """One point of the space, its metrics the means over its seeds. Raises TypeError or
        ValueError for a number that is no point's."""
        number = self._number("Result.point", number, self.seeds)
        runs = [self.trial(i) for i in range(number * self.seeds, (number + 1) * self.seeds)]
        if self.seeds == 1:
            return runs[0]
        from scipy.special import stdtrit

        scores = np.array([run.score for run in runs], float)
        mean = lambda part, name: float(np.mean([run.metrics[part][name] for run in runs]))
        metrics = {p: {n: mean(p, n) for n in named} for p, named in runs[0].metrics.items()}
        error = scores.std(ddof=1) / np.sqrt(self.seeds)
        worst = max(runs, key=lambda run: _STATUSES.index(run.status))
        return runs[0]._replace(
            status=worst.status,
            epochs=min(run.epochs for run in runs),
            score=scores.mean(),
            metrics=metrics,
            seeds=self.seeds,
            interval=float(stdtrit(self.seeds - 1, 0.975) * error),
        )

    @overload
    def best(self) -> Trial: ...

    @overload
    def best(self, n: int) -> list[Trial]: ...

    def best(self, n: int | None = None) -> Trial | list[Trial]:
        """The best trial, or a list of the best `n`; trials that diverged are never among them.

        Trials that were trained to the end come before those that were stopped, of which the
        longest trained come first. Ties go to the trial with the lower number. With several seeds,
        points are ranked by the mean of their seeds, and a point with a seed that diverged counts
        as diverged. Raises ValueError when every trial diverged, TypeError or ValueError for an n
        below 1.
        """
        n = None if n is None else integer("Result.best: n", n, least=1)
        ranked = self.ranked()
        if not ranked:
            raise self._all_lost()
        if n is None:
            return self.point(ranked[0])
        return [self.point(i) for i in ranked[:n]]

    def _all_lost(self) -> ValueError:
        return ValueError(
            f"every trial diverged:\n{self.table()}\nlower the learning rates of the space."
        )

    def ranked(self) -> list[int]:
        """The points of the space, best first, without those that diverged."""
        by_point = lambda a: a.reshape(-1, self.seeds)
        last = np.maximum(self.epochs - 1, 0)
        scores = self.curves["validation"][self.metric][np.arange(self.trials), last]
        scores = by_point(scores).mean(axis=1)
        epochs = by_point(self.epochs).min(axis=1)
        order = np.lexsort((-scores if self.maximize else scores, -epochs))
        fit = (by_point(self.status) != "diverged").all(axis=1) & (epochs > 0)
        return order[fit[order]].tolist()

    def table(self, n: int = 20) -> str:
        """The best `n` trials as text, best first, and how many were stopped or diverged.

        Control characters, in names and texts of somebody else's folder, become escapes. Raises
        TypeError or ValueError for an n below 1.
        """
        rows, notes = self._table(integer("Result.table: n", n, least=1))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, *notes])

    def _table(self, n: int) -> tuple[list[list[str]], list[str]]:
        """The cells of a table, its header first, and the notes below it."""
        parts = [(p, m) for m in self.curves["validation"] for p in ("validation", "train")]
        parts.sort(key=lambda pair: pair[1] != self.metric)
        header = ["rank", "trial", *(f"{_SHORT.get(p, p)} {_SHORT.get(m, m)}" for p, m in parts)]
        if self.seeds > 1:
            header.insert(3, "±")
        stopped = self.status == "stopped"
        if stopped.any():
            header.append("epochs")
        rows = [[*map(_text, (*header, *self.hyper))]]
        for rank, trial in enumerate(map(self.point, self.ranked()[:n]), 1):
            values: list[Any] = [trial.metrics[p].get(m, np.nan) for p, m in parts]
            if self.seeds > 1:
                values.insert(1, trial.interval)
            if stopped.any():
                values.append(trial.epochs)
            values += trial.hyper.values()
            rows.append([str(rank), str(trial.number), *map(_text, values)])
        notes = []
        if stopped.any():
            notes.append(f"{stopped.sum()} of {self.trials} stopped early")
        lost = np.flatnonzero(self.status == "diverged")
        if len(lost):
            some = [f"{i} (after epoch {self.epochs[i]})" for i in lost[:10]]
            some += ["..."] if len(lost) > 10 else []
            notes.append(f"{len(lost)} of {self.trials} diverged: {', '.join(some)}")
        return rows, notes

    # weights
    def weights(self, number: int) -> PyTree:
        """The final parameters of a trial whose state was kept: `state.params`, or the whole state
        of training code that keeps it otherwise.

        `run(keep=n)` keeps those of the best n. Raises ValueError for a trial that was not kept,
        TypeError or ValueError for a number that is none's.
        """
        number = self._number("Result.weights", number)
        if number not in self.kept:
            kept = ", ".join(map(str, sorted(self.kept))) or "none"
            raise ValueError(
                f"Result.weights: the weights of trial {number} were not kept (kept: {kept}); "
                f"replay({number}) trains it again, and run(keep=...) keeps those of more trials."
            )
        state = self.kept[number]
        return getattr(state, "params", state)

    def replay(self, number: int) -> Run:
        """Train one trial again, alone: the same curves, and its final state.

        It runs in the program that the sweep ran, so that on the same backend the numbers are
        identical, not only close. A member of a population is nothing without the others: the
        whole population is trained again. Raises TypeError or ValueError for a number that is no
        trial's, ValueError for a result that `load` has read.
        """
        return self._again(self._number("Result.replay", number))

    # pictures
    def plot(self, path: str | os.PathLike, n: int = 20) -> None:
        """Learning curves of the best `n` trials in a grid: validation solid, training dashed.

        Needs matplotlib (extra `plot`), as all pictures do. The suffix of `path` names the format.
        Raises ValueError when every trial diverged, TypeError or ValueError for an n below 1.
        """
        from purenet import plots

        panels, n = [], integer("Result.plot: n", n, least=1)
        for rank, trial in enumerate(self.best(n), 1):
            values = "  ".join(f"{name} {_text(v)}" for name, v in trial.hyper.items())
            name = _SHORT.get(self.metric, self.metric)
            title = f"Best-{rank}\n{name} {_text(trial.score)}  {values}"
            rows = slice(trial.number, trial.number + self.seeds)
            mean = lambda part, rows=rows: self.curves[part][self.metric][rows].mean(axis=0)
            panels.append((title, {part: mean(part) for part in ("validation", "train")}))
        limits = (0, 1) if self.metric == "accuracy" else None
        plots.curve_grid(path, panels, y_label=self.metric, limits=limits)

    def plot_parallel(self, path: str | os.PathLike) -> None:
        """Parallel coordinates: a line a trial through its hyperparameters to its score.

        In this picture and in those of slices and pairs, several seeds of a point are their mean.
        Raises ValueError when every trial diverged, as those do.
        """
        from purenet import plots

        plots.parallel_coordinates(path, self._varied(), self._scores(), **self._labels())

    def plot_slices(self, path: str | os.PathLike) -> None:
        """The score over each hyperparameter by itself. Raises ValueError when every trial
        diverged."""
        from purenet import plots

        plots.slices(path, self._varied(), self._scores(), **self._labels())

    def plot_map(
        self, path: str | os.PathLike, names: tuple[str, ...] | list[str] | None = None
    ) -> None:
        """The score over pairs of hyperparameters: all of them, or those named.

        Raises ValueError for names of none, fewer than two or more than six of them, or when every
        trial diverged; TypeError for names that are no list.
        """
        from purenet import plots

        columns = self._varied()
        if names is not None:
            if isinstance(names, str) or not isinstance(names, list | tuple):
                raise TypeError(
                    f"Result.plot_map: names is {describe_value(names)}, but a tuple of names is "
                    "expected."
                )
            unknown = [name for name in names if name not in self.hyper]
            if unknown:
                raise ValueError(f"Result.plot_map: there is no {unknown}, but {[*self.hyper]}.")
            columns = {name: self.hyper[name][:: self.seeds] for name in names}
        labels = self._labels(columns)
        plots.pairwise(path, columns, self._scores(), **labels)

    def plot_rungs(self, path: str | os.PathLike) -> None:
        """How far each trial was trained, and where trials were stopped. Raises ValueError when
        every trial diverged."""
        from purenet import plots

        if (self.status == "diverged").all():
            raise self._all_lost()

        plots.rungs(
            path,
            self.curves["validation"][self.metric],
            self.epochs,
            np.unique(self.epochs[self.status != "diverged"]).tolist(),
            self.status.tolist(),
            score_label=f"validation {self.metric}",
        )

    def plot_lineage(self, path: str | os.PathLike) -> None:
        """Who copied whom in a population, and how the hyperparameters moved.

        Raises ValueError where the sweep was no population.
        """
        from purenet import plots

        if self.lineage is None:
            raise ValueError("Result.plot_lineage: only a sweep with search=pbt() has a lineage.")
        drawn = {n for n, leaf in self.space.items() if hasattr(leaf, "ppf")}
        columns = {n: c for n, c in self.lineage.numbers.items() if n in drawn}
        plots.lineage(
            path,
            self.curves["validation"][self.metric],
            self.lineage.parents,
            self.lineage.every,
            columns,
            log=self._log(columns),
            score_label=f"validation {self.metric}",
            maximize=self.maximize,
        )

    def _varied(self) -> dict[str, np.ndarray]:
        """The hyperparameters that are not the same in every trial, a value a point."""
        plained = {name: np.array([*map(plain, c)], object) for name, c in self.hyper.items()}
        return {
            name: self.hyper[name][:: self.seeds]
            for name, column in plained.items()
            if len(set(map(str, column))) > 1
        } or {name: column[:: self.seeds] for name, column in self.hyper.items()}

    def _labels(self, columns=None) -> dict[str, Any]:
        log = self._log(self._varied() if columns is None else columns)
        label = f"validation {self.metric}"
        return {"log": log, "score_label": label, "maximize": self.maximize}

    def _log(self, columns) -> list[str]:
        """Those that were drawn from many decades."""
        wide = []
        for name, column in columns.items():
            leaf = self.space.get(name)
            if isinstance(leaf, LogUniform):
                wide.append(name)
            elif leaf is not None and not isinstance(leaf, Uniform) and is_traced(leaf):
                low, high = np.min(column), np.max(column)
                if low > 0 and high / low > _LOG_RANGE:
                    wide.append(name)
        return wide

    def _scores(self) -> np.ndarray:
        """The last score of each point, the mean of its seeds; NaN where one of them diverged."""
        last = np.maximum(self.epochs - 1, 0)
        scores = self.curves["validation"][self.metric][np.arange(self.trials), last]
        scores = np.where(self.status == "diverged", np.nan, scores.astype(float))
        return scores.reshape(-1, self.seeds).mean(axis=1)

    # files
    def rows(self) -> list[dict[str, Any]]:
        """One dict a trial: number, status, epochs, hyperparameters, last finite metrics."""
        known = np.arange(self.trials), np.maximum(self.epochs - 1, 0)
        columns: dict[str, Any] = {"trial": range(self.trials)}
        if self.seeds > 1:
            columns["seed"] = (np.arange(self.trials) % self.seeds).tolist()
        columns |= {"status": self.status.tolist(), "epochs": self.epochs.tolist()}
        columns |= {name: list(column) for name, column in self.hyper.items()}
        for part, metrics in self.curves.items():
            for name, curve in metrics.items():
                columns[f"{part} {name}"] = list(np.where(self.epochs > 0, curve[known], np.nan))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_csv(self, path: str | os.PathLike) -> None:
        """One row a trial. A text that a spreadsheet would take for a formula (=, +, -, @) gets an
        apostrophe before it. Raises OSError where the file cannot be written, TypeError for what is
        no path."""
        path = writable("Result.to_csv", path)
        rows = self.rows()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_cell, rows[0]))
        writer.writerows(map(_cell, row.values()) for row in rows)
        write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))

    def to_jsonl(self, path: str | os.PathLike) -> None:
        """One JSON object a line and trial, as in the results folder; not finite is null. Raises
        what `to_csv` raises."""
        path = writable("Result.to_jsonl", path)
        write_bytes(path, b"".join(map(json_bytes, self.rows())))

    def to_pandas(self) -> "pandas.DataFrame":
        """One row a trial, as a pandas DataFrame. Raises ModuleNotFoundError without pandas."""
        try:
            import pandas
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.rows()).set_index("trial")

    def to_optuna(self) -> "optuna.Study":
        """The sweep as an Optuna study in memory, with every epoch's score; needs Optuna.

        Trials that were stopped are PRUNED, those that diverged FAIL. Constants and other metrics
        are user attributes; a static choice is the name or text of its value. Raises
        ModuleNotFoundError without Optuna.
        """
        optuna = optuna_module()
        states = optuna.trial.TrialState
        state_of = {"done": states.COMPLETE, "stopped": states.PRUNED, "diverged": states.FAIL}
        drawn = [name for name, leaf in self.space.items() if hasattr(leaf, "ppf")]
        distributions, columns = {}, {}
        for name in drawn:
            leaf, column = self.space[name], [plain(value) for value in self.hyper[name]]
            if isinstance(leaf, Choice):
                if not is_traced(leaf):
                    column = [str(value) for value in column]
                values = sorted(set(column))
                distributions[name] = optuna.distributions.CategoricalDistribution(values)
            else:
                distributions[name] = _wide_enough(optuna_distribution(leaf, _ends(column)), column)
            columns[name] = column
        study = optuna.create_study(direction="maximize" if self.maximize else "minimize")
        curve = self.curves["validation"][self.metric]
        for i in range(self.trials):
            status, trial = str(self.status[i]), self.trial(i)
            known = curve[i, : self.epochs[i]]
            fixed = {n: str(_name(v)) for n, v in trial.hyper.items() if n not in drawn}
            others = {f"{p} {n}": float(v) for p, m in trial.metrics.items() for n, v in m.items()}
            study.add_trial(
                optuna.trial.create_trial(
                    state=state_of[status],
                    value=None if status == "diverged" else float(trial.score),
                    params={name: columns[name][i] for name in drawn},
                    distributions=distributions,
                    intermediate_values={e: float(v) for e, v in enumerate(known, 1)},
                    user_attrs=fixed | others,
                )
            )
        return study

    def _number(self, caller: str, number: int, seeds: int = 1) -> int:
        number, count = integer(f"{caller}: number", number, least=0), self.trials // seeds
        if number >= count:
            raise ValueError(
                f"{caller}: there is no trial {number}; trials run from 0 to {count - 1}."
            )
        return number


def _ends(column) -> tuple[float, float]:
    return min(column), max(column)


def _wide_enough(distribution, column):
    """The distribution with its ends moved where a value was rounded, or explored, beyond them."""
    low, high = _ends([*column, distribution.low, distribution.high])
    if (low, high) == (distribution.low, distribution.high):
        return distribution
    return type(distribution)(low=low, high=high, log=distribution.log)


def _name(value):
    """How a hyperparameter is written down: numbers as they are, functions by name."""
    return value.__name__ if callable(value) and hasattr(value, "__name__") else value


def _text(value) -> str:
    value = _name(value)
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else printable(value)


def _cell(value):
    """What a CSV file holds: numbers as they are, no text that is a formula."""
    value = _name(value)
    if isinstance(value, (bool, int, float, np.generic, type(None))):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
