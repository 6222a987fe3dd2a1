"""Sweeps on streamed data: one pass of the loader for all lanes, and the same numbers whatever the
chunks, the lanes and the interruptions."""

import functools
import os
import signal
import threading
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.chunk import Chunk
from purenet.core.shuffle import order_of_epoch
from purenet.data import feed as feeding
from purenet.sweep import config

X = np.random.default_rng(0).normal(size=(22, 3)).astype(np.float32)
T = np.arange(22, dtype=np.int32) % 2
SIZE = 4  # five minibatches an epoch
VALIDATION = (X[:7], T[:7])
TINY = 4 * 2 * SIZE * 16  # memory for chunks of two minibatches
stream = functools.partial(pn.data.stream, memory=TINY)


def trial(hyper):
    """Weights that depend on every example and on the order of the minibatches."""

    def one(w, minibatch, i):
        x, t = minibatch
        w = jnp.float32(hyper["decay"]) * w + x.mean(0) * (1 + t.mean(dtype=x.dtype))
        return w, {"loss": abs(w).sum()}

    def init(key):
        return {"w": jax.random.normal(key, (3,), jnp.float32), "key": key}

    def steps(state, chunk):
        w, metrics = chunk.each(one, state["w"])
        return state | {"w": w}, metrics

    return pn.Trainable(
        init,
        lambda state, data: (state, {}),
        lambda state, data: {"loss": abs(data[0] @ state["w"]).mean()},
        predict=lambda state, x: x @ state["w"],
        score=lambda y, t: {"loss": abs(y).mean()},
        steps=steps,
        batch_size=SIZE,
    )


SPACE = {"decay": sweep.uniform(0.1, 0.95)}


class Counted:
    """A data set that counts how often an example is read."""

    def __init__(self, fault=None):
        self.reads, self.fault = 0, fault

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        self.reads += 1
        if self.fault:
            self.fault(self.reads)
        return X[i], T[i]


def run(train=None, trials=6, epochs=4, validation=VALIDATION, **options):
    train = stream((X, T)) if train is None else train
    return sweep.run(trial, SPACE, (train, validation), trials, epochs, progress=False, **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t for t in threading.enumerate() if t.name == "purenet-stream" and t.is_alive()]


def same(found, expected):
    chex.assert_trees_all_equal(found.curves, expected.curves)
    assert found.ranked() == expected.ranked()


def weights(result, number):
    return np.asarray(result.weights(number)["w"])


@pytest.fixture(scope="module")
def whole():
    return run(keep=6)


def test_one_lane_and_many_call_the_loader_as_often():
    counts = []
    for trials in (1, 12):
        data = Counted()
        run(stream(data), trials)
        counts.append(data.reads)
    first_look = 22
    assert counts == [first_look + 4 * 5 * SIZE] * 2


def test_the_numbers_do_not_depend_on_the_chunks_or_the_devices(whole):
    same(run(pn.data.stream((X, T), memory=10**6), devices=1), whole)
    same(run(stream(Counted()), devices=2), whole)


def test_the_order_of_the_examples_is_one_for_all_trials(whole):
    decay = whole.hyper["decay"].tolist()
    key = jax.random.key(0)
    order_key = jax.random.fold_in(key, 2**32 - 1)
    for number in (0, 5):
        w = jax.random.normal(jax.random.fold_in(key, number), (3,), jnp.float32)
        for epoch in range(4):
            rows, losses = np.asarray(order_of_epoch(order_key, epoch, 22)), []
            for i in range(5):
                mine = rows[i * SIZE :][:SIZE]
                w = decay[number] * w + X[mine].mean(0) * (1 + T[mine].mean())
                losses.append(abs(w).sum())
            measured = whole.curves["train"]["loss"][number, epoch]
            np.testing.assert_allclose(measured, np.mean(losses), rtol=1e-5)
        np.testing.assert_allclose(weights(whole, number), w, rtol=1e-5)


def test_streamed_validation(whole):
    found = run(validation=stream(VALIDATION))
    chex.assert_trees_all_close(found.curves, whole.curves, rtol=1e-6)
    assert len(whole.ensemble(2)) == 2


@pytest.mark.parametrize("validation", ["examples", "minibatches"])
def test_a_greedy_ensemble_is_chosen_on_streamed_validation(whole, validation):
    data = stream(VALIDATION)
    if validation == "minibatches":
        rows = [np.random.default_rng(i).permutation(len(X))[:SIZE] for i in range(2)]
        held_out = tuple(np.concatenate([a[r] for r in rows]) for a in (X, T))
        data, whole = stream(Endless(), steps_per_epoch=2), run(validation=held_out, keep=6)
    found = run(validation=data, keep=6)
    expected = whole.ensemble("greedy", size=4)
    x = X[:5]
    np.testing.assert_allclose(
        found.ensemble("greedy", size=4).predict(x), expected.predict(x), rtol=1e-5
    )


@pytest.mark.parametrize("block, devices", [(6, 1), (2, 2)])
def test_lanes_that_are_vmapped_agree_with_those_one_by_one(whole, monkeypatch, block, devices):
    real = config.layout
    monkeypatch.setattr(config, "layout", lambda trials, where: real(trials, where, block))
    for validation in (VALIDATION, stream(VALIDATION)):
        found = run(validation=validation, devices=devices)
        chex.assert_trees_all_close(found.curves, whole.curves, rtol=1e-5)


# searches
def test_seeds_and_the_first_of_them(whole):
    found = run(seeds=2)
    first = {name: curve[::2] for name, curve in found.curves["validation"].items()}
    chex.assert_trees_all_equal(first, whole.curves["validation"])


@pytest.mark.parametrize("search", [sweep.halving(eta=2), sweep.median_stopping(grace=1)])
def test_trials_that_stop_early_are_a_part_of_the_whole(whole, search):
    found = run(search=search)
    full, part = whole.curves["validation"]["loss"], found.curves["validation"]["loss"]
    assert np.isnan(part).any()
    np.testing.assert_array_equal(part[~np.isnan(part)], full[~np.isnan(part)])


def test_lanes_that_are_behind_catch_up_and_the_numbers_stay(whole, monkeypatch):
    """Four lanes for six trials, of which two come when others are done or out of patience."""
    real = config.layout
    monkeypatch.setattr(config, "layout", lambda trials, devices: real(4, devices[:1]))
    data = Counted()
    same(run(stream(data)), whole)
    assert data.reads == 22 + 2 * 4 * 5 * SIZE
    found = run(stream(data), patience=1, seed=4)
    monkeypatch.undo()
    same(found, run(patience=1, seed=4))
    assert found.epochs[:4].tolist() == [2, 4, 2, 4]  # so that two begin before two others end


def test_a_population():
    search = sweep.pbt(every=2)
    found, again = run(search=search), run(pn.data.stream((X, T)), search=search)
    same(found, again)
    assert (found.lineage.parents != np.arange(6)).any()


def test_a_trial_that_diverges_does_not_hurt_the_others(whole):
    def dying(hyper):
        made = trial(hyper)
        dies = lambda w: jnp.where(hyper["decay"] > 0.8, jnp.nan, 1.0).astype(w.dtype)

        def steps(state, chunk):
            state, metrics = made.steps(state, chunk)
            return state | {"w": state["w"] * dies(state["w"])}, metrics

        return made._replace(steps=steps)

    data = stream((X, T)), VALIDATION
    found = sweep.run(dying, SPACE, data, 6, 4, progress=False)
    lost = found.hyper["decay"] > 0.8
    assert lost.any() and not lost.all()
    assert (found.status == "diverged").tolist() == lost.tolist()
    kept = lambda result: result.curves["validation"]["loss"][~lost]
    np.testing.assert_array_equal(kept(found), kept(whole))
    number = int(np.flatnonzero(lost)[0])
    replayed = found.replay(number).state  # the last that was finite: from before the first epoch
    expected = trial({"decay": 0.5}).init(jax.random.fold_in(jax.random.key(0), number))
    np.testing.assert_array_equal(replayed["w"], expected["w"])


def test_a_trial_is_replayed(whole):
    run = whole.replay(3)
    np.testing.assert_array_equal(run.state["w"], weights(whole, 3))
    np.testing.assert_array_equal(run.curves["train"]["loss"], whole.curves["train"]["loss"][3])


def test_epochs_that_are_not_evaluated_and_best_weights(whole):
    found = run(evaluate_every=2, select="best", keep=6)
    expected = whole.curves["validation"]["loss"][:, 1::2]
    np.testing.assert_array_equal(found.curves["validation"]["loss"][:, 1::2], expected)
    assert np.isnan(found.curves["train"]["loss"][:, ::2]).all()
    streamed = run(validation=stream(VALIDATION), evaluate_every=2)
    chex.assert_trees_all_close(
        streamed.curves["validation"], found.curves["validation"], rtol=1e-6
    )
    last = np.nanargmin(found.curves["validation"]["loss"], axis=1) == 3
    for number in np.flatnonzero(last):
        np.testing.assert_array_equal(weights(found, number), weights(whole, number))


# resuming
LOOKED = 2 * 22  # examples that are read at first: for shapes, and to tell the data apart


class Broken(Exception):
    pass


@pytest.mark.parametrize("minibatch", [1, 8, 12])
def test_a_sweep_whose_loader_fails_resumes_at_that_minibatch(whole, tmp_path, minibatch):
    broken = []

    def fault(read):
        if read == LOOKED + (minibatch - 1) * SIZE + 1 and not broken:
            broken.append(True)
            raise Broken

    data = Counted(fault)
    with pytest.raises(Broken) as error:
        run(stream(data), path=tmp_path / "sweep")
    epoch, place = divmod(minibatch - 1, 5)
    assert f"epoch {epoch + 1}, minibatch {place + 1} of 5" in error.value.__notes__[0]
    data.reads = 0
    same(run(stream(data), path=tmp_path / "sweep", keep=6), whole)
    assert data.reads == LOOKED + (4 * 5 - (minibatch - 1)) * SIZE
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name]


def test_an_iterator_is_read_again_up_to_there(tmp_path):
    source = lambda: stream(Endless(), steps_per_epoch=3)
    whole, broken = run(source(), keep=6), []

    def fault(i):
        if i == 8 and not broken:
            broken.append(True)
            raise Broken

    with pytest.raises(Broken):
        run(stream(Endless(fault), steps_per_epoch=3), path=tmp_path / "sweep", keep=6)
    same(run(source(), path=tmp_path / "sweep", keep=6), whole)
    assert not np.array_equal(
        whole.curves["train"]["loss"][:, 0], whole.curves["train"]["loss"][:, 1]
    )


class Endless:
    def __init__(self, fault=None):
        self.fault = fault

    def __iter__(self):
        return EndlessIterator(self.fault)


class EndlessIterator:
    def __init__(self, fault):
        self.i, self.fault = 0, fault

    def __next__(self):
        if self.fault:
            self.fault(self.i)
        rows = np.random.default_rng(self.i).permutation(len(X))[:SIZE]
        self.i += 1
        return X[rows], T[rows]

    def get_state(self):
        return {"next": self.i}

    def set_state(self, state):
        self.i = state["next"]


def test_ctrl_c_saves_while_the_loader_is_waited_for(whole, tmp_path):
    slow = []

    def fault(read):
        if read == LOOKED + 7 * SIZE + 1 and not slow:
            slow.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    data = Counted(fault)
    with pytest.raises(KeyboardInterrupt):
        run(stream(data), path=tmp_path / "sweep")
    data.reads = 0
    same(run(stream(data), path=tmp_path / "sweep"), whole)
    assert data.reads < LOOKED + 20 * SIZE


def test_ctrl_c_works_while_the_validation_data_is_waited_for(whole, tmp_path, monkeypatch):
    free = threading.Event()

    def fault(read):
        if read == LOOKED + 3 * 22 + 1 and not free.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            free.wait(20)

    data = stream(Counted(fault))
    monkeypatch.setattr(feeding, "_PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(validation=data, path=tmp_path / "sweep")
    assert not free.is_set()
    free.set()
    for thread in threading.enumerate():
        if thread.name == "purenet-stream":
            thread.join(5)
    monkeypatch.undo()
    assert (sweep.load(tmp_path / "sweep").epochs == 3).all()
    data.source.dataset.reads = -1000
    same(run(validation=data, path=tmp_path / "sweep"), run(validation=stream((X, T))))


# networks
def test_networks_of_two_batch_sizes_and_a_trial_that_equals_fit(tmp_path):
    def network(hyper):
        return pn.supervised(
            pn.mlp(), (3, 4, 2), pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, hyper["size"]
        )

    space = {"rate": sweep.loguniform(0.01, 1.0), "size": sweep.choice([4, 6])}
    found = sweep.run(
        network, space, (stream((X, T)), stream(VALIDATION)), 4, 3, keep=4, progress=False
    )
    assert set(found.hyper["size"].tolist()) == {4, 6}
    assert (found.status == "done").all()
    key = jax.random.key(0)
    order = jax.random.fold_in(key, 2**32 - 1)
    for size in (4, 6):
        number = found.hyper["size"].tolist().index(size)
        made = network({"rate": found.hyper["rate"][number], "size": size})
        state, train = made.init(jax.random.fold_in(key, number)), jax.jit(made.steps)
        for epoch in range(3):
            rows = np.asarray(order_of_epoch(order, epoch, 22))
            steps = 22 // size
            mine = rows[: steps * size].reshape(steps, -1)
            chunk = Chunk((X[mine], T[mine]), steps, 0, steps)
            state, _ = train(state, chunk)
        expected = jax.tree.leaves(state.params)
        for a, b in zip(jax.tree.leaves(found.weights(number)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# what is refused
def test_what_cannot_be_streamed_is_refused():
    without = lambda hyper: trial(hyper)._replace(steps=None)
    with pytest.raises(TypeError, match=r"sweep: the data is streamed.*no `steps\(state, chunk\)`"):
        sweep.run(without, SPACE, (stream((X, T)), VALIDATION), 2, 1)
    other = lambda hyper: trial(hyper)._replace(evaluate=lambda state, data: {"else": 0.0})
    with pytest.raises(ValueError, match=r"`steps` gave the metrics \['loss'\], but `evaluate`"):
        sweep.run(other, SPACE, (stream((X, T)), VALIDATION), 2, 1, metric="else", mode="min")
    with pytest.raises(ValueError, match="pair"):
        sweep.run(trial, SPACE, stream((X, T)), 2, 1)
