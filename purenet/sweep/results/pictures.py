"""What a result draws: pictures, and a page for a browser."""

import os
from typing import Any

from purenet.core.validate import integer
from purenet.sweep.engine.records import Lineage
from purenet.sweep.results import figures
from purenet.sweep.results.figures import Path
from purenet.sweep.results.importance import importances
from purenet.sweep.results.report import write_report
from purenet.sweep.results.trials import TrialTable


class Pictures:
    """The methods of a `Result` that draw its trials."""

    outcomes: TrialTable
    lineage: Lineage | None

    @property
    def seconds(self) -> float:
        """Wall-clock time of the sweep."""
        raise NotImplementedError

    def plot(self, path: Path = None, n: int = 20) -> Any:
        """Learning curves of the best `n` trials in a grid: validation solid, training dashed.

        Needs matplotlib (extra `plot`), like all pictures. The suffix of `path` is the format;
        without a path the figure is returned, which a notebook shows.
        Raises ValueError if every trial diverged, TypeError or ValueError unless n is a positive
        integer.
        """
        return figures.learning_curves(self.outcomes, path, integer("Result.plot: n", n, least=1))

    def plot_parallel(self, path: Path = None) -> Any:
        """Parallel coordinates: each trial is a line through its hyperparameters to its score.

        Here and in `plot_slices` and `plot_map`, the runs of a point are averaged. Raises
        ValueError if every trial diverged.
        """
        return figures.parallel(self.outcomes, path)

    def plot_slices(self, path: Path = None) -> Any:
        """The score over each hyperparameter. Raises ValueError if every trial diverged."""
        return figures.slices(self.outcomes, path)

    def plot_map(self, path: Path = None, names: tuple[str, ...] | list[str] | None = None) -> Any:
        """The score over pairs of hyperparameters: those in `names`, or all that vary.

        Raises ValueError for unknown names, fewer than two or more than six, or if every trial
        diverged; TypeError unless `names` is a list or a tuple.
        """
        return figures.pairs(self.outcomes, path, names)

    def plot_pareto(self, path: Path = None) -> Any:
        """The points by their first two objectives, those of `pareto()` joined by a line.

        Raises ValueError for a sweep without two objectives, or if every trial diverged.
        """
        return figures.pareto(self.outcomes, path)

    def plot_history(self, path: Path = None) -> Any:
        """The score of each point in their order, and the best one so far. Raises ValueError if
        every trial diverged."""
        return figures.history(self.outcomes, path)

    def plot_importances(self, path: Path = None) -> Any:
        """What the score depends on, as `importances` measures it; raises what that raises."""
        return figures.importance(self.outcomes, path)

    def plot_rungs(self, path: Path = None) -> Any:
        """How far each trial was trained, and where trials were stopped. Raises ValueError if
        every trial diverged."""
        return figures.rungs(self.outcomes, path)

    def plot_lineage(self, path: Path = None) -> Any:
        """Who copied whom in a population, and how the hyperparameters moved.

        Raises ValueError if the sweep did not train a population.
        """
        return figures.lineage(self.outcomes, path, self.lineage)

    def importances(self) -> dict[str, float]:
        """How much the score depends on each hyperparameter that varies, largest first.

        The permutation importance of a random forest: the R² that it loses, on points it has not
        seen, when the values of one hyperparameter are shuffled. It predicts ranks, so that the
        scale of the score does not matter. Needs scikit-learn (extra `report`). Raises ValueError
        for fewer than 12 points, ModuleNotFoundError without scikit-learn.
        Source: Breiman (2001), Random forests.
        """
        return importances(self.outcomes, figures.varied(self.outcomes)).losses

    def to_html(
        self, path: str | os.PathLike, title: str = "Sweep", reload: float | None = None
    ) -> None:
        """One page for a browser, which needs no network: brush axes, compare curves, sort trials.

        Parallel coordinates, learning curves, importances, objectives, rungs, lineage and a table
        of all points. With `reload`, the page loads itself again after so many seconds. Needs
        plotly (extra `report`); without scikit-learn the page has no importances. Raises
        ModuleNotFoundError without plotly.
        """
        write_report(path, self.outcomes, self.lineage, self.seconds, title, reload)
