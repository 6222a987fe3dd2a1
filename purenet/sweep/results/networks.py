"""The networks of a result: their states, and the run that can retrain them and predict."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from purenet.core import display
from purenet.core.ensemble import Member
from purenet.core.types import Layer, PyTree, Trainable
from purenet.core.validate import require
from purenet.sweep.results.trials import TrialTable


class Run(NamedTuple):
    """A retrained trial: its final state, and its curves, part -> metric -> (epochs,).

    >>> Run({"w": 1.0}, {"train": {"loss": np.ones(2)}}).state["w"]
    1.0
    """

    state: PyTree
    curves: dict[str, dict[str, np.ndarray]]

    def __repr__(self):
        return display.run_text("Run", self.state, self.curves)


class Trainer(Protocol):
    """The run that a result comes from, which can retrain trials and predict."""

    @property
    def data(self) -> PyTree: ...

    def retrain(self, row: int) -> Run: ...

    def transfer(self, row: int, changes: dict[str, Any]) -> Any: ...  # a Result

    def trainable(self, row: int) -> Trainable: ...

    def member(self, row: int, state: PyTree) -> Member: ...


class Networks(NamedTuple):
    """The networks that a result can predict with."""

    outcomes: TrialTable
    kept: dict[int, PyTree]  # trial -> its state
    trainer: Trainer | None  # None for a result that was read from a folder

    def state(self, caller: str, number: int) -> PyTree:
        """The state of a trial. Raises ValueError if it was not kept."""
        if number not in self.kept:
            kept = ", ".join(map(str, sorted(self.kept))) or "none"
            raise ValueError(
                f"{caller}: the weights of trial {number} were not kept (kept: {kept}); "
                f"replay({number}) retrains it, and run(keep=...) keeps those of more trials."
            )
        return self.kept[number]

    def trainer_for(self, caller: str) -> Trainer:
        """The run that the result comes from. Raises ValueError if it was read from a folder."""
        require(
            self.trainer is not None,
            f"{caller}: a result that was read from a folder has no trial function; call run with "
            "the same arguments and path, which does not retrain finished trials.",
        )
        assert self.trainer is not None
        return self.trainer

    def network(self, caller: str, number: int) -> tuple[Layer, Any, PyTree]:
        """The network of a trial, its sizes and its parameters. Raises ValueError without one."""
        network = self.trainer_for(caller).trainable(number).network
        require(
            network is not None,
            f"{caller}: the trial function's Trainable has no `network()`, which returns (net, "
            "sizes); give it one.",
        )
        assert network is not None
        return *network(), self.state(caller, number).params

    def members(self, caller: str, numbers: Sequence[int]) -> list[Member]:
        """These trials as members of an ensemble. Raises ValueError if one was not kept."""
        trainer = self.trainer_for(caller)
        return [trainer.member(row, self.state(caller, row)) for row in numbers]

    def runs(self, point: int) -> list[int]:
        """The trials of a point."""
        runs = self.outcomes.runs
        return list(range(point * runs, (point + 1) * runs))
