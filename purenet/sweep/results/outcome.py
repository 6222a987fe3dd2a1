"""The result of a run so far."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.records import ProgramRecord
from purenet.sweep.group import Group
from purenet.sweep.results.networks import Trainer
from purenet.sweep.results.result import Costs, Result
from purenet.sweep.results.trials import TrialTable
from purenet.sweep.state import SweepState


def outcome(
    request: SweepConfig,
    state: SweepState,
    groups: Sequence[Group],
    plan: dict[str, Any] | None,
    seconds: float,
    trainer: Trainer,
) -> Result:
    """The result so far, of the points that have been drawn, after `seconds` of a run with this
    `plan`; `trainer` is that run."""
    restored, statuses = state.restored, state.statuses()
    outcomes = TrialTable(
        hyper=state.hyper(),
        space=request.space.columns,
        seeds=request.seeds,
        folds=request.shape.folds,
        status=statuses,
        epochs=state.epochs[: len(statuses)],
        curves=jax.tree.map(lambda curve: curve[: len(statuses)], state.curves),
        objective=request.objective,
    )
    costs = Costs(
        programs=tuple(_program_records(request, state, groups)),
        plan=plan or restored.plan,
        seconds=restored.previous_seconds + (0.0 if restored.finished else seconds),
    )
    kept = {row: groups[state.group_of(row)].unpack(row, s) for row, s in state.kept.items()}
    return Result(outcomes, request.settings(), costs, kept, state.lineage, trainer)


def _program_records(
    request: SweepConfig, state: SweepState, groups: Sequence[Group]
) -> Iterator[ProgramRecord]:
    """The record of each group's program, compiled now or else by an earlier process."""
    for group in groups:
        static = request.static(group.program.training.static)
        if group.cost is not None:
            yield ProgramRecord(static, len(group.rows), *group.cost)
        else:
            yield from (p for p in state.restored.programs if p.static == static)
