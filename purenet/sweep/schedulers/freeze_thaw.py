"""Freeze-thaw: a model of the learning curves decides which points go on, and which start next."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np

from purenet.core.validate import PositiveInteger, declared, is_number, satisfying
from purenet.sweep.samplers.base import Sampler, as_design, maker
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Rounds, Scheduler
from purenet.sweep.schedulers.curves import (
    Curves,
    Forecast,
    chosen_settings,
    forecast,
    initial_settings,
)
from purenet.sweep.schedulers.extending import never
from purenet.sweep.space.coordinates import Coordinates

_BASKET = 512  # points that have not started, among which the next ones are chosen
_DIGITS = 9  # of decisions: what differs by less is a tie, which goes to the lower number


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 < value <= 1


_SHARE = satisfying(_is_share, "a number above 0, at most 1", ValueError)
_Share = Annotated[float, _SHARE]


class _Pace(NamedTuple):
    """The arguments of `freeze_thaw` that set how a search proceeds."""

    share: float
    initial: int
    batch: int
    every: int

    def allowed(self, points: int, epochs: int) -> int:
        """The epochs that may be trained in total: those of one point at least."""
        return min(points * epochs, max(epochs, round(self.share * points * epochs)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreezeThaw(Scheduler):
    """The scheduler that `freeze_thaw` returns.

    >>> freeze_thaw(share=0.25).budget(20, 10)
    50
    """

    pace: _Pace

    def budget(self, points: int, epochs: int) -> int:
        """The largest total number of epochs that may be trained."""
        return self.pace.allowed(points, epochs)


@maker
@declared
def freeze_thaw(
    share: _Share = 0.2,
    initial: PositiveInteger = 10,
    batch: PositiveInteger = 8,
    every: PositiveInteger = 1,
    sampler: Sampler | Callable = random,
) -> FreezeThaw:
    """Freeze-thaw: a Gaussian process over points and epochs forecasts where every curve ends, and
    decides which points go on and which start next.

    The points of the sampler are candidates, and few of them start: `trials` may be large. The
    first `initial` points train for `every` epochs. In each round after that, the `batch` points,
    started or not, whose scores after the last epoch have the largest expected improvement on the
    best forecast train for `every` more; the others stay frozen. The search ends after a `share` of
    all trials · epochs, of which enough is kept back to train the best forecast to the end. A point
    that does not start is listed as "stopped", with no epochs.

    The model: y(x, t) = c + h g(t) + f(x) + r(x, t) + noise, with g(t) = β/(t + β), f with a
    Matérn 5/2 kernel over the hyperparameters, each with its own length, and r, independent for
    each point, with the kernel a β/(t + t' + β), which mixes exponential decays. Choices are
    one-hot. Scores are taken on a logarithmic scale of their distance from the best, and a point
    that diverged counts as the worst. The settings of the model follow the marginal likelihood,
    from round to round. A round costs O(n³) for n points that have started.

    Unlike in the paper, points are chosen by expected improvement, not by the entropy of the best
    point; several train at a time; and curves share the trend h g(t).
    The decisions depend on rounding, so several processes cannot take them together. Several
    objectives have no single score to forecast.
    Source: Swersky, Snoek & Adams (2014), arXiv 1406.3896.
    Raises TypeError if `sampler` is not a sampler whose points do not depend on scores; when a
    sweep starts, ValueError for several objectives and in several processes.

    >>> search = freeze_thaw(share=0.5, initial=2, batch=1)
    >>> rounds = search.rounds(4, 3)
    >>> next(rounds).tolist()
    [1, 1, 0, 0]
    >>> rounds.send(np.where(np.arange(3) < [[1], [1], [0], [0]], [[0.9], [0.1], [0], [0]], np.nan))
    array([2, 1, 0, 0])
    """
    sampler = as_design("freeze_thaw", sampler)
    pace = _Pace(share, initial, batch, every)
    name = f"freeze_thaw({share=}, {initial=}, {batch=}, {every=}, {sampler.name})"
    return FreezeThaw(
        sampler, functools.partial(_rounds, pace, None), name=name, pace=pace,
        located=lambda coordinates: functools.partial(_rounds, pace, coordinates),
        extends=never("its model compares all points, so others would have gone on"),
    )  # fmt: skip


def _rounds(pace: _Pace, coordinates: Coordinates | None, points: int, epochs: int) -> Rounds:
    if coordinates is None:  # each point is far from all others
        coordinates = Coordinates(9.0 * np.eye(points), np.zeros(points, int))
    allowed, every = pace.allowed(points, epochs), min(pace.every, epochs)
    goals = np.zeros(points, int)
    # a point that goes on to the end must fit in
    goals[: max(1, min(pace.initial, 1 + (allowed - epochs) // every))] = every
    settings = initial_settings(coordinates.hyperparameters)
    steps = 4  # of the settings, more in the first round
    while True:
        scores = yield goals.copy()
        started, fresh = np.flatnonzero(goals), np.flatnonzero(goals == 0)[:_BASKET]
        lost = ~np.isfinite(scores[started, goals[started] - 1])
        values = _forward(_scaled(scores[started], goals[started], lost))
        owners = coordinates.owners
        curves = Curves(coordinates.places[started], owners, values, goals[started])
        settings, steps = chosen_settings(curves, settings, steps), 1
        ends = forecast(curves, coordinates.places[fresh], settings)
        rows = np.append(started, fresh)
        racing = np.append(~lost, np.zeros(len(fresh), bool))
        order = np.flatnonzero(racing)
        order = order[np.argsort(-np.round(ends.mean[order], _DIGITS), kind="stable")]
        left = epochs - goals[rows]
        going = (left > 0) & (racing | (goals[rows] == 0))
        room, reserve = allowed - int(goals.sum()), int(left[order[:1]].sum())
        if room - reserve >= pace.batch * every and going.any():
            best = ends.mean[order[0]] if len(order) else -np.inf
            chosen = _most_promising(ends, best, going, pace.batch)
            goals[rows[chosen]] = np.minimum(epochs, goals[rows[chosen]] + every)
            continue
        finishing = order[(left[order] > 0) & (left[order] <= room)][:1]
        if not len(finishing):
            return
        goals[rows[finishing]] = epochs


def _scaled(scores: np.ndarray, known: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Scores on a logarithmic scale of their distance from the best, 0 at the median of the latest
    ones. Bad ones are clipped; a point that is `lost` is as bad as the worst.

    >>> _scaled(np.array([[3.0], [2.0], [1.0], [9.0]]), np.ones(4, int), np.arange(4) == 3)[1, 0]
    np.float64(-0.0)
    """
    within = (np.arange(scores.shape[1]) < known[:, None]) & ~lost[:, None]
    scores = np.where(within & np.isfinite(scores), np.clip(scores, -1e100, 1e100), np.nan)
    if lost.all():
        return np.zeros_like(scores)
    latest = scores[~lost, known[~lost] - 1]
    low, middle, high = np.quantile(latest, [0.25, 0.5, 0.75])
    best = np.nanmax(scores)
    least = 1e-12 * max(1.0, abs(best))
    distance = best - np.maximum(scores, low - 2 * max(high - low, least))
    typical = best - middle
    scaled = -np.log((distance + 0.1 * typical + least) / (1.1 * typical + least))
    scaled[lost] = np.nanmin(scaled)
    return scaled


def _forward(values: np.ndarray) -> np.ndarray:
    """Values in which the first one also stands for the epochs before it, NaN so far.

    >>> _forward(np.array([[np.nan, 2.0, 3.0, np.nan]])).tolist()
    [[2.0, 2.0, 3.0, nan]]
    """
    first = np.isfinite(values).argmax(axis=1)
    before = np.arange(values.shape[1]) < first[:, None]
    return np.where(before, values[np.arange(len(values)), first][:, None], values)


def _most_promising(ends: Forecast, best: float, going: np.ndarray, count: int) -> list[int]:
    """The points with the largest expected improvement on `best`, one after the other, each as if
    the scores of those before it were known to be as forecast."""
    from scipy.special import log_ndtr

    shared, chosen = ends.shared.copy(), list[int]()
    apart = np.maximum(ends.variance - np.diag(shared), 0)
    for _ in range(min(count, int(going.sum()))):
        deviation = np.sqrt(np.maximum(np.diag(shared) + apart, 1e-12))
        u = (ends.mean - best) / deviation if np.isfinite(best) else np.zeros(len(going))
        # log of σ (u Φ(u) + φ(u)), by Mills' ratio where it would vanish
        density = -0.5 * u**2 - 0.5 * np.log(2 * np.pi)
        ratio = u * np.exp(log_ndtr(u) - density)
        gain = np.where(u > -30, np.maximum(1 + ratio, 1e-300), 1 / np.maximum(u**2, 1.0))
        value = np.round(np.log(deviation) + density + np.log(gain), _DIGITS)
        value[~going] = -np.inf
        value[chosen] = -np.inf
        i = int(value.argmax())
        chosen.append(i)
        shared = shared - np.outer(shared[:, i], shared[i]) / (shared[i, i] + apart[i] + 1e-9)
    return chosen
