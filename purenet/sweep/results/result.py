"""The result of a sweep: the best trials, tables, curves, pictures, files, and any trial again."""

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from purenet.core import display
from purenet.core.ensemble import Ensemble, ensemble
from purenet.core.types import PyTree
from purenet.core.validate import integer, require
from purenet.sweep.engine.records import Lineage, ProgramRecord
from purenet.sweep.results import export, predictions, ranking, trackers
from purenet.sweep.results.networks import Networks, Run, Trainer
from purenet.sweep.results.pictures import Pictures
from purenet.sweep.results.trials import Trial, TrialTable

if TYPE_CHECKING:
    import optuna
    import pandas

_AT_PROMPT, _IN_NOTEBOOK = 5, 10  # trials shown


class Costs(NamedTuple):
    """What a sweep cost, and what was planned."""

    programs: tuple[ProgramRecord, ...]
    plan: dict[str, Any] | None
    seconds: float


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Result(Pictures):
    """The outcome of a sweep: a column per hyperparameter, a row per trial.

    `curves["validation"]["accuracy"]` is (trials, epochs), NaN after a trial was stopped or
    diverged. With several seeds or folds, the runs of point i are the trials i·runs to
    (i + 1)·runs - 1: its seeds one after the other, each of them on every fold.
    `len(result)` is the number of trials, and iterating yields each `Trial` in order of number.
    Files are written completely or not at all. Methods that draw or write raise TypeError if `path`
    is not a path, FileNotFoundError or IsADirectoryError if nothing can be written there; those
    that draw raise ModuleNotFoundError without matplotlib.

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
    >>> len(result), [trial.status for trial in result]
    (3, ['done', 'done', 'done'])
    >>> result.replay(result.best()).curves["train"]["loss"].shape
    (2,)
    """

    outcomes: TrialTable
    settings: dict[str, Any]
    costs: Costs
    kept: dict[int, PyTree]  # trial -> its final state
    lineage: Lineage | None
    _trainer: Trainer | None  # None for a result that was read from a folder

    def __repr__(self):
        return display.as_text(self._headline(), ranking.table(self.outcomes, _AT_PROMPT))

    def _repr_html_(self) -> str:
        """The best trials as a table: what a notebook shows."""
        rows, notes = ranking.cells(self.outcomes, _IN_NOTEBOOK)
        return display.as_html(self._headline(), rows, notes)

    def _headline(self) -> str:
        return ranking.headline(self.outcomes, self.seconds)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Trial]:
        return map(self.outcomes.trial, range(len(self)))

    # settings and measurements
    @property
    def trials(self) -> int:
        """The number of trials, counting every seed of a point."""
        return len(self)

    @property
    def hyper(self) -> dict[str, np.ndarray]:
        """The hyperparameters: name -> (trials,). A hyperparameter in a branch of a `choice` of
        dicts is NaN in trials that do not take the branch."""
        return self.outcomes.hyper

    @property
    def space(self) -> dict[str, Any]:
        """The distribution or constant of each hyperparameter; an `Alternatives` of several if
        branches of a `choice` of dicts share the name."""
        return self.outcomes.space

    @property
    def runs(self) -> int:
        """The number of runs of each point: its seeds on each fold."""
        return self.outcomes.runs

    @property
    def seeds(self) -> int:
        """The number of seeds that each point is trained with."""
        return self.outcomes.seeds

    @property
    def status(self) -> np.ndarray:
        """The status of each trial: (trials,). "done" after all its epochs; "plateaued" if it ran
        out of patience; "stopped" by the scheduler or the user; "diverged" if a number was not
        finite."""
        return self.outcomes.status

    @property
    def epochs(self) -> np.ndarray:
        """Epochs completed with finite numbers: (trials,)."""
        return self.outcomes.epochs

    @property
    def curves(self) -> dict[str, dict[str, np.ndarray]]:
        """Every metric after every epoch: part -> metric -> (trials, epochs)."""
        return self.outcomes.curves

    @property
    def metric(self) -> str:
        """The metric that trials are ranked by, on the validation data."""
        return self.outcomes.metric

    @property
    def maximize(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.outcomes.maximize

    @property
    def programs(self) -> tuple[ProgramRecord, ...]:
        """The compiled programs, one per static group."""
        return self.costs.programs

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan of the run: strategy, memory, time. None without a plan."""
        return self.costs.plan

    @property
    def seconds(self) -> float:
        """Wall-clock time, including that of earlier processes of a resumed sweep."""
        return self.costs.seconds

    # trials
    def trial(self, number: int) -> Trial:
        """One trial. Raises TypeError or ValueError unless `number` is that of a trial."""
        return self.outcomes.trial(self.outcomes.number("Result.trial", number))

    def point(self, number: int) -> Trial:
        """One point of the space, its metrics averaged over its runs. Raises TypeError or
        ValueError unless `number` is that of a point."""
        return self.outcomes.point(self.outcomes.number("Result.point", number, "point"))

    @overload
    def best(self) -> Trial: ...

    @overload
    def best(self, n: int) -> list[Trial]: ...

    def best(self, n: int | None = None) -> Trial | list[Trial]:
        """The best trial, or a list of the best `n`, never including trials that diverged.

        Trials trained to the end come before stopped ones, and of those, the longest trained come
        first. Ties go to the lower number. Points with several runs are ranked by their mean; a
        point with a diverged run counts as diverged. Raises ValueError if every trial diverged,
        TypeError or ValueError unless n is a positive integer.
        """
        n = None if n is None else integer("Result.best: n", n, least=1)
        found = ranking.best_points(self.outcomes, n or 1)
        return found[0] if n is None else found

    def ranked(self) -> list[int]:
        """The points of the space, best first, without those that diverged."""
        return self.outcomes.ranked()

    def pareto(self) -> list[Trial]:
        """The Pareto front: the points within all bounds that no other point dominates, ordered by
        the first objective.

        Raises ValueError for a sweep without objectives.

        >>> from purenet import sweep
        >>> from purenet.core import types
        >>> two = lambda hyper: types.Trainable(
        ...     init=lambda key: 0.0, epoch=lambda state, data: (state, {}),
        ...     evaluate=lambda state, data: {"a": hyper["x"], "b": -(hyper["x"] ** 2)},
        ... )
        >>> nothing = (np.zeros(1), np.zeros(1))
        >>> found = sweep.run(two, {"x": sweep.uniform(-1, 1)}, nothing, 9, 1,
        ...                   objectives={"a": "max", "b": "max"})
        >>> bool(min(trial.hyper["x"] for trial in found.pareto()) > -0.5)
        True
        """
        require(
            len(self.outcomes.goals) > 0,
            "Result.pareto: the sweep has a single objective; pass run objectives= for several.",
        )
        return [self.outcomes.point(number) for number in self.outcomes.front()]

    def table(self, n: int = 20) -> str:
        """The best `n` trials as text, best first, and how many were stopped or diverged.

        Control characters in names and values are escaped. Raises TypeError or ValueError unless n
        is a positive integer.
        """
        return ranking.table(self.outcomes, integer("Result.table: n", n, least=1))

    # weights
    def weights(self, trial: int | Trial) -> PyTree:
        """The parameters of a trial whose state was kept, after its last or its best epoch:
        `state.params`, or the whole state if it has no `params`.

        `trial` is a number or a Trial, as returned by `best()`. `run(keep=n)` keeps the states of
        the best n. Raises ValueError for a trial that was not kept, TypeError or ValueError unless
        `trial` is one of this result.
        """
        number = self.outcomes.number("Result.weights", trial)
        state = self._networks.state("Result.weights", number)
        return getattr(state, "params", state)

    def network(self, trial: int | Trial | None = None) -> tuple[Any, Any, PyTree]:
        """A trial's network, (net, sizes, params): what `save_network` writes.

        Without a `trial`, that of the best one. Raises ValueError for a trial that was not kept,
        for a Trainable without `network`, and for a result read by `load`.
        """
        number = self.outcomes.number("Result.network", self.best() if trial is None else trial)
        return self._networks.network("Result.network", number)

    def replay(self, trial: int | Trial) -> Run:
        """Retrain one trial alone: the same curves, and its final state.

        `trial` is a number or a Trial, as returned by `best()`. It runs in the program of the
        sweep, so on the same backend the numbers are identical, not only close. Members of a
        population copy one another, so `replay` retrains the whole population. Raises TypeError or
        ValueError unless `trial` is one of this result, ValueError for a result read by `load`.
        """
        number = self.outcomes.number("Result.replay", trial)
        return self._networks.trainer_for("Result.replay").retrain(number)

    def transfer(self, trial: int | Trial | None = None, /, **changes: Any) -> "Result":
        """Train a point with other values of some hyperparameters: `transfer(width=1024)`.

        Returns the result of a sweep of that one point, with the data, epochs, seeds and options of
        this sweep, so `network()`, `predict` and the curves are those of the changed network. The
        values are constants, as in a space: integers are static. Without a `trial`, the best one.
        Networks made by `purenet.mup` keep their best rate when they become wider. Raises
        ValueError for names that are not those of the space, and for a result read by `load`;
        TypeError for a value that no space may hold, and what `run` raises.
        """
        number = self.outcomes.number("Result.transfer", self.best() if trial is None else trial)
        return self._networks.trainer_for("Result.transfer").transfer(number, changes)

    @property
    def _networks(self) -> Networks:
        return Networks(self.outcomes, self.kept, self._trainer)

    # predictions
    def predict(self, x: PyTree, trial: int | Trial | None = None) -> Any:
        """The predictions of a trial for examples x (n, ...): class probabilities (n, classes) if
        the loss is a cross-entropy, outputs otherwise.

        Without a `trial`, those of the best point, averaged over its runs. Raises
        ValueError for a trial that was not kept, for a Trainable without `predict`, and for a
        result read by `load`.
        """
        if trial is None:
            return self.ensemble(1).predict(x)
        number = self.outcomes.number("Result.predict", trial)
        members = self._networks.members("Result.predict", [number])
        return ensemble(members, [1.0], None).predict(x)

    def out_of_fold(self, trial: int | Trial) -> np.ndarray:
        """The predictions of a point for every example of the data, by the networks that were not
        trained on it: (n, ...).

        `trial` is any run of the point. Predictions are averaged over its seeds, and over folds if
        several hold an example out. An example that no fold holds out is NaN. Raises ValueError
        for a sweep without folds, and what `predict` raises.
        """
        return predictions.out_of_fold(
            self._networks, self.outcomes.number("Result.out_of_fold", trial)
        )

    def ensemble(self, method: int | str = "greedy", size: int = 10) -> Ensemble:
        """An ensemble: the weighted mean of several trials, as one network.

        `ensemble(10)` is the plain mean of the ten best points. `ensemble("greedy", size=10)`
        chooses ten members, one by one and with replacement, among the points whose weights were
        kept, by the ranking metric of their mean on the validation examples (with folds, of their
        out-of-fold predictions). All runs of a point are members, with equal weights.
        Raises ValueError if fewer points were kept than are requested (pass run(keep=10)), for a
        Trainable that cannot predict, and for a result read by `load`; TypeError or ValueError for
        any other method or size.
        Source: Caruana et al. (2004).
        """
        size = integer("Result.ensemble: size", size, least=1)
        if method == "greedy":
            return predictions.greedy_ensemble(self._networks, size)
        return predictions.best_ensemble(
            self._networks, integer("Result.ensemble: method", method, least=1)
        )

    # files
    def rows(self) -> list[dict[str, Any]]:
        """One dict per trial: number, status, epochs, hyperparameters, and the metrics at the epoch
        that counts."""
        return export.rows(self.outcomes)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one row per trial. Text that a spreadsheet would read as a formula (=, +, -, @)
        gets a leading apostrophe. Raises OSError if the file cannot be written, TypeError if `path`
        is not a path."""
        export.to_csv(self.outcomes, path)

    def to_jsonl(self, path: str | os.PathLike) -> None:
        """Write one JSON object per trial and line, as in the results folder; non-finite numbers
        are null. Raises what `to_csv` raises."""
        export.to_jsonl(self.outcomes, path)

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per trial, as a pandas DataFrame. Raises ModuleNotFoundError without pandas."""
        return export.to_pandas(self.outcomes)

    def to_optuna(self, storage: Any = None, name: str = "purenet") -> "optuna.Study":
        """The sweep as an Optuna study, with the score of every epoch; needs Optuna.

        It is in memory, or in `storage`: the path of a new journal file, which `optuna-dashboard`
        opens, or any storage of Optuna or its URL. Stopped trials are PRUNED, diverged ones FAIL.
        Constants and other metrics become user attributes; a static choice becomes the name or text
        of its value. A trial has the parameters of the branches that it takes. Raises
        ModuleNotFoundError without Optuna, FileExistsError if the file exists.
        """
        return export.to_optuna(self.outcomes, storage, name)

    def to_tensorboard(self, folder: str | os.PathLike, best: int = 50) -> None:
        """Write the curves and hyperparameters of the `best` points for TensorBoard, one folder a
        run; needs tensorboardX. Raises ModuleNotFoundError without it, FileExistsError for a folder
        that is not empty, ValueError if every trial diverged."""
        best = integer("Result.to_tensorboard: best", best, least=1)
        trackers.to_tensorboard(self.outcomes, folder, best)

    def to_mlflow(
        self, experiment: str = "purenet", best: int = 50, tracking_uri: str | None = None
    ) -> str:
        """Log the sweep to MLflow: a run with its settings, and nested in it one for each run of
        the `best` points, with hyperparameters, status, and every metric after every epoch.

        The experiment is created if there is none of this name; `tracking_uri` names the server or
        database, such as "sqlite:///mlflow.db", and defaults to MLflow's own setting. Returns the
        id of the sweep's run. Stopped trials are KILLED. Raises ModuleNotFoundError without MLflow,
        ValueError if every trial diverged, and MLflow's own errors.
        """
        best = integer("Result.to_mlflow: best", best, least=1)
        return trackers.to_mlflow(
            self.outcomes, self.settings, self.seconds, experiment, best, tracking_uri
        )
