"""Histograms in a grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from purenet.core.validate import PositiveInteger, declared, real_numbers, require
from purenet.plots import style


@declared
def histograms(
    path: style.Target,
    rows: Sequence[tuple[str, Sequence[tuple[str, Any]]]],
    bins: PositiveInteger = 30,
    title: str | None = None,
    x_label: str = "value",
    y_label: str = "fraction",
    dpi: int = 120,
) -> Any:
    """A grid of histograms, with the same bins along a row.

    Shapes: `rows` is a list of (row title, list of (panel title, values of any shape)). The height
    of a bar is the fraction of the finite values of its panel; a note counts the others. `bins` is
    their number. Returns the path, or the figure if it is None.
    Raises ValueError for no rows, a row without panels, or a bad suffix or `dpi`; TypeError if an
    argument has the wrong type; OSError if the picture cannot be written.
    Source: the figures of activations for several initialisers, Glorot & Bengio (2010).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = [("std 1", [("layer 1", np.arange(10.0)), ("layer 2", np.ones(10))])]
    ...     histograms(f"{folder}/layers.png", rows).name
    'layers.png'
    """
    target = style.target("histograms", path, dpi)
    found = style.pairs("histograms", "rows", rows, "(row title, panels)")
    of = lambda panels: style.pairs("histograms", "a row", panels, "(panel title, values)")
    rows = [(heading, of(panels)) for heading, panels in found]
    drawable = bool(rows) and all(panels for _, panels in rows)
    require(drawable, "histograms: rows is empty, or one of its rows has no panels.")
    columns = max(len(panels) for _, panels in rows)
    figure = style.figure(max(3.6, style.WIDTH / 5 * columns), 1.3 * len(rows) + 0.6)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (heading, panels), line in zip(rows, axes, strict=True):
        values = [real_numbers("histograms", repr(n), v).ravel() for n, v in panels]
        finite = [v[np.isfinite(v)] for v in values]
        edges = _edges(np.concatenate(finite), bins)
        for j, ax in enumerate(line):
            if j >= len(panels):
                ax.set_visible(False)
                continue
            counts, _ = np.histogram(finite[j], edges)
            heights = counts / max(1, finite[j].size)
            ax.stairs(heights, edges, fill=True, color=style.COLOURS[0])
            ax.set_xlim(edges[0], edges[-1])
            ax.set_ylim(0, max(1.08 * heights.max(), 1e-9))
            style.heading(ax, panels[j][0])
            style.plain_axes(ax)
            ax.locator_params(nbins=3)
            odd = values[j].size - finite[j].size
            if odd or not values[j].size:
                note = f"{odd} not finite" if odd else "no values"
                ax.text(0.5, 0.5, note, transform=ax.transAxes, fontsize=7, ha="center")
        line[0].set_ylabel(heading, fontsize=8, parse_math=False)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return style.write("histograms", figure, target, dpi)


# pieces
def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size:  # constant, up to rounding
        low, high = low - (0.5 * size or 0.5), high + (0.5 * size or 0.5)
    return np.linspace(low, high, bins + 1)
