"""Patience, the best epoch, and how often trials are evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

DATA = (np.zeros(1), np.zeros(1))
SPACE = {"peak": sweep.randint(1, 12)}


def learner(hyper):
    """A score that rises up to its peak, and falls after it."""

    def score(state, data):
        return {"accuracy": 1.0 - 0.01 * jnp.abs(state["t"] - hyper["peak"])}

    count = lambda state, data: ({"t": state["t"] + 1, "noise": state["noise"] * 0.5}, {})
    init = lambda key: {"t": jnp.zeros((), jnp.int32), "noise": jax.random.normal(key)}
    return pn.Trainable(init, count, score, predict=lambda state, x: state["t"] + 0 * x)


def run(trials=8, epochs=16, **options):
    return sweep.run(learner, SPACE, DATA, trials, epochs, progress=False, **options)


def expected(peak, patience, epochs=16):
    """Epochs until there was no better one for so long."""
    return min(epochs, peak + patience)


@pytest.mark.parametrize("options", [{}, {"devices": 2}, {"seeds": 2}])
@pytest.mark.parametrize("patience", [1, 3])
def test_a_trial_ends_when_its_score_no_longer_improves(patience, options):
    found, whole = run(patience=patience, **options), run(**options)
    peaks = found.hyper["peak"]
    assert found.epochs.tolist() == [expected(p, patience) for p in peaks]
    ended = peaks + patience < 16
    assert found.status.tolist() == ["plateaued" if e else "done" for e in ended]
    assert ended.any()
    curve = found.curves["validation"]["accuracy"]
    trained = np.arange(16) < found.epochs[:, None]
    np.testing.assert_array_equal(
        curve, np.where(trained, whole.curves["validation"]["accuracy"], np.nan)
    )


def test_the_best_epoch_ranks_and_its_weights_are_kept():
    found = run(patience=2, keep=3)
    for trial in found.best(3):
        assert trial.score == 1.0 and trial.epoch == trial.hyper["peak"]
        assert found.weights(trial)["t"] == trial.hyper["peak"]
        assert found.replay(trial).state["t"] == trial.hyper["peak"]
    assert [trial.number for trial in found.best(3)] == [0, 1, 2]  # all are as good
    assert found.rows()[0]["epoch"] == found.hyper["peak"][0]


def test_the_last_epoch_ranks_where_that_is_asked():
    found = run(patience=2, select="last")
    best = found.best()
    assert best.epoch == best.epochs and found.weights(best)["t"] == best.epochs
    assert found.settings["select"] == "last"


def test_the_best_epoch_counts_without_patience_too():
    found = run(select="best")
    assert (found.status == "done").all()
    best = found.best()
    assert best.score == 1.0 and found.weights(best)["t"] == best.hyper["peak"]
    assert run().best().score < 1.0 or 16 in run().hyper["peak"]


def test_epochs_between_two_evaluations_have_no_scores_and_the_last_one_has():
    found, whole = run(evaluate_every=3), run()
    curve = found.curves["validation"]["accuracy"]
    seen = (np.arange(1, 17) % 3 == 0) | (np.arange(1, 17) == 16)
    assert np.isnan(curve[:, ~seen]).all()
    np.testing.assert_array_equal(curve[:, seen], whole.curves["validation"]["accuracy"][:, seen])
    assert found.best().score == whole.best().score


def test_patience_counts_evaluations():
    found = run(evaluate_every=2, patience=2)
    for peak, epochs in zip(found.hyper["peak"], found.epochs, strict=True):
        even = 2 * np.arange(1, 9)
        scores = -np.abs(even - peak)
        best = even[scores.argmax()]
        assert epochs == min(16, best + 4)


def test_halving_compares_those_that_ended_by_the_score_that_they_had():
    found = run(search=sweep.halving(eta=2, first=4), patience=2, trials=8)
    peaks = found.hyper["peak"]
    # at the first rung, all are known by their best of the first four epochs
    reached = np.where(peaks <= 4, 1.0, 1.0 - 0.01 * (peaks - 4))
    going = np.argsort(-reached, kind="stable")[:4]
    for trial in range(8):
        most = 16 if trial in going else 4
        assert found.epochs[trial] <= min(most, expected(peaks[trial], 2))
        assert found.status[trial] in (("plateaued", "done", "stopped"))
    assert found.best().score == 1.0


@pytest.mark.parametrize("search", [sweep.halving(eta=2, first=4), sweep.hyperband(eta=2, first=4),
                                    sweep.median_stopping(grace=4), sweep.random])  # fmt: skip
def test_every_search_ends_with_patience_and_folds(search):
    found = sweep.run(learner, SPACE, np.zeros(6), 8, 16, search=search, folds=2, patience=2,
                      evaluate_every=2, progress=False)  # fmt: skip
    assert found.best().score > 0.9 and set(found.status) <= {"done", "plateaued", "stopped"}


def test_a_sweep_with_patience_resumes(tmp_path, monkeypatch):
    from purenet.core import autosave
    from purenet.sweep.engine import pool

    monkeypatch.setattr(pool, "_REPORT", 1e-9)
    monkeypatch.setattr(autosave, "SHARE", 1e9)
    at_once = run(patience=2, keep=2)
    limited = lambda hyper: learner(hyper)
    limited.__name__ = "learner"
    with pytest.raises(KeyboardInterrupt):
        stopping = 0

        def interrupt(*arguments):
            nonlocal stopping
            stopping += 1
            if stopping == 5:
                raise KeyboardInterrupt
            return original(*arguments)

        original = pool.LanePool._advance
        with monkeypatch.context() as patched:
            patched.setattr(pool.LanePool, "_advance", interrupt)
            run(patience=2, keep=2, path=tmp_path)
    assert 0 < sweep.load(tmp_path).epochs.max() < at_once.epochs.max()
    found = run(patience=2, keep=2, path=tmp_path)
    for result in (found, run(patience=2, keep=2, path=tmp_path), sweep.load(tmp_path)):
        np.testing.assert_array_equal(
            result.curves["validation"]["accuracy"], at_once.curves["validation"]["accuracy"]
        )
        assert result.status.tolist() == at_once.status.tolist()
        assert result.ranked() == at_once.ranked()
    assert found.weights(found.best()) == at_once.weights(at_once.best())


def test_a_trial_that_diverges_is_no_trial_that_plateaued():
    def lost(hyper):
        part = learner(hyper)
        score = lambda s, d: {"accuracy": jnp.where(s["t"] == 5, jnp.nan, s["t"] * 1.0)}
        return part._replace(evaluate=score)

    found = sweep.run(lost, SPACE, DATA, 2, 9, patience=2, progress=False)
    assert found.status.tolist() == ["diverged"] * 2 and found.epochs.tolist() == [4, 4]


@pytest.mark.parametrize("options, error, message", [
    ({"patience": 0}, ValueError, "patience"),
    ({"patience": 1.5}, TypeError, "patience"),
    ({"select": "first"}, ValueError, "select"),
    ({"evaluate_every": 0}, ValueError, "evaluate_every"),
    ({"evaluate_every": 17}, ValueError, "first decision comes after 16"),
    ({"evaluate_every": 2, "search": sweep.halving()}, ValueError, "after 1 epoch"),
    ({"patience": 2, "search": sweep.pbt(every=2)}, ValueError, "leave out patience"),
    ({"select": "best", "search": sweep.pbt(every=2)}, ValueError, 'select="best"'),
])  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_trained(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


def test_a_block_of_lanes_that_is_vmapped_does_the_same():
    from purenet.sweep.engine.layout import Layout

    plan = sweep.plan(learner, SPACE, DATA, 8, 16, patience=2, evaluate_every=2, devices=1)
    (group,) = plan.groups
    wide = plan._replace(groups=(group._replace(layout=Layout(group.layout.devices, 8, 8)),))
    found = run(patience=2, evaluate_every=2, plan=wide, devices=1)
    one = run(patience=2, evaluate_every=2, devices=1)
    assert found.epochs.tolist() == one.epochs.tolist()
    np.testing.assert_array_equal(
        found.curves["validation"]["accuracy"], one.curves["validation"]["accuracy"]
    )
