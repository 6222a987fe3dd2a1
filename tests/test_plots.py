"""Pictures: complete files of the expected size that show what they were given."""

import io
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from purenet import plots
from purenet.plots import distributions, style

Image = pytest.importorskip("PIL.Image")  # comes with matplotlib


def curve(n=20, seed=0):
    return np.random.default_rng(seed).random(n)


def panels(n, seed=0):
    return [
        (f"Best-{i + 1}\nrate 1e-0{i % 9}", {"validation": curve(seed=seed), "train": curve()})
        for i in range(n)
    ]


DRAW = {
    "curve_grid": lambda path, v, **o: plots.curve_grid(path, [("a", {"train": v})], **o),
    "curves": lambda path, v, **o: plots.curves(path, {"a": v, "b": v[::-1]}, **o),
    "histograms": lambda path, v, **o: plots.histograms(path, [("r", [("p", v)])], **o),
    "images": lambda path, v, **o: plots.images(path, v.reshape(1, 4, 5), **o),
    "filters": lambda path, v, **o: plots.filters(path, v.reshape(2, 2, 1, 5), **o),
}


@pytest.fixture(params=DRAW.values(), ids=DRAW.keys())
def draw(request):
    return request.param


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


# what every picture promises
def test_the_picture_shows_the_data(draw, tmp_path):
    assert draw(tmp_path / "a.png", curve()) == tmp_path / "a.png"
    draw(str(tmp_path / "b.png"), curve(seed=1))
    draw(tmp_path / "again.png", curve(), title="")
    draw(tmp_path / "title.png", curve(), title="Of $5 and _b_")
    a, b = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    assert a.shape == b.shape and a.std() > 1 and (a != b).sum() > 50
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert pixels(tmp_path / "title.png").shape[0] >= a.shape[0]
    assert (tmp_path / "title.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.png", "again.png", "b.png", "title.png"]


@pytest.mark.parametrize(
    "suffix, start", [("svg", b"<?xml"), ("PDF", b"%PDF"), ("png", b"\x89PNG")]
)
def test_the_suffix_chooses_the_format(tmp_path, suffix, start):
    path = DRAW["curves"](tmp_path / f"a.{suffix}", curve())
    assert path.read_bytes().startswith(start)


def test_the_resolution_scales_the_picture(draw, tmp_path):
    small = pixels(draw(tmp_path / "small.png", curve(), dpi=60)).shape
    large = pixels(draw(tmp_path / "large.png", curve(), dpi=120)).shape
    assert abs(large[0] - 2 * small[0]) <= 2 and abs(large[1] - 2 * small[1]) <= 2


def test_a_path_that_cannot_be_written(draw, tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg ends in '\.jpg', expected \.png, \.svg or \.pdf"):
        draw(tmp_path / "a.jpg", curve())
    with pytest.raises(FileNotFoundError, match=r"a\.png: there is no folder .*nowhere"):
        draw(tmp_path / "nowhere" / "a.png", curve())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.png is a folder"):
        draw(tmp_path / "folder.png", curve())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*file"):
        draw(tmp_path / "file" / "a.png", curve())


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_the_file_is_complete_or_as_it_was(draw, tmp_path, monkeypatch, function):
    (tmp_path / "a.png").write_bytes(b"the picture of yesterday")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match=r"cannot write the picture, No space left.*a\.png"):
        draw(tmp_path / "a.png", curve())
    assert (tmp_path / "a.png").read_bytes() == b"the picture of yesterday"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_folder_without_the_permission(tmp_path, monkeypatch):
    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match=r"curves: cannot write the picture, .*a\.png"):
        DRAW["curves"](tmp_path / "a.png", curve())
    assert os.listdir(tmp_path) == []


def test_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        DRAW["curves"](tmp_path / "a.png", curve())
    assert os.listdir(tmp_path) == []


def test_without_matplotlib(draw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"matplotlib.*pip install 'purenet\[plot\]'"):
        draw(tmp_path / "a.png", curve())
    assert os.listdir(tmp_path) == []


def test_the_figures_and_the_backend_of_the_caller_are_left_alone(tmp_path):
    program = """
import sys
from purenet import plots
from purenet.plots import distributions, style
assert "matplotlib" not in sys.modules
plots.curves(sys.argv[1], {"a": [1, 2]})
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
assert matplotlib.rcParams._get_backend_or_none() is None
"""
    path = tmp_path / "a.png"
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "DISPLAY")}
    run = [sys.executable, "-c", program, str(path)]
    subprocess.run(run, check=True, env=environment, cwd=os.getcwd())
    assert path.stat().st_size > 1000


# curves
def test_twenty_panels_are_a_thousand_pixels_wide(tmp_path):
    picture = pixels(plots.curve_grid(tmp_path / "a.png", panels(20), title="The 20 best"))
    assert picture.shape[1] == 1008 and 700 < picture.shape[0] < 900
    few = pixels(plots.curve_grid(tmp_path / "b.png", panels(7)))
    assert few.shape[1] == 1008 and few.shape[0] < 0.65 * picture.shape[0]
    # seven panels in a grid of ten: three cells stay white
    assert (few[few.shape[0] // 2 + 20 : -60, 450:] == 255).all()


def test_long_titles_are_broken_between_items_and_get_their_room(tmp_path):
    title = "Best-1\nacc 0.82  rate 9.3e-03  decay 1.2e-06  dropout 0.5\nlast"
    small = style.small_lines(title)
    assert small == ["acc 0.82  rate 9.3e-03", "decay 1.2e-06  dropout 0.5", "last"]
    long = pixels(plots.curve_grid(tmp_path / "a.png", [(title, {"train": curve()})]))
    short = pixels(plots.curve_grid(tmp_path / "b.png", [("Best-1\nx", {"train": curve()})]))
    assert long.shape[0] > short.shape[0] + 20


PAGES = {
    "one panel": (1, "Best-1", 1, ("train",), {}),
    "a full grid": (10, "Best-1\nrate 0.00123  weight decay 0.1", 1, ("validation", "train"),
                    {"title": "The best 10"}),
    "long numbers": (7, "Best-1\nrate 0.1", -12345.678, ("train",), {"limits": None}),
    "a power beside the axis": (3, "Best-1", 1e-6, ("train",), {"limits": None}),
    "many names": (3, "\n".join(["Best-1", *["number 0 0.00"] * 4]), 1, tuple("abcdefg"),
                   {"title": "Some", "y_label": "a longer label"}),
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_nothing_in_a_grid_lies_on_something_else_or_outside(page):
    count, heading, scale, names, options = page
    named = {name: scale * curve(seed=i) for i, name in enumerate(names)}
    figure = plots.curve_grid(None, [(heading, named)] * count, **options)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    boxes = [ax.get_tightbbox(renderer) for ax in shown]
    boxes += [text.get_window_extent(renderer) for text in [*figure.texts, *figure.legends]]
    assert len(boxes) == count + 3 + ("title" in options)  # with two labels and a legend
    left, bottom, right, top = figure.bbox.extents
    for box in boxes:
        assert left <= box.x0 and box.x1 <= right and bottom <= box.y0 and box.y1 <= top
    for one, other in itertools.combinations(boxes, 2):
        wide = min(one.x1, other.x1) - max(one.x0, other.x0)
        high = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(wide, high) < 1


def ink(path, named, **options):
    picture = plots.curve_grid(path, [("", named)], **options)
    return pixels(picture).min(axis=2) < 200


def test_validation_is_solid_and_train_dashed_and_darkness_differs(tmp_path):
    rows = {}
    for name in ("validation", "train"):
        named = {name: np.full(50, 0.5)}
        grey = pixels(plots.curve_grid(tmp_path / "a.png", [("", named)])).mean(axis=2)
        # below the legend and right of the axis: the row of the picture that has the curve
        inside = grey[60:-70, 80:400]
        rows[name] = inside[(inside < 200).sum(axis=1).argmax()]
    assert (rows["validation"] < 200).mean() > 0.9
    assert 0.3 < (rows["train"] < 200).mean() < 0.85
    assert rows["train"].min() - rows["validation"].min() > 40


def test_a_curve_ends_where_it_is_not_finite(tmp_path):
    whole = np.full(40, 0.5)
    for bad in (np.nan, np.inf):
        broken = np.where(np.arange(40) < 20, whole, bad)
        full = ink(tmp_path / "a.png", {"validation": whole})
        half = ink(tmp_path / "b.png", {"validation": broken})
        assert 0 < half.sum() < full.sum()
        assert full.shape == half.shape and (full | ~half).all()
    # nothing but nan, and one lonely point, are no error, and the point is seen
    none = ink(tmp_path / "c.png", {"validation": np.full(3, np.nan)})
    one = ink(tmp_path / "d.png", {"validation": np.array([np.nan, 0.5, np.nan])})
    assert one.sum() > none.sum()


def test_log_scale_leaves_out_what_has_no_logarithm(tmp_path):
    values = np.array([1.0, 0.1, 0.0, -1.0, 0.01])
    plots.curves(tmp_path / "a.png", {"a": values, "_b": -values}, y_scale="log")
    plots.curves(tmp_path / "b.png", {"a": ([0, 10, 20], [1, 2, 3])}, limits=(0, 5))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_many_series_look_different():
    styles = [style.line_style(i) for i in range(16)]
    assert len({(s["color"], str(s["linestyle"])) for s in styles}) == 16


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: plots.curve_grid(p, []), "curve_grid: there are no panels"),
        (lambda p: plots.curve_grid(p, panels(1), columns=0), "columns is 0, but at least 1"),
        (
            lambda p: plots.curve_grid(p, [("a", {"train": np.ones((2, 3))})]),
            r"curve 'train' has .* y of shape \(2, 3\)",
        ),
        (lambda p: plots.curves(p, {}), "curves: there are no series"),
        (lambda p: plots.curves(p, {"a": ([1, 2], [1, 2, 3])}), r"\(2,\) and y of shape \(3,\)"),
        (lambda p: plots.curves(p, {"a": ([1, np.nan], [1, 2])}), "with x finite"),
        (lambda p: plots.curves(p, {"a": [1]}, y_scale="cubic"), "y_scale is 'cubic'"),
        (lambda p: plots.histograms(p, []), "histograms: rows is empty"),
        (lambda p: plots.histograms(p, [("a", [])]), "has no panels"),
        (lambda p: plots.histograms(p, [("a", [("b", [1])])], bins=0), "bins is 0"),
        (lambda p: plots.images(p, np.ones((2, 3))), r"images have shape \(2, 3\), expected"),
        (lambda p: plots.images(p, np.ones((2, 3, 3, 2))), r"shape \(2, 3, 3, 2\)"),
        (lambda p: plots.images(p, np.ones((2, 3, 3)), ["a"]), "2 images, but 1 titles"),
        (lambda p: plots.filters(p, np.ones((3, 3, 8, 4))), r"in = 1 or 3.*kernels\[:, :, :1\]"),
    ],
)
def test_plot_errors(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


# histograms, images
def test_histograms_of_odd_values(tmp_path):
    rows = [
        ("constant", [("zeros", np.zeros(5)), ("large", np.full(5, 1e300))]),
        ("odd", [("nan", [np.nan, np.inf, 1.0]), ("empty", []), ("close", [1, 1 + 1e-16])]),
    ]
    picture = plots.histograms(tmp_path / "a.png", rows, bins=7)
    assert pixels(picture).std() > 1


def test_bins_count_every_value_once():
    values = np.random.default_rng(0).normal(size=1000)
    counts, edges = np.histogram(values, distributions._edges(values, 30))
    assert counts.sum() == 1000 and len(edges) == 31


def test_images_show_their_pixels(tmp_path):
    black_white = np.zeros((1, 2, 2), np.uint8)
    black_white[0, 0, 1] = 255
    picture = pixels(plots.images(tmp_path / "a.png", black_white))
    h, w, _ = picture.shape
    corners = [picture[int(h * y), int(w * x)].tolist() for y in (0.3, 0.7) for x in (0.3, 0.7)]
    assert corners == [[0] * 3, [255] * 3, [0] * 3, [0] * 3]
    red = np.zeros((1, 2, 2, 3))
    red[..., 0] = 1
    picture = pixels(plots.images(tmp_path / "b.png", red))
    assert picture[h // 2, w // 2].tolist() == [255, 0, 0]
    wide = pixels(plots.images(tmp_path / "c.png", np.zeros((30, 8, 8)), list("abcde") * 6))
    assert 950 < wide.shape[1] < 1050


def test_filters_are_grey_at_zero(tmp_path):
    kernels = np.zeros((2, 2, 1, 1))
    kernels[0, 0], kernels[1, 1] = 2, -2
    picture = pixels(plots.filters(tmp_path / "a.png", kernels))
    h, w, _ = picture.shape
    values = [picture[int(h * y), int(w * x), 0] for y in (0.3, 0.7) for x in (0.3, 0.7)]
    assert values == [255, pytest.approx(127, abs=1), pytest.approx(127, abs=1), 0]
    plots.filters(tmp_path / "b.png", np.full((3, 3, 3, 2), np.nan))  # no warning, no error


def test_png_is_whole(draw, tmp_path):
    content = draw(tmp_path / "a.png", curve()).read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        picture.verify()
    assert content.endswith(b"IEND\xaeB`\x82")
