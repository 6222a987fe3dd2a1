"""supervised and fit."""

import functools
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.training import evaluation, rows, run_file
from purenet.training import fit as training_fit
from purenet.training.run_file import RunFile


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

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params.weights)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params.weights, grads)
    new, metrics = trainable.epoch(state, (x, t))
    chex.assert_trees_all_close(new.params.weights, expected, rtol=1e-10)
    without_penalty = value - 0.15 * sum(
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
    order = np.asarray(jax.jit(rows.permutation, static_argnums=1)(key, n))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_every_place_is_as_likely_everywhere(key):
    draw = jax.jit(jax.vmap(lambda k: rows.permutation(k, 4)))
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
    net = pn.mlp(batch_norm=True)
    y = jax.jit(lambda params: net.apply(params, x, False, None)[0])(state.params)
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", chunk)
    got = jax.jit(trainable.evaluate)(state, (x, t))
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


# fit(path=...)
@pytest.fixture(scope="module")
def plain():
    return make()  # one for all tests, so that it compiles once


def assert_same_fit(got, expected):
    key_data = lambda state: state._replace(key=jax.random.key_data(state.key))
    chex.assert_trees_all_equal(key_data(got.state), key_data(expected.state))
    chex.assert_trees_all_equal(got.history, expected.history)


@pytest.fixture(scope="module")
def rich(data):
    """Everything that a state can hold, and an uninterrupted run of it."""
    trainable = make(net=pn.mlp(batch_norm=True, dropout=0.2), optimizer=pn.adam(1e-2))
    return trainable, pn.fit(trainable, data, 7, jax.random.key(0))


@pytest.mark.parametrize("name", ["run.npz", "run.safetensors"])
def test_a_run_goes_on_from_its_file_to_the_numbers_of_an_uninterrupted_one(
    data, key, tmp_path, name, rich
):
    trainable, whole = rich
    for epochs, block in ((2, None), (3, 1), (7, 3)):
        fit = pn.fit(trainable, data, epochs, key, block=block, path=tmp_path / name)
        assert fit.history["train"]["loss"].shape == (epochs,)
    assert_same_fit(fit, whole)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_complete_run_comes_back_without_training(plain, data, key, tmp_path, caplog, capsys):
    path = tmp_path / "run.npz"
    whole = pn.fit(plain, data, 3, key, path=path)
    before = path.stat().st_mtime_ns
    training_fit._train_block.cache_clear()  # so that a compilation would be seen
    with jax.log_compiles(), caplog.at_level("WARNING"):
        assert_same_fit(pn.fit(plain, data, 3, key, path=path, progress=True), whole)
    assert path.stat().st_mtime_ns == before
    assert "tracing _train_block" in caplog.text and "jit(_train_block)" not in caplog.text
    assert capsys.readouterr().err.startswith(f"epoch 3/3, 0.0 s, from {path}")


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_run_is_on_disk(plain, data, key, tmp_path, monkeypatch, after):
    path, calls = tmp_path / "run.npz", []

    def interrupted(self, n, values):
        calls.append(n)
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training_fit.Progress, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pn.fit(plain, data, 6, key, block=1, path=path)
    assert pn.checkpoint.load_metadata(path)["fit"]["epochs"] == after
    assert_same_fit(pn.fit(plain, data, 6, key, path=path), pn.fit(plain, data, 6, key))


def test_an_interruption_while_numbers_are_copied_loses_nothing(
    plain, data, key, tmp_path, monkeypatch
):
    path, real, calls = tmp_path / "run.npz", np.asarray, []

    def interrupted(a, *args, **options):
        if getattr(a, "shape", ()) == (training_fit._BLOCK,):  # a curve of a block
            calls.append(1)
            if len(calls) == 5:
                signal.raise_signal(signal.SIGINT)
        return real(a, *args, **options)

    monkeypatch.setattr(training_fit.np, "asarray", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pn.fit(plain, data, 6, key, block=2, path=path)
    monkeypatch.undo()
    assert pn.checkpoint.load_metadata(path)["fit"]["epochs"] == 4
    assert_same_fit(pn.fit(plain, data, 6, key, path=path), pn.fit(plain, data, 6, key))


def test_a_run_is_saved_now_and_then(plain, data, key, tmp_path, monkeypatch):
    saved, real = [], RunFile.save
    monkeypatch.setattr(
        RunFile,
        "save",
        lambda self, s, h, done, *r: saved.append(done) or real(self, s, h, done, *r),
    )
    pn.fit(plain, data, 6, key, block=1, path=tmp_path / "a.npz")
    assert saved[-1] == 6 and len(saved) < 6  # a second apart at least
    saved.clear()
    monkeypatch.setattr(RunFile, "is_due", lambda self: True)
    pn.fit(plain, data, 6, key, block=2, path=tmp_path / "b.npz")
    assert saved == [2, 4, 6]


def test_no_epochs_are_saved_too(plain, data, key, tmp_path):
    start = pn.fit(plain, data, 0, key, path=tmp_path / "run.npz")
    assert_same_fit(pn.fit(plain, data, 0, key, path=tmp_path / "run.npz"), start)
    assert pn.checkpoint.load_metadata(tmp_path / "run.npz")["fit"]["epochs"] == 0


def test_a_slow_disk_is_written_less_often(tmp_path, key, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_file.time, "perf_counter", lambda: now[0])
    run = RunFile(tmp_path / "run.npz", key, {})
    monkeypatch.setattr(run_file, "save", lambda *args: now.__setitem__(0, now[0] + 3.0))
    now[0] = 1.0
    assert run.is_due()
    run.save((), {}, 1)
    now[0] = 4.0 + 59.0
    assert not run.is_due()  # 3 s of writing are 5% of a minute
    now[0] = 4.0 + 60.0
    assert run.is_due()


def test_a_file_of_another_run_is_refused(plain, data, key, tmp_path):
    path = tmp_path / "run.npz"
    pn.fit(plain, data, 3, key, path=path)
    before = path.read_bytes()
    fewer = jax.tree.map(lambda a: a[:-1], data)
    for options, message in [
        ({"epochs": 2}, r"fit: .*run\.npz holds a run of 3 epochs, but epochs is 2"),
        ({"key": jax.random.key(1)}, r"run\.npz holds a run from another random key"),
        ({"data": fewer}, r"other data: train\.0 was float64 \(45, 6\), and is .*\(44, 6\)"),
        (
            {"data": data[0]},
            r"other data: train\.0 .* is absent now|validation.0 was .* is absent now",
        ),
        (
            {"trainable": make(sizes=(6, 9, 3))},
            r"state\.params\.weights\.0\.b is float64 \(8,\), but float64 \(9,\) is expected",
        ),
        ({"trainable": make(optimizer=pn.momentum(0.1))}, r"state\.opt_state.* is missing"),
        ({"trainable": make(metrics={})}, r"history\.train\.accuracy is not expected"),
    ]:
        arguments = {"trainable": plain, "data": data, "epochs": 4, "key": key} | options
        with pytest.raises(ValueError, match=message):
            pn.fit(**arguments, path=path)
        assert path.read_bytes() == before
    for metadata in (None, [1], {"fit": 3}, {"fit": {"epochs": "3"}}):
        pn.save(path, {"w": np.ones(3)}, metadata)
        with pytest.raises(
            ValueError, match=r"run\.npz is not a run of fit, and is not overwritten"
        ):
            pn.fit(plain, data, 4, key, path=path)
    path.write_bytes(before[:-100])
    with pytest.raises(ValueError, match=r"run\.npz is damaged"):
        pn.fit(plain, data, 4, key, path=path)


def test_a_path_that_cannot_be_written_is_said_before_training(plain, data, key, tmp_path):
    with pytest.raises(ValueError, match=r"fit: .*run ends in '', expected \.npz"):
        pn.fit(plain, data, 4, key, path=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"fit: .*there is no folder"):
        pn.fit(plain, data, 4, key, path=tmp_path / "no" / "run.npz")


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
    "lists": ((x.tolist(), t), "x is a list, but an array"),
    "a NaN": ((np.where(np.arange(8)[:, None] == 5, np.nan, x), t), "not finite.*example 5"),
}


@pytest.mark.parametrize("bad, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_data_that_does_not_fit_is_explained_before_compiling(bad, message, key):
    with pytest.raises((ValueError, TypeError), match=message):
        pn.fit(make(), bad, 1, key)


def test_data_that_a_compiled_program_holds_is_checked_too():
    trainable, images = make(), jnp.asarray(x)
    check = lambda labels: jax.jit(lambda: trainable.check((images, labels)))()
    check(jnp.asarray(t))
    with pytest.raises(ValueError, match="labels run from 3 to 3"):
        check(jnp.asarray(t + 3))


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
