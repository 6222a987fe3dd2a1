"""Every example runs with --quick, reaches the outcome that it asserts, and draws its pictures."""

from pathlib import Path

import forks
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
GALLERY = EXAMPLES.parent / "scripts" / "gallery"
PICTURES = {
    "e1_linear_regression": {"error"},
    "e4_activations": {"sigmoid", "tanh", "relu"},
    "e5_vanishing_gradients": {"vanishing_gradients"},
    "e6_batch_norm_scales": {"batch_norm_scales"},
    "e7_optimizers": {"losses", "rates"},
    "e8_overfitting": {"overfitting"},
    "e10_simple_convnet": {"curves", "filters_before", "filters_after", "mistakes"},
    "e11_deep_convnet": {"curves", "mistakes"},
    "e12_alexnet": {"curves", "filters_before", "filters_after", "patches"},
    "e2_numerical_gradient": {"curves"},
    "e3_gradient_check": {"errors"},
    "e13_save_load": {"curves"},
    "e14_data": {"images"},
}


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("e*.py")} == set(PICTURES)


def run(*command, folder):
    return forks.run(*command, cwd=folder, seconds=600)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_example_runs(name, tmp_path):
    done = run(EXAMPLES / f"{name}.py", "--quick", "--out", tmp_path, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.out  # the example itself asserts what it is to show
    number = name.partition("_")[0]
    drawn = {path.stem.removeprefix(f"{number}_") for path in tmp_path.glob("*.png")}
    assert drawn >= PICTURES[name] - {"mistakes"}


@pytest.mark.slow
def test_the_gallery_shows_an_example(tmp_path):
    done = run(GALLERY, "--only", "e1", "--quick", "--out", "page", folder=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("e1: done in ")
    page = (tmp_path / "page" / "gallery.md").read_text()
    assert "## E1: Linear regression" in page
    assert "`python examples/e1_linear_regression.py --data digits --quick`: done" in page
    assert "\n```\nrate " in page
    assert "![e1_error](e1_error.png)" in page
    assert (tmp_path / "page" / "e1_error.png").is_file()


@pytest.mark.slow
def test_the_gallery_goes_on_after_a_failure(tmp_path):
    options = ("--only", "e7,e6", "--quick", "--data", "mnist", "--data-dir", "nowhere")
    done = run(GALLERY, *options, folder=tmp_path)
    assert done.code == 1
    assert [line[:10] for line in done.out.splitlines()] == ["e6: failed", "e7: failed"]
    page = (tmp_path / "gallery" / "gallery.md").read_text()
    assert page.startswith("# Gallery\n\n**Failed: e6, e7.**")
    assert page.count("mnist: nowhere is not a directory") == 2
    assert page.count("--data mnist --data-dir DIR --quick`: failed with exit status 1") == 2


def test_the_gallery_names_the_examples_it_knows(tmp_path):
    done = run(GALLERY, "--only", "e1,e99", folder=tmp_path)
    assert done.code == 2
    assert "no example e99; there are e1, " in done.err


SWEEPS = {
    "sweep_tour": {"best", "parallel", "slices", "map", "rungs", "lineage"},
    "sweep_any_code": {"newton", "newton_curves", "bandit"},
    "sweep_transformers": {"slices"},
    "sweep_width_transfer": {"standard_adam", "muP_adam"},
    "sweep_freeze_thaw": set(),
    "sweep_series": {"slices"},
    "sweep_hypergradients": {"lineage"},
}


def test_every_sweep_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("sweep_*.py")} == set(SWEEPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_example_runs(name, tmp_path):
    done = run(EXAMPLES / f"{name}.py", "--quick", "--out", tmp_path, folder=tmp_path)
    assert done.code == 0, done.err
    drawn = {path.stem.partition("_")[2] for path in tmp_path.glob("*.png")}
    assert drawn == SWEEPS[name]


TABLES = {
    "tabular": ["--table", "diabetes", "--save", "voters.npz"],
    "tabular_ensemble": ["--optimizer", "muon"],
    "lcbench": [],
    "streamed": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_example_of_tables_runs(name, tmp_path):
    pytest.importorskip("sklearn")
    done = run(EXAMPLES / f"{name}.py", "--quick", *TABLES[name], folder=tmp_path)
    assert done.code == 0, done.err
    assert "network" in done.out  # the example itself asserts what it is to show
