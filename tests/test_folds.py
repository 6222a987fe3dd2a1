"""Folds: a lane trains on rows of its own as if it had nothing else."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.subset import Subset
from purenet.sweep.folds import make_folds

N = 23
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(N, 3)), np.arange(N) % 3
SPACE = {"rate": sweep.uniform(0.1, 0.9)}

UNEVEN = [(np.arange(10), np.arange(10, N)), (np.arange(5, N), np.array([0, 2])),
          (np.array([3, 3, 1, 7]), np.arange(4))]  # fmt: skip


def learner(hyper):
    """A mean that is learnt with noise, from whatever rows it is given."""

    def epoch(state, data):
        key = jax.random.fold_in(state["key"], state["t"])
        mean = data[0].mean() + 0.1 * jax.random.normal(key)
        x = state["x"] + hyper["rate"] * (mean - state["x"])
        return {"key": state["key"], "t": state["t"] + 1, "x": x}, {}

    return pn.Trainable(
        init=lambda key: {"key": key, "t": jnp.zeros((), jnp.int32), "x": jax.random.normal(key)},
        epoch=epoch,
        evaluate=lambda state, data: {"loss": jnp.abs(data[0].sum(axis=1) - state["x"]).mean()},
        predict=lambda state, x: x.sum(axis=1) * state["x"],
    )


def run(folds, data=(X, T), trials=4, epochs=5, **options):
    return sweep.run(learner, SPACE, data, trials, epochs, folds=folds, progress=False, **options)


def alone(fold, **options):
    """What the fold's rows give as an ordinary sweep."""
    train, validation = (tuple(a[rows] for a in (X, T)) for rows in fold)
    return sweep.run(learner, SPACE, (train, validation), progress=False, **options)


def rows_of(folds: int):
    made = make_folds(folds, (X, T), 0)
    own = lambda part: [np.asarray(p.rows[: int(p.count)]) for p in part]
    parts = [made.parts(i) for i in range(folds)]
    return [own(pair) for pair in parts]


@pytest.mark.parametrize("folds", [3, UNEVEN])
def test_a_fold_in_halving_is_the_training_on_its_rows_alone(folds):
    found = run(folds, search=sweep.halving(eta=2))
    count = folds if isinstance(folds, int) else len(folds)
    for i, fold in enumerate(rows_of(3) if isinstance(folds, int) else folds):
        one = alone(fold, trials=4, epochs=5)
        for part in ("train", "validation"):
            own = found.curves[part]["loss"][i::count]
            known = np.isfinite(own)
            # a sum over rows that are picked may be rounded in another order
            np.testing.assert_allclose(own[known], one.curves[part]["loss"][known], rtol=1e-13)
    assert len(found) == 4 * count and np.isfinite(found.curves["train"]["loss"]).any()


# how a sweep with folds is ranked, saved and taken up again
def test_points_are_ranked_by_the_mean_over_their_folds():
    found = run(3, seeds=2)
    final = found.curves["validation"]["loss"][:, -1].reshape(4, 6)
    assert found.ranked() == np.argsort(final.mean(axis=1)).tolist()
    best = found.best()
    assert best.runs == 6 and best.score == pytest.approx(final.mean(axis=1).min())
    assert best.interval == pytest.approx(
        2.5706 * final[best.number // 6].std(ddof=1) / np.sqrt(6), rel=1e-4
    )
    row = found.rows()[7]
    assert (row["trial"], row["seed"], row["fold"]) == (7, 0, 1)
    assert "±" in found.table()


def test_every_run_of_the_best_points_is_kept():
    found = run(3, keep=2)
    expected = {3 * point + i for point in found.ranked()[:2] for i in range(3)}
    assert {*found.kept} == expected
    for row in expected:
        assert found.replay(row).state["x"] == found.weights(row)["x"]


def test_a_sweep_with_folds_is_read_and_taken_up_again(tmp_path):
    at_once = run(3, epochs=6)
    with pytest.raises(ValueError, match="folds"):
        run(3, epochs=6, path=tmp_path)
        run(4, epochs=6, path=tmp_path)
    read, again = sweep.load(tmp_path), run(3, epochs=6, path=tmp_path)
    for other in (read, again):
        np.testing.assert_array_equal(
            other.curves["validation"]["loss"], at_once.curves["validation"]["loss"]
        )
        assert other.ranked() == at_once.ranked() and other.outcomes.folds == 3
    assert again.weights(again.best())["x"] == at_once.weights(at_once.best())["x"]


def test_other_rows_are_another_sweep(tmp_path):
    run(UNEVEN, path=tmp_path)
    changed = [*UNEVEN[:2], (np.array([3, 3, 1, 8]), np.arange(4))]
    with pytest.raises(ValueError, match="data: was"):
        run(changed, path=tmp_path)


# making folds
def test_folds_by_number_partition_the_examples_and_every_class():
    made = make_folds(3, (X, T), seed=1)
    rows = [np.asarray(made.validation.of(None, i).rows) for i in range(3)]
    counts = [int(made.validation.of(None, i).count) for i in range(3)]
    own = [r[:n] for r, n in zip(rows, counts, strict=True)]
    assert sorted(np.concatenate(own).tolist()) == list(range(N))
    for held_out in own:  # 8, 8 and 7 of a class
        assert np.bincount(T[held_out], minlength=3).min() >= 2
    for i, held_out in enumerate(own):
        train = made.train.of(None, i)
        assert sorted({*range(N)} - {*held_out}) == train.rows[: int(train.count)].tolist()
    assert not np.array_equal(own[0], np.asarray(make_folds(3, (X, T), seed=2).validation.rows[0]))


def test_a_class_with_few_examples_is_not_stratified():
    labels = np.array([0] * 9 + [1])
    made = make_folds(5, (np.zeros((10, 1)), labels), seed=0)
    assert made.validation.sizes == (2,)


@pytest.mark.parametrize("folds, error, message", [
    (1, ValueError, "folds is 1"),
    (24, ValueError, "folds is 24, but there are 23 examples"),
    ("5", TypeError, "pairs"),
    ([], ValueError, "empty"),
    ([np.arange(3)], TypeError, "fold 0"),
    ([(np.arange(3), [23])], ValueError, r"validation rows of fold 0 hold \[23\].*0 to 22"),
    ([([-1], [1])], ValueError, "training rows of fold 0"),
    ([([], [1])], TypeError, "training rows of fold 0"),
    ([(np.zeros(0, int), [1])], ValueError, "training rows of fold 0 are empty"),
    ([(np.ones(N, bool), [1])], TypeError, "flatnonzero"),
])  # fmt: skip
def test_folds_that_cannot_be_are_named(folds, error, message):
    with pytest.raises(error, match=message):
        run(folds)


def test_data_in_two_parts_is_no_data_for_folds():
    with pytest.raises(ValueError, match="one data set"):
        run(3, data=((X, T), (X, T)))
    with pytest.raises(ValueError, match=r"\[22, 23\]"):
        run(3, data=(X, T[1:]))


def test_a_population_has_no_folds():
    with pytest.raises(ValueError, match=r"3 fold\(s\)"):
        run(3, search=sweep.pbt(every=2))


def test_a_generator_of_folds_is_read_once():
    found = run((fold for fold in UNEVEN), trials=1, epochs=1)
    assert len(found) == 3


# what they predict
def test_every_example_is_predicted_by_the_run_that_did_not_see_it():
    found = run(3, keep=1)
    best = found.best()
    predicted = found.out_of_fold(best)
    for i, (_, held_out) in enumerate(rows_of(3)):
        state = found.weights(best.number + i)["x"]
        np.testing.assert_allclose(predicted[held_out], X[held_out].sum(axis=1) * state, rtol=1e-12)
    uneven = run(UNEVEN, trials=1)
    predicted = uneven.out_of_fold(0)
    seen = np.unique(np.concatenate([held_out for _, held_out in UNEVEN]))
    assert np.isfinite(predicted[seen]).all()
    assert np.isnan(np.delete(predicted, seen)).all()


def test_without_folds_none_is_held_out():
    found = sweep.run(learner, SPACE, ((X, T), (X, T)), 2, 1, progress=False)
    with pytest.raises(ValueError, match="no folds"):
        found.out_of_fold(0)


def test_a_subset_travels():
    part = Subset(np.arange(4), np.array([1, 2]), np.array(0), (2,))
    again = pickle.loads(pickle.dumps(part))
    assert again.sizes == (2,) and again.rows.tolist() == [1, 2]


# wherever the lanes are
def losing(hyper):
    part = learner(hyper)

    def epoch(state, data):
        after, _ = part.epoch(state, data)
        lost = (hyper["rate"] > 0.7) & (state["t"] == 2)
        return {**after, "x": jnp.where(lost, jnp.nan, after["x"])}, {}

    return part._replace(epoch=epoch)


def everything(**options):
    """Folds, seeds, patience and a static choice at once; some trials diverge."""
    space = SPACE | {"kind": sweep.choice(["a", "b"])}

    return sweep.run(
        losing, space, (X, T), 5, 8, folds=UNEVEN, seeds=2, patience=2, keep=2, progress=False,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed():
    found = everything(devices=1)
    assert {"plateaued", "diverged"} <= {*found.status} <= {"plateaued", "diverged", "done"}
    return found


def same(found, expected):
    assert found.table() == expected.table()
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_array_equal(found.epochs, expected.epochs)
    for part, metrics in expected.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_array_equal(found.curves[part][name], curve)
    assert found.kept.keys() == expected.kept.keys()
    for row, state in expected.kept.items():
        assert found.kept[row]["x"] == state["x"] and found.kept[row]["t"] == state["t"]


def test_blocks_of_an_executor_do_the_same(undisturbed):
    from test_executors import Inline

    same(everything(executor=Inline(lost=(2,)), trials_per_block=7, devices=1), undisturbed)


def test_chunks_do_the_same(undisturbed, monkeypatch):
    monkeypatch.setattr("purenet.sweep.engine.compile.memory", lambda device: 1.0)
    found = everything(devices=1)
    assert "2 lane(s)" in found.programs[0].layout
    same(found, undisturbed)


def test_killed_before_any_write_it_ends_the_same(tmp_path, monkeypatch, undisturbed):
    from crash_points import moments, put

    whole = tmp_path / "whole"
    expected, states = moments(monkeypatch, whole, lambda: everything(devices=1, path=whole))
    same(expected, undisturbed)
    monkeypatch.setattr("os.fsync", lambda file: None)
    for state in states[::9]:
        put(tmp_path / "killed", state)
        same(everything(devices=1, path=tmp_path / "killed"), undisturbed)
