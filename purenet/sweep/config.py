"""A requested sweep: checked, with its first points drawn; nothing is compiled yet."""

import dataclasses
import functools
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from purenet.core.contracts import check_data
from purenet.core.tree import fingerprint
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import accepts, describe_value, integer, require
from purenet.data.streams import Stream, as_stream, first_examples, is_streamed
from purenet.distributed import multihost
from purenet.sweep.engine.describe import describe
from purenet.sweep.engine.explain import explained
from purenet.sweep.engine.folds import Folds
from purenet.sweep.engine.layout import chosen_devices, layout
from purenet.sweep.engine.monitor import Monitor, Objective
from purenet.sweep.engine.program import Program
from purenet.sweep.engine.streamed import streamed
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.engine.training import PARTS, training_of
from purenet.sweep.folds import make_folds, make_streamed_folds
from purenet.sweep.objective import checked_epochs, checked_goals, monitor, objective, ranked_by
from purenet.sweep.options import SweepOptions, filled
from purenet.sweep.samplers.base import Source, as_sampler
from purenet.sweep.schedulers.base import Rounds, as_scheduler
from purenet.sweep.schedulers.extending import Extent, unsaid
from purenet.sweep.schedulers.given import rounds_with
from purenet.sweep.space.coordinates import Coordinates, coordinates
from purenet.sweep.space.distributions import is_leaf
from purenet.sweep.space.given import checked_points, described_points, given_points
from purenet.sweep.space.points import Points, add_points, numbers
from purenet.sweep.space.schema import describe_leaf
from purenet.sweep.space.space import take_apart
from purenet.sweep.space.structure import static_values, structure
from purenet.sweep.state import SweepShape

_ORDER = (
    "The order is run(trial, space, data, trials, epochs, seed), with data = (train, validation), "
    "unlike that of fit(trainable, data, epochs, key)."
)
_RESERVED = ("trial", "seed", "fold", "status", "epochs", "epoch")


class Start(NamedTuple):
    """How a sweep starts: the source of its points, and its first round.

    >>> Start._fields
    ('source', 'rounds', 'targets', 'points', 'given')
    """

    source: Source
    rounds: Rounds
    targets: np.ndarray  # (points,) epochs that each point has after the first round
    points: Points  # the given ones, then those that the first round needs
    given: tuple[dict[str, Any], ...] = ()  # the values of the given points, by name


class SweepConfig:
    """A requested sweep, checked. Raises TypeError or ValueError for bad arguments.

    `start` is the first round, `programs` are one program for each group of its points; nothing is
    compiled yet. Exceptions of the trial function itself pass through.

    >>> from purenet.core import types
    >>> still = lambda hyper: types.Trainable(
    ...     lambda key: hyper, lambda state, data: (state, {}), lambda state, data: {"loss": state}
    ... )
    >>> asked = SweepConfig(still, 0.5, (np.zeros(1), np.zeros(1)), trials=3, epochs=1)
    >>> asked.metric, asked.trials
    ('loss', 3)
    """

    def __init__(
        self,
        trial: Callable,
        space: PyTree,
        data: Any,
        trials: int | None = None,
        epochs: int | None = None,
        seed: int = 0,
        **options: Unpack[SweepOptions],
    ):
        asked = filled(options)
        check_trial(trial)
        folds = asked["folds"]
        _check_order(space, data, folds)
        trials = None if trials is None else integer("sweep: trials", trials, least=1)
        self.trial, epochs = trial, checked_epochs(epochs)
        self.seed = checked_seed("sweep: seed", seed)
        seeds = integer("sweep: seeds", asked["seeds"], least=1)
        self.search = as_scheduler(asked["search"])
        self.devices = chosen_devices(asked["devices"])
        self.space = take_apart(space)
        _check_names(self.space.names, _RESERVED)
        given = checked_points(self.space, asked["points"])
        source, points = self._points(trials, epochs, len(given))
        search, located = self.search, getattr(self.search, "located", None)
        if located is not None:
            places = self._coordinates(given, points)
            search = dataclasses.replace(search, rounds=located(places))
        rounds = rounds_with(search, len(given), points, epochs)
        targets = next(rounds)
        self.data = self._data(data, folds)
        runs = self.data.number if isinstance(self.data, (Folds, StreamedParts)) else 1
        self.shape = SweepShape(points, seeds, epochs, runs)
        drawn = source.ask(max(0, reach(targets) - len(given)))
        first = add_points(self.space, given_points(self.space, given), drawn)
        self.start = Start(source, rounds, targets, first, given)
        self.monitor = Monitor()
        programs = [self.program(first, g) for g in range(len(first.groups))]
        metrics = [set(program.metrics) for program in programs]
        columns = {f"{part} {name}" for part in PARTS for name in set().union(*metrics)}
        _check_names(self.space.names, columns, ", as the column of a metric")
        goals = checked_goals(asked["objectives"], metrics, self.space)
        ranking = objective(metrics, *ranked_by(goals, metrics, asked["metric"], asked["mode"]))
        learns = as_sampler("sweep: search", self.search.sampler).learn is not None
        require(
            not (goals and learns),
            f"sweep: the sampler of {self.search.name} learns from a single score, but there are "
            "several objectives; choose another search.",
        )
        require(
            not (goals and located is not None),
            f"sweep: the model of {self.search.name} forecasts a single score, but there are "
            "several objectives; choose another search, or pass a metric.",
        )
        self.monitor = monitor(asked, ranking._replace(goals=goals), epochs, targets)
        self.programs = [program.monitored(self.monitor) for program in programs]

    def _data(self, data: PyTree, folds: object) -> Any:
        """The data, checked: a pair of parts, its folds, or what is streamed."""
        if is_streamed(data):
            if folds is not None:
                return _streamed_folds(folds, data, self.seed)
            train, validation = as_stream(data[0]), data[1]
            named = first_examples(dict(zip(PARTS, (train, validation), strict=True)))
            check_data("sweep", named)
            return StreamedParts(train, validation)
        named = dict(zip(PARTS, data, strict=True)) if folds is None else {"": data}
        check_data("sweep", named)
        found = jax.tree.map(np.asarray, data if folds is not None else tuple(data))
        return found if folds is None else make_folds(folds, found, self.seed)

    @property
    def trials(self) -> int:
        """The number of points."""
        return self.shape.points

    @property
    def epochs(self) -> int:
        """The largest number of epochs of a trial."""
        return self.shape.epochs

    @property
    def seeds(self) -> int:
        """The number of seeds of each point."""
        return self.shape.seeds

    @property
    def objective(self) -> Objective:
        """What trials are ranked by."""
        monitor = self.monitor
        return Objective(monitor.metric, monitor.sign > 0, monitor.keep_best, monitor.goals)

    @property
    def metric(self) -> str:
        """What trials are ranked by."""
        return self.objective.metric

    @property
    def maximize(self) -> bool:
        """Whether a large value of the metric is good."""
        return self.objective.maximize

    def _points(self, trials: int | None, epochs: int, given: int) -> tuple[Source, int]:
        """The source of points, and their number: from the caller, or else the scheduler, or else
        the sampler, in addition to the `given` ones."""
        if trials is None:
            trials = self.search.points(epochs)
        sampler = as_sampler("sweep: search", self.search.sampler)
        if trials is not None and trials < given:
            raise ValueError(f"sweep: trials is {trials}, but points holds {given}; raise trials.")
        source = sampler.source(
            self.space.drawn, None if trials is None else trials - given, self.seed
        )
        trials = trials if source.points is None else source.points + given
        if trials is None:
            raise ValueError("sweep: trials is missing; pass trials=N (only a grid sets it).")
        return source, trials

    def _coordinates(self, given: Sequence[Mapping[str, Any]], points: int) -> Coordinates:
        """The coordinates of all points that the search may draw."""
        sampler, count = as_sampler("sweep: search", self.search.sampler), points - len(given)
        cube = sampler.source(self.space.drawn, count, self.seed).ask(count)
        return coordinates(self.space.drawn, given, cube)

    def program(self, points: Points, g: int) -> Program:
        """The program of a group, checked against the data; nothing is compiled."""
        members = np.flatnonzero(points.group == g)
        share = math.ceil(len(members) * self.shape.runs / multihost.count())  # of this process
        where = layout(share, self.devices)
        treedef = structure(self.space, points.places[g])
        program = Program(training_of(self.trial, treedef, points.groups[g]), where)
        one = numbers(self.space, points, members[0])
        examples = self.data.examples if isinstance(self.data, StreamedParts) else self.data
        with explained(program, self.space, one, examples):
            program = describe(program, one, examples)
        if isinstance(self.data, StreamedParts):
            program = streamed(program, one, self.data)
        return program.monitored(self.monitor).in_cached_blocks()

    def static(self, group: tuple) -> dict[str, str]:
        """The static values of a group by name, as text."""
        values = static_values(self.space, group)
        return {name: str(getattr(value, "__name__", value)) for name, value in values.items()}

    def extends(self, before: Extent, after: Extent) -> str | None:
        """The reason why a sweep of the extent `before` cannot become `after`, None if it can."""
        every = self.monitor.every
        if before.epochs != after.epochs and before.epochs % every:
            return f"epoch {before.epochs} was evaluated as the last, but is no multiple of {every}"
        drawn = lambda extent: extent._replace(trials=extent.trials - len(self.start.given))
        return getattr(self.search, "extends", unsaid)(drawn(before), drawn(after))

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells the data apart."""
        known = self.data.fingerprint if isinstance(self.data, StreamedParts) else None
        return known or fingerprint(self.data)

    def settings(self) -> dict:
        """Everything that must be the same for a sweep to be resumed."""
        settings = {
            "trial": getattr(self.trial, "__name__", type(self.trial).__name__),
            "trials": self.trials,
            "epochs": self.epochs,
            "seed": self.seed,
            "seeds": self.seeds,
            "folds": self.shape.folds,
            "space": {name: describe_leaf(leaf) for name, leaf in self.space.top.items()},
            "search": self.search.name,
            "metric": self.metric,
            "mode": "max" if self.maximize else "min",
            "objectives": {goal.name: goal.asked for goal in self.monitor.goals},
            "patience": self.monitor.patience,
            "select": "best" if self.monitor.keep_best else "last",
            "evaluate_every": self.monitor.every,
        }
        if self.start.given:
            settings["points"] = described_points(self.space, self.start.given)
        return settings


def _streamed_folds(folds: object, data: Any, seed: int) -> StreamedParts:
    require(
        isinstance(data, Stream),
        f"sweep: data is {describe_value(data)}, but with folds= one data set is expected, such as "
        "stream((x, t)), which the folds split.",
    )
    check_data("sweep", {"": data.first})
    return StreamedParts(data, data, make_streamed_folds(folds, data, seed))


def check_trial(trial: object) -> None:
    if isinstance(trial, Trainable):
        raise TypeError(
            "sweep: trial is a Trainable, but a function from a point of the space to one is "
            f"expected: lambda hyper: supervised(...). {_ORDER}"
        )
    if not callable(trial):
        raise TypeError(
            f"sweep: trial is {describe_value(trial)}, but a function of one point is expected."
        )
    if not accepts(trial, None):
        raise TypeError(
            f"sweep: {describe_value(trial)} cannot be called with one point of the space, but a "
            "function trial(hyper) is expected."
        )


def _check_names(names: Iterable[str], taken: Container[str], why: str = "") -> None:
    """Check that no hyperparameter has the name of another column of the tables."""
    for name in names:
        if name in taken:
            raise ValueError(f"sweep: a hyperparameter cannot be called {name!r}{why}; rename it.")


def _check_order(space: PyTree, data: Any, folds: object) -> None:
    """Reject swapped data and space, and data that is not split into parts."""
    parts = isinstance(data, (tuple, list)) and len(data) == 2
    if folds is not None:
        alike = parts and jax.tree.structure(data[0]) == jax.tree.structure(data[1])  # type: ignore[operator]
        require(
            not (alike and not jax.tree_util.all_leaves(data)),
            "sweep: data is a pair (train, validation), but with folds= one data set is expected, "
            "such as (x, t), which the folds split.",
        )
        return
    if parts:
        return
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(space, is_leaf=is_leaf)):
        raise TypeError(
            f"sweep: space holds arrays, like data, and data is {describe_value(data)}. {_ORDER}"
        )
    raise ValueError(
        f"sweep: data is {describe_value(data)}, but a pair (train, validation) is expected, or "
        f"one data set and folds=. {_ORDER}"
    )


def checked_seed(name: str, seed: Any) -> int:
    """A seed of JAX's random keys. Raises TypeError or ValueError for anything else.

    >>> checked_seed("sweep: seed", 0)
    0
    """
    seed = integer(name, seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"{name} is {seed}, but at most 2⁶³ - 1 is expected.")
    return seed


def reach(goals: np.ndarray) -> int:
    """The number of points that a round needs: all up to the last one trained.

    >>> reach(np.array([1, 3, 0]))
    2
    """
    trained = np.flatnonzero(goals)
    return int(trained[-1]) + 1 if len(trained) else 0
