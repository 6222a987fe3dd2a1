"""A result is a sequence of trials, and a trial says which one to retrain or to take weights of."""

import dataclasses

import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.text_table import text_table
from purenet.sweep.results import figures


def texts(artist):
    from matplotlib.text import Text

    return {text.get_text() for text in artist.findobj(Text)}


@pytest.fixture(scope="module")
def result():
    halve = lambda hyper: pn.Trainable(
        init=lambda key: hyper["start"],
        epoch=lambda state, data: (state / 2, {}),
        evaluate=lambda state, data: {"loss": state},
    )
    nothing = (np.zeros(1), np.zeros(1))
    space = {"start": sweep.uniform(1.0, 2.0)}
    return sweep.run(halve, space, nothing, trials=3, epochs=2, seeds=2, keep=1, progress=False)


def test_a_result_has_a_length_and_iterates_over_its_trials(result):
    assert len(result) == result.trials == 6
    assert [trial.number for trial in result] == list(range(6))
    assert [trial.score for trial in result] == result.curves["validation"]["loss"][:, -1].tolist()


def test_weights_and_replay_take_a_trial_as_well_as_its_number(result):
    best = result.best()
    assert best.number in result.kept
    np.testing.assert_array_equal(result.weights(best), result.weights(best.number))
    for trial in (best, list(result)[5]):
        found = result.replay(trial).curves["validation"]["loss"]
        np.testing.assert_array_equal(found, result.curves["validation"]["loss"][trial.number])


@pytest.mark.parametrize("take", ["weights", "replay"])
def test_a_trial_of_another_result_is_refused(result, take):
    stranger = result.best()._replace(number=6)
    message = f"Result.{take}: there is no trial 6; trials are numbered 0 to 5"
    with pytest.raises(ValueError, match=message):
        getattr(result, take)(stranger)


def test_the_best_of_the_rungs_is_the_best_by_the_metric_of_the_sweep(result, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "draw_rungs", lambda *args, **options: drawn.update(options))
    result.plot_rungs("rungs.png")
    assert drawn["maximize"] is False


def test_trials_that_no_longer_improved_are_drawn_as_done(result):
    status = np.array(["plateaued", "done"] * 3)
    ended = dataclasses.replace(result.outcomes, status=status)
    assert "done: 6" in texts(figures.rungs(ended, None))


def test_a_stopped_trial_is_drawn_as_such(result):
    status, epochs = result.status.copy(), result.epochs.copy()
    status[2:4], epochs[2:4] = "stopped", 1
    page = figures.learning_curves(
        dataclasses.replace(result.outcomes, status=status, epochs=epochs), None, 3
    )
    assert [ax for ax in page.axes if "stopped after 2" in texts(ax)] == [page.axes[2]]
    assert "The best 3 of 3 points of 2 runs, by validation loss" in texts(page)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_axis_is_zoomed_to_where_curves_end(sign):
    rises = np.array([0.1, 0.6, 0.95, 0.97, 0.98])
    low, high = sorted(sign * end for end in figures.zoomed([sign * rises], sign, None))
    assert 0.5 < low < 0.95 and 0.98 < high < 1.02
    bad = np.array([0.1, 0.1, np.nan, np.nan, np.nan])  # stays in the picture
    assert min(sign * end for end in figures.zoomed([sign * rises, sign * bad], sign, None)) < 0.1
    assert figures.zoomed([rises], 1, 0.98)[1] == 0.98
    assert figures.zoomed([np.full(3, np.nan)], 1, None) is None


def test_every_picture_of_a_result_is_returned_without_a_path(result):
    for draw in (result.plot, result.plot_parallel, result.plot_slices, result.plot_history):
        assert draw()._repr_png_().startswith(b"\x89PNG")


def test_columns_of_a_text_table_are_as_wide_as_their_longest_cell():
    rows = [("name", "n", "long heading"), ("a", "100", "x")]
    assert text_table(rows) == ["name    n  long heading", "   a  100             x"]
    assert text_table(rows, left=2, gap=1) == ["name n   long heading", "a    100            x"]
