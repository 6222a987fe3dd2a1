"""What all pictures share: figures and files, checks, colours, axes, headings, legends."""

import io
import os
import re
import textwrap
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from purenet.core.extras import extra
from purenet.core.files import as_path, writable, write_bytes
from purenet.core.validate import expect, is_number, one_of, require

# from dark to light, so that neighbours differ in grey too; dashes tell them apart in print
COLOURS = ("#173f6b", "#e07b24", "#3a8f5c", "#b04a8f", "#6fa8dc", "#7a5c3e", "#c23b3b", "#9a9a9a")
DASHES: tuple[Any, ...] = ("-", (0, (3, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_GRID = {"color": "#e3e3e3", "linewidth": 0.6}
_SMALL_WIDTH = 28  # characters of the small lines of a title that fit above a panel
WIDTH = 8.4  # inches: about 1000 pixels at the default resolution


def figure(width: float, height: float, layout: str | None = "constrained") -> Any:
    """A figure without pyplot, which would keep it and might need a screen.

    Without a `layout`, its axes are placed by hand, which is quick for many.

    Raises ModuleNotFoundError without matplotlib.

    >>> figure(4, 3).get_size_inches().tolist()
    [4.0, 3.0]
    """
    made = extra("matplotlib.figure", "plots: pictures need matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # a notebook shows what has _repr_png_, whether or not pyplot was ever imported
    kind = type("Figure", (made.Figure,), {"_repr_png_": _png})
    page = kind(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(page)
    return page


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


Target = str | os.PathLike | None  # where a picture is written; None for a figure that is returned


def target(caller: str, path: Target, dpi: float) -> Path | None:
    """The path, checked before the work of drawing; None if there is none.

    Raises ValueError for any other suffix and for a `dpi` outside 10 to 2,400, TypeError if `path`
    is not a path or `dpi` not a number, FileNotFoundError or IsADirectoryError if no file can be
    written there.

    >>> target("curves", "a.png", 120).name
    'a.png'
    """
    number = is_number(dpi) and not isinstance(dpi, bool)
    expect(number, f"{caller}: dpi", dpi, "a number")
    expect(10 <= dpi <= 2400, f"{caller}: dpi", dpi, "a number from 10 to 2400", ValueError)
    if path is None:
        return None
    path = as_path(caller, path)
    require(
        path.suffix.lower() in (".png", ".svg", ".pdf"),
        f"{caller}: {path} ends in {path.suffix!r}, expected .png, .svg or .pdf; the suffix "
        "chooses the format.",
    )
    return writable(caller, path)


def limits_of(
    caller: str, limits: Any, log: bool = False, ordered: bool = True
) -> tuple[float, float] | None:
    """The two ends of an axis, or None to fit the data.

    Raises TypeError unless they are two numbers, ValueError for ends that are not finite, equal, in
    the wrong order, or not above 0 on a logarithmic axis.

    >>> limits_of("curves", [0, 1])
    (0.0, 1.0)
    """
    if limits is None:
        return None
    pair = isinstance(limits, (tuple, list, np.ndarray)) and len(limits) == 2
    expect(pair and all(map(is_number, limits)), f"{caller}: limits", limits, "two numbers")
    low, high = map(float, limits)
    legal = np.isfinite([low, high]).all() and (low < high or (high < low and not ordered))
    such = "two finite numbers, the lower first,"
    expect(legal, f"{caller}: limits", limits, such, ValueError)
    text = f"{caller}: limits start at {low:g}, but a log axis shows only numbers above 0."
    require(low > 0 or not log, text)
    return low, high


def pairs(caller: str, name: str, values: Any, what: str) -> list[tuple[Any, Any]]:
    """A list of pairs, each of them `what`. Raises TypeError for anything else.

    >>> pairs("curve_grid", "panels", [("a", {})], "(title, curves)")
    [('a', {})]
    """
    legal = isinstance(values, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in values
    )
    expect(legal, f"{caller}: {name}", values, f"a list of pairs {what}")
    return [(first, second) for first, second in values]


def names_of(caller: str, log: Any, known: Any) -> set:
    """The columns on logarithmic axes. Raises TypeError unless `log` is a list of names, ValueError
    for one that is not `known`.

    >>> names_of("slices", "rate", ["rate", "decay"])
    {'rate'}
    """
    names = {log} if isinstance(log, str) else {*a_list(caller, "log", log, "names")}
    unknown = sorted(names - {*known}, key=str)
    expect(not unknown, f"{caller}: log", unknown, f"a list of names among {[*known]}", ValueError)
    return names


def a_list(caller: str, name: str, values: Any, of: str) -> list:
    """The values as a list. Raises TypeError for a string and for anything that is not iterable.

    >>> a_list("rungs", "levels", range(2), "epochs")
    [0, 1]
    """
    legal = hasattr(values, "__iter__") and not isinstance(values, str)
    expect(legal, f"{caller}: {name}", values, f"a list of {of}")
    return [*values]


def check_some(caller: str, name: str, values: Sized) -> None:
    """Raises ValueError if there is nothing to draw.

    >>> check_some("curves", "series", {"a": [1.0]})
    """
    require(len(values) > 0, f"{caller}: there are no {name} to draw.")


def check_finite(caller: str, what: str, finite: np.ndarray) -> None:
    """Raises ValueError if no entry of `finite` is true.

    >>> check_finite("slices", "the 2 scores", np.array([True, False]))
    """
    require(
        bool(finite.any()),
        f"{caller}: none of {what} can be drawn; they must be finite, and above 0 on a log axis.",
    )


def check_shape(caller: str, what: str, shape: tuple, legal: bool, expected: str) -> None:
    """Raises ValueError unless the shape is `legal`.

    >>> check_shape("images", "the images have", (1, 8, 8), True, "(n, height, width)")
    """
    require(legal, f"{caller}: {what} shape {shape}, expected {expected}.")


YScale = Annotated[str, one_of("linear", "log")]


def write(caller: str, figure: Any, path: Path | None, dpi: float) -> Any:
    """Write the picture completely or not at all, and return its path; the figure without a path.

    Raises OSError, with the path, if it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write("curves", figure(4, 3), Path(folder, "a.png"), 50).name
    'a.png'
    """
    if path is None:
        figure.set_dpi(dpi)
        return figure
    kind = path.suffix.lower().lstrip(".")
    # without a date, so that the same data gives the same file
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=dpi, metadata=undated)
    try:
        write_bytes(path, picture.getvalue())
    except OSError as error:
        raise OSError(
            error.errno, f"{caller}: cannot write the picture, {error.strerror}", str(path)
        ) from error
    return path


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line.

    >>> line_style(0)["linestyle"]
    '-'
    """
    # the period of the pair is longer than that of either
    turn = i // len(COLOURS)
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[(i + turn) % len(DASHES)]}


def shades() -> Any:
    """The colour of a rank: light yellow-green at 0 is bad, and dark violet at 1 is good.

    >>> bool(shades()(0.0)[:3] > shades()(1.0)[:3])
    True
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0.95, 0, 256)))


def plain_axes(ax: Any, size: float = 7) -> None:
    """A light grid, small ticks and no frame.

    >>> ax = figure(4, 3).subplots()
    >>> plain_axes(ax)
    >>> ax.spines["top"].get_visible()
    False
    """
    ax.grid(True, **_GRID)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=size, length=2, width=0.6, color="#888888")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.6, color="#888888")


def whole_ticks(ax: Any, xs: list[np.ndarray], most: int) -> None:
    """At most `most` round ticks on the x axis, and its range from the longest curve.

    >>> ax = figure(4, 3).subplots()
    >>> whole_ticks(ax, [np.array([1.0, 11.0])], 5)
    >>> [round(float(end), 1) for end in ax.get_xlim()]
    [0.7, 11.3]
    """
    from matplotlib.ticker import MaxNLocator

    every = np.concatenate([np.zeros(0), *xs])
    if every.size:
        low, high = every.min(), every.max()
        margin = 0.03 * (high - low) or 0.5
        ax.set_xlim(low - margin, high + margin)
    whole = bool((every == np.rint(every)).all())
    ax.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole))


def small_lines(text: str) -> list[str]:
    """The lines of a panel's title after the first, broken between items to fit the panel.

    >>> small_lines("Best-1\\nrate 9.3e-03  decay 1e-08")
    ['rate 9.3e-03  decay 1e-08']
    """
    broken = []
    for line in str(text).split("\n")[1:]:
        current = ""
        for item in line.split("  "):  # items are two spaces apart, one is inside: "rate 9.3e-03"
            longer = f"{current}  {item}" if current else item
            if current and len(longer) > _SMALL_WIDTH:
                broken.append(current)
                longer = item
            current = longer
        broken.append(current)
    return broken


def heading(ax: Any, text: str) -> None:
    """The title of a panel, its lines after the first smaller.

    >>> ax = figure(4, 3).subplots()
    >>> heading(ax, "Best-1\\nrate 0.1")
    >>> ax.get_title()
    'Best-1'
    """
    small = small_lines(text)
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


def legend(figure: Any, handles: Mapping[str, Any], columns: int, **place: Any) -> None:
    """The legend, {name: line}; none without lines.

    >>> legend(None, {}, 1)
    """
    if not handles:
        return
    drawn = figure.legend(
        list(handles.values()),
        # matplotlib leaves out labels that start with an underscore
        [f" {name}" if str(name).startswith("_") else str(name) for name in handles],
        ncols=min(columns, len(handles)),
        fontsize=8,
        frameon=False,
        handlelength=2.6,
        **place,
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)


def header(page: Any, title: str | None, handles: Mapping[str, Any]) -> None:
    """Add the title and the legend above the panels, and make the page taller to fit them.

    >>> page = figure(4, 3)
    >>> header(page, "A title", {})
    >>> bool(page.get_size_inches()[1] > 3)
    True
    """
    from matplotlib.lines import Line2D

    width, height = page.get_size_inches()
    lines = textwrap.wrap("" if title is None else str(title), max(10, int((width - 0.2) / 0.092)))
    handles = {name: Line2D([], [], **look) for name, look in handles.items()}
    needed = sum(0.55 + 0.07 * len(name) for name in handles)
    # on one line where both fit
    shared = not lines or (len(lines) == 1 and 0.092 * len(lines[0]) + needed < width - 0.4)
    drop = 0.0 if shared else 0.2 * len(lines)
    top = max(0.2 * len(lines), drop + 0.2 * bool(handles)) + 0.1
    page.set_size_inches(width, height + top)
    page.get_layout_engine().set(rect=(0, 0, 1, height / (height + top)))
    up = lambda inches: 1 - inches / (height + top)
    if lines:
        place = {"ha": "left", "va": "top", "parse_math": False}
        page.text(0.1 / width, up(0.08), "\n".join(lines), fontsize=11, linespacing=1.1, **place)
    corner = {"loc": "upper right", "bbox_to_anchor": (1, up(drop)), "borderaxespad": 0.3}
    legend(page, handles, len(handles), **corner)


def fold(text: Any, width: int, lines: int = 3) -> str:
    """A name on several short lines, broken after `_`, `.`, `/`, `-` and spaces, or cut.

    >>> fold("learning_rate_of_the_second_network", 12).split("\\n")
    ['learning_', 'rate_of_the_', 'second_netw…']
    """
    folded = [""]
    for piece in re.split(r"(?<=[_\s./-])", str(text)):
        if folded[-1] and len(folded[-1]) + len(piece.rstrip()) > width:
            folded.append("")
        folded[-1] += piece
    if len(folded) > lines:
        folded[lines - 1 :] = ["".join(folded[lines - 1 :])]
    return "\n".join(shorten(line.strip(), width) for line in folded)


def shorten(text: str, width: int) -> str:
    """A text cut to `width` characters.

    >>> shorten("learning rate", 9)
    'learning…'
    """
    return text if len(text) <= width else text[: max(1, width - 1)].rstrip() + "…"
