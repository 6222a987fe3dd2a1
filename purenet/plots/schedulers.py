"""How a search went: the rungs of successive halving, the lineage of a population."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from purenet.core.validate import (
    PositiveInteger,
    declared,
    expect,
    integer,
    mapping,
    real_numbers,
    require,
)
from purenet.plots import style
from purenet.plots.scales import Scale, scale

_LIGHT = "#a9c4e4"  # stopped trials, members that are not ancestors of the best
_DARK = style.COLOURS[0]
_CROSS = style.COLOURS[6]
_COPY = style.COLOURS[1]
_BEST = {"color": "black", "linewidth": 2.2}
_STATUS = ("done", "stopped", "diverged")


# successive halving
def rung_counts(epochs: Any, levels: Sequence[int]) -> list[tuple[int, int]]:
    """The number of trials that reached each level, and of those that went beyond it.

    Shapes: epochs (n,) trained by each trial -> a pair per level.

    >>> rung_counts([1, 1, 3, 9], [1, 3, 9])
    [(4, 2), (2, 1), (1, 0)]
    """
    trained = np.asarray(epochs)
    return [(int((trained >= level).sum()), int((trained > level).sum())) for level in levels]


@declared
def rungs(
    path: style.Target,
    scores: Any,
    epochs: Any,
    levels: Sequence[int],
    status: Sequence[str] | None = None,
    score_label: str = "score",
    maximize: bool = True,
    limits: tuple[float, float] | None = None,
    y_scale: style.YScale = "linear",
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """The rungs of successive halving: the curve of each trial up to the epoch where it ended.

    Shapes: `scores` (n, most epochs), one value per epoch from 1 on, ignored after a trial's end;
    `epochs` (n,) trained by each trial; `levels` the epochs of the rungs, each a vertical line with
    the number of trials that reached it → that went beyond; `status` n of "done" (dark), "stopped"
    (light) and "diverged" (ends in a cross). It defaults to done for trials with the most epochs,
    diverged for those whose last score is not finite, and stopped for the others. `maximize` says
    whether large scores are good: the best done trial is thick. `limits` of the scores, None to fit
    the data. The axis of the epochs is logarithmic if the levels span more than a factor of 8. Draw
    each bracket of Hyperband separately. Returns the path, or the figure if it is None.
    Raises ValueError for shapes that do not agree, no levels, no finite score, or a bad suffix,
    `limits` or `dpi`; TypeError if an argument has the wrong type; OSError if the picture cannot be
    written.
    Source: Li, Jamieson, DeSalvo, Rostamizadeh & Talwalkar (2018), Hyperband.

    >>> import tempfile
    >>> scores = [[0.5, np.nan, np.nan], [0.6, 0.7, 0.8], [0.4, np.nan, np.nan]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rungs(f"{folder}/rungs.png", scores, [1, 3, 1], levels=[1, 3]).name
    'rungs.png'
    """
    target = style.target("rungs", path, dpi)
    limits = style.limits_of("rungs", limits, log=y_scale == "log")
    y, trained, steps, ends = _ends("rungs", scores, epochs, levels, status)
    n, most = y.shape
    seen = np.where(np.arange(1, most + 1) <= trained[:, None], y, np.nan)
    seen[~np.isfinite(seen) | ((seen <= 0) & (y_scale == "log"))] = np.nan
    style.check_finite("rungs", f"the scores of {n} trials", np.isfinite(seen))
    # trials that diverged may end anywhere: the others decide the range
    calm = seen[ends != "diverged"]
    calm = calm[np.isfinite(calm)] if np.isfinite(calm).any() else seen[np.isfinite(seen)]
    seen = np.clip(seen, *(limits or (calm.min(), calm.max())))

    page = style.figure(style.WIDTH, 3.9)
    ax = page.subplots()
    looks = _rung_curves(ax, seen, ends, maximize)
    style.plain_axes(ax, size=8)
    ax.set_yscale(y_scale)
    if limits is not None:
        ax.set_ylim(*limits)
    _epoch_axis(ax, trained, steps)
    ax.set_ylabel(style.fold(score_label, 40), fontsize=9, parse_math=False)
    style.header(page, title, looks)
    return style.write("rungs", page, target, dpi)


# population based training
def ancestry(parents: Any, member: int) -> list[int]:
    """Which member held the weights of `member` in every round, from the first to the last.

    Shapes: parents (rounds, members), `parents[r, j]` the member whose weights j has after round r
    -> rounds + 1 members, the last is `member`.

    >>> ancestry([[0, 0, 2], [0, 1, 1]], member=2)
    [0, 1, 2]
    """
    line = [int(member)]
    for row in np.asarray(parents, int)[::-1]:
        line.append(int(row[line[-1]]))
    return line[::-1]


@declared
def lineage(
    path: style.Target,
    scores: Any,
    parents: Any,
    every: PositiveInteger,
    numbers: Mapping[str, Any] | None = None,
    log: Collection[str] = (),
    score_label: str = "score",
    maximize: bool = True,
    limits: tuple[float, float] | None = None,
    y_scale: style.YScale = "linear",
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """The lineage of a population: all curves, who copied whom, and the ancestors of the best.

    Shapes: `scores` (members, epochs), one value per epoch from 1 on, with gaps where not finite;
    `parents` (rounds, members) the member whose weights each has after the round, itself if it kept
    its own; round r ends after epoch `every` (r + 1). `numbers` is {name: values (rounds + 1,
    members)}, the hyperparameters during every round, a panel each; `log` names those with
    logarithmic axes. The best member is that of the last epoch with a finite score, and `maximize`
    says whether large ones are good; its ancestors are thick and black. Copies are dashed, from the
    end of the old weights to the curve of the new. `limits` of the scores, None to fit the data.
    Returns the path, or the figure if it is None.
    Raises ValueError for shapes that do not agree, parents out of range, no finite score, or a bad
    suffix, `limits` or `dpi`; TypeError if an argument has the wrong type; OSError if the picture
    cannot be written.
    Source: Jaderberg et al. (2017), Population based training of neural networks.

    >>> import tempfile
    >>> scores, rate = [[0.1, 0.2, 0.3], [0.2, 0.3, 0.5]], [[0.1, 0.01], [0.012, 0.01]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/pbt.png"
    ...     lineage(path, scores, [[1, 1]], every=2, numbers={"rate": rate}, log=["rate"]).name
    'pbt.png'
    """
    target = style.target("lineage", path, dpi)
    limits = style.limits_of("lineage", limits, log=y_scale == "log")
    y, rows = _population("lineage", scores, parents, every)
    members, epochs = y.shape
    finite = np.isfinite(y) & ((y > 0) | (y_scale == "linear"))
    style.check_finite("lineage", f"the scores of {members} members", finite)
    y = np.where(finite, y, np.nan)
    end = int(np.flatnonzero(finite.any(axis=0))[-1])
    best = int(np.nanargmax(y[:, end] if maximize else -y[:, end]))
    # an exchange after the last epoch shows nothing and does not affect the best
    used = rows[: end // every]
    line = ancestry(used, best)

    numbers = {} if numbers is None else mapping("lineage", "numbers", numbers)
    log = style.names_of("lineage", log, numbers)
    panels = [_panel(name, v, name in log, rows) for name, v in numbers.items()]

    page = style.figure(style.WIDTH, 3.3 + 1.25 * len(panels))
    ratios = [2.6, *[1.0] * len(panels)]
    axes = page.subplots(1 + len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    thin = min(1.0, max(0.5, 6 / members**0.5))
    ax = axes[0]
    segments, copies = _segments(y, used, every)
    owner = np.array(line)[np.minimum(np.arange(epochs) // every, len(used))]
    bold = np.arange(1.0, epochs + 1), y[owner, np.arange(epochs)]
    _lineage_lines(ax, segments, bold, copies, thin)
    ax.plot(end + 1, y[best, end], "o", color="black", ms=6, zorder=5)
    style.plain_axes(ax, size=8)
    ax.set_yscale(y_scale)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_ylabel(style.fold(score_label, 30), fontsize=9, parse_math=False)
    edges = np.append(np.arange(len(used) + 1) * every, epochs) + 0.5
    for ax, panel in zip(axes[1:], panels, strict=True):
        heights = panel.at.reshape(len(rows) + 1, members)[: len(used) + 1]
        _number_panel(ax, panel, heights, edges, used, line, 1.2 * thin)
    page.align_ylabels(axes)
    style.whole_ticks(axes[-1], [np.array([1.0, epochs])], 10)
    axes[-1].set_xlabel("epoch", fontsize=9)
    looks = {
        f"best: {y[best, end]:.4g}, and its ancestors": _BEST,
        f"members: {members}": {"color": _LIGHT, "linewidth": 1.2},
        f"copies: {len(copies)}": {"color": _COPY, "linewidth": 1, "linestyle": (0, (3, 1.5))},
    }
    style.header(page, title, looks)
    return style.write("lineage", page, target, dpi)


# pieces
def _rung_curves(ax, seen: np.ndarray, ends: np.ndarray, maximize: bool) -> dict[str, dict]:
    """The curves of the trials, those that are done in front; returns the looks of the legend."""
    from matplotlib.collections import LineCollection

    n, most = seen.shape
    thin = min(1.4, max(0.6, 10 / n**0.5))
    x = np.arange(1.0, most + 1)
    lines = np.stack(np.broadcast_arrays(x, seen), axis=2)
    last = _last_finite(seen)
    looks: dict[str, dict[str, Any]] = {}
    shown = {"stopped": _LIGHT, "diverged": "#c9c9c9", "done": _DARK}
    for z, (kind, colour) in enumerate(shown.items(), 2):
        chosen = ends == kind
        if not chosen.any():
            continue
        look = {"color": colour, "linewidth": thin}
        ax.add_collection(
            LineCollection(list(lines[chosen]), colors=colour, linewidths=thin, zorder=z)
        )
        there = chosen & (last >= 0)
        marker: dict[str, Any] = {"marker": "o", "markersize": 4}
        if kind == "diverged":
            marker = {"marker": "x", "markersize": 6, "markeredgewidth": 1.4}
            marker |= {"markeredgecolor": _CROSS}
        end = seen[there, last[there]]
        ax.plot(x[last[there]], end, **{**look, **marker, "linewidth": 0}, zorder=z + 0.5)
        looks[f"{kind}: {chosen.sum()}"] = {**look, **marker}
    looks = {label: looks[label] for label in reversed(looks)}
    final = np.where(last >= 0, seen[np.arange(n), last], np.nan)
    final[ends != "done"] = np.nan
    if not np.isfinite(final).any():
        return looks
    best = int(np.nanargmax(final if maximize else -final))
    ax.plot(x, seen[best], **_BEST, zorder=6)
    ax.plot(x[last[best]], final[best], "o", color="black", ms=6, zorder=6)
    return {f"best: {final[best]:.4g}": _BEST, **looks}


def _epoch_axis(ax, trained: np.ndarray, steps: list[int]) -> None:
    """The epochs, logarithmic if the levels grow like powers, with a line at every level."""
    right = max(trained.max(), steps[-1], 1)
    powers = len(steps) > 2 and steps[-1] > 8 * steps[0]
    place = np.log10 if powers else np.asarray
    low, high = float(place(1.0)), float(place(float(right)))
    margin = 0.03 * (high - low) or 0.5
    low, high = low - margin, high + margin
    shares = [(float(place(float(level))) - low) / (high - low) for level in steps]
    _rung_lines(ax, steps, shares, rung_counts(trained, steps))
    if powers:
        ax.set_xscale("log")
        ax.set_xlim(10**low, 10**high)
        ax.set_xticks(steps, [str(level) for level in steps])
        ax.set_xticks([], minor=True)
    else:
        style.whole_ticks(ax, [np.array([1.0, right])], 10)
    ax.set_xlabel("epoch", fontsize=9)


def _segments(y: np.ndarray, used: np.ndarray, every: int) -> tuple[list, list]:
    """The curves of a population in pieces, each from where its weights come from, and the copies:
    from the end of a member's own weights to those it copies."""
    members, epochs = y.shape
    x = np.arange(epochs + 1.0)
    padded = np.concatenate([np.full((members, 1), np.nan), y], axis=1)
    segments, copies = [], []
    for r in range(len(used) + 1):
        first, past = r * every, (r + 1) * every if r < len(used) else epochs
        for j in range(members):
            parent = used[r - 1, j] if r else j
            if parent != j:
                copies.append([(first, padded[j, first]), (first, padded[parent, first])])
            heights = [padded[parent, first], *padded[j, first + 1 : past + 1]]
            segments.append(np.stack([x[first : past + 1], heights], axis=1))
    return segments, copies


def _lineage_lines(ax, lines, bold, copies, width: float) -> None:
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(lines, colors=_LIGHT, linewidths=width, zorder=2))
    dashes = {"colors": _COPY, "linewidths": 0.7, "linestyles": [(0, (3, 1.5))]}
    ax.add_collection(LineCollection(copies, **dashes, zorder=3))
    ax.plot(*bold, **_BEST, zorder=4)


def _number_panel(ax, panel: Scale, heights, edges, used, line: list[int], width: float) -> None:
    """How a hyperparameter of every member moved from round to round."""
    steps = [[(edges[r], h), (edges[r + 1], h)] for r, row in enumerate(heights) for h in row]
    moves = [
        [(edges[r + 1], heights[r, parent]), (edges[r + 1], heights[r + 1, j])]
        for r, row in enumerate(used)
        for j, parent in enumerate(row)
        if parent != j
    ]
    chosen = heights[np.arange(len(line)), line]
    bold = (np.repeat(edges, 2)[1:-1], np.repeat(chosen, 2))
    _lineage_lines(ax, steps, bold, moves, width)
    style.plain_axes(ax, size=8)
    ticks, labels = panel.ticks(4)
    ax.set_yticks(ticks, labels, fontsize=7, parse_math=False)
    ax.set_ylim(-0.1, 1.1)
    ax.set_ylabel(style.fold(panel.name, 14), fontsize=9, parse_math=False)


def _rung_lines(ax, levels, shares, counts) -> None:
    """A line at every level, with its counts above in as many rows as keep them apart."""
    ends: list[float] = []  # of the rows, in inches
    for level, share, (reached, beyond) in zip(levels, shares, counts, strict=True):
        text = f"{reached} → {beyond}" if beyond else str(reached)
        centre, half = share * (style.WIDTH - 0.8), 0.5 * (0.078 * len(text) + 0.1)
        row = next((r for r, end in enumerate(ends) if centre - half > end), len(ends))
        ends[row : row + 1] = [centre + half]
        ax.axvline(level, color="#8a8a8a", linewidth=0.7, zorder=1)
        above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(text, (level, 1), (0, 3 + 11 * row), ha="center", fontsize=8, **above)


def _matrix(caller: str, scores, rows: str) -> np.ndarray:
    y = real_numbers(caller, "scores", scores)
    legal = y.ndim == 2 and 0 not in y.shape
    style.check_shape(caller, "the scores have", y.shape, legal, f"({rows}, epochs)")
    return y


def _ends(caller, scores, epochs, levels, status):
    """(scores, epochs, sorted levels, status). Raises ValueError unless they agree."""
    y = _matrix(caller, scores, "trials")
    n, most = y.shape
    trained = np.asarray(epochs)
    whole = trained.dtype.kind in "iuf" and (trained == np.rint(trained)).all()
    style.check_shape(caller, "the epochs have", trained.shape, trained.shape == (n,), f"({n},)")
    legal = whole and ((trained >= 0) & (trained <= most)).all()
    such = f"an array of integers from 0 to {most}, the length of the scores,"
    expect(legal, f"{caller}: epochs", trained.tolist(), such, ValueError)
    levels = style.a_list(caller, "levels", levels, "epochs")
    style.check_some(caller, "levels", levels)
    steps = sorted({integer(f"{caller}: a level", level, least=1) for level in levels})
    trained = trained.astype(int)
    if status is not None:
        ends = np.array([str(s) for s in style.a_list(caller, "status", status, "texts")], object)
        legal = ends.shape == (n,) and {*ends} <= {*_STATUS}
        such = f"a list of {n} of {', '.join(map(repr, _STATUS))}"
        expect(legal, f"{caller}: status", list(ends), such, ValueError)
        return y, trained, steps, ends
    ends = np.where(trained == trained.max(), "done", "stopped").astype(object)
    final = y[np.arange(n), np.maximum(trained - 1, 0)]
    ends[~np.isfinite(final) & (trained > 0)] = "diverged"
    return y, trained, steps, ends


def _last_finite(y: np.ndarray) -> np.ndarray:
    """The index of the last finite value of every row, -1 if there is none."""
    finite = np.isfinite(y)
    return np.where(finite.any(axis=1), y.shape[1] - 1 - finite[:, ::-1].argmax(axis=1), -1)


def _population(caller: str, scores, parents, every: int) -> tuple[np.ndarray, np.ndarray]:
    y = _matrix(caller, scores, "members")
    members, epochs = y.shape
    rows = np.asarray(parents)
    rows = np.zeros((0, members), int) if rows.size == 0 else rows
    fits = rows.ndim == 2 and rows.shape[1] == members
    style.check_shape(caller, "the parents have", rows.shape, fits, f"(rounds, {members})")
    legal = rows.dtype.kind in "iu" and ((rows >= 0) & (rows < members)).all()
    such = f"an array of members, 0 to {members - 1},"
    expect(legal, f"{caller}: parents", rows.tolist(), such, ValueError)
    require(
        len(rows) * every <= epochs,
        f"{caller}: there are {len(rows)} rounds of {every} epochs, but scores of {epochs} epochs; "
        f"at most {epochs // every} rounds are expected.",
    )
    return y, rows


def _panel(name: str, values, log: bool, rows: np.ndarray):
    shape = (len(rows) + 1, rows.shape[1])
    try:
        table = np.asarray(values)
    except ValueError:  # of rows of unequal length
        table = np.empty(len(values))
    expected = f"{shape}, a row before each exchange and one after the last"
    what = f"the numbers of {name!r} have"
    style.check_shape("lineage", what, table.shape, table.shape[:2] == shape, expected)
    return scale(name, [v for row in table for v in row], log, "lineage")
