"""Results for other programs: rows, CSV, JSON lines, pandas, Optuna."""

import csv
import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from purenet.core.files import writable, write_bytes
from purenet.core.json_text import json_bytes, plain
from purenet.core.validate import require
from purenet.sweep.results.trials import TrialTable, is_absent, value_name
from purenet.sweep.samplers.optuna import optuna_distribution, optuna_module
from purenet.sweep.space.distributions import Choice, is_traced
from purenet.sweep.space.padded import Padded
from purenet.sweep.space.space import Alternatives

if TYPE_CHECKING:
    import optuna
    import pandas

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets read text that starts so as a formula


def rows(trials: TrialTable) -> list[dict[str, Any]]:
    """One dict per trial: number, status, epochs, hyperparameters, the metrics that count."""
    columns: dict[str, Any] = {"trial": range(len(trials))}
    if trials.seeds > 1:
        columns["seed"] = (np.arange(len(trials)) // trials.folds % trials.seeds).tolist()
    if trials.folds > 1:
        columns["fold"] = (np.arange(len(trials)) % trials.folds).tolist()
    columns |= {"status": trials.status.tolist(), "epochs": trials.epochs.tolist()}
    if trials.objective.best:
        columns["epoch"] = trials.epoch.tolist()
    columns |= {name: list(column) for name, column in trials.hyper.items()}
    for part, metrics in trials.curves.items():
        for name, curve in metrics.items():
            columns[f"{part} {name}"] = list(trials.at_epoch(curve))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def to_csv(trials: TrialTable, path: str | os.PathLike) -> None:
    """One row per trial. Raises what `purenet.core.files.writable` and `write_bytes` raise."""
    path, found, text = writable("Result.to_csv", path), rows(trials), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, found[0]))
    for row in found:
        absent = {name for name in trials.hyper if is_absent(row[name])}
        writer.writerow("" if name in absent else _cell(value) for name, value in row.items())
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def to_jsonl(trials: TrialTable, path: str | os.PathLike) -> None:
    """One JSON object per line and trial. Raises what `to_csv` raises."""
    path = writable("Result.to_jsonl", path)
    write_bytes(path, b"".join(map(json_bytes, rows(trials))))


def to_pandas(trials: TrialTable) -> "pandas.DataFrame":
    """One row per trial. Raises ModuleNotFoundError without pandas."""
    try:
        import pandas
    except ModuleNotFoundError:
        raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas") from None
    return pandas.DataFrame(rows(trials)).set_index("trial")


def to_optuna(trials: TrialTable, storage: Any = None, name: str = "purenet") -> "optuna.Study":
    """An Optuna study, in memory or in a storage. Raises ModuleNotFoundError without Optuna,
    FileExistsError for a file that exists."""
    optuna = optuna_module()
    is_file = isinstance(storage, os.PathLike) or (
        isinstance(storage, str) and "://" not in storage
    )
    if is_file:
        path = writable("Result.to_optuna", storage)
        text = f"Result.to_optuna: {path} exists; name a new file for the study."
        require(not path.exists(), text, FileExistsError)
        journal = optuna.storages.journal
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
    states = optuna.trial.TrialState
    state_of = {"done": states.COMPLETE, "plateaued": states.COMPLETE}
    state_of |= {"stopped": states.PRUNED, "diverged": states.FAIL}
    leaves = _drawn_leaves(trials)
    distributions = {
        key: _optuna_distribution(optuna, leaf, column) for key, (leaf, column) in leaves.items()
    }
    direction = "maximize" if trials.maximize else "minimize"
    study = optuna.create_study(storage=storage, study_name=name, direction=direction)
    for i in range(len(trials)):
        trial = trials.trial(i)
        known = trials.score_curves[i, : trial.epochs]
        keys = {name: _key(trials.space[name], name, trial.hyper) for name in trial.hyper}
        fixed = {n: str(value_name(v)) for n, v in trial.hyper.items() if keys[n] not in leaves}
        params = {
            key: _optuna_value(leaves[key][0], trial.hyper[name])
            for name, key in keys.items()
            if key in leaves
        }
        others = {f"{p} {n}": float(v) for p, m in trial.metrics.items() for n, v in m.items()}
        study.add_trial(
            optuna.trial.create_trial(
                state=state_of[trial.status],
                value=None if trial.status == "diverged" else float(trial.score),
                params=params,
                distributions={key: distributions[key] for key in params},
                intermediate_values={e: float(v) for e, v in enumerate(known, 1) if v == v},
                user_attrs=fixed | others,
            )
        )
    return study


# pieces
def _key(leaf: Any, name: str, hyper: Mapping[str, Any]) -> str:
    """The name of a hyperparameter, different for each of the branches that share it."""
    return leaf.taken(hyper) if isinstance(leaf, Alternatives) else name


def _drawn_leaves(trials: TrialTable) -> dict[str, tuple[Any, list]]:
    """By key, each distribution that a trial drew from, and the values drawn."""
    found: dict[str, tuple[Any, list]] = {}
    for hyper in (trials.trial(i).hyper for i in range(len(trials))):
        for name, value in hyper.items():
            leaf = trials.space[name]
            key = _key(leaf, name, hyper)
            leaf = leaf.leaves[key] if isinstance(leaf, Alternatives) else leaf
            if hasattr(leaf, "ppf"):
                found.setdefault(key, (leaf, []))[1].append(_optuna_value(leaf, value))
    return found


def _optuna_value(leaf: Any, value: Any) -> Any:
    return str(plain(value)) if isinstance(leaf, Choice) and not is_traced(leaf) else plain(value)


def _optuna_distribution(optuna: Any, leaf: Any, values: list) -> Any:
    """A hyperparameter's distribution in Optuna, which includes these values."""
    if isinstance(leaf, Padded):
        leaf = leaf.distribution
    if isinstance(leaf, Choice):
        return optuna.distributions.CategoricalDistribution(sorted(set(values)))
    ends = min(values), max(values)
    return _widened(optuna_distribution(leaf, ends), *ends)


def _widened(distribution: Any, low: float, high: float) -> Any:
    """The distribution, widened if a value was rounded or explored beyond its ends."""
    low, high = min(low, distribution.low), max(high, distribution.high)
    if (low, high) == (distribution.low, distribution.high):
        return distribution
    return type(distribution)(low=low, high=high, log=distribution.log)


def _cell(value):
    """A value for a CSV file: numbers unchanged, and text that could be a formula escaped."""
    value = value_name(value)
    if isinstance(value, (bool, int, float, np.generic, type(None))):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
