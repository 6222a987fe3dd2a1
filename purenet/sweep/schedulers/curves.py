"""A Gaussian process over points and epochs: where each learning curve will end.

A curve is the value it tends to, plus what is left of its start, which decays:

    y(x, t) = c + h g(t) + f(x) + r(x, t) + noise,     g(t) = β / (t + β)
    cov f = Matérn 5/2 over the points,     cov r = a β / (t + t' + β), apart for each point

Given f, curves are independent, so the matrices to factor are one over epochs and one over points,
never one over both. All arithmetic is in float64 on the host: the matrices are small.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

_LEVELS = 64  # epochs at most that the process looks at
_MOST = 256  # points at most that settings are chosen by
_CENTRE = {"length": 0.0, "decay": 2.0, "left": 0.0, "noise": -6.0}  # log₂, where the search starts
_SPREAD = {"length": 2.0, "decay": 2.0, "left": 2.0, "noise": 3.0}  # log₂, of their prior
_REACH = 8.0  # below the mode of the log prior, so that all matrices stay well conditioned
_SMALL = 1e-9


class Settings(NamedTuple):
    """The settings of the process as powers of two.

    >>> initial_settings(2).lengths
    (0.0, 0.0)
    """

    lengths: tuple[float, ...]  # scales of the hyperparameters, in unit cubes
    decay: float  # β, in epochs of 27
    left: float  # a, relative to the variance of f
    noise: float  # variance, relative to that of f

    def neighbours(self) -> "list[Settings]":
        """These settings with one of them doubled or halved, no further than the prior reaches."""
        found = []
        for step in (1.0, -1.0):
            for i in range(len(self.lengths)):
                lengths = list(self.lengths)
                lengths[i] += step
                found.append(self._replace(lengths=tuple(lengths)))
            for name in ("decay", "left", "noise"):
                found.append(self._replace(**{name: getattr(self, name) + step}))
        return [one for one in found if one.log_prior() > -_REACH]

    def log_prior(self) -> float:
        """The logarithm of their prior density, up to a constant."""
        pairs = [("length", value) for value in self.lengths]
        pairs += [(name, getattr(self, name)) for name in ("decay", "left", "noise")]
        return -0.5 * sum(((value - _CENTRE[n]) / _SPREAD[n]) ** 2 for n, value in pairs)


def initial_settings(hyperparameters: int) -> Settings:
    """The settings before any curve is known.

    >>> initial_settings(1).noise
    -6.0
    """
    lengths = (_CENTRE["length"],) * hyperparameters
    return Settings(lengths, _CENTRE["decay"], _CENTRE["left"], _CENTRE["noise"])


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves of some points, as far as they are known.

    >>> Curves(np.zeros((1, 1)), np.array([0]), np.array([[0.5, 0.5]]), np.array([2])).epochs
    2
    """

    places: np.ndarray  # (points, columns)
    owners: np.ndarray  # (columns,) the hyperparameter that each column belongs to
    values: np.ndarray  # (points, epochs), anything beyond the known ones
    known: np.ndarray  # (points,) the number of epochs known

    @property
    def epochs(self) -> int:
        return self.values.shape[1]

    def of(self, rows: np.ndarray) -> "Curves":
        """Those of some of the points."""
        return dataclasses.replace(
            self, places=self.places[rows], values=self.values[rows], known=self.known[rows]
        )

    def thinned(self) -> "Curves":
        """With 64 evenly spaced epochs at most, the last one among them."""
        if self.epochs <= _LEVELS:
            return self
        levels = np.unique(np.linspace(0, self.epochs - 1, _LEVELS).round().astype(int))
        known = np.searchsorted(levels, self.known - 1, side="right")
        return dataclasses.replace(self, values=self.values[:, levels], known=known)


def matern(
    one: np.ndarray, other: np.ndarray, owners: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """The Matérn kernel: (1 + √5 d + 5d²/3) exp(-√5 d), d the distance in `lengths`.

    >>> matern(np.zeros((1, 1)), np.zeros((2, 1)), np.array([0]), np.ones(1)).tolist()
    [[1.0, 1.0]]
    """
    scale = np.asarray(lengths, float)[owners]
    one, other = one / scale, other / scale
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    d = np.sqrt(5 * np.maximum(squared, 0))
    return (1 + d + d**2 / 3) * np.exp(-d)


class _EachCurve(NamedTuple):
    """What each curve says by itself. Products are under the inverse covariance of its epochs."""

    precision: np.ndarray  # (points,) 1·1: how well it tells its f
    sums: np.ndarray  # (points, 3) 1·(1, g, y)
    products: np.ndarray  # (points, 3, 3) of (1, g, y)
    last: np.ndarray  # (points, 3) of the covariance with the last epoch, and (1, g, y)
    left: np.ndarray  # (points,) variance of r at the last epoch, given f
    log_det: np.ndarray  # (points,)
    decayed: float  # g at the last epoch


def _by_epochs(curves: Curves, settings: Settings) -> _EachCurve:
    t = np.arange(1, curves.epochs + 1) * 27.0 / curves.epochs
    beta, a, noise = (2.0**value for value in settings[1:])
    cov = a * beta / (t[:, None] + t + beta)
    factor = np.linalg.cholesky(cov + noise * np.eye(len(t)))
    g = beta / (t + beta)
    inside = np.arange(len(t)) < curves.known[:, None]
    y = np.where(inside, curves.values, 0.0)
    # the factor of the first epochs is a corner of the factor: products are cumulative sums
    solved = np.linalg.solve(factor, np.column_stack([np.ones_like(t), g, cov[:, -1], y.T]))
    ones, shape, last = (solved[:, i] * inside for i in range(3))  # (points, epochs)
    parts = np.stack([ones, shape, solved[:, 3:].T * inside], axis=1)
    products = parts @ parts.swapaxes(1, 2)
    return _EachCurve(
        precision=products[:, 0, 0],
        sums=products[:, 0],
        products=products,
        last=(parts @ last[..., None])[..., 0],
        left=cov[-1, -1] - (last**2).sum(axis=1),
        log_det=2 * (np.log(np.diag(factor)) * inside).sum(axis=1),
        decayed=float(g[-1]),
    )


class _Fit(NamedTuple):
    """The process given the curves of some points."""

    quality: float  # log posterior density of the settings
    trend: np.ndarray  # (2,) c and h
    scale: float  # variance of f
    weights: np.ndarray  # (points,) that turn covariances with f into its mean
    root: np.ndarray  # (points, points) whose products with itself reduce the variance of f
    each: _EachCurve


def _fit(curves: Curves, settings: Settings) -> _Fit:
    by = _by_epochs(curves, settings)
    count, total = len(curves.known), int(curves.known.sum())
    lengths = 2.0 ** np.array(settings.lengths)
    cov = matern(curves.places, curves.places, curves.owners, lengths)
    weight = np.sqrt(by.precision)
    factor = np.linalg.cholesky(np.eye(count) * (1 + _SMALL) + weight[:, None] * cov * weight)
    root = np.linalg.solve(factor, np.diag(weight))  # covᵀ (rootᵀ root) cov leaves the variance
    # u C⁻¹ v = u D⁻¹ v - (O D⁻¹ u) M (O D⁻¹ v), with M = K - K rootᵀ root K
    sums = by.sums
    spread = root @ (cov @ sums)
    inner = by.products.sum(axis=0) - sums.T @ cov @ sums + spread.T @ spread  # of (1, g, y)
    normal = inner[:2, :2] + np.diag([1e-6, 1e-2])  # a weak prior: one point tells no shape
    trend = np.linalg.solve(normal, inner[:2, 2])
    residual = np.append(-trend, 1.0)
    rest = float(residual @ inner @ residual)
    scale = (rest + 1.0) / (total + 1.0)  # as if one more number had been seen, of variance 1
    log_det = by.log_det.sum() + 2 * np.log(np.diag(factor)).sum()
    quality = -0.5 * ((total + 1) * np.log(scale) + log_det) + settings.log_prior()
    told = sums @ residual  # O D⁻¹ (y - trend)
    weights = told - root.T @ (root @ (cov @ told))
    return _Fit(float(quality), trend, scale, weights, root, by)


def chosen_settings(curves: Curves, settings: Settings, steps: int) -> Settings:
    """The settings after some steps to the best neighbour, by their posterior density.

    Of more than 256 points, those known for longest count.

    >>> flat = Curves(np.eye(2), np.array([0, 1]), np.zeros((2, 3)), np.array([3, 3]))
    >>> chosen_settings(flat, initial_settings(2), 1).noise < initial_settings(2).noise
    True
    """
    curves = curves.thinned()
    if len(curves.known) > _MOST:
        curves = curves.of(np.argsort(-curves.known, kind="stable")[:_MOST])
    best = round(_fit(curves, settings).quality, 6)
    for _ in range(steps):
        tried = settings.neighbours()
        qualities = [round(_fit(curves, one).quality, 6) for one in tried]
        if max(qualities) <= best:
            break
        best, settings = max(qualities), tried[qualities.index(max(qualities))]
    return settings


class Forecast(NamedTuple):
    """The scores after the last epoch: of points with a curve, then of others.

    >>> Forecast(np.zeros(2), np.ones(2), np.eye(2)).mean.shape
    (2,)
    """

    mean: np.ndarray  # (points,)
    variance: np.ndarray  # (points,) of the score
    shared: np.ndarray  # (points, points) covariance of what the scores share through f


def forecast(curves: Curves, others: np.ndarray, settings: Settings) -> Forecast:
    """Where the curves end, and where those of `others`, points without one, would.

    >>> known = Curves(np.zeros((1, 1)), np.array([0]), np.ones((1, 4)), np.array([4]))
    >>> ends = forecast(known, np.array([[0.0], [9.0]]), initial_settings(1))
    >>> bool(ends.variance[0] < ends.variance[1] < ends.variance[2])
    True
    """
    curves = curves.thinned()
    fit = _fit(curves, settings)
    count, by = len(curves.known), fit.each
    lengths = 2.0 ** np.array(settings.lengths)
    every = np.concatenate([curves.places, others])
    beside = matern(curves.places, every, curves.owners, lengths)  # (curves, all)
    reduced = fit.root @ beside
    cov = matern(every, every, curves.owners, lengths) - reduced.T @ reduced
    f = fit.weights @ beside
    trend, decayed = fit.trend, by.decayed
    mean = trend[0] + trend[1] * decayed + f
    # of a curve that is known, what it says about its own r at the last epoch
    own = np.ones(len(every))
    own[:count] -= by.last[:, 0]
    residual = by.last @ np.append(-trend, 1.0)
    mean[:count] += residual - by.last[:, 0] * f[:count]
    beta, a, _ = (2.0**value for value in settings[1:])
    left = np.full(len(every), a * beta / (2 * 27.0 + beta))
    left[:count] = np.maximum(by.left, 0)
    shared = cov * own[:, None] * own
    variance = np.maximum(np.diag(shared), 0) + left
    return Forecast(mean, fit.scale * variance, fit.scale * shared)
