"""The best score so far, and what it depends on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from purenet.core.validate import mapping, real_numbers, require
from purenet.plots import style


def history(
    path: style.Target,
    scores: Any,
    score_label: str = "score",
    maximize: bool = True,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """The score of each trial in their order, and the best one so far as a line.

    Shapes: `scores` (n,), not finite for trials that diverged, which are crosses at the edge.
    `maximize` says whether large scores are good. `limits` of the scores, None to fit the data; a
    score beyond them lies at the edge. Returns the path, or the figure if it is None.
    Raises ValueError for no finite score, or a bad suffix, `limits` or `dpi`; TypeError if an
    argument has the wrong type; OSError if the picture cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history(f"{folder}/history.png", [0.5, 0.9, np.nan, 0.7]).name
    'history.png'
    """
    target = style.target("history", path, dpi)
    limits = style.limits_of("history", limits)
    y = real_numbers("history", "scores", scores)
    style.check_shape("history", "the scores have", y.shape, y.ndim == 1, "(n,)")
    alive = np.isfinite(y)
    style.check_finite("history", f"the {y.size} scores", alive)
    low, high = limits or (y[alive].min(), y[alive].max())
    margin = 0.05 * (high - low) or 0.5
    x = np.arange(y.size)
    best = (np.fmax if maximize else np.fmin).accumulate(np.where(alive, y, np.nan))
    page = style.figure(6.4, 3.0)
    ax = page.subplots()
    size = min(30.0, max(8.0, 1500 / y.size))
    shown = np.clip(y[alive], low, high)
    ax.scatter(x[alive], shown, s=size, color=style.COLOURS[4], linewidths=0)
    edge = low - margin if maximize else high + margin
    ax.plot(x[~alive], np.full((~alive).sum(), edge), "x", color="#777777", ms=5, mew=1)
    ax.step(x, np.clip(best, low, high), where="post", color=style.COLOURS[0], linewidth=2)
    style.plain_axes(ax, size=8)
    style.whole_ticks(ax, [x], 8)
    ax.set_ylim(low - 1.6 * margin, high + 1.6 * margin)
    ax.set_xlabel("trial", fontsize=9)
    ax.set_ylabel(style.fold(score_label, 40), fontsize=9, parse_math=False)
    dot = {"marker": "o", "linestyle": "", "color": style.COLOURS[4]}
    looks: dict[str, dict[str, Any]] = {
        f"best so far: {best[-1]:.4g}": {"color": style.COLOURS[0], "linewidth": 2},
        "a trial": dot,
    }
    if not alive.all():
        cross = {"marker": "x", "linestyle": "", "color": "#777777", "markersize": 5}
        looks[f"diverged: {(~alive).sum()}"] = cross
    style.header(page, title, looks)
    return style.write("history", page, target, dpi)


def importances(
    path: style.Target,
    values: Mapping[str, Any],
    x_label: str = "importance",
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """A bar for each hyperparameter, in the given order from the top.

    Shapes: `values` is {name: a number}. Returns the path, or the figure if it is None.
    Raises ValueError for no values or ones that are not finite, or a bad suffix or `dpi`;
    TypeError if an argument has the wrong type; OSError if the picture cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     importances(f"{folder}/what.png", {"rate": 0.8, "decay": 0.1}).name
    'what.png'
    """
    target = style.target("importances", path, dpi)
    style.check_some("importances", "values", mapping("importances", "values", values))
    x = real_numbers("importances", "values", [*values.values()])
    require(
        x.ndim == 1 and bool(np.isfinite(x).all()),
        "importances: a finite number is expected for each name.",
    )
    page = style.figure(6.4, 0.7 + 0.32 * len(x))
    ax = page.subplots()
    ax.barh(np.arange(len(x)), x, height=0.62, color=style.COLOURS[0])
    for place, value in enumerate(x):
        end = (4, 0), {"textcoords": "offset points", "va": "center", "fontsize": 8}
        ax.annotate(f"{value:.2g}", (max(value, 0), place), end[0], **end[1])
    style.plain_axes(ax, size=8)
    ax.grid(False, axis="y")
    names = [style.shorten(str(name), 30) for name in values]
    ax.set_yticks(range(len(x)), names, fontsize=9, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlim(min(0, x.min()), max(1e-9, 1.12 * x.max()))
    ax.set_xlabel(x_label, fontsize=9, parse_math=False)
    style.header(page, title, {})
    return style.write("importances", page, target, dpi)
