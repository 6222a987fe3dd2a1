"""From scores to standings: where each trial stands after every epoch, and which are best."""

import numpy as np


def standings(scores: np.ndarray, epochs: np.ndarray, ended: np.ndarray, best: bool) -> np.ndarray:
    """How each run stands after every epoch, larger is better: (runs, epochs), NaN beyond its end.

    `scores` (runs, epochs) are NaN where they were not evaluated: there the latest one counts. With
    `best`, the largest so far counts. A run that `ended` early, out of patience, keeps its last
    standing for all later epochs.

    >>> nan = np.nan
    >>> scores = np.array([[1, 3, 2, nan], [nan, 5, nan, nan]])
    >>> standings(scores, np.array([3, 3]), np.array([True, False]), best=True).tolist()
    [[1.0, 3.0, 3.0, 3.0], [nan, 5.0, 5.0, nan]]
    """
    at = np.arange(scores.shape[1])
    within = at < epochs[:, None]
    known = within & ~np.isnan(scores)
    latest = np.maximum.accumulate(np.where(known, at, -1), axis=1)
    standing = np.take_along_axis(scores, np.maximum(latest, 0), axis=1)
    standing = np.where(latest >= 0, standing, np.nan)
    if best:
        standing = np.fmax.accumulate(standing, axis=1)
    return np.where(within | ended[:, None], standing, np.nan)


def chosen_epochs(scores: np.ndarray, epochs: np.ndarray, best: bool) -> np.ndarray:
    """The epoch of each run whose score counts, from 0: the last one evaluated, or the best, the
    first of equals; -1 if there is none.

    >>> scores = np.array([[1, 3, 2, np.nan], [np.nan] * 4])
    >>> chosen_epochs(scores, np.array([3, 0]), best=True).tolist()
    [1, -1]
    """
    at = np.arange(scores.shape[1])
    known = (at < epochs[:, None]) & ~np.isnan(scores)
    if best:
        return np.where(known.any(axis=1), np.where(known, scores, -np.inf).argmax(axis=1), -1)
    return np.where(known, at, -1).max(axis=1, initial=-1)


def statuses(alive: np.ndarray, ended: np.ndarray, epochs: np.ndarray, last: int) -> np.ndarray:
    """The status of each run: "done" after all its epochs, "plateaued" if its score did not improve
    within its patience, "stopped" before its last epoch by the scheduler or the user, "diverged"
    if a number was not finite.

    >>> yes, no = True, False
    >>> state = np.array([yes, yes, yes, no]), np.array([no, yes, no, no]), np.array([9, 4, 3, 2])
    >>> statuses(*state, last=9).tolist()
    ['done', 'plateaued', 'stopped', 'diverged']
    """
    unfinished = np.where(ended, "plateaued", "stopped")
    return np.where(alive, np.where(epochs == last, "done", unfinished), "diverged")


def best_of(scores: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows in `among` with the largest scores; ties go to the lower row.

    >>> best_of(np.array([1.0, 3.0, 3.0]), np.array([True, True, True]), 1).tolist()
    [1]
    """
    rows = np.flatnonzero(among)
    return rows[np.argsort(-scores[rows], kind="stable")[:count]]
