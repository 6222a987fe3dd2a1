"""The best trials as text: a headline, a table, and the error if there are none."""

from typing import Any

import numpy as np

from purenet.core.text_table import text_table
from purenet.sweep.results.trials import SHORT_NAMES, STATUSES, Trial, TrialTable, value_text

_NAMED = 10  # diverged trials named below a table


def headline(trials: TrialTable, seconds: float) -> str:
    """One line: the number of trials by status, and the time they took."""
    counts = [f"{n} {s}" for s in STATUSES if (n := int((trials.status == s).sum()))]
    return (
        f"Result: {len(trials)} trials ({', '.join(counts)}), {trials.epochs.sum()} trial-epochs "
        f"in {seconds:.1f} s, best first by validation {trials.metric}"
    )


def best_points(trials: TrialTable, n: int) -> list[Trial]:
    """The best `n` points. Raises ValueError if every trial diverged."""
    ranked = trials.ranked()
    if not ranked:
        raise all_diverged(trials)
    return [trials.point(i) for i in ranked[:n]]


def all_diverged(trials: TrialTable) -> ValueError:
    """The error for a sweep without any trial to rank."""
    if (trials.status == "stopped").any():
        return ValueError(
            "no trial has been trained yet; call run with more seconds=, or resume the sweep from "
            "its folder."
        )
    return ValueError(
        f"every trial diverged:\n{table(trials, 1)}\nlower the learning rates of the space."
    )


def table(trials: TrialTable, n: int) -> str:
    """The best `n` points as aligned text, with the notes below."""
    rows, notes = cells(trials, n)
    return "\n".join([*text_table(rows), *notes])


def cells(trials: TrialTable, n: int) -> tuple[list[list[str]], list[str]]:
    """The cells of the table of the best `n` points, its header first, and the notes below it."""
    parts = [(p, m) for m in trials.curves["validation"] for p in ("validation", "train")]
    parts.sort(key=lambda pair: pair[1] != trials.metric)
    named = [f"{SHORT_NAMES.get(p, p)} {SHORT_NAMES.get(m, m)}" for p, m in parts]
    header = ["rank", "trial", *named]
    if trials.runs > 1:
        header.insert(3, "±")
    early = np.isin(trials.status, ("plateaued", "stopped")).any()
    if early:
        header.append("epochs")
    rows = [[*map(value_text, (*header, *trials.hyper))]]
    for rank, point in enumerate(map(trials.point, trials.ranked()[:n]), 1):
        values: list[Any] = [point.metrics[p].get(m, np.nan) for p, m in parts]
        if trials.runs > 1:
            values.insert(1, point.interval)
        if early:
            values.append(point.epochs)
        values += [point.hyper.get(name, "") for name in trials.hyper]
        rows.append([str(rank), str(point.number), *map(value_text, values)])
    return rows, _notes(trials)


def _notes(trials: TrialTable) -> list[str]:
    notes = []
    if plateaued := int((trials.status == "plateaued").sum()):
        notes.append(f"{plateaued} of {len(trials)} stopped improving and ended early")
    if stopped := int((trials.status == "stopped").sum()):
        notes.append(f"{stopped} of {len(trials)} stopped early")
    diverged = np.flatnonzero(trials.status == "diverged")
    if len(diverged):
        some = [f"{i} (after epoch {trials.epochs[i]})" for i in diverged[:_NAMED]]
        some += ["..."] if len(diverged) > _NAMED else []
        notes.append(f"{len(diverged)} of {len(trials)} diverged: {', '.join(some)}")
    return notes
