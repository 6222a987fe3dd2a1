"""How much the score of a sweep depends on each hyperparameter."""

from typing import Any, NamedTuple

import numpy as np

from purenet.core.extras import extra
from purenet.core.validate import require
from purenet.sweep.results.trials import TrialTable, is_absent, value_text

_LEAST = 12  # points that a forest needs
_FOLDS, _TREES, _SHUFFLES = 4, 100, 5


class Importances(NamedTuple):
    """Permutation importances of the hyperparameters that vary, largest first.

    >>> Importances({"rate": 1.2, "decay": 0.1}, 0.8).shares["rate"] > 0.9
    True
    """

    losses: dict[str, float]  # of R² on points that the forest has not seen, by shuffling a column
    explained: float  # the R² of the forest on such points

    @property
    def shares(self) -> dict[str, float]:
        """The losses as parts of their sum."""
        total = sum(self.losses.values())
        return {name: loss / total if total else 0.0 for name, loss in self.losses.items()}


def importances(trials: TrialTable, columns: dict[str, np.ndarray]) -> Importances:
    """The importances of these columns, a value per point each.

    A random forest predicts the rank of a point from its hyperparameters; what it loses when a
    column is shuffled, on points that it was not fitted to, is the importance of the column. Ranks
    do not depend on the scale of the score, and points that diverged share the last one. Points
    that stopped early are ranked with the others by their last score.
    Raises ValueError for fewer than 12 trained points, ModuleNotFoundError without scikit-learn.
    Source: Breiman (2001), Random forests.
    """
    forests = extra("sklearn.ensemble", "importances need scikit-learn", "report")
    inspection = extra("sklearn.inspection", "importances need scikit-learn", "report")
    epochs = trials.by_point(trials.epochs).min(axis=1)
    gone = (trials.by_point(trials.status) == "diverged").any(axis=1)
    known = (epochs > 0) | gone
    count = int(known.sum())
    require(
        count >= _LEAST,
        f"importances need {_LEAST} points or more; {count} of this sweep are trained.",
    )
    x = np.stack([_as_numbers(column[known]) for column in columns.values()], axis=1)
    ranks = _ranks(trials)[known]
    losses, explained = np.zeros(len(columns)), 0.0
    fold = np.random.default_rng(0).permutation(count) % _FOLDS
    for i in range(_FOLDS):
        seen, unseen = fold != i, fold == i
        forest = forests.RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=i)
        forest.fit(x[seen], ranks[seen])
        explained += forest.score(x[unseen], ranks[unseen]) / _FOLDS
        found = inspection.permutation_importance(
            forest, x[unseen], ranks[unseen], n_repeats=_SHUFFLES, random_state=i
        )
        losses += np.maximum(found.importances_mean, 0) / _FOLDS
    order = np.argsort(-losses, kind="stable")
    names = [*columns]
    return Importances({names[i]: float(losses[i]) for i in order}, float(explained))


# pieces
def _ranks(trials: TrialTable) -> np.ndarray:
    """The rank of each point's score, 1 for the best and 0 for the worst."""
    from scipy.stats import rankdata

    scores = trials.objective.sign * trials.point_scores()
    ranks = rankdata(np.where(np.isfinite(scores), scores, -np.inf))
    return (ranks - 1) / max(1, len(ranks) - 1)


def _as_numbers(column: np.ndarray) -> np.ndarray:
    """Numbers as they are, other values by their place among the sorted ones, NaN where absent."""
    absent = np.array([is_absent(value) for value in column], bool)
    try:
        found = np.array([float(value) for value in column])
    except (TypeError, ValueError):
        texts = np.array([value_text(value) for value in column])
        found = np.unique(texts, return_inverse=True)[1].astype(float)
    return np.where(absent, np.nan, found)


def described(found: Importances) -> dict[str, Any]:
    """The importances and what they mean, for a page or a picture."""
    trust = "" if found.explained > 0.3 else " That is little: read the bars with care."
    note = (
        "R² that a random forest loses on points it has not seen when the values of one "
        "hyperparameter are shuffled. It predicts the rank of the score, here with an R² of "
        f"{found.explained:.2f}.{trust}"
    )
    return {"names": [*found.losses], "values": [*found.losses.values()], "note": note}
