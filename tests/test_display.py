"""What stands on the screen: results at a prompt and in a notebook, and the progress bar."""

import io
import re
import sys
import types

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core import progress
from purenet.core.progress import Progress, bar_line
from purenet.sweep._plan import GroupPlan

NOTHING = (np.zeros(1), np.zeros(1))


def halving_down(hyper):
    """Its loss falls at first and then rises again; a start above 1.5 does not stay finite."""
    return pn.Trainable(
        init=lambda key: (hyper["start"], 0),
        epoch=lambda state, data: (
            (jax.numpy.where(hyper["start"] > 1.5, jax.numpy.inf, state[0]), state[1] + 1), {}
        ),
        evaluate=lambda state, data: {"loss": state[0] + (state[1] - 2.0) ** 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    space = {"start": sweep.uniform(1.0, 2.0), "<b>": sweep.choice(["<i>a</i>", "&"])}
    return sweep.run(halving_down, space, NOTHING, trials=30, epochs=4, progress=False)


def test_a_result_at_a_prompt_is_ten_lines_that_a_person_can_read(result):
    lines = repr(result).splitlines()
    assert len(lines) <= 10 and max(map(len, lines)) <= 100
    lost = int((result.status == "diverged").sum())
    assert 0 < lost < 30 and f"30 trials ({30 - lost} done, {lost} diverged)" in lines[0]
    assert lines[1].split()[:3] == ["rank", "trial", "val"]
    assert int(lines[2].split()[1]) == result.best().number


def test_a_result_in_a_notebook_is_a_table_with_its_text_escaped(result):
    page = result._repr_html_()
    assert page.count("<tr>") == 11 and page.count("<table>") == 1
    assert "<th>&lt;b&gt;</th>" in page and "<b>" not in page and "<i>" not in page
    assert "&lt;i&gt;a&lt;/i&gt;" in page or "<td>&amp;</td>" in page
    assert re.search(r"<p>\d+ of 30 diverged", page)


def test_a_result_without_a_survivor_has_a_repr_too():
    space = {"start": sweep.uniform(1.6, 2.0)}
    lost = sweep.run(halving_down, space, NOTHING, trials=2, epochs=2, keep=0, progress=False)
    assert "2 diverged" in repr(lost) and "2 of 2 diverged" in lost._repr_html_()


def test_runs_and_fits_are_one_line(result):
    number = result.best().number
    assert repr(result.replay(number)).startswith("Run: 4 epochs, train loss ")
    fit = pn.fit(
        halving_down({"start": 1.0}), (NOTHING, NOTHING), 3, jax.random.key(0), progress=False
    )
    assert repr(fit) == "Fit: 3 epochs, validation loss 2; state of 2 numbers in 2 leaves"


def test_layers_are_shown_as_they_were_made():
    net = pn.serial(pn.dense(100), pn.relu, pn.residual(pn.dense(3)), pn.dropout(0.2))
    dense = "dense(units=100, weight_init=he_normal)"
    assert repr(net).startswith(f"serial({dense}, relu, residual(layer=dense(units=3, ")
    assert repr(net).endswith("dropout(rate=0.2))")
    mine = pn.Layer(pn.dense(2).init, pn.dense(2).apply)
    assert repr(mine).startswith("Layer(init=dense.init")
    assert repr(mine._replace(spec=("mine", 3))) == "Layer(spec=('mine', 3))"


def test_a_trainable_names_its_functions():
    said = repr(halving_down({"start": 1.0}))
    assert said.startswith("Trainable(init=halving_down.<lambda>, epoch=") and "0x" not in said


def test_a_plan_of_many_programs_shows_two_at_a_prompt_and_all_when_printed():
    layout = types.SimpleNamespace(strategy="loop")
    group = GroupPlan({}, 1, layout, 1, 1, 1, {"loop": 0.1}, 0.1, 0.1)
    plan = sweep.Plan((group,) * 20, 20, 3.0)
    assert len(repr(plan).splitlines()) <= 10 and "... and 18 program(s) more" in repr(plan)
    assert len(str(plan).splitlines()) == 61 and "more" not in str(plan)


# the progress bar
WORDS = ["best val accuracy 0.9867 (trial 12)", "17 s left", "alive 40/40", "41 trial-epochs/s"]


@pytest.mark.parametrize("width", [39, 79, 119, 200])
@pytest.mark.parametrize("done, total", [(0, 1200), (504, 1200), (1200, 1200), (12345, 20000)])
def test_the_bar_keeps_ten_characters_at_every_width(width, done, total):
    line = bar_line(done, total, WORDS, width)
    bar = re.search("[█░]+", line)[0]
    assert len(line) <= width and 10 <= len(bar) <= 30
    assert bar.count("█") == len(bar) * done // total
    assert f"{done}/{total}" in line and line.startswith(f"{100 * done / total:3.0f}%")
    assert ("best val accuracy 0.9867 (trial 12)" in line) == (width > 39)
    assert "0.9867" in line
    assert ("41 trial-epochs/s" in line) == (width > 100)


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when it is told to."""
    now = types.SimpleNamespace(seconds=0.0)
    fake = types.SimpleNamespace(perf_counter=lambda: now.seconds)
    monkeypatch.setattr(progress, "time", fake)
    return now


def test_on_a_terminal_one_line_is_drawn_over_and_over(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("COLUMNS", "80")
    asked = []
    with Progress(100, "epoch") as bar:
        bar.say("tracing and compiling (3 programs)")
        for _ in range(100):
            clock.seconds += 0.01
            bar.advance(1, lambda: asked.append(1) or {"loss": "0.5"})
    pictures = screen.getvalue().split("\r")
    assert "tracing and compiling (3 programs)" in pictures[1] and "0/100" in pictures[1]
    assert 5 <= len(asked) <= 8 and len(pictures) == len(asked) + 2  # not a hundred times
    assert pictures[-1].startswith("100%") and screen.getvalue().count("\n") == 1
    assert max(map(len, pictures)) <= 80 and "\x1b" not in screen.getvalue()  # no colour


def test_a_terminal_that_knows_ascii_alone_gets_ascii(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(Screen, "encoding", "ascii")
    monkeypatch.setattr(sys, "stderr", screen)
    assert bar_line(1, 2, ["a very long word indeed"], 30) == " 50% #####-----  1/2  a very ."


def test_a_notebook_has_one_line_that_is_replaced_although_it_is_no_terminal(
    monkeypatch, capsys, clock
):
    shell, shown = types.SimpleNamespace(kernel=object()), []
    replace = lambda data, raw: shown.__setitem__(-1, data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return types.SimpleNamespace(update=replace)

    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    with Progress(2, "epoch") as bar:
        bar.say("tracing and compiling")
        assert "tracing and compiling" in shown[0]
        bar.advance(2, lambda: {"loss": "0.5"})
    assert len(shown) == 1 and shown[0].startswith("100% ") and "loss 0.5" in shown[0]
    shell.kernel = None  # IPython in a terminal, whose output goes elsewhere
    with Progress(2, "epoch") as bar:
        bar.advance(2, lambda: {"loss": "0.5"})
    assert len(shown) == 1 and capsys.readouterr().err == ""


def test_plain_lines_come_at_a_humans_pace(capsys, clock):
    with Progress(36_000, "epoch", show=True) as bar:
        for _ in range(36_000):  # ten hours
            clock.seconds += 1.0
            bar.advance(1, lambda: {"loss": "0.5"})
    lines = capsys.readouterr().err.splitlines()
    assert 500 < len(lines) < 700
    assert lines[0].startswith("epoch 2/36000, 2.0 s") and lines[-1].startswith("epoch 36000/36000")


def test_the_time_left_does_not_count_the_compilation(capsys, clock):
    with Progress(100, "epoch", show=True) as bar:
        bar.say("tracing and compiling")
        clock.seconds += 60
        bar.advance(10, dict)
        clock.seconds += 10
        bar.advance(10, dict)
        assert "left" not in capsys.readouterr().err.splitlines()[1]  # not known yet
        clock.seconds += 10
        bar.advance(30, dict)
        assert capsys.readouterr().err == "epoch 50/100, 80.0 s, 2 epochs/s, 25 s left\n"


def test_a_log_ends_with_the_last_line_where_the_total_was_too_high(capsys, clock):
    with Progress(100, "epoch", show=True) as bar:
        bar.advance(40, lambda: {"loss": "0.5"})
        bar.advance(0, lambda: {"loss": "0.4"}, total=40)
    assert capsys.readouterr().err.splitlines()[-1].endswith("loss 0.4")


def test_a_sweep_says_what_it_does_before_the_first_epoch(capsys):
    space = {"start": sweep.uniform(1.0, 1.2), "k": sweep.choice([1, 2, 3])}
    sweep.run(halving_down, space, NOTHING, trials=9, epochs=1, progress=True)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "trial-epoch 0/9, tracing and compiling (3 programs)"


def test_best_is_the_best_so_far_and_whose_it_was(capsys):
    space = {"start": sweep.choice([1.25, 1.0, 1.75])}
    search = sweep.grid(3)
    sweep.run(halving_down, space, NOTHING, epochs=4, search=search, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    # the loss was 1.0 after two epochs and is 5.0 now; the third did not stay finite
    assert "best val loss 1 (trial 1)" in last and "alive 2/3, diverged 1" in last
