"""Pictures of sweeps: what they compute is exact, what they draw complete, and no trace is left."""

import os
import subprocess
import sys

import numpy as np
import pytest

from purenet import plots
from purenet.plots import schedulers, style
from purenet.plots.scales import scale

ODD_NAMES = ["$x_1$", "%d_%s", "a_rather_long_name_of_no_use_at_all_but_it_may_be_long", "_", ""]


def columns(n=9, seed=0):
    r = np.random.default_rng(seed)
    activation = [("relu", max, (100, 100))[i] for i in r.integers(0, 3, n)]
    return {"rate": 10 ** r.uniform(-5, 0, n), "depth": r.integers(1, 5, n), "net": activation}


def scores(n=9, seed=0):
    return np.where(np.arange(n) % 4 == 3, np.nan, np.random.default_rng(seed).random(n))


CURVES = np.random.default_rng(2).random((6, 9))
EPOCHS, LEVELS = np.array([1, 9, 3, 3, 9, 2]), [1, 3, 9]
STATUS = ["stopped", "done", "stopped", "stopped", "done", "diverged"]
PARENTS = [[0, 1, 1, 3], [3, 1, 2, 3]]
RATES = {"rate": 10.0 ** -np.arange(12).reshape(3, 4)}


def draw_rungs(path, seed=0, **o):
    return plots.rungs(path, CURVES + seed, EPOCHS, LEVELS, STATUS, **o)


def draw_lineage(path, seed=0, **o):
    return plots.lineage(path, CURVES[:4] + seed, PARENTS, 3, RATES, log=["rate"], **o)


def of_columns(draw):
    return lambda path, seed=0, **o: draw(path, columns(seed=seed), scores(), log=["rate"], **o)


OF_COLUMNS = {
    "parallel_coordinates": plots.parallel_coordinates,
    "slices": plots.slices,
    "pairwise": plots.pairwise,
}
DRAW = {name: of_columns(draw) for name, draw in OF_COLUMNS.items()}
DRAW |= {"rungs": draw_rungs, "lineage": draw_lineage}
DRAW |= {"history": lambda path, seed=0, **o: plots.history(path, scores(seed=seed), **o)}


@pytest.fixture(params=DRAW.values(), ids=DRAW.keys())
def draw(request):
    return request.param


@pytest.fixture(params=OF_COLUMNS.values(), ids=OF_COLUMNS.keys())
def of_trials(request):
    return request.param


def words(draw, folder, *args, **options):
    """The texts of a picture: an SVG says each beside the outlines of its letters."""
    picture = draw(folder / "words.svg", *args, **options).read_text()
    return [line.strip()[5:-4] for line in picture.split("\n") if line.strip().startswith("<!-- ")]


def texts(figure):
    from matplotlib.text import Text

    return {text.get_text().strip() for text in figure.findobj(Text)}


# what every picture promises
def test_the_picture_is_whole_and_shows_the_data(draw, tmp_path):
    assert draw(tmp_path / "a.png", dpi=50) == tmp_path / "a.png"
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")
    assert draw(tmp_path / "b.png", dpi=50).read_bytes() == content
    assert draw(str(tmp_path / "b.png"), seed=1, dpi=50).read_bytes() != content
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


@pytest.mark.parametrize("suffix, start", [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PN")])
def test_the_suffix_chooses_the_format(tmp_path, suffix, start):
    assert draw_rungs(tmp_path / f"a.{suffix}").read_bytes().startswith(start)


def test_a_path_that_cannot_be_written(draw, tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg ends in '\.jpg', expected \.png, \.svg or \.pdf"):
        draw(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        draw(tmp_path / "nowhere" / "a.png")


def test_the_file_is_complete_or_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"the picture of yesterday")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"lineage: cannot write the picture, No space.*a\.png"):
        draw_lineage(tmp_path / "a.png", dpi=50)
    assert (tmp_path / "a.png").read_bytes() == b"the picture of yesterday"
    assert os.listdir(tmp_path) == ["a.png"]


def test_without_matplotlib(draw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"matplotlib.*pip install 'purenet\[plot\]'"):
        draw(tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_the_figures_and_the_backend_of_the_caller_are_left_alone(tmp_path):
    program = """
import sys
from purenet import plots
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {k: v for k, v in dict.items(matplotlib.rcParams)}  # looks up no backend
before = settings()
path, columns = sys.argv[1], {"a": [1, 2], "b": ["x", "y"]}
for draw in (plots.parallel_coordinates, plots.slices, plots.pairwise):
    draw(path, columns, [1, 2])
plots.rungs(path, [[1, 2]], [2], [1])
plots.lineage(path, [[1, 2]], [[0]], 1)
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
assert matplotlib.rcParams._get_backend_or_none() is None
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "DISPLAY")}
    run = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    subprocess.run(run, check=True, env=environment, cwd=os.getcwd())


# scales
@pytest.mark.parametrize(
    "values, log, at, labels",
    [
        ([0.0, 1, 2], False, [0, 0.5, 1], ["0", "1", "2"]),
        ([1e-4, 1e-2, 1], True, [0, 0.5, 1], ["1e-4", "0.01", "1"]),
        ([32, 64, 128], True, [0, 0.5, 1], ["32", "64", "128"]),
        (np.full(2, 3.0), False, [0.5, 0.5], ["3"]),
        (["b", "a", "c"], False, [0.5, 0, 1], ["a", "b", "c"]),
        ([(2, 2), (1,), (2, 2)], False, [1, 0, 1], ["(1,)", "(2, 2)"]),
        ([max, min], False, [0, 1], ["max", "min"]),
        ([True, False], False, [1, 0], ["False", "True"]),
        ([None, 1, "a"], False, [0.5, 0, 1], ["1", "None", "a"]),
        ([[1], {}], False, [0, 1], ["[1]", "{}"]),
        ([0, 1, np.inf], False, [0, 1 / 1.1, 1], ["0", "1", "inf"]),
        ([-np.inf, 0, 1], False, [0, 0.1 / 1.1, 1], ["-inf", "0", "1"]),
        ([np.nan, 5.0], False, [0, 0.6 / 1.1], ["nan", "5"]),
        ([np.inf, np.inf], False, [1, 1], ["inf"]),
    ],
)
def test_every_value_has_its_place(values, log, at, labels):
    axis = scale("x", values, log)
    np.testing.assert_allclose(axis.at, at, atol=1e-12)
    places, names = axis.ticks()
    assert names == labels and places == sorted(places)


@pytest.mark.parametrize(
    "low, high, log, expected",
    [
        (0.0, 100.0, False, ["0", "20", "40", "60", "80", "100"]),
        (0.9101, 0.9168, False, ["0.912", "0.914", "0.916"]),
        (1e6 + 0.5, 1e6 + 4.5, False, ["1000001", "1000002", "1000003", "1000004"]),
        (1e-6, 1e-2, True, ["1e-6", "1e-5", "1e-4", "1e-3", "0.01"]),
        (1e-12, 1.0, True, ["1e-12", "1e-9", "1e-6", "1e-3", "1"]),
        (0.15, 0.7, True, ["0.2", "0.5"]),
    ],
)
def test_ticks_are_round_and_told_apart(low, high, log, expected):
    make = np.geomspace if log else np.linspace
    places, labels = scale("x", make(low, high, 50), log).ticks(5)
    assert labels == expected
    assert min(places) >= -1e-9 and max(places) <= 1 + 1e-9 and (np.diff(places) > 0).all()


def test_of_many_categories_some_are_named():
    places, labels = scale("x", [f"a_name_that_is_too_long_{i}" for i in range(200)]).ticks()
    assert len(labels) <= 10 and len(places) == len(labels)
    assert max(map(len, labels)) <= 16


@pytest.mark.parametrize("name", ODD_NAMES)
def test_folded_names_fit(name):
    for width in (1, 6, 12):
        lines = style.fold(name, width).split("\n")
        assert len(lines) <= 3 and all(len(line) <= max(2, width) for line in lines)
    assert style.fold(name, 60).replace("\n", "") == name


# hyperparameters against scores
def test_what_is_written_into_the_pictures(of_trials, tmp_path):
    y = scores()
    found = words(of_trials, tmp_path, columns(), y, log={"rate"}, score_label="acc")
    assert {f"best: {np.nanmax(y):.4g}", "diverged: 2", "rate", "depth", "net", "acc"} <= {*found}
    if of_trials is not plots.parallel_coordinates:  # its ticks have a halo and are not spelt out
        assert {"relu", "max", "(100, 100)", "1e-4"} <= {*found}
    small = words(of_trials, tmp_path, columns(), y, maximize=False, title="Of $5 and _b_ $")
    assert {f"best: {np.nanmin(y):.4g}", "Of $5 and _b_ $"} <= {*small}
    whole = words(of_trials, tmp_path, columns(), np.arange(9.0))
    assert "best: 8" in whole and not any("diverged" in w for w in whole)


def test_odd_columns_and_scores(of_trials, tmp_path):
    path = tmp_path / "a.png"
    named = {name: np.arange(3) for name in ODD_NAMES}
    found = words(of_trials, tmp_path, named, [np.inf, -np.inf, 2])
    assert {"best: 2", "diverged: 2", "$x_1$", "%d_%s"} <= {*found}
    of_trials(path, {"clip": [1, np.inf, np.nan], "same": [2, 2, 2]}, [1, 1, 1], dpi=40)
    of_trials(path, {"a": [1], "b": ["only"]}, [0.5], title="one " * 60, dpi=40)
    of_trials(path, {"a": [1e300, -1e300], "b": [1e-300, 1e300]}, [1e-9, 1], log=["b", "score"])


@pytest.mark.parametrize("draw", [plots.parallel_coordinates, plots.slices])
def test_one_column_and_twelve(draw, tmp_path):
    one = draw(tmp_path / "a.png", {"rate": np.arange(5)}, np.arange(5), dpi=40)
    y = np.random.default_rng(0).normal(size=1000)
    many = draw(tmp_path / "b.png", {f"name_{i}": y * i for i in range(12)}, y, dpi=40)
    assert one.stat().st_size > 500 and many.stat().st_size > 500


def test_the_best_is_drawn_last_and_ties_go_to_the_first():
    from purenet.plots.sweeps import _trials

    y = [0.5, np.nan, 0.9, 0.1, 0.9, np.inf]
    large = _trials("f", {"a": range(6)}, y, (), "score", True)
    assert large.order.tolist() == [3, 0, 4, 2] and (large.best, large.best_score) == (2, 0.9)
    small = _trials("f", {"a": range(6)}, y, (), "score", False)
    assert small.order.tolist() == [4, 2, 0, 3] and small.best == 3
    assert large.alive.tolist() == [True, False, True, True, True, False]


def test_good_is_dark_in_grey_too():
    grey = style.shades()(np.linspace(0, 1, 20))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()


@pytest.mark.parametrize("maximize", [True, False])
def test_colours_follow_ranks_and_bad_lines_are_faint(maximize):
    from matplotlib.collections import LineCollection

    y = 0.99 + np.random.default_rng(3).random(400) / 100  # which crowd near 1
    page = plots.parallel_coordinates(None, {"a": np.arange(400)}, y, maximize=maximize)
    _, lines = [c for c in page.axes[0].collections if isinstance(c, LineCollection)]
    colours, heights = lines.get_colors(), [path.vertices[-1, 1] for path in lines.get_paths()]
    order = np.argsort(heights)[:: 1 if maximize else -1]
    assert (np.diff(colours[order, :3] @ [0.299, 0.587, 0.114]) <= 0).all()
    assert colours[order[0], 3] < 0.3 and colours[order[-1], 3] == 1
    assert len({*map(tuple, colours)}) > 100  # though all scores are alike


@pytest.mark.parametrize("sign", [1, -1])
def test_a_few_bad_scores_do_not_press_the_others_together(sign):
    y = sign * np.array([0.1, *np.linspace(0.95, 0.99, 20)])
    page = plots.slices(None, {"a": np.arange(21)}, y, maximize=sign > 0)
    ax = page.axes[0]
    bad = [line.get_ydata() for line in ax.lines if line.get_marker() in "v^"]
    (dots,) = (c.get_offsets()[:, 1] for c in ax.collections)
    assert len(dots) == 20 and np.ptp(dots) > 0.3  # nearly nothing on an axis from 0.1
    assert bad[0] == (0 if sign > 0 else 1)
    assert [text for text in texts(page) if text.startswith("1 ")]
    even = plots.slices(None, {"a": np.arange(21)}, np.linspace(0, 1, 21), maximize=sign > 0)
    assert not [text for text in texts(even) if text.startswith("1 ")]


def test_history_shows_the_best_so_far():
    y = [0.3, np.nan, 0.9, 0.5]
    for maximize, best in ((True, [0.3, 0.3, 0.9, 0.9]), (False, [0.3, 0.3, 0.3, 0.3])):
        page = plots.history(None, y, maximize=maximize)
        crosses, line = page.axes[0].lines
        assert line.get_ydata().tolist() == best and crosses.get_xdata().tolist() == [1]
        assert f"best so far: {best[-1]}" in texts(page)


def test_importances_are_bars_in_their_order():
    page = plots.importances(None, {"$a$": 0.5, "b": 0.25})
    assert [bar.get_width() for bar in page.axes[0].patches] == [0.5, 0.25]
    assert {"$a$", "0.5", "0.25"} <= texts(page)
    with pytest.raises(ValueError, match="importances: a finite number is expected for each"):
        plots.importances(None, {"a": np.nan})


def test_without_a_path_the_figure_is_returned_and_a_notebook_shows_it(draw):
    figure = draw(None)
    assert figure.get_size_inches()[0] > 3 and figure._repr_png_().startswith(b"\x89PNG")


# rungs
def test_rung_counts():
    assert schedulers.rung_counts(EPOCHS, LEVELS) == [(6, 5), (4, 2), (2, 0)]
    halving = np.repeat([1, 3, 9, 27, 81], [54, 18, 6, 2, 1])
    counts = schedulers.rung_counts(halving, [1, 3, 9, 27, 81])
    assert counts == [(81, 27), (27, 9), (9, 3), (3, 1), (1, 0)]


def test_what_is_written_into_the_rungs(tmp_path):
    found = words(draw_rungs, tmp_path, score_label="a_$b$")
    assert {"6 → 5", "4 → 2", "2", "done: 2", "stopped: 3", "diverged: 1", "a_$b$"} <= {*found}
    assert f"best: {CURVES[[1, 4], -1].max():.4g}" in found
    assert f"best: {CURVES[[1, 4], -1].min():.4g}" in words(draw_rungs, tmp_path, maximize=False)
    inferred = words(plots.rungs, tmp_path, [[1, np.inf], [2, 3], [1, 9]], [2, 2, 1], [1, 2])
    assert {"done: 1", "stopped: 1", "diverged: 1", "3 → 2", "best: 3"} <= {*inferred}


def test_odd_rungs(tmp_path):
    path = tmp_path / "a.png"
    plots.rungs(path, [[0.5]], [1], [1], dpi=40)
    plots.rungs(path, [[np.inf, 1, np.nan], [1, 1, 1]], [3, 0], [5, 2, 2], y_scale="log", dpi=40)
    plots.rungs(path, [[1, 1e30]], [2], [1], ["diverged"], limits=(0, 1), dpi=40)
    plots.rungs(path, np.ones((300, 60)), np.full(300, 60), range(30, 60, 2), dpi=40)


# lineage
def test_ancestry():
    assert schedulers.ancestry(PARENTS, 0) == [3, 3, 0]
    assert schedulers.ancestry(PARENTS, 2) == [1, 2, 2]
    assert schedulers.ancestry([], 4) == [4]


def test_the_lineage_is_that_of_the_last_finite_score(tmp_path, monkeypatch):
    asked = []
    ancestry = schedulers.ancestry
    recorder = lambda rows, member: asked.append((len(rows), member)) or ancestry(rows, member)
    monkeypatch.setattr(schedulers, "ancestry", recorder)
    y = np.array([[1, 2, 3, 4.0], [1, 2, 5, 3], [1, 2, 4, np.nan]])
    parents = [[0, 1, 1], [1, 1, 1]]
    path = tmp_path / "a.png"
    plots.lineage(path, y, parents, 2, dpi=40)  # the second exchange has no epoch after it
    plots.lineage(path, y, parents, 2, maximize=False, dpi=40)
    y[:, 3] = np.nan
    plots.lineage(path, y, parents, 1, dpi=40)
    y[:, 2] = np.inf
    plots.lineage(path, y, parents, 1, dpi=40)
    assert asked == [(1, 0), (1, 1), (2, 1), (1, 0)]


def test_what_is_written_into_the_lineage(tmp_path):
    found = words(draw_lineage, tmp_path, score_label="a_$b$")
    best = f"best: {CURVES[:4, -1].max():.4g}, and its ancestors"
    assert {best, "members: 4", "copies: 2", "rate", "a_$b$", "1e-8"} <= {*found}


def test_odd_lineages(tmp_path):
    path = tmp_path / "a.png"
    plots.lineage(path, [[0.5]], [], 1, {"a": [["x"]]}, dpi=40)
    plots.lineage(path, [[0.5]], [[0]], 1, {"%a$_b$": [[1], [np.inf]]}, y_scale="log", dpi=40)
    y = np.array([[np.nan, np.inf, 1, -1], [np.nan, 0, 3, 2]])
    plots.lineage(path, y, [[1, 0], [0, 0]], 2, {"same": np.ones((3, 2))}, limits=(0, 2), dpi=40)


NAN = np.full((2, 3), np.nan)


@pytest.mark.parametrize("name", OF_COLUMNS)
@pytest.mark.parametrize(
    "columns, scores, options, message",
    [
        ({"a": [1], "b": [1]}, [[1]], {}, r"scores have shape \(1, 1\), expected \(n,\)"),
        ({"a": [1, 2], "b": [1, 2]}, [np.nan, np.inf], {}, "none of the 2 scores can be drawn"),
        ({"a": [1], "b": [1]}, [], {}, "none of the 0 scores can be drawn"),
        ({"a": [1, 2], "b": [1]}, [1, 2], {}, r"'b' has shape \(1,\), expected \(2,\)"),
        ({"a": np.ones((2, 3)), "b": [1, 2]}, [1, 2], {}, r"column 'a' has shape \(2, 3\)"),
        ({"a": [1, 0], "b": [1, 2]}, [1, 2], {"log": "a"}, "'a' has a log axis.* holds 0;"),
        ({"a": ["x"], "b": [1]}, [1], {"log": ["a"]}, "'a' has a log axis.*'x'; leave it out"),
        (
            {"a": [1], "b": [1]},
            [1],
            {"log": ["c"]},
            r"log is \['c'\], but a list of names among \['a', 'b', 'score'\]",
        ),
        ({"a": [1], "b": [1]}, [-1], {"log": ["score"]}, "'score' has a log axis.*-1"),
    ],
)
def test_errors_about_columns(tmp_path, name, columns, scores, options, message):
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        OF_COLUMNS[name](tmp_path / "a.png", columns, scores, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda p: plots.parallel_coordinates(p, {}, [1]),
            "parallel_coordinates: there are no col",
        ),
        (lambda p: plots.slices(p, {}, [1]), "slices: there are no columns"),
        (
            lambda p: plots.pairwise(p, {str(i): [1] for i in range(7)}, [1]),
            "pairwise: there are 7 columns, expected 2 to 6; .*`parallel_coordinates` or `slices`",
        ),
        (lambda p: plots.pairwise(p, {"a": [1]}, [1]), "there are 1 columns, expected 2 to 6"),
        (lambda p: plots.rungs(p, [1, 2], [1], [1]), r"rungs: the scores have shape \(2,\)"),
        (lambda p: plots.rungs(p, NAN, [1, 2], [1]), "rungs: none of the scores of 2 trials"),
        (lambda p: plots.rungs(p, [[1]], [1, 2], [1]), r"epochs have shape \(2,\)"),
        (lambda p: plots.rungs(p, [[1]], [0.5], [1]), r"epochs is \[0.5\], but an array of int"),
        (
            lambda p: plots.rungs(p, [[1]], ["1"], [1]),
            r"epochs is \['1'\], but an array of integers",
        ),
        (lambda p: plots.rungs(p, [[1]], [2], [1]), r"epochs is \[2\], .* integers from 0 to 1"),
        (lambda p: plots.rungs(p, [[1]], [1], []), "there are no levels"),
        (lambda p: plots.rungs(p, [[1]], [1], [0]), "a level is 0, but at least 1"),
        (
            lambda p: plots.rungs(p, [[1]], [1], [1], ["lost"]),
            r"status is \['lost'\], but a list of 1 of 'done'",
        ),
        (
            lambda p: plots.rungs(p, [[1]], [1], [1], ["done"] * 2),
            r"status is \['done', 'done'\], but a list of 1",
        ),
        (lambda p: plots.rungs(p, [[1]], [1], [1], y_scale="a"), "rungs: y_scale is 'a'"),
        (lambda p: plots.rungs(p, [[0]], [1], [1], y_scale="log"), "and above 0 on a log axis"),
        (lambda p: plots.lineage(p, [1, 2], [[0]], 1), r"lineage: the scores have shape \(2,\)"),
        (lambda p: plots.lineage(p, NAN, [[0, 1]], 1), "none of the scores of 2 members"),
        (lambda p: plots.lineage(p, [[1]], [[0, 1]], 1), r"parents have shape \(1, 2\)"),
        (lambda p: plots.lineage(p, [[1]], [[0.5]], 1), r"parents is \[\[0.5\]\], but"),
        (lambda p: plots.lineage(p, [[1]], [[1]], 1), r"parents is \[\[1\]\], .* 0 to 0"),
        (lambda p: plots.lineage(p, [[1]], [[0], [0]], 1), "2 rounds of 1 .* at most 1 rounds"),
        (lambda p: plots.lineage(p, [[1]], [[0]], 0), "every is 0, but at least 1"),
        (
            lambda p: plots.lineage(p, [[1]], [[0]], 1, {"a": [[1]]}),
            r"numbers of 'a' have shape \(1, 1\), expected \(2, 1\)",
        ),
        (lambda p: plots.lineage(p, [[1]], [[0]], 1, log=["a"]), r"log is \['a'\], but"),
        (
            lambda p: plots.lineage(p, [[1]], [[0]], 1, {"a": [[1], [0]]}, log="a"),
            "lineage: the column 'a' has a log axis",
        ),
        (lambda p: plots.lineage(p, [[1]], [[0]], 1, y_scale="a"), "lineage: y_scale is 'a'"),
    ],
)
def test_errors(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("draw, mark", [(plots.pairwise, "o"), (plots.slices, "v")])
def test_the_few_far_worse_than_the_others_have_a_mark_that_the_legend_explains(draw, mark):
    rng = np.random.default_rng(0)
    columns, scores = {name: rng.uniform(size=40) for name in "ab"}, rng.uniform(0.95, 1, size=40)
    scores[:3] = 0.1, 0.2, 0.3
    page = draw(None, columns, scores)
    (legend,) = page.legends or [ax.get_legend() for ax in page.axes if ax.get_legend()]
    named = {
        text.get_text(): h
        for text, h in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    (handle,) = [h for name, h in named.items() if name.startswith("3 below")]
    assert handle.get_marker() == mark
    shown = [line for line in page.axes[0].lines if line.get_marker() == mark]
    assert sum(len(line.get_xdata()) for line in shown) == 3
