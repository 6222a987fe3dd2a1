"""Saving a sweep to its folder, and resuming from there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from purenet.sweep.engine.records import ProgramRecord, damaged, program_records
from purenet.sweep.group import Group
from purenet.sweep.space.distributions import Choice
from purenet.sweep.state import Restored, SweepState
from purenet.sweep.storage.folder import Store
from purenet.sweep.storage.reading import CURVES, REPORT, STATES, fitting
from purenet.sweep.storage.records import pack_records, stored_dtype, unpack_records
from purenet.sweep.storage.shared import SharedStore


class Summary(NamedTuple):
    """What is saved beside the state: for the report and the table of trials.

    >>> Summary(True, [], 0.0, None, ()).finished
    True
    """

    finished: bool  # nothing is left to train
    rows: list[dict[str, Any]]  # for `trials.jsonl`
    seconds: float
    plan: dict[str, Any] | None
    programs: tuple[ProgramRecord, ...]


def save(
    store: Store | SharedStore, state: SweepState, groups: Sequence[Group], summary: Summary
) -> None:
    """Write everything known so far."""
    report = {
        "finished": summary.finished,
        "seconds": round(summary.seconds, 3),
        "plan": summary.plan,
        "programs": [program._asdict() for program in summary.programs],
    }
    states = pack_records([group.records(summary.finished) for group in groups])
    store.save(summary.rows, _columns(state), states, report)


def _columns(state: SweepState) -> dict[str, np.ndarray]:
    """The arrays of curves.npz."""
    by_key, runs = state.final_columns(), state.shape.runs
    pairs = zip(state.space.keys, state.space.traced, strict=True)
    columns = {f"hyper {key}": np.repeat(by_key[key], runs) for key, traced in pairs if traced}
    columns |= {f"choice {key}": places for key, places in _choices(state).items()}
    columns |= {"epochs": state.epochs, "alive": state.alive, "ended": state.ended}
    columns["rows"] = np.array(len(state.statuses()))
    if state.lineage is not None:
        columns |= state.lineage.arrays()
        columns["lineage every"] = np.array(state.lineage.every)
    return columns | _curves(state)


def _curves(state: SweepState) -> dict[str, np.ndarray]:
    return {
        f"{part} {name}": curve
        for part, metrics in state.curves.items()
        for name, curve in metrics.items()
    }


def _choices(state: SweepState) -> dict[str, np.ndarray]:
    """For each static choice, by key: the index of each trial's value, -1 where the choice is in a
    branch that is not taken."""
    space, points = state.space, state.points
    places = np.array(points.places, int).reshape(len(points.groups), len(space.grouped))
    by_trial = np.repeat(places[points.group], state.shape.runs, axis=0).T
    pairs = zip(space.grouped, by_trial, strict=True)
    return {space.keys[i]: row for i, row in pairs if isinstance(space.leaves[i], Choice)}


def load(store: Store | SharedStore, state: SweepState, groups: Sequence[Group]) -> None:
    """Restore the content of the folder: curves, epochs, and the states of the best and unfinished
    trials.

    Raises ValueError for arrays that cannot belong to this sweep.
    """
    known, last = store.known, state.shape.epochs
    if known.curves is None:
        return
    curves_path = store.folder / CURVES
    state.restored = Restored(
        curves_path=curves_path,
        states_path=store.folder / STATES,
        curves=known.curves,
        states=known.states,
        finished=known.finished,
        complete=known.complete,
        plan=known.report["plan"],
        programs=program_records(store.folder / REPORT, known.report["programs"]),
        previous_seconds=known.report["seconds"],
    )
    columns = {"epochs": state.epochs, "alive": state.alive, "ended": state.ended}
    columns |= {name: curve for name, curve in _curves(state).items() if name in known.curves}
    for name, mine in columns.items():
        mine[:] = fitting(curves_path, known.curves, name, mine)
    if not ((state.epochs >= 0) & (state.epochs <= last)).all():
        raise damaged(curves_path, f"'epochs' holds numbers outside 0 to {last}")
    for group in groups:
        restore(state, group)
        for row, record in group.restored.items():
            if state.complete[row] and record.epochs == state.epochs[row]:
                state.kept[row] = record.state


def restore(state: SweepState, group: Group) -> None:
    """Give a group its states from the folder. Raises ValueError for states that this trial
    function cannot have."""
    path, likes = state.restored.states_path, group.program.leaves
    try:
        records = unpack_records(state.restored.states, group.number)
    except ValueError as error:
        raise damaged(path, f"its states are invalid: {error}") from None
    numbers = [(a.dtype, ()) for a in group.first_numbers()]
    for row, record in records.items():
        if not (0 <= row < state.shape.rows and 0 <= record.epochs <= state.shape.epochs):
            raise damaged(path, f"it holds a state of row {row} after {record.epochs} epochs")
        if [(a.dtype, a.shape) for a in record.numbers] != numbers:
            raise damaged(path, f"its hyperparameters of row {row} have other shapes or dtypes")
        found = [(a.dtype, a.shape) for a in record.state]
        if found != [(stored_dtype(like.dtype), like.shape) for like in likes]:
            raise ValueError(
                f"{path.parent} holds states of shapes {[a.shape for a in record.state]}, but "
                f"those of this trial function are {[like.shape for like in likes]}; the "
                "function has changed since, so choose another folder."
            )
        pairs = zip(record.state, likes, strict=True)
        group.restored[row] = record._replace(state=[a.view(like.dtype) for a, like in pairs])


def rejoin_population(state: SweepState, groups: Sequence[Group]) -> int:
    """The epoch that the members of a population resume from: that of their states on disk, which
    may be older than the curves. The members of a group resume together; groups train one after
    the other, so that some may be a few epochs ahead of others."""
    if state.restored.finished or state.restored.curves is None:
        return int(state.epochs.max()) if state.restored.finished else 0
    levels = []
    for group in groups:
        rows, restored = group.rows, group.restored
        level = max((record.epochs for record in restored.values()), default=0)
        there = np.isin(rows, list(restored))  # all that were alive at that epoch
        state.alive[rows] = there if level else True
        state.epochs[rows] = np.minimum(state.epochs[rows], level)
        levels.append(level)
    return max(levels)
