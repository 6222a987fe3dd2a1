"""What a sweep found: the best trials, a table, curves, pictures, files, and any trial again."""

import csv
import dataclasses
import io
from collections.abc import Callable
from typing import Any, NamedTuple, overload

import numpy as np

from purenet.checks import whole
from purenet.files import write_bytes
from purenet.types import PyTree

# what a table calls the usual metrics and the parts of the data
_SHORT = {"accuracy": "acc", "validation": "val"}


class Trial(NamedTuple):
    """One trial: what it was given and where it ended. Prints as one line."""

    number: int
    hyper: dict[str, Any]
    status: str  # "done" or "diverged"
    epochs: int  # completed with finite numbers
    metric: str  # what trials are ranked by, measured on the validation data
    score: float  # its value after those epochs; NaN where there is none
    metrics: dict[str, dict[str, float]]  # part -> metric -> its value after those epochs

    def __str__(self):
        values = ", ".join(f"{n.replace('_', ' ')}:{_text(v)}" for n, v in self.hyper.items())
        return f"(val {_SHORT.get(self.metric, self.metric)}:{_text(self.score)}) | {values}"


class Run(NamedTuple):
    """A trial run again: its final state, and its curves, part -> metric -> (epochs,)."""

    state: PyTree
    curves: dict[str, dict[str, np.ndarray]]


class ProgramRecord(NamedTuple):
    """One compiled program of a sweep: which trials it trained, and what it cost."""

    static: dict[str, str]
    trials: int
    layout: str
    compile_seconds: float
    bytes_per_device: int


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a sweep: a column a hyperparameter, a row a trial.

    `curves["validation"]["accuracy"]` is (trials, epochs), NaN after a trial diverged.
    """

    hyper: dict[str, np.ndarray]
    status: np.ndarray
    epochs: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]
    metric: str
    largest: bool
    settings: dict[str, Any]
    programs: tuple[ProgramRecord, ...]
    seconds: float
    _again: Callable[[int], Run] = dataclasses.field(repr=False)

    @property
    def trials(self) -> int:
        return len(self.status)

    def trial(self, number: int) -> Trial:
        """What is known of one trial. Raises ValueError for a number that is not a trial's."""
        number = whole("Result.trial: number", number, least=0)
        if number >= self.trials:
            raise ValueError(f"there is no trial {number}; trials run from 0 to {self.trials - 1}.")
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

    @overload
    def best(self) -> Trial: ...

    @overload
    def best(self, n: int) -> list[Trial]: ...

    def best(self, n: int | None = None) -> Trial | list[Trial]:
        """The best trial, or a list of the best `n`; trials that diverged are never among them.

        Ties go to the trial with the lower number. Raises ValueError when every trial diverged.
        """
        ranked = self._ranked()
        if not len(ranked):
            raise ValueError(
                f"every trial diverged:\n{self.table()}\nlower the learning rates of the space."
            )
        if n is None:
            return self.trial(ranked[0])
        return [self.trial(i) for i in ranked[: whole("Result.best: n", n, least=1)]]

    def table(self, n: int = 20) -> str:
        """The best `n` trials as text, best first, and how many trials diverged."""
        parts = [(p, m) for m in self.curves["validation"] for p in ("validation", "train")]
        parts.sort(key=lambda pair: pair[1] != self.metric)
        header = ["rank", "trial", *(f"{_SHORT.get(p, p)} {_SHORT.get(m, m)}" for p, m in parts)]
        rows = [[*header, *self.hyper]]
        n = whole("Result.table: n", n, least=1)
        for rank, trial in enumerate(map(self.trial, self._ranked()[:n]), 1):
            values = [trial.metrics[p].get(m, np.nan) for p, m in parts] + [*trial.hyper.values()]
            rows.append([str(rank), str(trial.number), *map(_text, values)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        lost = np.flatnonzero(self.status == "diverged")
        if len(lost):
            some = [f"{i} (after epoch {self.epochs[i]})" for i in lost[:10]]
            some += ["..."] if len(lost) > 10 else []
            lines.append(f"{len(lost)} of {self.trials} diverged: {', '.join(some)}")
        return "\n".join(lines)

    def plot(self, path, n: int = 20) -> None:
        """Learning curves of the best `n` trials in a grid: validation solid, training dashed.

        Needs matplotlib (extra `plot`). The suffix of `path` names the format.
        """
        from purenet import plots

        panels = []
        for rank, trial in enumerate(self.best(n), 1):
            values = "  ".join(f"{name} {_text(v)}" for name, v in trial.hyper.items())
            name = _SHORT.get(self.metric, self.metric)
            title = f"Best-{rank}\n{name} {_text(trial.score)}  {values}"
            series = {p: self.curves[p][self.metric][trial.number] for p in ("validation", "train")}
            panels.append((title, series))
        limits = (0, 1) if self.metric == "accuracy" else None
        plots.curve_grid(path, panels, y_label=self.metric, limits=limits)

    def rows(self) -> list[dict[str, Any]]:
        """One dict a trial: number, status, epochs, hyperparameters, last finite metrics."""
        rows = []
        for number in range(self.trials):
            trial = self.trial(number)
            row = {"trial": number, "status": trial.status, "epochs": trial.epochs, **trial.hyper}
            for part, metrics in trial.metrics.items():
                row |= {f"{part} {name}": value for name, value in metrics.items()}
            rows.append(row)
        return rows

    def to_csv(self, path) -> None:
        """One row a trial, written completely or not at all."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_name(value) for value in row.values()] for row in rows)
        write_bytes(path, text.getvalue().encode())

    def to_pandas(self):
        """One row a trial, as a pandas DataFrame; needs pandas."""
        try:
            import pandas
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.rows()).set_index("trial")

    def replay(self, number: int) -> Run:
        """Train one trial again, alone: the same curves, and its final state.

        It runs in the program that the sweep ran, so that on the same backend the numbers are
        identical, not only close.
        """
        return self._again(self.trial(number).number)

    def _ranked(self) -> np.ndarray:
        last = np.maximum(self.epochs - 1, 0)
        scores = self.curves["validation"][self.metric][np.arange(self.trials), last]
        order = np.argsort(-scores if self.largest else scores, kind="stable")
        return order[self.status[order] == "done"]


def _name(value):
    """How a hyperparameter is written down: numbers as they are, functions by name."""
    return value.__name__ if callable(value) and hasattr(value, "__name__") else value


def _text(value) -> str:
    value = _name(value)
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)
