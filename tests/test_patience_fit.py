"""fit: patience, the best epoch, and epochs that are not evaluated."""

import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.training import fit as training_fit
from purenet.training.run_file import RunFile

# the validation losses of ten epochs: the best is the fourth, the first of two equal ones
LOSSES = jnp.array([5.0, 3.0, 4.0, 1.0, 2.0, 1.0, 3.0, 0.5, 3.0, 4.0])
DATA = ((np.zeros((4, 1)),) * 2, (np.ones((2, 1)),) * 2)


def init(key):
    return {"key": key, "epoch": jnp.int32(0), "w": jnp.zeros(3)}


def epoch(state, data):
    new = state["w"] + jax.random.normal(jax.random.fold_in(state["key"], state["epoch"]), (3,))
    return state | {"epoch": state["epoch"] + 1, "w": new}, {"loss": new.sum()}


def evaluate(state, data):
    loss = LOSSES[state["epoch"] - 1]
    return {"loss": loss, "count": state["epoch"], "share": jnp.where(loss > 2, jnp.nan, 6 - loss)}


TOY = pn.Trainable(init, epoch, evaluate)
fit = functools.partial(pn.fit, TOY, DATA, progress=False)


def plain(state):
    return state | {"key": jax.random.key_data(state["key"])}


def assert_same(got, expected):
    chex.assert_trees_all_equal(plain(got.state), plain(expected.state))
    chex.assert_trees_all_equal(got.history, expected.history)
    assert got.epoch == expected.epoch


@pytest.mark.parametrize("block", [1, 3, None])
@pytest.mark.parametrize(
    "patience, trained, best", [(1, 3, 2), (2, 6, 4), (3, 7, 4), (4, 10, 8), (99, 10, 8)]
)
def test_it_stops_when_the_score_has_not_improved_for_so_long(key, block, patience, trained, best):
    got = fit(10, key, patience=patience, block=block)
    expected = fit(best, key)
    chex.assert_trees_all_equal(plain(got.state), plain(expected.state))
    assert got.epoch == best
    np.testing.assert_array_equal(got.history["validation"]["loss"], LOSSES[:trained])
    whole = fit(10, key)
    np.testing.assert_array_equal(
        got.history["train"]["loss"], whole.history["train"]["loss"][:trained]
    )
    assert (whole.epoch, int(whole.state["epoch"])) == (10, 10)


def test_the_last_state_may_be_asked_for_and_the_best_without_patience(key):
    last = fit(10, key, patience=2, select="last")
    assert (last.epoch, int(last.state["epoch"])) == (6, 6)
    best = fit(10, key, select="best")
    assert (best.epoch, int(best.state["epoch"])) == (8, 8)
    assert best.history["validation"]["loss"].shape == (10,)
    state, history = best
    assert state is best.state and history is best.history


def test_another_metric_and_mode_say_what_is_best(key):
    assert fit(10, key, select="best", metric="count", mode="max").epoch == 10
    assert fit(10, key, select="best", metric="count", mode="min").epoch == 1
    # NaN is never the best, and no improvement
    got = fit(7, key, metric="share", mode="max", patience=4)
    assert (got.epoch, got.history["train"]["loss"].size) == (4, 7)
    assert fit(3, key, metric="share", mode="max", patience=3).epoch == 3  # none is: the last


def test_accuracy_decides_where_it_is_measured(key):
    both = lambda state, data: {"loss": LOSSES[state["epoch"] - 1], "accuracy": -state["epoch"]}
    found = pn.fit(TOY._replace(evaluate=both), DATA, 5, key, select="best", progress=False)
    assert found.epoch == 1


@pytest.mark.parametrize("block", [1, 4])
def test_epochs_that_are_not_evaluated_are_nan_and_do_not_count(key, block):
    got = fit(10, key, evaluate_every=3, patience=2, block=block)  # after 3, 6, 9, 10: 4, 1, 3, 4
    seen = np.isin(np.arange(1, 11), [3, 6, 9, 10])
    expected = np.where(seen, LOSSES, np.nan)
    np.testing.assert_array_equal(got.history["validation"]["loss"], expected)
    np.testing.assert_array_equal(got.history["validation"]["count"][[1, 2]], [np.nan, 3])
    assert got.epoch == 6
    assert got.history["train"]["loss"].shape == (10,)
    chex.assert_trees_all_equal(plain(got.state), plain(fit(6, key).state))
    plain_run = fit(10, key, evaluate_every=3)
    chex.assert_trees_all_equal(plain(plain_run.state), plain(fit(10, key).state))


def test_the_last_epoch_is_evaluated_and_may_be_the_best(key):
    got = fit(8, key, evaluate_every=5, select="best")  # after 5 and 8: 2, 0.5
    assert got.epoch == 8 and got.history["validation"]["loss"][7] == 0.5
    chex.assert_trees_all_equal(plain(got.state), plain(fit(8, key).state))


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"patience": 4}, (2, 5, 7, 10)),
        ({"evaluate_every": 2, "patience": 3}, (2, 6, 8, 10)),
        ({"evaluate_every": 3}, (2, 5, 7, 10)),
    ],
)
@pytest.mark.parametrize("name", ["run.npz", "run.safetensors"])
def test_a_run_in_parts_is_the_run_at_once(key, tmp_path, options, parts, name):
    whole = fit(10, key, **options)
    for epochs, block in zip(parts, (None, 1, 2, 3), strict=True):
        got = fit(epochs, key, path=tmp_path / name, block=block, **options)
        assert_same(got, fit(epochs, key, **options))
    assert_same(got, whole)


def test_a_run_that_has_stopped_comes_back_without_training(key, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    stopped = fit(10, key, patience=2, path=path)
    before = path.stat().st_mtime_ns
    program = training_fit._train_block
    with monkeypatch.context() as patch:

        def refuse(setup):
            made = program(setup)
            called = lambda *args: pytest.fail("it was trained")
            called.eval_shape = made.eval_shape
            return called

        patch.setattr(training_fit, "_train_block", refuse)
        assert_same(fit(10, key, patience=2, path=path), stopped)
    assert path.stat().st_mtime_ns == before
    # more patience resumes, and gives what it would have given at once
    assert_same(fit(10, key, patience=4, path=path), fit(10, key, patience=4))


def test_a_file_with_other_rules_is_refused(key, tmp_path):
    path = tmp_path / "run.npz"
    fit(4, key, patience=3, path=path)
    for options, message in [
        ({"patience": 2}, "patience 3, but patience is only 2 now"),
        ({}, "metric 'loss', which is now None"),
        ({"patience": 3, "select": "last"}, "keep_best True, which is now False"),
        ({"patience": 3, "evaluate_every": 2}, "every 1, which is now 2"),
        ({"patience": 3, "metric": "count", "mode": "max"}, "metric 'loss', which is now 'count'"),
    ]:
        with pytest.raises(ValueError, match=rf"fit: .*run\.npz holds a run with {message}"):
            fit(6, key, path=path, **options)


def test_a_score_after_the_last_epoch_alone_is_not_followed_by_more(key, tmp_path):
    path, options = tmp_path / "run.npz", {"evaluate_every": 3, "patience": 3}
    fit(5, key, path=path, **options)
    with pytest.raises(ValueError, match="epoch 5 was evaluated as the last, though not one in 3"):
        fit(9, key, path=path, **options)


def test_an_interrupted_run_resumes_but_does_not_end_where_it_was_not_evaluated(
    key, tmp_path, monkeypatch
):
    path, options = tmp_path / "run.npz", {"evaluate_every": 3, "patience": 3}
    save = RunFile.save

    def interrupted(run, state, history, done, stopped):
        save(run, state, history, done, stopped)
        if done == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFile, "save", interrupted)
        patch.setattr(RunFile, "is_due", lambda run: True)
        with pytest.raises(KeyboardInterrupt):
            fit(9, key, path=path, block=1, **options)
    with pytest.raises(ValueError, match="holds 5 of 9 epochs, the last of them not evaluated"):
        fit(5, key, path=path, **options)
    assert_same(fit(8, key, path=path, **options), fit(8, key, **options))


def test_a_mesh_gives_the_same(key):
    mesh = jax.make_mesh((2,), ("batch",))
    assert_same(jax.device_get(fit(10, key, patience=2, mesh=mesh)), fit(10, key, patience=2))


def test_a_network_stops_and_its_best_state_is_that_of_the_epoch(key):
    rng = np.random.default_rng(0)
    part = lambda n: (rng.normal(size=(n, 4)), rng.integers(0, 2, n))
    data = (part(20), part(10))
    trainable = pn.supervised(pn.mlp(batch_norm=True, dropout=0.2), (4, 6, 2), pn.adam(1e-2),
                              pn.softmax_cross_entropy, batch_size=5)  # fmt: skip
    got = pn.fit(trainable, data, 30, key, patience=3, metric="loss")
    losses = got.history["validation"]["loss"]
    assert got.epoch == losses.argmin() + 1 == len(losses) - 3 < 27
    found = jax.jit(trainable.evaluate)(got.state, data[1])
    np.testing.assert_allclose(found["loss"], losses.min(), rtol=1e-12)
    assert int(got.state.step) == 4 * got.epoch


def test_the_progress_shows_the_latest_evaluation_and_ends_with_the_run(key, capsys):
    pn.fit(TOY, DATA, 10, key, progress=True, patience=1, evaluate_every=2)
    assert "epoch 6/6" in capsys.readouterr().err.splitlines()[-1]
    pn.fit(TOY, DATA, 5, key, progress=True, evaluate_every=2)
    assert "validation loss 2," in capsys.readouterr().err.splitlines()[-1]


def test_what_has_passed_through_jax_and_pickle_keeps_its_epoch(key):
    got = fit(10, key, patience=2)
    assert_same(jax.tree.map(lambda a: a, got), got)
    on_host = pn.Fit(plain(got.state), got.history, got.epoch)
    again = pickle.loads(pickle.dumps(on_host))
    assert (again.epoch, type(again)) == (4, pn.Fit)
    assert got._replace(state=0).epoch == 4 and got._replace(epoch=3).state is got.state


@pytest.mark.parametrize(
    "options, data, error, message",
    [
        ({"patience": 3}, DATA[0], ValueError, "pass validation data"),
        ({"select": "best"}, DATA[0], ValueError, "pass validation data"),
        ({"patience": 0}, DATA, ValueError, "fit: patience is 0"),
        ({"patience": 2.5}, DATA, TypeError, "fit: patience is 2.5"),
        ({"evaluate_every": 0}, DATA, ValueError, "fit: evaluate_every is 0"),
        ({"select": "first"}, DATA, ValueError, "select is 'first', but one of 'last', 'best'"),
        ({"patience": 1, "mode": "most"}, DATA, ValueError, "mode is 'most', but one of"),
        ({"patience": 1, "metric": "f1"}, DATA, ValueError, "metric is 'f1', but `evaluate` ret"),
        ({"patience": 1, "metric": 3}, DATA, TypeError, "fit: metric is 3, but the name of one"),
        ({"patience": 1, "metric": "share"}, DATA, ValueError, "say with mode="),
        ({"metric": "loss"}, DATA, ValueError, "pass patience or select"),
    ],
)
def test_what_cannot_be_followed_is_explained(key, options, data, error, message):
    with pytest.raises(error, match=message):
        pn.fit(TOY, data, 5, key, **options)
