"""Learning curves: a grid of small panels, or several curves on one pair of axes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purenet.core.validate import PositiveInteger, declared, mapping, real_numbers, require
from purenet.plots import style

_USUAL = ("validation", "train")


@declared
def curve_grid(
    path: style.Target,
    panels: Sequence[tuple[str, Mapping[str, Any]]],
    columns: PositiveInteger = 5,
    title: str | None = None,
    y_label: str = "accuracy",
    limits: tuple[float, float] | None = (0, 1),
    x_label: str = "epoch",
    stopped: Collection[int] = (),
    dpi: int = 120,
) -> Any:
    """A grid of small panels with a few curves each, on shared axes.

    Shapes: `panels` is a list of (title, {name: values (epochs,)}), one value per epoch from 1 on;
    a value that is not finite leaves a gap. "validation" is drawn solid, "train" dashed. The lines
    of a title after the first are set smaller, and broken where two spaces separate items. `limits`
    of y, None to fit the data. `stopped` holds the places of panels whose training was stopped
    early: what it did not reach is grey. Returns the path, or the figure if it is None.
    Raises ValueError for no panels, values that are not a curve, or a bad suffix, `limits` or
    `dpi`; TypeError if an argument has the wrong type; OSError if the picture cannot be written.
    Source: the picture of the best trials of a random search in from-scratch courses.

    >>> import tempfile
    >>> panel = ("Best-1\\nrate 9.3e-03", {"validation": [0.2, 0.6], "train": [0.3, 0.7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curve_grid(f"{folder}/best.png", [panel]).name
    'best.png'
    """
    target = style.target("curve_grid", path, dpi)
    limits = style.limits_of("curve_grid", limits)
    panels = style.pairs("curve_grid", "panels", panels, "(title, {name: curve})")
    style.check_some("curve_grid", "panels", panels)
    columns = min(columns, len(panels))
    lines = [
        (heading, _curves("curve_grid", f"panel {heading!r}", named)) for heading, named in panels
    ]
    names = sorted({name for _, named in lines for name in named}, key=_curve_order)
    # validation has the first style and train the second, even if one of them is missing
    usual = bool({*_USUAL} & {*names})
    fixed = [*_USUAL, *(name for name in names if name not in _USUAL)] if usual else names
    styles = {name: style.line_style(i) for i, name in enumerate(fixed)}

    rows = -(-len(panels) // columns)
    page = _page(lines, columns, rows, len(names), title)
    figure = style.figure(page.width, page.height, None)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    handles = {}
    for i, ax in enumerate(axes.flat):
        if i >= len(lines):
            ax.set_visible(False)
            continue
        heading, named = lines[i]
        for name in sorted(named, key=_curve_order):
            handles[name] = _draw(ax, *named[name], styles[name])
        style.heading(ax, heading)
        style.plain_axes(ax)
        if i in stopped:
            _stop(ax, named)
        ax.tick_params(labelbottom=i + columns >= len(lines), labelleft=i % columns == 0)
    if limits is not None:
        # a little above, so that a curve at the upper limit is not cut
        axes[0, 0].set_ylim(limits[0], limits[1] + 0.03 * (limits[1] - limits[0]))
    style.whole_ticks(axes[0, 0], [x for _, named in lines for x, _ in named.values()], 3)
    _place(figure, axes, page)
    at = lambda x, y: (x / page.width, y / page.height)
    figure.supxlabel(x_label, fontsize=9, y=0.04 / page.height)
    figure.supylabel(y_label, fontsize=9, x=0.04 / page.width)
    if title:
        corner = at(0.1, page.height - 0.08)
        figure.text(*corner, title, fontsize=11, ha="left", va="top", parse_math=False)
    corner = at(page.width, page.height - page.drop)
    place = {"loc": "upper right", "bbox_to_anchor": corner, "borderaxespad": 0.3}
    legend = {name: handles[name] for name in names}
    style.legend(figure, legend, _legend_columns(page.width), **place)
    return style.write("curve_grid", figure, target, dpi)


@declared
def curves(
    path: style.Target,
    series: Mapping[str, Any],
    title: str | None = None,
    x_label: str = "epoch",
    y_label: str = "loss",
    limits: tuple[float, float] | None = None,
    y_scale: style.YScale = "linear",
    dpi: int = 120,
) -> Any:
    """Several named curves on one pair of axes.

    Shapes: `series` is {name: y (n,)} with x = 1..n, or {name: (x (n,), y (n,))} as a tuple; a
    value that is not finite leaves a gap. `y_scale` is "linear" or "log". Returns the path, or the
    figure if it is None.
    Raises ValueError for no series, values that are not a curve or have no place on a log scale, or
    a bad suffix, `limits` or `dpi`; TypeError if an argument has the wrong type; OSError if the
    picture cannot be written.
    Source: any textbook's learning curves.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curves(f"{folder}/loss.svg", {"sgd": [2.3, 1.1], "adam": ([1, 2], [2.3, 0.4])}).name
    'loss.svg'
    """
    target = style.target("curves", path, dpi)
    limits = style.limits_of("curves", limits, log=y_scale == "log")
    lines = _curves("curves", "series", series)
    style.check_some("curves", "series", lines)
    if y_scale == "log":  # leave gaps for values without a logarithm
        lines = {name: (x, np.where(y > 0, y, np.nan)) for name, (x, y) in lines.items()}
        shown = any(np.isfinite(y).any() for _, y in lines.values())
        require(shown, "curves: no value is above 0, but a log scale needs one.")
    figure = style.figure(6.4, 4.0)
    ax = figure.subplots()
    handles = {
        name: _draw(ax, *line, {**style.line_style(i), "linewidth": 1.6})
        for i, (name, line) in enumerate(lines.items())
    }
    style.plain_axes(ax, size=8)
    style.whole_ticks(ax, [x for x, _ in lines.values()], 8)
    ax.set_yscale(y_scale)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_xlabel(x_label, fontsize=9)
    ax.set_ylabel(y_label, fontsize=9)
    if title:
        ax.set_title(title, fontsize=11, parse_math=False)
    style.legend(figure, handles, 1, loc="outside right upper")
    return style.write("curves", figure, target, dpi)


# pieces
class _Page(NamedTuple):
    """The measures of a grid of panels, in inches."""

    width: float
    height: float
    top: float  # of the title and the legend above the panels
    drop: float  # from the upper edge to the legend
    heading: float  # of a panel


def _page(lines, columns: int, rows: int, names: int, title: str | None) -> _Page:
    width = max(3.6, style.WIDTH / 5 * columns)
    # the title and the legend share a line if it is long enough
    title_height = 0.3 if title else 0.0
    legend_height = 0.08 + 0.19 * -(-names // _legend_columns(width))
    drop = 0.0 if columns >= 4 and names <= 2 else title_height
    top = max(title_height, drop + legend_height)
    heading = 0.2 + 0.12 * max(len(style.small_lines(heading)) for heading, _ in lines)
    height = (1.18 + heading) * rows + 0.45 + top
    return _Page(width, height, top, drop, heading)


def _place(figure: Any, axes: np.ndarray, page: _Page) -> None:
    """Place the panels. One axis of numbers is measured: all of them share it."""
    rows, columns = axes.shape
    numbers = axes[0, 0].yaxis.get_tightbbox(figure.canvas.get_renderer())
    left = 0.36 + numbers.width / figure.dpi
    across = (page.width - left - 0.08) / columns  # a panel and the gap to the next
    down = (page.height - page.top - 0.45) / rows
    gap, between = 0.12, page.heading + 0.08
    figure.subplots_adjust(
        left=left / page.width,
        right=1 - 0.08 / page.width,
        bottom=0.45 / page.height,
        top=1 - (page.top + page.heading + 0.04) / page.height,
        wspace=gap / (across - gap),
        hspace=between / (down - between),
    )


def _curves(caller: str, what: str, named) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {n: _curve(caller, n, v) for n, v in mapping(caller, what, named).items()}


def _curve(caller: str, name: str, values) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of one curve, with gaps where it is not finite."""
    x, y = values if isinstance(values, tuple) and len(values) == 2 else (None, values)
    y = real_numbers(caller, f"the curve {name!r}", y)
    x = np.arange(1.0, y.size + 1) if x is None else real_numbers(caller, f"x of {name!r}", x)
    require(
        y.ndim == 1 and x.shape == y.shape and bool(np.isfinite(x).all()),
        f"{caller}: the curve {name!r} has x of shape {x.shape} and y of shape {y.shape}, but two "
        "lists of numbers of the same length are expected, with x finite.",
    )
    return x, np.where(np.isfinite(y), y, np.nan)


def _curve_order(name: str):
    """validation, train, then the others by name: these two look the same everywhere."""
    return (_USUAL.index(name) if name in _USUAL else len(_USUAL), name)


def _draw(ax, x, y, style):
    lonely = np.isfinite(y).sum() == 1  # a line through one point cannot be seen
    (line,) = ax.plot(x, y, **{"linewidth": 1.3, **style}, marker="o" if lonely else "", ms=5)
    return line


def _stop(ax, named: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """What a training that was stopped did not reach, in grey from its last epoch on."""
    known = [x[np.isfinite(y)] for x, y in named.values()]
    end = max((x.max() for x in known if x.size), default=0.0)
    ax.axvspan(end, 1e9, color="#e9e9e9", linewidth=0, zorder=0.5)  # beyond any limit of the axis
    ax.axvline(end, color="#8a8a8a", linewidth=0.9, zorder=1)
    place = {"xycoords": ("axes fraction", "axes fraction"), "ha": "right", "va": "bottom"}
    ax.annotate(f"stopped after {end:g}", (0.97, 0.04), fontsize=7, color="#555555", **place)


def _legend_columns(width: float) -> int:
    return max(1, int(width / 1.25))
