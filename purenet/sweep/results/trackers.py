"""Results for experiment trackers: TensorBoard, MLflow."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.extras import extra
from purenet.core.files import as_path
from purenet.core.json_text import plain
from purenet.core.validate import require
from purenet.sweep.results.ranking import all_diverged
from purenet.sweep.results.trials import STATUSES, TrialTable, is_absent, value_name

_PARAMS, _METRICS = 100, 1000  # what MLflow takes in one request


def to_tensorboard(trials: TrialTable, folder: str | os.PathLike, best: int) -> None:
    """Event files of the best points, a folder for each run, with every metric after every epoch
    and the hyperparameters beside the score. Raises what `Result.to_tensorboard` raises."""
    caller, need = "Result.to_tensorboard", "event files for TensorBoard need tensorboardX"
    board = extra("tensorboardX", need, "tensorboard")
    path = as_path(caller, folder)
    free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(free, f"{caller}: {path} is not empty; name a new folder.", FileExistsError)
    for row, name in _best_runs(trials, best).items():
        _write(board, trials, row, path / name)


def to_mlflow(
    trials: TrialTable,
    settings: Mapping[str, Any],
    seconds: float,
    experiment: str,
    best: int,
    tracking_uri: str | None,
) -> str:
    """A run of MLflow for the sweep and, nested in it, one for each run of the best points; returns
    the id of the first. Raises what `Result.to_mlflow` raises."""
    mlflow = extra("mlflow", "Result.to_mlflow needs MLflow", "mlflow")
    rows = _best_runs(trials, best)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    known = client.get_experiment_by_name(experiment)
    place = client.create_experiment(experiment) if known is None else known.experiment_id
    now = int(time.time() * 1000)
    begun = now - int(seconds * 1000)
    parent = client.create_run(place, begun, run_name=f"sweep of {len(trials)} trials").info.run_id
    status = "FAILED"
    try:
        score = float(trials.trial(next(iter(rows))).score)
        counts = {f"trials/{name}": float((trials.status == name).sum()) for name in STATUSES}
        params = [mlflow.entities.Param(name, str(value)) for name, value in settings.items()]
        first = {f"score/{trials.metric}": score, "seconds": seconds, **counts}
        metrics = [mlflow.entities.Metric(_key(n), v, now, 0) for n, v in first.items()]
        client.log_batch(parent, metrics, params)
        for row, name in rows.items():
            tags = {"mlflow.parentRunId": parent, "purenet.status": str(trials.status[row])}
            run = client.create_run(place, begun, tags, name).info.run_id
            _log(mlflow, client, trials, row, run, now)
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status, now)
    return parent


def _best_runs(trials: TrialTable, best: int) -> dict[int, str]:
    """The runs of the best points, best first, and a name for each. Raises ValueError if every
    trial diverged."""
    ranked = trials.ranked()[:best]
    if not ranked:
        raise all_diverged(trials)
    digits = len(str(len(trials) - 1))
    rows = [point * trials.runs + run for point in ranked for run in range(trials.runs)]
    return {row: f"trial-{row:0{digits}}" for row in rows}


def _log(mlflow: Any, client: Any, trials: TrialTable, row: int, run: str, now: int) -> None:
    """Log the parameters and curves of one trial, and end its run."""
    entities, trial = mlflow.entities, trials.trial(row)
    params = [entities.Param(_key(n), str(value_name(plain(v)))) for n, v in trial.hyper.items()]
    metrics = [
        entities.Metric(_key(f"score/{trials.metric}"), float(trial.score), now, trial.epoch)
    ]
    for part, curves in trials.curves.items():
        for name, curve in curves.items():
            for epoch in np.flatnonzero(np.isfinite(curve[row])):
                value, step = float(curve[row, epoch]), int(epoch) + 1
                metrics.append(entities.Metric(_key(f"{name}/{part}"), value, now, step))
    for i in range(0, len(params), _PARAMS):
        client.log_batch(run, params=params[i : i + _PARAMS])
    for i in range(0, len(metrics), _METRICS):
        client.log_batch(run, metrics[i : i + _METRICS])
    client.set_terminated(run, "KILLED" if trial.status == "stopped" else "FINISHED", now)


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. /]", "_", name)


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
