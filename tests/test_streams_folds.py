"""Folds of streamed data: one pass serves all of them, and each trains on its own rows only."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_streams_sweep import SIZE, SPACE, Broken, Counted, Endless, T, X, same, stream, trial

import purenet as pn
from purenet import sweep
from purenet.core.chunk import Chunk
from purenet.core.shuffle import order_of_epoch
from purenet.sweep.folds import make_folds

FOLDS = [(np.arange(2, 20), np.array([21, 0, 1, 1])), (np.arange(9)[::-1], np.arange(9, 22))]


def run(data=None, folds=3, trials=2, epochs=2, **options):
    data = stream((X, T)) if data is None else data
    return sweep.run(trial, SPACE, data, trials, epochs, folds=folds, progress=False, **options)


@pytest.fixture(scope="module")
def whole():
    return run(keep=2)


def rows_of(folds):
    made = make_folds(folds, (X, T), 0)
    part = lambda p, f: np.asarray(p.rows[f])[: p.sizes[int(p.which[f])]]
    return [(part(made.train, f), part(made.validation, f)) for f in range(made.number)]


@pytest.mark.parametrize("folds", [3, FOLDS])
def test_a_lane_equals_the_same_training_on_its_rows_alone(whole, folds):
    """In the order in which they come in the pass over all rows."""
    found = whole if folds == 3 else run(folds=folds, keep=2)
    key, pairs = jax.random.key(0), rows_of(folds)
    some = np.unique(np.concatenate([rows for rows, _ in pairs]))
    for point in range(2):
        made = trial({"decay": found.hyper["decay"][point * len(pairs)]})
        for fold, (rows, held_out) in enumerate(pairs):
            state = made.init(jax.random.fold_in(key, point))
            number = point * len(pairs) + fold
            for epoch in range(2):
                order = np.asarray(order_of_epoch(jax.random.fold_in(key, 2**32 - 1), epoch, 22))
                mine = order[np.isin(order, some) & np.isin(order, rows)]
                steps = len(rows) // SIZE
                mine = mine[: steps * SIZE].reshape(steps, SIZE)
                chunk = Chunk((jnp.asarray(X[mine]), jnp.asarray(T[mine])), steps, 0, steps)
                state, values = made.steps(state, chunk)
                curves = jax.tree.map(lambda c: c[number, epoch], found.curves)  # noqa: B023
                np.testing.assert_allclose(curves["train"]["loss"], values["loss"].mean(), 1e-5)
                measured = made.evaluate(state, (X[held_out], T[held_out]))["loss"]
                np.testing.assert_allclose(curves["validation"]["loss"], measured, rtol=1e-5)
            np.testing.assert_allclose(found.weights(number)["w"], state["w"], rtol=1e-5)


def test_an_example_is_read_once_in_a_pass_and_chunks_do_not_matter(whole):
    data = Counted()
    # a look at all examples at first, and two passes an epoch; the thread may be ahead at the end
    same(run(stream(data, memory=1), folds=rows_of(3), devices=1), whole)
    assert 0 <= data.reads - (22 + 2 * 2 * 22) <= 3 * SIZE
    same(run(pn.data.stream((X, T)), devices=2), whole)


def test_networks_by_fold_agree_with_streams_of_their_rows():
    def network(hyper):
        return pn.supervised(
            pn.serial(pn.dense(4), pn.dropout(0.3), pn.dense(2)), (3,), pn.sgd(hyper["rate"]),
            pn.softmax_cross_entropy, SIZE,
        )  # fmt: skip

    space = {"rate": sweep.loguniform(0.01, 1.0)}
    found = sweep.run(network, space, stream((X, T)), 2, 2, folds=FOLDS, progress=False, keep=2)
    made = network({"rate": found.hyper["rate"][0]})
    rows = FOLDS[1][0]
    state, steps = made.init(jax.random.fold_in(jax.random.key(0), 0)), jax.jit(made.steps)
    for epoch in range(2):
        key = jax.random.fold_in(jax.random.key(0), 2**32 - 1)
        order = np.asarray(order_of_epoch(key, epoch, 22))
        mine = order[np.isin(order, rows)][:8].reshape(2, SIZE)
        state, _ = steps(state, Chunk((X[mine], T[mine]), 2, 0, 2))
    chex.assert_trees_all_close(found.weights(1), state.params, rtol=1e-4, atol=1e-6)


def test_a_sweep_by_folds_resumes_within_an_epoch(whole, tmp_path):
    broken = []

    def fault(read):
        if read == 2 * 22 + 15 and not broken:  # in the fourth piece
            broken.append(True)
            raise Broken

    data = Counted(fault)
    with pytest.raises(Broken) as error:
        run(stream(data), folds=rows_of(3), path=tmp_path / "sweep")
    assert "epoch 1, minibatch 4 of 6" in error.value.__notes__[0]
    same(run(stream(data), folds=rows_of(3), path=tmp_path / "sweep"), whole)


def test_searches_by_fold(whole):
    found = run(search=sweep.halving(eta=2), trials=4, epochs=2)
    full = run(trials=4, epochs=2).curves["validation"]["loss"]
    part = found.curves["validation"]["loss"]
    assert np.isnan(part).any()
    np.testing.assert_array_equal(part[~np.isnan(part)], full[~np.isnan(part)])


def test_predictions_out_of_fold(whole):
    found = whole.out_of_fold(3)
    for number, (_, rows) in enumerate(rows_of(3)):
        expected = X[rows] @ np.asarray(whole.weights(3 + number)["w"])
        np.testing.assert_allclose(found[rows], expected, rtol=1e-5)
    assert len(whole.ensemble("greedy", size=2)) >= 1


def test_what_folds_of_a_stream_cannot_be():
    with pytest.raises(ValueError, match=r"with folds= one data set is expected, such as stream"):
        run((stream((X, T)), stream((X, T))))
    with pytest.raises(ValueError, match="fold 1 hold row 3 more than once, but a pass"):
        run(folds=[([0, 1], [2]), ([3, 3, 4], [5])])
    with pytest.raises(ValueError, match="fold 0 has 3 training rows, fewer than one minibatch"):
        run(folds=[([0, 1, 2], [3])])
    with pytest.raises(ValueError, match="folds are of examples with a number, but the stream is"):
        run(pn.data.stream(Endless(), steps_per_epoch=3))
