"""What `purenet sweep` does by itself, and the published search that it can do instead."""

import re
import sys
from pathlib import Path

import pytest

from purenet import cli, sweep
from purenet._commands.closing import closing, print_best


def asked(*arguments, monkeypatch):
    """The options that the command comes to."""
    seen = []
    monkeypatch.setattr(cli, "_sweep", lambda options: seen.append(options) or 0)
    assert cli.main(["sweep", *arguments]) == 0
    return seen[0]


def test_the_book_has_the_published_ranges(monkeypatch):
    options = asked("--experiment", "book", monkeypatch=monkeypatch)
    assert (options.images, options.trials, options.epochs) == (500, 40, 50)
    assert options.rate == (1e-6, 1e-2) and options.weight_decay == (1e-8, 1e-4)
    assert options.data == "digits"


@pytest.mark.parametrize("first", [True, False])
def test_options_that_are_given_come_before_those_of_the_book(monkeypatch, first):
    arguments, book = ["--epochs", "7", "--rate", "0.1", "1"], ["--experiment", "book"]
    arguments = [*arguments, *book] if first else [*book, *arguments]
    options = asked(*arguments, monkeypatch=monkeypatch)
    assert options.epochs == 7 and options.rate == [0.1, 1.0] and options.images == 500


def test_an_unknown_experiment_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["sweep", "--experiment", "nobody"])
    assert left.value.code == 2 and "invalid choice: 'nobody'" in capsys.readouterr().err


def test_most_trials_of_the_default_job_learn_and_it_ends_in_three_lines_of_80_columns(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    monkeypatch.setattr("purenet.sweep.results.result.Result.plot", lambda self, path: None)
    monkeypatch.setattr("purenet.sweep.results.result.Result.plot_map", lambda self, path: None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "--trials", "8"]) == 0
    said = capsys.readouterr().out
    scores = [float(s) for s in re.findall(r"val acc:([\d.]+)", said)]
    assert scores[0] >= 0.97 and sum(score > 0.9 for score in scores) >= 6
    assert max(map(len, said.splitlines())) <= 80
    cost, *files = said.splitlines()[len(scores) :]
    assert re.fullmatch(
        r"8 trials.*, \d+ trial-epochs in [\d.]+ s, ranked by their last epoch", cost
    )
    assert len(files) == 2 and files[0].startswith("sweep-results: report.html (open it in a")
    monkeypatch.setenv("COLUMNS", "40")
    result, names = sweep.load("sweep-results"), ["best.png", "report.html"]
    lines = closing(result, Path("sweep-results"), names).splitlines()
    assert max(map(len, lines)) <= 40 and len(lines) == 5
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_best(result)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and max(map(len, lines)) <= 40
