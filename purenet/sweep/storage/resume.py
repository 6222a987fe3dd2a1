"""A sweep's way to its folder and back: what is saved, and what it goes on from."""

import time
from typing import Any

import numpy as np

from purenet.sweep.engine.records import TrialCheckpoint, program_records
from purenet.sweep.space.distributions import Choice
from purenet.sweep.storage.reading import CURVES, REPORT, STATES, fitting
from purenet.sweep.storage.records import pack_records, stored_dtype, unpack_records


def save(sweep: Any, finished: bool) -> None:
    """Write what is known now."""
    began, request = time.perf_counter(), sweep.request
    result = sweep.result()
    curves = {f"{p} {n}": c for p, metrics in sweep.curves.items() for n, c in metrics.items()}
    report = {
        "finished": finished,
        "seconds": round(result.seconds, 3),
        "plan": result.plan,
        "programs": [program._asdict() for program in result.programs],
    }
    states = pack_records([_records(sweep, g, finished) for g in range(len(sweep.programs))])
    named = zip(request.space.names, request.space.traced, strict=True)
    known = {f"hyper {name}": result.hyper[name] for name, traced in named if traced}
    known |= {f"choice {name}": places for name, places in _choices(sweep).items()}
    known |= {"epochs": sweep.epochs, "alive": sweep.alive, "rows": np.array(len(result.epochs))}
    if sweep.lineage is not None:
        known |= sweep.lineage.arrays()
        known["lineage every"] = np.array(sweep.lineage.every)
    sweep.store.save(result.rows(), known | curves, states, report)
    sweep.saved_at = time.perf_counter()
    sweep.saving = sweep.saved_at - began


def _choices(sweep: Any) -> dict[str, np.ndarray]:
    """Of each static choice by name: which of its values every trial has."""
    space, points = sweep.request.space, sweep.points
    leaves = zip(space.names, space.leaves, space.traced, strict=True)
    names = [name for name, leaf, traced in leaves if isinstance(leaf, Choice) and not traced]
    places = np.array(points.places, int).reshape(len(points.groups), len(names))
    by_trial = np.repeat(places[points.group], sweep.request.seeds, axis=0)
    return dict(zip(names, by_trial.T, strict=True))


def _records(sweep: Any, g: int, finished: bool) -> dict[int, TrialCheckpoint]:
    """The states of a group's best, and those that its trials go on from if any does.

    Members of a population go on together, those that are at the end among them: one without a
    state has diverged.
    """
    rows, last, every = sweep.members[g], sweep.request.epochs, sweep.numbers()
    kept = {
        row: TrialCheckpoint(
            tuple(column[row // sweep.request.seeds] for column in every), last, state
        )
        for row, state in sweep.kept.items()
        if sweep.group_of(row) == g
    }
    if finished:
        return kept
    if g not in sweep.pools:
        return {r: rec for r, rec in loaded(sweep, g).items() if r not in kept} | kept
    going = sweep.alive if sweep.lineage is not None else sweep.alive & (sweep.epochs < last)
    found = sweep.pools[g].records(np.flatnonzero(going[rows]))
    return kept | {int(rows[local]): record for local, record in found.items()}


def load(sweep: Any, store: Any) -> None:
    """Take over what the folder knows: curves, epochs, states of the best.

    Raises ValueError for what cannot be of this sweep.
    """
    curves, states, report, finished, complete = store.known
    if curves is None:
        return
    sweep.known, sweep.finished, sweep.complete = curves, finished, complete
    sweep.earlier, sweep.planned = report["seconds"], report["plan"]
    sweep.costs = program_records(store.folder / REPORT, report["programs"])
    for name, mine in (("epochs", sweep.epochs), ("alive", sweep.alive)):
        mine[:] = fitting(store.folder, curves, name, mine)
    if not ((sweep.epochs >= 0) & (sweep.epochs <= sweep.request.epochs)).all():
        raise ValueError(
            f"{store.folder / CURVES} is damaged: 'epochs' holds numbers outside 0 to "
            f"{sweep.request.epochs}; remove it, and what it held is computed again."
        )
    for part, metrics in sweep.curves.items():
        for name, mine in metrics.items():
            if f"{part} {name}" in curves:
                mine[:] = fitting(store.folder, curves, f"{part} {name}", mine)
    sweep.loaded = states
    last = sweep.request.epochs
    for g in range(len(sweep.programs)):
        for row, record in loaded(sweep, g).items():
            if record.epochs == last:
                sweep.kept[row] = record.state


def back_together(sweep: Any) -> int:
    """The epoch that the members of a population stand at: that of their states on disk, which
    may be older than what is known otherwise."""
    if sweep.finished or sweep.known is None:
        return int(sweep.epochs.max()) if sweep.finished else 0
    records = loaded(sweep, 0)
    level = max((record.epochs for record in records.values()), default=0)
    there = np.isin(np.arange(len(sweep.alive)), list(records))  # all that were alive then
    sweep.alive[:] = there if level else True
    sweep.epochs[:] = np.minimum(sweep.epochs, level)
    return level


def loaded(sweep: Any, g: int) -> dict[int, TrialCheckpoint]:
    """What the folder held of a group, if it can be states of this trial function."""
    try:
        records = unpack_records(sweep.loaded, g)
    except ValueError as error:
        raise refused(sweep, f"states that cannot be: {error}") from None
    found, leaves = {}, sweep.programs[g].leaves
    numbers = [(a.dtype, ()) for a in sweep.numbers()]
    for row, record in records.items():
        if not (0 <= row < len(sweep.epochs) and 0 <= record.epochs <= sweep.request.epochs):
            raise refused(sweep, f"one of row {row} after {record.epochs} epochs")
        if [(a.dtype, a.shape) for a in record.numbers] != numbers:
            raise refused(sweep, f"hyperparameters of row {row} of other shapes or dtypes")
        state = [(a.dtype, a.shape) for a in record.state]
        if state != [(stored_dtype(like.dtype), like.shape) for like in leaves]:
            shapes = [a.shape for a in record.state]
            raise ValueError(
                f"{sweep.store.folder} holds states of shapes {shapes}, but those of this trial "
                f"function are {[like.shape for like in leaves]}; it has changed since: name "
                "another folder."
            )
        pairs = zip(record.state, leaves, strict=True)
        found[row] = record._replace(state=[a.view(like.dtype) for a, like in pairs])
    return found


def refused(sweep: Any, what: str) -> ValueError:
    path = sweep.store.folder / STATES
    return ValueError(
        f"{path} is damaged: it holds {what}; remove it, and what it held is computed again."
    )
