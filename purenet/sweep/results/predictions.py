"""The predictions of a result: out of fold, and as ensembles."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.ensemble import Ensemble, ensemble
from purenet.core.types import PyTree
from purenet.core.validate import require
from purenet.sweep.engine.folds import Folds, rows_of
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.results.greedy import greedy
from purenet.sweep.results.networks import Networks


def out_of_fold(networks: Networks, number: int) -> np.ndarray:
    """The predictions of a point, one of whose runs is `number`, for every example."""
    caller = "Result.out_of_fold"
    data = networks.trainer_for(caller).data
    folds = _folds(data)
    require(folds is not None, f"{caller}: the sweep has no folds; pass run folds=.")
    assert folds is not None
    runs = networks.members(caller, networks.runs(number // networks.outcomes.runs))
    n = (
        data.train.examples
        if isinstance(data, StreamedParts)
        else len(jax.tree.leaves(data.data)[0])
    )
    held_out = rows_of(folds.validation)
    assert n is not None
    total, seen = None, np.zeros(n, int)
    for i, run in enumerate(runs):
        rows = held_out[i % folds.number]
        y = _predicted(ensemble([run], [1.0], None), data, rows)
        total = np.zeros((n, *y.shape[1:]), y.dtype) if total is None else total
        np.add.at(total, rows, y)
        np.add.at(seen, rows, 1)
    assert total is not None
    seen = seen.reshape(-1, *[1] * (total.ndim - 1))
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan).astype(total.dtype)


def best_ensemble(networks: Networks, size: int) -> Ensemble:
    """The plain mean of the best points."""
    ranked = networks.outcomes.ranked()
    require(
        size <= len(ranked),
        f"Result.ensemble: {size} points are requested, but {len(ranked)} did not diverge.",
    )
    return _ensemble(networks, ranked[:size], [1.0] * size)


def greedy_ensemble(networks: Networks, size: int) -> Ensemble:
    """Members chosen greedily among the points whose weights were kept."""
    caller = "Result.ensemble"
    kept = [
        point for point in networks.outcomes.ranked() if {*networks.runs(point)} <= {*networks.kept}
    ]
    require(len(kept) > 0, f"{caller}: no weights were kept to choose from; pass run keep=.")
    score = _score(networks, kept[0])
    sign = 1 if networks.outcomes.maximize else -1
    data = networks.trainer_for(caller).data
    if _folds(data) is not None:
        predicted = np.stack(
            [out_of_fold(networks, point * networks.outcomes.runs) for point in kept]
        )
        seen = np.isfinite(predicted.reshape(*predicted.shape[:2], -1)).all(axis=(0, 2))
        rows = np.flatnonzero(seen)
        predicted, targets = predicted[:, rows], _targets(data, rows)
    else:
        single = lambda point: _ensemble(networks, [point], [1.0])
        predicted = np.stack([_predicted(single(point), data) for point in kept])
        targets = _targets(data)
    ranked_by = lambda y, t: sign * score(y, t)[networks.outcomes.metric]
    counts = greedy(jnp.asarray(predicted), jnp.asarray(targets), ranked_by, size)
    chosen = np.flatnonzero(counts)
    return _ensemble(networks, [kept[i] for i in chosen], counts[chosen].tolist())


def _ensemble(networks: Networks, points: Sequence[int], weights: Sequence[float]) -> Ensemble:
    rows = [row for point in points for row in networks.runs(point)]
    shares = np.repeat(weights, networks.outcomes.runs).tolist()
    found = networks.members("Result.ensemble", rows)
    return ensemble(found, shares, networks.trainer_for("Result.ensemble").trainable(rows[0]).score)


def _score(networks: Networks, point: int) -> Callable[[Any, Any], dict]:
    score = networks.trainer_for("Result.ensemble").trainable(point * networks.outcomes.runs).score
    require(
        score is not None,
        "Result.ensemble: the trial function's Trainable has no `score(predictions, targets)` to "
        "choose members by; add one, or use the best points: ensemble(10).",
    )
    assert score is not None
    return score


# the data to score predictions on: all examples with folds, else the validation data
def _folds(data: Any) -> Folds | None:
    if isinstance(data, StreamedParts):
        return data.folds
    return data if isinstance(data, Folds) else None


def _pieces(data: Any, rows: np.ndarray | None) -> Iterator[PyTree]:
    """These examples, or all of them: at once, or a part after the other if they are streamed."""
    if isinstance(data, StreamedParts):
        return data.pieces(rows)
    whole = data.data if isinstance(data, Folds) else data[1]
    return iter([whole if rows is None else jax.tree.map(lambda a: a[rows], whole)])


def _predicted(network: Ensemble, data: Any, rows: np.ndarray | None = None) -> np.ndarray:
    pieces = _pieces(data, rows)
    return np.concatenate([np.asarray(network.predict(_inputs(piece))) for piece in pieces])


def _inputs(data: PyTree) -> PyTree:
    """The inputs of a network: x of (x, t), or all of any other data."""
    return data[0] if isinstance(data, (tuple, list)) and len(data) == 2 else data


def _targets(data: Any, rows: np.ndarray | None = None) -> np.ndarray:
    return np.concatenate([np.asarray(piece[1]) for piece in _pieces(data, rows)])
