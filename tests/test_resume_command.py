"""`purenet sweep --resume`: the command that an interrupted one names goes to its end."""

import json
import re
import shlex
import signal

import numpy as np
import pytest

import purenet as pn
from purenet import cli, sweep
from purenet.sweep.engine import pool

OPTIONS = ["--trials", "3", "--epochs", "3", "--images", "50", "--rate", "1e-3", "0.1", "--seed",
           "5", "--search", "sobol"]  # fmt: skip


toy = pn.Trainable(lambda key: 1.0, lambda s, data: (s / 2, {}), lambda s, data: {"accuracy": s})


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The command in this process, in a folder of its own, without pictures."""
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    monkeypatch.setattr(cli, "_images", lambda options: (np.zeros((1000, 4)), np.zeros(1000, int)))
    monkeypatch.setattr(cli, "supervised", lambda **options: toy)
    monkeypatch.setattr(sweep.Result, "plot", lambda *_: None)
    monkeypatch.setattr(sweep.Result, "plot_map", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli.main(["sweep", *arguments])


@pytest.fixture
def interrupted(main, tmp_path, monkeypatch, capsys):
    """A folder whose sweep was interrupted after an epoch, and what was said."""
    plain = pool.LanePool._advance

    def advance(self, remaining):
        signal.raise_signal(signal.SIGINT)
        return plain(self, remaining.clip(max=1))

    folder = tmp_path / "a folder"
    with monkeypatch.context() as patched:
        patched.setattr(pool.LanePool, "_advance", advance)
        assert main(*OPTIONS, "--out", str(folder)) == 130
    return folder, capsys.readouterr().err


def test_the_command_that_is_named_resumes_with_the_options_it_began_with(
    interrupted, main, capsys
):
    folder, said = interrupted
    (command,) = re.findall("resume with: purenet sweep (.*)", said)
    assert shlex.split(command) == ["--resume", "--out", str(folder)]
    other = main("--resume", "--out", str(folder), "--epochs", "2")
    assert other == 2  # what is asked for now counts, and is refused here
    assert capsys.readouterr().err == (
        f"purenet sweep: {folder} was started with --epochs 3, but --epochs is 2 now. Use the same "
        "settings, or choose another --out.\n"
    )
    assert main(*shlex.split(command)) == 0
    result = sweep.load(folder)
    assert result.epochs.tolist() == [3] * 3
    assert result.settings["seed"] == 5 and result.settings["search"] == "sobol"


def test_a_sweep_that_was_refused_leaves_no_folder(main, tmp_path, capsys):
    assert main("--search", "pbt", "--epochs", "1", "--out", "new") == 2
    assert "needs 2 or more" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_sweep_that_was_interrupted_before_it_began_is_resumed(main, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        asked.append((arguments[3:], options["search"]))
        raise KeyboardInterrupt

    asked = []
    monkeypatch.setattr(cli, "run", interrupt)
    assert main(*OPTIONS) == main("--resume") == main("--resume", "--trials", "4") == 130
    assert main("--resume") == 130  # with the options of the last attempt
    assert asked == [((n, 3, 5), sweep.sobol) for n in (3, 3, 4, 4)]


def test_a_range_that_differs_is_named_as_it_is_typed(interrupted, main, capsys):
    folder, _ = interrupted
    assert main("--resume", "--out", str(folder), "--rate", "1e-3", "1", "--images", "60") == 2
    error = capsys.readouterr().err
    assert "--images 50 --rate 0.001 0.1, but --images is 60 and --rate is 0.001 1.0 now" in error


def test_a_damaged_file_of_options_is_explained(main, tmp_path, capsys):
    (tmp_path / "sweep-results").mkdir()
    path = tmp_path / "sweep-results" / "command.json"
    path.write_text("[1]")
    assert main("--resume") == 2
    assert f"{path.name} is damaged: it holds list" in capsys.readouterr().err
    path.write_text(json.dumps({"epochs": "many"}))
    with pytest.raises(SystemExit):
        main("--resume")
    assert "--epochs: invalid int value: 'many'" in capsys.readouterr().err


def test_a_sweep_is_extended_by_its_folder_and_what_is_raised(main, tmp_path, capsys):
    assert main(*OPTIONS, "--out", "results") == 0
    assert main("--resume", "results", "--trials", "5") == 0
    assert main("--resume", "results", "--epochs", "4") == 0
    assert main("--resume", "results") == 0  # as it is now
    at_once = [*OPTIONS, "--out", "at once", "--trials", "5", "--epochs", "4"]
    assert main(*at_once) == 0
    result, expected = sweep.load("results"), sweep.load("at once")
    assert result.table() == expected.table() and result.settings == expected.settings
    assert main("--resume", "results", "--trials", "3") == 2
    assert "started with --trials 5, but --trials is 3 now" in capsys.readouterr().err


@pytest.mark.parametrize("search, raised, message", [
    ("grid", ["--trials", "9"], "started with --trials 4, but --trials is 9 now"),
    ("pbt", ["--epochs", "5"], "started with --epochs 3, but --epochs is 5 now"),
    ("halving", ["--trials", "9"], "cannot become 9 trials of 3 epochs: its rungs compare all"),
])  # fmt: skip
def test_a_search_that_cannot_be_extended_says_so(main, capsys, search, raised, message):
    assert main(*OPTIONS, "--search", search, "--trials", "4", "--out", "results") == 0
    capsys.readouterr()
    assert main("--resume", "results", *raised) == 2
    assert message in capsys.readouterr().err
    assert main("--resume", "results") == 0


def test_points_of_a_file_come_first_and_are_resumed_without_it(main, tmp_path, capsys):
    points = [{"rate": 0.05, "weight decay": 1e-5}]
    file = tmp_path / "points.json"
    file.write_text(json.dumps(points))
    options = [*OPTIONS, "--points", "points.json", "--out", "results"]
    assert main(*options, "--seconds", "1e-9") == 2
    said = capsys.readouterr().err
    assert "resume with: purenet sweep --resume --out results" in said
    assert "no trial has been trained yet, see results; increase --seconds" in said
    file.unlink()
    assert main("--resume", "results", "--trials", "4") == 0
    result = sweep.load("results")
    assert result.hyper["rate"][0] == 0.05 and len(result) == 4
    assert result.settings["points"] == points


@pytest.mark.parametrize("content, message", [
    ("[", "--points: points.json is not a JSON file"),
    ("{}", "--points: points.json holds a dict, but a list is expected"),
    ('[{"rate": 0.05}]', "points[0]: 'weight decay' is missing"),
    ('[{"rate": 5, "weight decay": 1e-5}]', "points[0]: 'rate' is 5, but LogUniform"),
    (None, "No such file"),
])  # fmt: skip
def test_other_points_are_refused_and_leave_no_folder(main, tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "points.json").write_text(content)
    assert main(*OPTIONS, "--points", "points.json", "--out", "results") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_two_folders_or_none_are_refused(main, capsys):
    assert main("--resume", "a", "--out", "b") == 2
    assert "--resume names a, but --out b; name one folder" in capsys.readouterr().err
    assert main("--resume", "") == 2
    assert "is empty" in capsys.readouterr().err
