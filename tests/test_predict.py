"""Outputs of a network for many examples, and predictions of a training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.training import evaluation

NET = pn.mlp(batch_norm=True)
SIZES = (4, 5, 3)
X = np.random.default_rng(0).normal(size=(11, 4))


@pytest.fixture(scope="module")
def params():
    return NET.init(jax.random.key(0), SIZES)


@pytest.fixture(scope="module")
def expected(params):
    return np.asarray(NET.apply(params, X, False, None)[0])


@pytest.mark.parametrize("batch_size", [1, 3, 11, 1000])
def test_outputs_are_those_of_all_at_once(params, expected, batch_size):
    got = pn.predict(NET, params, X, batch_size)
    assert isinstance(got, jax.Array)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(pn.predict(NET, params, jnp.asarray(X), batch_size), got, rtol=1e-12)


def test_any_number_of_examples_runs_one_program(params, expected):
    shapes = []

    def apply(params, x, train, key):
        shapes.append(x.shape)
        return NET.apply(params, x, train, key)

    net = NET._replace(apply=apply)
    for n in (4, 5, 8, 11):
        got = pn.predict(net, params, X[:n], batch_size=4)
        np.testing.assert_allclose(got, expected[:n], rtol=1e-12)
    assert shapes == [(4, 4)]
    pn.predict(net, params, X[:3], batch_size=4)  # fewer than a batch: to a power of two
    pn.predict(net, params, X[:1], batch_size=4)
    assert shapes == [(4, 4), (1, 4)]


def test_it_works_under_jit_and_vmap(params, expected):
    predict = functools.partial(pn.predict, NET, batch_size=4)
    np.testing.assert_allclose(jax.jit(predict)(params, X), expected, rtol=1e-12)
    two = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    got = jax.jit(jax.vmap(lambda p: predict(p, X)))(two)
    np.testing.assert_allclose(got[0], expected, rtol=1e-12)
    assert got.shape == (2, 11, 3)


def test_a_memory_map_is_read_part_by_part(params, expected, tmp_path):
    np.save(tmp_path / "x.npy", X)
    read = []

    class Watched(np.memmap):
        def __getitem__(self, rows):
            read.append(len(np.arange(11)[rows]))
            return np.asarray(super().__getitem__(rows))

    x = np.load(tmp_path / "x.npy", mmap_mode="r").view(Watched)
    np.testing.assert_allclose(pn.predict(NET, params, x, batch_size=4), expected, rtol=1e-12)
    assert max(read) == 4


@pytest.mark.parametrize(
    "net, params, x, error, message",
    [
        (None, None, X, TypeError, "predict: net is None, but Layer"),
        (NET, {"w": 1}, X, TypeError, r"predict: params is .*but Params.*state\.params"),
        (NET, pn.Params(()), [1.0], TypeError, r"predict: x is \[1\.0\].*array"),
        (NET, pn.Params(()), X[:0], ValueError, r"\(0, 4\), but at least one example"),
        (NET, pn.Params(()), np.float32(1), ValueError, r"shape \(\)"),
    ],
)
def test_what_cannot_be_predicted_is_explained(net, params, x, error, message):
    with pytest.raises(error, match=message):
        pn.predict(net, params, x)


# the prediction of a Trainable
smooth = functools.partial(pn.softmax_cross_entropy, smoothing=0.1)
binary = functools.partial(pn.sigmoid_binary_cross_entropy, smoothing=0.1)


@pytest.mark.parametrize(
    "loss, probabilities",
    [
        (pn.softmax_cross_entropy, jax.nn.softmax),
        (smooth, jax.nn.softmax),
        (pn.sigmoid_binary_cross_entropy, jax.nn.sigmoid),
        (binary, jax.nn.sigmoid),
        (pn.mean_squared_error, lambda y: y),
        (lambda y, t: pn.huber(y, t), lambda y: y),
    ],
)
@pytest.mark.parametrize("chunk", [1000, 4])
def test_a_cross_entropy_predicts_probabilities(loss, probabilities, chunk, monkeypatch, key):
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", chunk)
    trainable = pn.supervised(NET, SIZES, pn.sgd(0.1), loss, batch_size=2)
    state = trainable.init(key)
    y, _ = NET.apply(state.params, X, False, None)
    np.testing.assert_allclose(trainable.predict(state, X), probabilities(y), rtol=1e-12)


def test_binary_labels_are_counted_one_by_one(key):
    net = pn.Layer(lambda key, sizes: pn.Params(()), lambda p, x, train, key: (x, ()))
    trainable = pn.supervised(net, 2, pn.sgd(0.1), pn.sigmoid_binary_cross_entropy, batch_size=2)
    data = (np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1, 0], [0, 1]]))
    trainable.check(data)
    found = trainable.evaluate(trainable.init(key), data)
    np.testing.assert_allclose(found["accuracy"], 0.75)
    with pytest.raises(ValueError, match=r"t has shape \(2,\).*outputs have shape \(2, 2\)"):
        trainable.check((data[0], data[1][:, 0]))


def test_a_predict_that_cannot_be_called_is_refused(key):
    trainable = pn.supervised(NET, SIZES, pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=2)
    data = (X, np.zeros(11, int))
    for bad, message in ((3, "predict is 3"), (lambda x: x, r"`predict` cannot .*\(state, x\)")):
        with pytest.raises(TypeError, match=message):
            pn.fit(trainable._replace(predict=bad), data, 1, key)
