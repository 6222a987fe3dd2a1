"""supervised and fit."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import training


@pytest.fixture(scope="module")
def data():
    """Three noisy clusters in six dimensions: (train, validation)."""
    rng = np.random.default_rng(0)
    t = rng.integers(0, 3, 60)
    x = rng.normal(size=(60, 6)) + 4 * np.eye(3, 6)[t]
    return (x[:45], t[:45]), (x[45:], t[45:])


def make(**options):
    settings = {"net": pn.mlp(), "sizes": (6, 8, 3), "optimizer": pn.sgd(0.1), "batch_size": 10,
                "loss": pn.softmax_cross_entropy} | options  # fmt: skip
    return pn.supervised(**settings)


def test_fit_learns(data, key):
    state, history = pn.fit(make(), data, 30, key)
    assert history["train"]["loss"].shape == (30,)
    assert history["train"]["loss"][-1] < 0.5 * history["train"]["loss"][0]
    assert history["validation"]["accuracy"][-1] > 0.7
    assert int(state.step) == 30 * 4


def test_one_step_is_the_step_written_out(data, key):
    (x, t), _ = data
    trainable = make(batch_size=45, penalty=pn.l2(0.3))
    state = trainable.init(key)

    def loss(w):
        hidden = jnp.maximum(x @ w["0"]["w"] + w["0"]["b"], 0)
        logits = hidden @ w["2"]["w"] + w["2"]["b"]
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), t[:, None], 1).mean()
        return -likelihood + 0.15 * sum((w[i]["w"] ** 2).sum() for i in ("0", "2"))

    grads = jax.grad(loss)(state.params.weights)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params.weights, grads)
    new, metrics = trainable.epoch(state, (x, t))
    chex.assert_trees_all_close(new.params.weights, expected, rtol=1e-10)
    without_penalty = loss(state.params.weights) - 0.15 * sum(
        (state.params.weights[i]["w"] ** 2).sum() for i in ("0", "2")
    )
    np.testing.assert_allclose(metrics["loss"], without_penalty, rtol=1e-10)


@pytest.mark.parametrize("block", [1, 3, None])
def test_numbers_do_not_depend_on_the_block_size(data, key, block):
    trainable = make(net=pn.mlp(batch_norm=True, dropout=0.2))
    expected = pn.fit(trainable, data, 7, key, block=7)
    got = pn.fit(trainable, data, 7, key, block=block)
    key_data = lambda fit: fit.state._replace(key=jax.random.key_data(fit.state.key))
    chex.assert_trees_all_equal(key_data(got), key_data(expected))
    chex.assert_trees_all_equal(got.history, expected.history)


def test_other_numbers_of_epochs_and_other_keys_compile_nothing(data, key):
    traces = []
    trainable = make(loss=lambda y, t: traces.append(1) or pn.softmax_cross_entropy(y, t))
    pn.fit(trainable, data, 2, key)
    first = len(traces)
    pn.fit(trainable, data, 5, jax.random.key(7), block=2)
    assert len(traces) == first


def record_rows(batches, n=45, batch_size=10):
    """Which examples an epoch visits, by giving each its own column and summing the inputs."""
    net = pn.Layer(
        lambda key, sizes: pn.Params({"w": jnp.zeros(n)}),
        lambda params, x, train, key: (x * params.weights["w"], ()),
    )
    trainable = make(net=net, sizes=n, batches=batches, batch_size=batch_size, metrics={},
                     loss=lambda y, t: -y.sum(), optimizer=pn.sgd(1.0))  # fmt: skip
    state = trainable.init(jax.random.key(0))
    visits = []
    for _ in range(2):
        new, _ = trainable.epoch(state, (jnp.eye(n), jnp.zeros(n)))
        visits.append(np.asarray(new.params.weights["w"] - state.params.weights["w"]))
        state = new
    return visits


def test_a_shuffled_epoch_visits_each_example_at_most_once_in_a_new_order():
    first, second = record_rows("shuffled")
    for visits in (first, second):
        assert set(visits) == {0.0, 1.0} and visits.sum() == 40  # 45 % 10 sit out
    assert not np.array_equal(first, second)
    (all_of_them, _) = record_rows("shuffled", n=40)
    assert (all_of_them == 1).all()


def test_batches_with_replacement_are_drawn_at_random():
    first, second = record_rows("with_replacement")
    for visits in (first, second):
        assert visits.sum() == 40 and visits.max() > 1
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 2**16, 2**16 + 1])
def test_an_order_holds_every_place_once(n, key):
    order = np.asarray(jax.jit(training._permutation, static_argnums=1)(key, n))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_every_place_is_as_likely_everywhere(key):
    draw = jax.jit(jax.vmap(lambda k: training._permutation(k, 4)))
    orders = np.asarray(draw(jax.random.split(key, 20000)))
    for place in range(4):
        shares = np.bincount(orders[:, place], minlength=4) / 20000
        np.testing.assert_allclose(shares, 0.25, atol=0.015)  # five standard deviations


def test_strict_promotion_finds_nothing_to_promote(data, key):
    narrow = jax.tree.map(lambda a: a.astype(np.float32 if a.ndim == 2 else np.int32), data)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        for optimizer in (pn.sgd(0.1), pn.adam(1e-3), pn.nadam(1e-3), pn.adamw(1e-3)):
            net = pn.mlp(batch_norm=True, dropout=0.2)
            trainable = make(net=net, optimizer=optimizer, penalty=pn.l2(1e-4))
            history = pn.fit(trainable, narrow, 1, jax.random.key(0)).history
            assert np.isfinite(history["train"]["loss"]).all()


def test_a_batch_larger_than_the_data_is_all_of_it():
    (visits, _) = record_rows("shuffled", n=7, batch_size=100)
    assert (visits == 1).all()


@pytest.mark.parametrize("chunk", [1000, 20, 7, 1])
def test_evaluation_in_chunks_is_the_evaluation_of_the_whole(data, key, monkeypatch, chunk):
    (x, t), _ = data
    trainable = make(net=pn.mlp(batch_norm=True))
    state = trainable.init(key)
    y, _ = pn.mlp(batch_norm=True).apply(state.params, jnp.asarray(x), False, None)
    monkeypatch.setattr(training, "_EVALUATION_CHUNK", chunk)
    got = trainable.evaluate(state, (jnp.asarray(x), jnp.asarray(t)))
    np.testing.assert_allclose(got["loss"], pn.softmax_cross_entropy(y, t), rtol=1e-12)
    np.testing.assert_allclose(got["accuracy"], (y.argmax(1) == t).mean(), rtol=1e-6)


def test_running_statistics_follow_the_training_batches(key):
    x = 3.0 + 2.0 * np.random.default_rng(0).normal(size=(100, 2))
    trainable = make(net=pn.serial(pn.batch_norm(), pn.dense(3)), sizes=2, batch_size=100)
    state, _ = pn.fit(trainable, (x, np.zeros(100, int)), 200, key)
    np.testing.assert_allclose(state.params.stats["0"]["mean"], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state.params.stats["0"]["variance"], x.var(0), rtol=1e-6)


def test_metrics_are_what_the_loss_and_the_labels_suggest(data, key):
    (x, t), _ = data
    names = lambda trainable, t: sorted(pn.fit(trainable, (x, t), 1, key).history["train"])
    assert names(make(), t) == ["accuracy", "loss"]
    smooth = functools.partial(pn.softmax_cross_entropy, smoothing=0.1)
    assert names(make(loss=smooth), np.eye(3)[t]) == ["accuracy", "loss"]
    assert names(make(loss=pn.mean_squared_error), np.eye(3)[t]) == ["loss"]
    chosen = {"error": lambda y, t: jnp.abs(y - t).mean()}
    assert names(make(loss=pn.mean_squared_error, metrics=chosen), np.eye(3)[t]) == [
        "error",
        "loss",
    ]


def test_no_epochs_give_the_initial_state(data, key):
    trainable = make()
    state, history = pn.fit(trainable, data, 0, key)
    chex.assert_trees_all_equal(state.params, jax.jit(trainable.init)(key).params)
    assert history["validation"]["loss"].shape == (0,)


def test_fit_does_not_use_up_its_arguments(data, key):
    """Buffers are donated inside; what the user passed in must survive."""
    on_device = jax.tree.map(jnp.asarray, data)
    first = pn.fit(make(), on_device, 2, key)
    second = pn.fit(make(), on_device, 2, key)
    chex.assert_trees_all_equal(first.history, second.history)


def test_progress_lines_name_the_metrics(data, key, capsys):
    pn.fit(make(), data, 2, key, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("epoch 2/2") and "validation accuracy" in last and "examples/s" in last


x, t = np.ones((8, 6)), np.zeros(8, int)
MISTAKES = {
    "images": ((np.ones((8, 2, 3)), t), r"\(1, 2, 3\).*flatten"),
    "another width": ((np.ones((8, 5)), t), r"\(1, 5\).*\(6, 8\)"),
    "labels out of range": ((x, t + 3), "labels run from 3 to 3.*3 outputs"),
    "a negative label": ((x, t - 1), "labels run from -1 to -1"),
    "fewer labels": ((x, t[:5]), r"\(8, 6\).*\(5,\)"),
    "no example": ((x[:0], t[:0]), "empty"),
    "no pair": (x, "pair"),
    "lists": ((x.tolist(), t), "x is list, but an array"),
    "a NaN": ((np.where(np.arange(8)[:, None] == 5, np.nan, x), t), "not finite.*example 5"),
}


@pytest.mark.parametrize("bad, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_data_that_does_not_fit_is_explained_before_compiling(bad, message, key):
    with pytest.raises((ValueError, TypeError), match=message):
        pn.fit(make(), bad, 1, key)


def test_arguments_are_checked(data, key):
    for options, kind, message in [
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5"),
        ({"batches": "sorted"}, ValueError, "with_replacement"),
        ({"net": pn.relu}, TypeError, "Layer such as mlp"),
        ({"optimizer": 0.1}, TypeError, r"pair \(init, update\)"),
    ]:
        with pytest.raises(kind, match=message):
            make(**options)
    with pytest.raises(ValueError, match="epochs is -1"):
        pn.fit(make(), data, -1, key)
    with pytest.raises(TypeError, match="Trainable such as supervised"):
        pn.fit(pn.mlp(), data, 1, key)
    with pytest.raises(ValueError, match="block is 0"):
        pn.fit(make(), data, 1, key, block=0)
