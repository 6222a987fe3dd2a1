"""Results for experiment trackers: TensorBoard."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.extras import extra
from purenet.core.files import as_path
from purenet.core.json_text import plain
from purenet.core.validate import require
from purenet.sweep.results.ranking import all_diverged
from purenet.sweep.results.trials import TrialTable, is_absent, value_name


def to_tensorboard(trials: TrialTable, folder: str | os.PathLike, best: int) -> None:
    """Event files of the best points, a folder for each run, with every metric after every epoch
    and the hyperparameters beside the score. Raises what `Result.to_tensorboard` raises."""
    caller, need = "Result.to_tensorboard", "event files for TensorBoard need tensorboardX"
    board = extra("tensorboardX", need, "tensorboard")
    path = as_path(caller, folder)
    free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(free, f"{caller}: {path} is not empty; name a new folder.", FileExistsError)
    ranked = trials.ranked()[:best]
    if not ranked:
        raise all_diverged(trials)
    digits = len(str(len(trials) - 1))
    for point in ranked:
        for row in range(point * trials.runs, (point + 1) * trials.runs):
            _write(board, trials, row, path / f"trial-{row:0{digits}}")


def _write(board: Any, trials: TrialTable, row: int, folder: Path) -> None:
    """The event file of one run."""
    with board.SummaryWriter(str(folder)) as writer:
        values = {name: column[row] for name, column in trials.hyper.items()}
        known = {name: _value(value) for name, value in values.items() if not is_absent(value)}
        score = {f"score/{trials.metric}": float(trials.trial(row).score)}
        for summary in board.summary.hparams(known, score):
            writer.file_writer.add_summary(summary)
        writer.add_scalar(*next(iter(score.items())))
        for part, metrics in trials.curves.items():
            for name, curve in metrics.items():
                for epoch in np.flatnonzero(np.isfinite(curve[row])):
                    writer.add_scalar(f"{name}/{part}", float(curve[row, epoch]), int(epoch) + 1)


def _value(value: Any) -> float | int | str | bool:
    """A hyperparameter as TensorBoard takes it."""
    found = plain(value)
    return found if isinstance(found, float | int | str | bool) else str(value_name(value))
