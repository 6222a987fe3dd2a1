"""Hyperparameters against scores: all at once, one by one, and in pairs.

A score that is not finite belongs to a trial that diverged. Light colours are bad ranks and dark
ones good, also in greyscale. Where a few scores are far worse than the others, the axis of the
scores ends before them, and they lie at its end.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from purenet.core.validate import mapping, real_numbers, require
from purenet.plots import style
from purenet.plots.scales import Scale, scale

_GONE = "#b5b5b5"  # trials that diverged
_DOT = style.COLOURS[0]
_STAR = {"marker": "*", "zorder": 4, "color": style.COLOURS[1], "markeredgecolor": "black"}
_LOW = {"marker": "o", "color": "none", "mec": "#999999", "ms": 4.5, "mew": 0.8, "ls": ""}
_BEYOND = 0.09  # how far from the other scores those that diverged are drawn
_MOST = 6  # columns whose pairs fit on a page


def parallel_coordinates(
    path: style.Target,
    columns: Mapping[str, Any],
    scores: Any,
    log: Collection[str] = (),
    score_label: str = "score",
    maximize: bool = True,
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """Each trial as a line through the vertical axes of its hyperparameters to its score.

    Shapes: `columns` is {name: values (n,)}, numbers or categories of any type; `scores` (n,), not
    finite for trials that diverged, which are thin and grey, behind the others. `log` names the
    columns with logarithmic axes, or the score by `score_label`. `maximize` says whether large
    scores are good: better ranks are darker and on top, and the best is thick. Returns the path, or
    the figure if it is None.
    Raises ValueError for no columns, a column of another length, no finite score, a logarithmic
    axis with a value that is not above 0, or a bad suffix or `dpi`; TypeError if an argument has
    the wrong type; OSError if the picture cannot be written.
    Source: Inselberg (1985), The plane with parallel coordinates.

    >>> import tempfile
    >>> columns = {"rate": [0.1, 0.01, 1.0], "activation": ["relu", "tanh", "relu"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/all.png"
    ...     parallel_coordinates(path, columns, [0.9, 0.8, np.nan], log=["rate"]).name
    'all.png'
    """
    target = style.target("parallel_coordinates", path, dpi)
    trials = _trials("parallel_coordinates", columns, scores, log, score_label, maximize)
    count = len(trials.axes)
    width = min(max(1.7 * (count + 1), 4.2), max(style.WIDTH, 0.62 * (count + 1)))
    page = style.figure(width, 3.6)
    ax = page.subplots()
    shades = style.shades()
    at = np.where(trials.alive, trials.at, -_BEYOND if maximize else 1 + _BEYOND)
    heights = np.stack([*(axis.at for axis in trials.axes), at], axis=1)
    _trial_lines(ax, trials, heights, shades)
    _score_bar_and_axes(ax, trials, at, shades, width)
    ax.set_ylim(min(-0.03, heights.min() - 0.02), max(1.03, heights.max() + 0.02))
    best = {"color": shades(np.ones(1))[0], "linewidth": 2.8}
    looks = {
        f"best: {trials.best_score:.4g}": best,
        **_cut(trials, {"color": shades(np.zeros(1))[0]}),
        **_diverged(trials, {"color": _GONE, "linewidth": 0.8}),
    }
    style.header(page, title, looks)
    return style.write("parallel_coordinates", page, target, dpi)


def slices(
    path: style.Target,
    columns: Mapping[str, Any],
    scores: Any,
    log: Collection[str] = (),
    score_label: str = "score",
    maximize: bool = True,
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """A small panel per hyperparameter: its values against the scores of all trials.

    Shapes: `columns` is {name: values (n,)}, numbers or categories of any type; `scores` (n,), not
    finite for trials that diverged, which are crosses at the edge where scores are bad: below if
    `maximize`, else above. `log` names the columns with logarithmic axes, or the score by
    `score_label`. The best is a star; points that share a category, or one of few numbers, are
    spread sideways. Returns the path, or the figure if it is None.
    Raises ValueError for no columns, a column of another length, no finite score, a logarithmic
    axis with a value that is not above 0, or a bad suffix or `dpi`; TypeError if an argument has
    the wrong type; OSError if the picture cannot be written.
    Source: Bergstra & Bengio (2012), Random search for hyper-parameter optimization.

    >>> import tempfile
    >>> columns = {"rate": [0.1, 0.01, 1.0], "activation": ["relu", "tanh", "relu"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     slices(f"{folder}/each.png", columns, [0.9, 0.8, np.nan], log=["rate"]).name
    'each.png'
    """
    target = style.target("slices", path, dpi)
    trials = _trials("slices", columns, scores, log, score_label, maximize)
    down = -(-len(trials.axes) // 4)
    across = -(-len(trials.axes) // down)
    width = {1: 4.2, 2: 6.4}.get(across, style.WIDTH)
    page = style.figure(width, (1.75 if across > 2 else 2.5) * down + 0.15)
    axes = page.subplots(down, across, sharey=True, squeeze=False)
    edge = -_BEYOND if maximize else 1 + _BEYOND
    end = _LOW | {"marker": "v" if maximize else "^", "color": _DOT, "mec": "white"}
    for i, ax in enumerate(axes.flat):
        if i >= len(trials.axes):
            ax.set_visible(False)
            continue
        x = _spread(trials.axes[i], seed=i)
        inside = trials.order[~trials.low[trials.order]]
        ax.scatter(x[inside], trials.at[inside], **_dots(len(x), width / across))
        ax.plot(x[trials.low], trials.at[trials.low], **end, zorder=3)
        gone = x[~trials.alive]
        ax.plot(gone, np.full(gone.shape, edge), "x", color="#777777", ms=5, mew=1)
        ax.plot(x[trials.best], trials.at[trials.best], ms=11, mew=0.7, **_STAR)
        style.plain_axes(ax)
        _ticks(ax, trials.axes[i], "x", width / across)
        if i % across == 0:
            _ticks(ax, trials.score, "y", named=False)
        ax.tick_params(labelleft=i % across == 0)
        _limits(ax, trials.axes[i], "x")
        ax.set_ylim(-0.07, 1.07)
        if not trials.alive.all():
            ax.axhline(edge / 2 if maximize else (1 + edge) / 2, color="#999999", linewidth=0.6)
            ax.set_ylim(min(-0.07, edge - 0.06), max(1.07, edge + 0.06))
    page.supylabel(style.fold(score_label, 40), fontsize=9, parse_math=False)
    style.header(page, title, _star_and_crosses(trials, end))
    return style.write("slices", page, target, dpi)


def pairwise(
    path: style.Target,
    columns: Mapping[str, Any],
    scores: Any,
    log: Collection[str] = (),
    score_label: str = "score",
    maximize: bool = True,
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """A map of the trials for every pair of hyperparameters, coloured by score.

    Shapes: `columns` is {name: values (n,)}, two to six of them, numbers or categories of any type;
    `scores` (n,), not finite for trials that diverged, which are small crosses. `log` names the
    columns with logarithmic axes, or the score by `score_label`. `maximize` says whether large
    scores are good: better ranks are darker and on top, the best is a star, and the few far worse
    than the others are hollow. Points that share a category, or one of few numbers, are spread
    around it. Returns the path, or the figure if it is None.
    Raises ValueError for fewer or more columns, a column of another length, no finite score, a
    logarithmic axis with a value that is not above 0, or a bad suffix or `dpi`; TypeError if an
    argument has the wrong type; OSError if the picture cannot be written.
    Source: Hartigan (1975), Printer graphics for clustering: the scatter plot matrix.

    >>> import tempfile
    >>> columns = {"rate": [0.1, 0.01, 1.0], "decay": [1e-8, 1e-6, 1e-4]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pairwise(f"{folder}/map.png", columns, [0.9, 0.8, np.nan], log=columns).name
    'map.png'
    """
    target = style.target("pairwise", path, dpi)
    require(
        2 <= len(mapping("pairwise", "columns", columns)) <= _MOST,
        f"pairwise: there are {len(columns)} columns, expected 2 to {_MOST}; choose the "
        "most important, or draw any number with `parallel_coordinates` or `slices`.",
    )
    trials = _trials("pairwise", columns, scores, log, score_label, maximize)
    shades = style.shades()
    side = len(trials.axes) - 1
    width = {1: 6.0, 2: 7.2}.get(side, style.WIDTH)
    page = style.figure(width, {1: 4.2, 2: 5.2}.get(side, 0.82 * width))
    axes = page.subplots(side, side, sharex="col", sharey="row", squeeze=False)
    size = width / side
    for i in range(side):
        for j in range(side):
            ax = axes[i, j]
            if j > i:
                ax.axis("off")
                continue
            across, up = trials.axes[j], trials.axes[i + 1]
            x, y = _spread(across, seed=j), _spread(up, seed=i + 1)
            ax.plot(x[~trials.alive], y[~trials.alive], "x", color="#999999", ms=5, mew=1)
            ax.plot(x[trials.low], y[trials.low], **_LOW, zorder=2)
            ranked = trials.order[~trials.low[trials.order]]
            dots = {**_dots(len(x), size), "color": shades(trials.worth[ranked])}
            ax.scatter(x[ranked], y[ranked], **{**dots, "alpha": 1})
            ax.plot(x[trials.best], y[trials.best], ms=min(14, 5 + 2 * size), mew=0.7, **_STAR)
            style.plain_axes(ax)
            _ticks(ax, across, "x", size, named=i == side - 1)
            _ticks(ax, up, "y", size, named=j == 0)
            ax.tick_params(labelbottom=i == side - 1, labelleft=j == 0)
            _limits(ax, across, "x")
            _limits(ax, up, "y")
    _colour_bar(page, axes, trials, shades, score_label)
    style.header(page, title, _star_and_crosses(trials, _LOW))
    return style.write("pairwise", page, target, dpi)


# pieces
class _Trials(NamedTuple):
    axes: list[Scale]
    score: Scale
    at: np.ndarray  # (n,) heights of the scores in 0..1, NaN where diverged
    alive: np.ndarray  # (n,) bool
    low: np.ndarray  # (n,) bool: scores so bad that they lie at the end of the axis
    floor: float  # that end
    order: np.ndarray  # those alive, best last
    worth: np.ndarray  # (n,) 1 for the best rank, 0 for the worst; NaN where diverged
    best: int
    best_score: float


def _trials(caller, columns, scores, log, score_label, maximize) -> _Trials:
    style.check_some(caller, "columns", mapping(caller, "columns", columns))
    y = real_numbers(caller, "scores", scores)
    style.check_shape(caller, "the scores have", y.shape, y.ndim == 1, "(n,)")
    alive = np.isfinite(y)
    style.check_finite(caller, f"the {y.size} scores", alive)
    log = style.names_of(caller, log, [*columns, score_label])
    axes = [scale(name, values, name in log, caller) for name, values in columns.items()]
    for axis in axes:
        what, shape = f"the column {axis.name!r} has", axis.at.shape
        style.check_shape(caller, what, shape, shape == y.shape, f"{y.shape}, one value per score")
    sign = 1 if maximize else -1
    floor = -np.inf if score_label in log else _floor(sign * y[alive])
    low = alive & (sign * np.where(alive, y, 0) < floor)
    score = scale(
        score_label, sign * np.maximum(sign * y[alive], floor), score_label in log, caller
    )
    at = np.full(y.shape, np.nan)
    at[alive] = score.at
    good = np.where(alive, y if maximize else -y, -np.inf)
    order = np.argsort(-good, kind="stable")[: alive.sum()][::-1]
    worth = np.full(y.shape, np.nan)
    # the few best stand out from the many others
    worth[order] = 1 - np.sqrt(np.linspace(1, 0, len(order))) if len(order) > 1 else 1
    best = int(order[-1])
    return _Trials(axes, score, at, alive, low, sign * floor, order, worth, best, float(y[best]))


def _floor(good: np.ndarray) -> float:
    """Where the axis of the scores ends so that a few bad ones do not press the others together;
    larger is better. At most a quarter of the scores lie below."""
    best, quarter = good.max(), np.quantile(good, 0.25)
    reach = 2.0 * (best - quarter)
    return float(best - reach) if 0 < 2 * reach < best - good.min() else -np.inf


def _trial_lines(ax, trials: _Trials, heights: np.ndarray, shades) -> None:
    """The lines of parallel coordinates: those that diverged behind, the best in front."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    n, places = heights.shape
    lines = np.stack(np.broadcast_arrays(np.arange(float(places)), heights), axis=2)
    thin = min(1.3, max(0.5, 12 / n**0.5))
    gone = lines[~trials.alive]
    ax.add_collection(LineCollection(list(gone), colors=_GONE, linewidths=min(thin, 0.6)))
    ranked = lines[trials.order]
    worth = trials.worth[trials.order]
    colours = shades(worth)
    # the more trials there are, the fainter the bad ones
    colours[:, 3] = np.clip(worth + min(1.0, 5 / n**0.5), 0.12, 1)
    outline = withStroke(linewidth=4.4, foreground="white")
    ax.add_collection(
        LineCollection(list(ranked[:-1]), colors=colours[:-1], linewidths=thin * (0.7 + worth[:-1]))
    )
    ax.plot(*ranked[-1].T, color=colours[-1], linewidth=2.8, path_effects=[outline])


def _score_bar_and_axes(ax, trials: _Trials, at: np.ndarray, shades, width: float) -> None:
    """The axes of parallel coordinates, the last of them the colour bar of the scores."""
    count = len(trials.axes)
    letters = max(6, int((width - 1.0) / count / 0.083))
    strip = (count, count + 0.035 * (count + 1) * 4.2 / width)
    ramp = _ramp(trials)[:, None]
    ax.imshow(
        ramp,
        cmap=shades,
        vmin=0,
        vmax=1,
        extent=(*strip, 0, 1),
        origin="lower",
        aspect="auto",
        zorder=3,
    )
    for i, axis in enumerate(trials.axes):
        ticks, labels = axis.ticks(6)
        _upright(ax, i, i, ticks, [style.shorten(label, letters) for label in labels], "right")
    _upright(ax, count, strip[1], *trials.score.ticks(6), "left")
    if not trials.alive.all():
        _upright(ax, count, count, [at[~trials.alive][0]], ["diverged"], "left")
    names = [style.fold(axis.name, letters) for axis in [*trials.axes, trials.score]]
    ax.set_xticks(range(count + 1), names, fontsize=8.5, parse_math=False)
    ax.tick_params(bottom=False, labelbottom=False, labeltop=True, pad=5)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlim(-0.05, strip[1])


def _colour_bar(page, axes, trials: _Trials, shades, label: str) -> None:
    """The colours of the scores, in the empty corner if there is one."""
    corner = len(axes) > 1
    if corner:
        bar = axes[0, -1].inset_axes((0.12, 0.62, 0.8, 0.1))
        bar.set_title(style.fold(label, 24), fontsize=8.5, parse_math=False)
    else:
        bar = axes[0, 0].inset_axes((1.06, 0, 0.06, 1))
        bar.yaxis.set_label_position("right")
        bar.yaxis.tick_right()
        bar.set_ylabel(style.fold(label, 36), fontsize=9, parse_math=False)
    ramp = _ramp(trials)[None] if corner else _ramp(trials)[:, None]
    bar.imshow(
        ramp, cmap=shades, vmin=0, vmax=1, extent=(0, 1, 0, 1), origin="lower", aspect="auto"
    )
    ticks, labels = trials.score.ticks(4 if corner else 6)
    bar.set_xticks(*(ticks, labels) if corner else ([], []), fontsize=7, parse_math=False)
    bar.set_yticks(*([], []) if corner else (ticks, labels), fontsize=7, parse_math=False)
    bar.spines[:].set_visible(False)
    bar.tick_params(length=2, width=0.6, color="#888888")


def _ramp(trials: _Trials) -> np.ndarray:
    """The worth of a score at each of 256 places of its axis, from 0 to 1."""
    at, worth = trials.at[trials.order], trials.worth[trials.order]
    places, first = np.unique(at, return_index=True)
    return np.interp(np.linspace(0, 1, 256), places, worth[first])


def _upright(ax, place: float, beside: float, ticks, labels, ha: str) -> None:
    """A vertical axis from 0 to 1 with its ticks, and their labels at `beside` with a halo."""
    from matplotlib.patheffects import withStroke

    ax.plot([place, place], [0, 1], color="#444444", linewidth=0.9, zorder=4)
    ax.plot([place] * len(ticks), ticks, "_", ms=6, mew=0.9, color="#444444", zorder=5)
    look = {"fontsize": 7.5, "color": "#222222", "parse_math": False, "zorder": 6}
    look |= {"ha": ha, "va": "center", "path_effects": [withStroke(linewidth=2.8, foreground="w")]}
    for tick, label in zip(ticks, labels, strict=True):
        away = (4 if ha == "left" else -4, 0)
        ax.annotate(label, (beside, tick), away, textcoords="offset points", **look)


def _spread(axis: Scale, seed: int) -> np.ndarray:
    """The positions, spread where trials share a category or one of few numbers."""
    distinct = np.unique(axis.at)
    width = 0.25 * axis.distance
    if not width and len(distinct) <= 6 and len(axis.at) > 2 * len(distinct):
        width = min(0.05, 0.25 * np.diff(distinct).min(initial=1))
    return axis.at + np.random.default_rng(seed).uniform(-width, width, axis.at.shape)


def _dots(n: int, inches: float) -> dict[str, Any]:
    size = min(45.0, max(8.0, 1200 / n)) * min(1.0, 0.4 + inches / 5)
    edge = {"edgecolors": "white", "linewidths": 0.3 if n < 300 else 0}
    return {"s": size, "color": _DOT, "alpha": 0.7, "zorder": 2.5, **edge}


def _ticks(ax, axis: Scale, which: str, inches: float = 2.0, named: bool = True) -> None:
    ticks, labels = axis.ticks(5 if inches > 1.5 else 4)
    if which == "x":
        long = sum(map(len, labels)) * 0.06 + 0.07 * len(labels) > inches - 0.5
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
        ax.set_xticks(ticks, labels, parse_math=False, **turned)
        label = ax.set_xlabel
    else:
        ax.set_yticks(ticks, labels, parse_math=False)
        label = ax.set_ylabel
    if named:
        label(style.fold(axis.name, int(inches / 0.09), 2), fontsize=8.5, parse_math=False)


def _limits(ax, axis: Scale, which: str) -> None:
    margin = max(0.07, 0.5 * axis.distance)
    ax.set(**{f"{which}lim": (-margin, 1 + margin)})


def _diverged(trials: _Trials, look: dict[str, Any]) -> dict[str, dict[str, Any]]:
    gone = int((~trials.alive).sum())
    return {f"diverged: {gone}": look} if gone else {}


def _cut(trials: _Trials, look: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How many scores lie at the end of their axis, as a line of the legend."""
    low = int(trials.low.sum())
    side = "below" if trials.score.at.size and trials.at[trials.best] > 0.5 else "above"
    return {f"{low} {side} {trials.floor:.3g}": look} if low else {}


def _star_and_crosses(trials: _Trials, low: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cross = {"marker": "x", "color": "#888888", "linestyle": "", "markersize": 4}
    star = {**_STAR, "linestyle": "", "markersize": 10, "markeredgewidth": 0.7}
    best = {f"best: {trials.best_score:.4g}": star}
    return best | _cut(trials, low) | _diverged(trials, cross)
