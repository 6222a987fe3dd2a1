"""Two objectives plotted against each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from purenet.core.validate import real_numbers, require
from purenet.plots import style


def front(
    path: style.Target,
    x: Any,
    y: Any,
    best: Sequence[int],
    labels: tuple[str, str] = ("first", "second"),
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """Points by two objectives, with a line through the Pareto front `best`.

    Shapes: x and y (n,), not finite for points that diverged, which are left out; `best` holds
    indices into them. Returns the path, or the figure if it is None.
    Raises ValueError for x and y of different lengths, indices out of range, no finite point,
    or a bad suffix or `dpi`; TypeError if an argument has the wrong type; OSError if the picture
    cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     front(f"{folder}/front.png", [0.9, 0.8, 0.7], [3.0, 1.0, 2.0], [0, 1]).name
    'front.png'
    """
    target = style.target("front", path, dpi)
    x, y = real_numbers("front", "x", x), real_numbers("front", "y", y)
    require(
        x.ndim == 1 and x.shape == y.shape,
        f"front: x has shape {x.shape} and y {y.shape}, but one number per point is expected.",
    )
    rows = np.array(best, int)
    require(
        bool(((rows >= 0) & (rows < len(x))).all()),
        f"front: best is {best}, but the points are numbered 0 to {len(x) - 1}.",
    )
    known = np.isfinite(x) & np.isfinite(y)
    require(bool(known.any()), "front: no point has two finite objectives.")
    page = style.figure(5.2, 3.4)
    ax = page.subplots()
    ax.plot(x[known], y[known], "o", color=style.COLOURS[0], ms=6, alpha=0.45, mew=0)
    chosen = rows[np.argsort(x[rows], kind="stable")]
    ax.plot(x[chosen], y[chosen], "-o", color=style.COLOURS[1], ms=8, mew=0.7, mec="black")
    style.plain_axes(ax)
    ax.set_xlabel(style.fold(labels[0], 40), parse_math=False)
    ax.set_ylabel(style.fold(labels[1], 40), parse_math=False)
    looks = {f"Pareto front ({len(best)})": {"color": style.COLOURS[1], "marker": "o"}}
    style.header(page, title, looks)
    return style.write("front", page, target, dpi)
