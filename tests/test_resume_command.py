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
    other = main("--resume", "--out", str(folder), "--epochs", "9")
    assert other == 2  # what is asked for now counts, and is refused here
    assert capsys.readouterr().err == (
        f"purenet sweep: {folder} was started with --epochs 3, but --epochs is 9 now. Use the same "
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
