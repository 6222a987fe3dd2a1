"""`purenet sweep` as a user meets it."""

import re
import sys
import time

import numpy as np
import pytest
from forks import Forked, run

from purenet import cli, sweep


def purenet(*arguments, cwd):
    """The command in a process of its own."""
    return run("-m", "purenet.cli", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return purenet("sweep", "--trials", 6, "--epochs", 4, cwd=folder), folder / "sweep-results"


def test_sweep_prints_the_best_and_leaves_a_results_folder(finished):
    done, folder = finished
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("Best-")]
    pattern = r"Best-\d+ \(val acc:[\d.]+\) \| rate:[\d.e-]+, weight decay:[\d.e-]+"
    assert len(lines) == 6 and all(re.fullmatch(pattern, line) for line in lines)
    scores = [float(re.search(r"acc:([\d.]+)", line)[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    names = sorted(path.name for path in folder.iterdir())
    saved = {"curves.npz", "report.json", "settings.json", "states.npz", "trials.jsonl"}
    drawn = {"best.png", "map.png", "report.html", "trials.csv"}
    assert {*names} == saved | drawn | {".lock", "command.json"}
    assert "best val accuracy" in done.err and "Traceback" not in done.err


def test_sweep_keeps_earlier_results(finished):
    _, folder = finished
    before = (folder / "trials.csv").read_bytes()
    again = purenet("sweep", "--trials", 2, "--epochs", 1, cwd=folder.parent)
    assert again.code == 0 and "sweep-results-2" in again.out
    assert (folder / "trials.csv").read_bytes() == before
    refused = purenet("sweep", "--out", folder, cwd=folder.parent)
    assert refused.code == 2 and "already holds" in refused.err


def test_sweep_is_repeatable_in_a_new_process(finished):
    _, folder = finished
    again = purenet("sweep", "--trials", 6, "--epochs", 4, "--out", "again", cwd=folder.parent)
    assert again.code == 0
    assert (folder.parent / "again" / "trials.csv").read_text() == (
        folder / "trials.csv"
    ).read_text()


def test_a_sweep_where_everything_diverges_ends_with_one_line(finished):
    _, folder = finished
    done = purenet("sweep", "--trials", 2, "--epochs", 3, "--rate", "1e30", "1e31", "--out", "wild",
                   cwd=folder.parent)  # fmt: skip
    assert done.code == 2
    assert "every trial diverged" in done.err and "Traceback" not in done.err
    assert "diverged" in (folder.parent / "wild" / "trials.csv").read_text()


def test_a_sweep_that_was_killed_is_resumed(finished, tmp_path):
    _, folder = finished
    arguments = ["sweep", "--trials", "6", "--epochs", "4", "--out", "cut"]
    process = Forked("-m", "purenet.cli", *arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "states.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    refused = purenet(*arguments, cwd=tmp_path)
    assert refused.code == 2 and "resume that sweep with --resume" in refused.err
    done = purenet(*arguments, "--resume", cwd=tmp_path)
    assert done.code == 0, done.err
    for name in ("trials.csv", "trials.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (folder / name).read_bytes()
    with np.load(tmp_path / "cut" / "curves.npz") as one, np.load(folder / "curves.npz") as other:
        assert set(one) == set(other)
        numbers = [
            name for name in one if np.asarray(one[name]).dtype.kind in "bif"
        ]  # no text, no stamp
        assert len(numbers) > 4
        for name in numbers:
            np.testing.assert_array_equal(one[name], other[name])
    other = purenet(*arguments, "--resume", "--seed", "3", cwd=tmp_path)
    assert other.code == 2 and "was started with --seed 0, but --seed is 3 now" in other.err


@pytest.mark.parametrize("search, picture", [("halving", "rungs.png"), ("pbt", "lineage.png")])
def test_other_searches_draw_their_own_pictures(search, picture, main, tmp_path, capsys):
    options = ["--trials", "6", "--epochs", "4", "--images", "120", "--search", search]
    assert main(["sweep", *options, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / picture).stat().st_size > 1000
    assert picture in capsys.readouterr().out


@pytest.mark.parametrize("name", ["random", "grid", "sobol", "halving", "hyperband", "pbt"])
def test_every_search_is_one_of_the_library(name):
    options = cli._parser().parse_args(["sweep", "--search", name, "--trials", "10"])
    search = cli._SEARCHES[name](options)["search"]
    if name == "grid":  # three each way is what ten have room for
        space = [sweep.uniform(0, 1), sweep.uniform(0, 1)]
        assert search(space, None, 0).shape == (9, 2)
    else:
        assert search is getattr(sweep, name, None) or search.name.startswith(name)


def test_a_plan_is_printed_and_nothing_is_trained(main, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("purenet.sweep._plan._BLOCKS", {"cpu": (1,)})
    assert main(["sweep", "--trials", "5", "--epochs", "2", "--images", "50", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "1 program(s), 10 trial-epochs" in said and max(map(len, said.splitlines())) <= 80
    assert not list(tmp_path.iterdir())


def test_a_plain_installation_says_what_the_digits_need(tmp_path, main, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["sweep"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'purenet[examples]'" in error and len(error.splitlines()) == 1


@pytest.fixture
def main(monkeypatch):
    """The command in this process, which has started JAX already."""
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    return cli.main


MISTAKES = {
    "no folder of MNIST": (["--data", "mnist"], "--data mnist needs --data-dir"),
    "a folder without MNIST": (["--data", "mnist", "--data-dir", "."], "train-images-idx3-ubyte"),
    "a missing folder": (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    "a folder for digits": (["--data-dir", "."], "is only for --data mnist"),
    "no trial": (["--trials", "0"], "--trials is 0"),
    "negative epochs": (["--epochs", "-3"], "--epochs is -3"),
    "a range backwards": (["--rate", "1", "0.1"], "--rate.*low 1.0 must be below high 0.1"),
    "a logarithm of nothing": (["--weight-decay", "0", "1"], "--weight-decay.*above 0"),
    "too many images": (["--images", "99999"], "--images is 99999, but there are 1797"),
    "a negative seed": (["--seed", "-1"], "--seed is -1"),
    "nothing to resume": (["--resume"], "sweep-results holds no sweep to resume"),
    "a process that is not": (["--process", "2", "2", "localhost:1"], "--process is 2 2 localhost"),
    "too short to halve": (["--search", "pbt", "--epochs", "1"], "needs 2 or more, but it has 1"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line_and_status_2(
    arguments, message, tmp_path, main, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path, main, capsys):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["sweep", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and str(tmp_path / "file") in error


@pytest.mark.parametrize("damage, message", [
    (lambda raw: raw[:100], "320 bytes of data, but the file has 84"),
    (lambda raw: b"\0\0\x0d\x03" + raw[4:], "train-images"),
    (lambda raw: b"", "empty"),
])  # fmt: skip
def test_a_damaged_idx_file_is_named(damage, message, tmp_path, main, capsys):
    images = b"\0\0\x08\x03" + np.array([20, 4, 4], ">u4").tobytes() + bytes(20 * 16)
    labels = b"\0\0\x08\x01" + np.array([20], ">u4").tobytes() + bytes(20)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(images)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(damage(images))
    assert main(["sweep", "--data", "mnist", "--data-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "train-images-idx3-ubyte" in error and message in error
    assert len(error.splitlines()) == 1


def test_help_gives_every_option_its_default(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["sweep", "--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        "--data ",
        "--trials",
        "--epochs",
        "--rate",
        "--weight-decay",
        "--seed",
        "--out",
    ):
        assert option in text
    for default in ("(default: digits)", "(default: 40)", "(default: 30)", "(default: 0.01 0.5)"):
        assert default in text
    assert "(default: 0)" in text and "None" not in text and "False" not in text


@pytest.mark.slow
def test_mnist_looks_like_the_published_search(mnist_dir, tmp_path):
    """The best of 40 trials validate at 0.65 or more, with rates between 1e-3 and 1e-2."""
    done = purenet("sweep", "--experiment", "book", "--data", "mnist", "--data-dir", mnist_dir,
                   cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done.err
    best = re.findall(r"Best-[1-5] \(val acc:([\d.]+)\) \| rate:([\d.e-]+)", done.out)
    assert float(best[0][0]) >= 0.65
    assert all(1e-3 < float(rate) < 1e-2 for _, rate in best)
