"""Pictures: learning curves, histograms, images, filters. Needs matplotlib (`purenet[plot]`).

Every function draws a figure of its own and writes it to `path`, complete or not at all; it needs
no screen and leaves the figures and the backend of the caller alone. The suffix of the path chooses
the format: .png, .svg or .pdf; another one is a ValueError, a path that cannot be written an
OSError, and without matplotlib there is a ModuleNotFoundError that says how to install it.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purenet.files import write_bytes

# from dark to light, so that neighbours differ in grey too; dashes tell them apart in print
_COLOURS = ("#173f6b", "#e07b24", "#3a8f5c", "#b04a8f", "#6fa8dc", "#7a5c3e", "#c23b3b", "#9a9a9a")
_DASHES: tuple[Any, ...] = ("-", (0, (3, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_USUAL = ("validation", "train")
_GRID = {"color": "#e3e3e3", "linewidth": 0.6}
_SMALL_WIDTH = 30  # characters of the small lines of a title that fit above a panel
_WIDTH = 8.4  # inches: about 1000 pixels at the default resolution


# curves
def curve_grid(
    path: str | os.PathLike,
    panels: Sequence[tuple[str, Mapping[str, Any]]],
    columns: int = 5,
    title: str | None = None,
    y_label: str = "accuracy",
    limits: tuple[float, float] | None = (0, 1),
    x_label: str = "epoch",
    dpi: int = 120,
) -> Path:
    """A grid of small panels with a few curves each, on shared axes.

    Shapes: `panels` is a list of (title, {name: values (epochs,)}), one value an epoch from 1 on;
    a value that is not finite leaves a gap. "validation" is drawn solid, "train" dashed. The
    lines of a title after the first are set smaller, and broken where two spaces separate items.
    `limits` of y, None to fit. Returns the path.
    Raises ValueError for no panels or values that are not a curve.
    Source: the picture of the best trials of a random search in from-scratch courses.

    >>> import tempfile
    >>> panel = ("Best-1\\nrate 9.3e-03", {"validation": [0.2, 0.6], "train": [0.3, 0.7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curve_grid(Path(folder, "best.png"), [panel]).name
    'best.png'
    """
    path = _target("curve_grid", path)
    if not panels:
        raise ValueError("curve_grid: there are no panels to draw.")
    columns = min(_positive("curve_grid", "columns", columns), len(panels))
    lines = [
        (heading, {n: _curve("curve_grid", n, v) for n, v in named.items()})
        for heading, named in panels
    ]
    names = sorted({name for _, named in lines for name in named}, key=_curve_order)
    # validation is the first style and train the second, even where one of them is missing
    usual = bool({*_USUAL} & {*names})
    fixed = [*_USUAL, *(name for name in names if name not in _USUAL)] if usual else names
    styles = {name: _style(i) for i, name in enumerate(fixed)}

    rows = -(-len(panels) // columns)
    width = max(3.6, _WIDTH / 5 * columns)
    # the title and the legend share a line where it is long enough
    title_height = 0.3 if title else 0.0
    legend_height = 0.08 + 0.19 * -(-len(names) // _legend_columns(width))
    drop = 0.0 if columns >= 4 and len(names) <= 2 else title_height
    top = max(title_height, drop + legend_height)
    small = max(len(_small_lines(heading)) for heading, _ in lines)
    height = (1.38 + 0.12 * small) * rows + 0.45 + top
    figure = _figure(width, height)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - top / height))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    handles = {}
    for i, ax in enumerate(axes.flat):
        if i >= len(lines):
            ax.set_visible(False)
            continue
        heading, named = lines[i]
        for name in sorted(named, key=_curve_order):
            handles[name] = _draw(ax, *named[name], styles[name])
        _heading(ax, heading)
        _plain_axes(ax)
        ax.tick_params(labelbottom=i + columns >= len(lines), labelleft=i % columns == 0)
        if limits is not None:
            # a little above, so that a curve at the upper limit is seen whole
            ax.set_ylim(limits[0], limits[1] + 0.03 * (limits[1] - limits[0]))
    _whole_ticks(axes[0, 0], [x for _, named in lines for x, _ in named.values()], 3)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    if title:
        x, y = 0.1 / width, 1 - 0.08 / height
        figure.text(x, y, title, fontsize=11, ha="left", va="top", parse_math=False)
    place = {"loc": "upper right", "bbox_to_anchor": (1, 1 - drop / height), "borderaxespad": 0.3}
    _legend(figure, {name: handles[name] for name in names}, _legend_columns(width), **place)
    return _write("curve_grid", figure, path, dpi)


def curves(
    path: str | os.PathLike,
    series: Mapping[str, Any],
    title: str | None = None,
    x_label: str = "epoch",
    y_label: str = "loss",
    limits: tuple[float, float] | None = None,
    y_scale: str = "linear",
    dpi: int = 120,
) -> Path:
    """Several named curves on one pair of axes.

    Shapes: `series` is {name: y (n,)} with x = 1..n, or {name: (x (n,), y (n,))} as a tuple; a
    value that is not finite leaves a gap. `y_scale` is "linear" or "log". Returns the path.
    Raises ValueError for no series or values that are not a curve.
    Source: any textbook's learning curves.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curves(Path(folder, "loss.svg"), {"sgd": [2.3, 1.1], "adam": ([1, 2], [2.3, 0.4])}).name
    'loss.svg'
    """
    path = _target("curves", path)
    if not series:
        raise ValueError("curves: there are no series to draw.")
    if y_scale not in ("linear", "log"):
        raise ValueError(f"curves: y_scale is {y_scale!r}, expected 'linear' or 'log'.")
    lines = {name: _curve("curves", name, values) for name, values in series.items()}
    if y_scale == "log":  # which has no place for the others
        lines = {name: (x, np.where(y > 0, y, np.nan)) for name, (x, y) in lines.items()}
    figure = _figure(6.4, 4.0)
    ax = figure.subplots()
    handles = {
        name: _draw(ax, *line, {**_style(i), "linewidth": 1.6})
        for i, (name, line) in enumerate(lines.items())
    }
    _plain_axes(ax, size=8)
    _whole_ticks(ax, [x for x, _ in lines.values()], 8)
    ax.set_yscale(y_scale)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_xlabel(x_label, fontsize=9)
    ax.set_ylabel(y_label, fontsize=9)
    if title:
        ax.set_title(title, fontsize=11, parse_math=False)
    _legend(figure, handles, 1, loc="outside right upper")
    return _write("curves", figure, path, dpi)


# distributions
def histograms(
    path: str | os.PathLike,
    rows: Sequence[tuple[str, Sequence[tuple[str, Any]]]],
    bins: int = 30,
    title: str | None = None,
    x_label: str = "value",
    y_label: str = "fraction",
    dpi: int = 120,
) -> Path:
    """A grid of histograms, with the same bins along a row.

    Shapes: `rows` is a list of (row title, list of (panel title, values of any shape)). The height
    of a bar is the fraction of the finite values of its panel; how many values are not finite is
    written into the panel. Returns the path.
    Raises ValueError for no rows or a row without panels.
    Source: the figures of activations under initialisers, Glorot & Bengio (2010).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = [("std 1", [("layer 1", np.arange(10.0)), ("layer 2", np.ones(10))])]
    ...     histograms(Path(folder, "layers.png"), rows).name
    'layers.png'
    """
    path = _target("histograms", path)
    bins = _positive("histograms", "bins", bins)
    if not rows or not all(panels for _, panels in rows):
        raise ValueError("histograms: there are no panels to draw, or there is a row without any.")
    columns = max(len(panels) for _, panels in rows)
    figure = _figure(max(3.6, _WIDTH / 5 * columns), 1.3 * len(rows) + 0.6)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (heading, panels), line in zip(rows, axes, strict=True):
        values = [np.asarray(v, np.float64).ravel() for _, v in panels]
        finite = [v[np.isfinite(v)] for v in values]
        edges = _edges(np.concatenate(finite), bins)
        for j, ax in enumerate(line):
            if j >= len(panels):
                ax.set_visible(False)
                continue
            counts, _ = np.histogram(finite[j], edges)
            heights = counts / max(1, finite[j].size)
            ax.stairs(heights, edges, fill=True, color=_COLOURS[0])
            ax.set_xlim(edges[0], edges[-1])
            ax.set_ylim(0, max(1.08 * heights.max(), 1e-9))
            _heading(ax, panels[j][0])
            _plain_axes(ax)
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
    return _write("histograms", figure, path, dpi)


# images
def images(
    path: str | os.PathLike,
    images: Any,
    titles: Sequence[str] | None = None,
    columns: int = 10,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
    dpi: int = 120,
) -> Path:
    """A grid of greyscale or colour images, all on one scale.

    Shapes: images (n, h, w), (n, h, w, 1) or (n, h, w, 3), any real dtype; `titles` n strings.
    `limits` are the values of black and white: unless given 0..255 for uint8, 0..1 where all
    values lie in it, else the smallest and the largest value. Returns the path.
    Raises ValueError for any other shape or number of titles.
    Source: the usual sheet of examples.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images(Path(folder, "digits.png"), np.zeros((3, 8, 8, 1)), ["0", "1", "2"]).name
    'digits.png'
    """
    path = _target("images", path)
    x = np.asarray(images)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        raise ValueError(
            f"images: the images have shape {np.shape(images)}, expected (n, height, width), "
            "(n, height, width, 1) or (n, height, width, 3)."
        )
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"images: there are {len(x)} images, but {len(titles)} titles.")
    columns = _positive("images", "columns", columns)
    return _sheet("images", path, x, limits, titles, columns, title, dpi)


def filters(
    path: str | os.PathLike,
    kernels: Any,
    columns: int = 10,
    title: str | None = None,
    dpi: int = 120,
) -> Path:
    """The kernels of a first convolution as images: zero is middle grey, all on one scale.

    Shapes: kernels (h, w, in, out) with in = 1 (grey) or 3 (colour), any real dtype: `out` images.
    Returns the path.
    Raises ValueError for any other shape.
    Source: Krizhevsky, Sutskever & Hinton (2012), figure 3.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     filters(Path(folder, "conv1.png"), np.ones((5, 5, 1, 30))).name
    'conv1.png'
    """
    path = _target("filters", path)
    w = np.asarray(kernels)
    if w.ndim != 4 or w.shape[2] not in (1, 3) or 0 in w.shape:
        raise ValueError(
            f"filters: the kernels have shape {w.shape}, expected (height, width, in, out) with "
            "in = 1 or 3, as in a first layer; pick input channels of a deeper one, such as "
            "kernels[:, :, :1]."
        )
    x = np.moveaxis(w.astype(np.float64), 3, 0)
    most = np.abs(x[np.isfinite(x)]).max(initial=0.0) or 1.0
    columns = _positive("filters", "columns", columns)
    return _sheet("filters", path, x, (-most, most), None, columns, title, dpi)


# pieces
def _figure(width: float, height: float):
    """A figure that no one else knows of: pyplot would keep it, and might ask for a screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"plots: pictures need matplotlib, which is not here ({error}); install it by "
            "pip install 'purenet[plot]'."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _target(speaker: str, path: str | os.PathLike) -> Path:
    """The path, if a picture can be written there: said before the work of drawing it."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(
            f"{speaker}: {path} ends in {path.suffix!r}, expected .png, .svg or .pdf, which "
            "chooses the format."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{speaker}: {path}: the folder {path.parent} does not exist.")
    if path.is_dir():
        raise IsADirectoryError(f"{speaker}: {path} is a folder, but a file is to be written.")
    return path


def _write(speaker: str, figure, path: Path, dpi: int) -> Path:
    """Write the picture complete or not at all; OSError with the path where it cannot be."""
    kind = path.suffix.lower().lstrip(".")
    # no date inside, so that the same data can give the same file
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=dpi, metadata=undated)
    try:
        write_bytes(path, picture.getvalue())
    except OSError as error:
        raise OSError(
            error.errno, f"{speaker}: cannot write the picture, {error.strerror}", str(path)
        ) from error
    return path


def _positive(speaker: str, name: str, value) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ValueError(f"{speaker}: {name} is {value!r}, expected a positive whole number.")
    return value.__index__()


def _curve(speaker: str, name: str, values) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of one curve, with gaps where it is not finite."""
    x, y = values if isinstance(values, tuple) and len(values) == 2 else (None, values)
    y = np.asarray(y, np.float64)
    x = np.arange(1.0, y.size + 1) if x is None else np.asarray(x, np.float64)
    if y.ndim != 1 or x.shape != y.shape or not np.isfinite(x).all():
        raise ValueError(
            f"{speaker}: the curve {name!r} has x of shape {x.shape} and y of shape {y.shape}; "
            "expected two rows of numbers of the same length, and x finite."
        )
    return x, np.where(np.isfinite(y), y, np.nan)


def _curve_order(name: str):
    """validation, train, then the others by name: so that these two look the same everywhere."""
    return (_USUAL.index(name) if name in _USUAL else len(_USUAL), name)


def _style(i: int) -> dict[str, Any]:
    # the period of the pair is longer than that of either
    turn = i // len(_COLOURS)
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[(i + turn) % len(_DASHES)]}


def _draw(ax, x, y, style):
    lonely = np.isfinite(y).sum() == 1  # a line through one point cannot be seen
    (line,) = ax.plot(x, y, **{"linewidth": 1.3, **style}, marker="o" if lonely else "", ms=3)
    return line


def _plain_axes(ax, size: float = 7) -> None:
    ax.grid(True, **_GRID)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=size, length=2, width=0.6, color="#888888")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.6, color="#888888")


def _whole_ticks(ax, xs: list[np.ndarray], most: int) -> None:
    """At most so many round ticks on the x axis, and its range from the longest curve."""
    from matplotlib.ticker import MaxNLocator

    every = np.concatenate([np.zeros(0), *xs])
    if every.size:
        low, high = every.min(), every.max()
        margin = 0.03 * (high - low) or 0.5
        ax.set_xlim(low - margin, high + margin)
    whole = bool((every == np.rint(every)).all())
    ax.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole))


def _small_lines(text: str) -> list[str]:
    """The lines of a panel's title after the first, broken between items to fit the panel."""
    broken = []
    for line in str(text).split("\n")[1:]:
        current = ""
        for item in line.split("  "):  # two spaces lie between items, one inside: "rate 9.3e-03"
            longer = f"{current}  {item}" if current else item
            if current and len(longer) > _SMALL_WIDTH:
                broken.append(current)
                longer = item
            current = longer
        broken.append(current)
    return broken


def _heading(ax, text: str) -> None:
    small = _small_lines(text)
    first = str(text).partition("\n")[0]
    ax.set_title(first, fontsize=9, pad=4 + 8.9 * len(small), parse_math=False)
    if small:
        ax.annotate(
            "\n".join(small),
            (0.5, 1),
            (0, 2.5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.5,
            color="#444444",
            parse_math=False,
        )


def _legend_columns(width: float) -> int:
    return max(1, int(width / 1.25))


def _legend(figure, handles, columns: int, **place) -> None:
    if not handles:
        return
    legend = figure.legend(
        list(handles.values()),
        # matplotlib leaves out labels that start with an underscore
        [f" {name}" if str(name).startswith("_") else str(name) for name in handles],
        ncols=min(columns, len(handles)),
        fontsize=8,
        frameon=False,
        handlelength=2.6,
        **place,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size:  # a constant, as near as can be drawn
        low, high = low - (0.5 * size or 0.5), high + (0.5 * size or 0.5)
    return np.linspace(low, high, bins + 1)


def _sheet(speaker, path, x, limits, titles, columns, title, dpi) -> Path:
    """Images (n, h, w, c) side by side, on one pair of axes measured in inches: quick for many."""
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    low, high = limits if limits is not None else _value_range(x)
    grey = np.nan_to_num((x.astype(np.float64) - low) / ((high - low) or 1))
    colours = np.broadcast_to(np.clip(grey, 0, 1), (*x.shape[:3], 3))

    gap, margin = 0.08, 0.12
    label = 0.2 if titles is not None else 0.0
    head = 0.3 if title else 0.0
    wide = min((_WIDTH - 2 * margin + gap) / columns - gap, 1.2)
    tall = wide * x.shape[1] / x.shape[2]
    width = 2 * margin + columns * (wide + gap) - gap
    height = 2 * margin + head + rows * (tall + label + gap) - gap
    figure = _figure(width, height)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    for i, picture in enumerate(colours):
        left = margin + i % columns * (wide + gap)
        top = margin + head + i // columns * (tall + label + gap) + label
        ax.imshow(picture, extent=(left, left + wide, top + tall, top), interpolation="nearest")
        if titles is not None:
            ax.text(
                left + wide / 2,
                top - 0.03,
                str(titles[i]),
                fontsize=8,
                ha="center",
                va="bottom",
                parse_math=False,
            )
    if title:
        ax.text(width / 2, margin, title, fontsize=11, ha="center", va="top", parse_math=False)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return _write(speaker, figure, path, dpi)


def _value_range(x: np.ndarray) -> tuple[float, float]:
    if x.dtype == np.uint8:
        return 0, 255
    finite = x[np.isfinite(x)]
    if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
        return 0, 1
    return float(finite.min()), float(finite.max())
