"""States with static parts: optimizers that are made of one trial's traced numbers."""

import dataclasses
import functools
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core import autosave
from purenet.sweep.storage.folder import Store

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = X @ np.arange(3, dtype=np.float32)
DATA = ((X[:12], Y[:12]), (X[12:], Y[12:]))
SPACE = {"rate": sweep.loguniform(1e-3, 1e25), "slow": sweep.choice([0.5, 1.0])}  # some diverge


class Transformation(NamedTuple):
    """A pair of functions that close over the rate, as optax has them."""

    init: Callable
    update: Callable


class Momentum(NamedTuple):
    trace: Any
    rate: Any


def momentum(rate):
    step = -1 * rate  # computed here, and so traced where this is called

    def init(weights):
        return Momentum(jax.tree.map(jnp.zeros_like, weights), jnp.asarray(step))

    def update(grads, state, weights=None):
        trace = jax.tree.map(lambda m, g: 0.5 * m + g, state.trace, grads)
        return jax.tree.map(lambda m: step * m, trace), Momentum(trace, state.rate)

    return Transformation(init, update)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "opt_state", "key"],
    meta_fields=["tx", "apply_fn"],
)
@dataclasses.dataclass(frozen=True)
class State:
    """A state that carries its optimizer, as flax has it."""

    params: Any
    opt_state: Any
    key: Any
    tx: Any
    apply_fn: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=["w", "b"], meta_fields=["act"])
@dataclasses.dataclass(frozen=True)
class Module:
    """A network whose activation is a static field, as equinox has it."""

    w: Any
    b: Any  # None where it was filtered out
    act: Callable


def loss(model, data):
    x, y = data
    return jnp.mean((model.act(x @ model.w) - y) ** 2)


def trainable(make_optimizer, module):
    def init(key):
        tx = make_optimizer()
        model = module(jax.random.normal(key, (3,), jnp.float32))
        return State(model, tx.init(model), key, tx, loss)

    def epoch(state, data):
        key = jax.random.fold_in(state.key, 1)
        value, grads = jax.value_and_grad(state.apply_fn)(state.params, data)
        updates, opt_state = state.tx.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda w, u: (w + u).astype(w.dtype), state.params, updates)
        return dataclasses.replace(state, params=params, opt_state=opt_state, key=key), {
            "loss": value
        }

    return pn.Trainable(init, epoch, lambda state, data: {"loss": loss(state.params, data)})


def identity(x):
    return x


def made_outside(hyper):
    tx = momentum(hyper["rate"] * hyper["slow"])
    return trainable(lambda: tx, lambda w: Module(w, None, identity))


def made_in_init(hyper):
    """The optimizer and an activation are new wherever `init` is called."""
    return trainable(
        lambda: momentum(hyper["rate"] * hyper["slow"]),
        lambda w: Module(w, None, lambda x: x * jnp.sign(hyper["slow"]).astype(x.dtype)),
    )


class Raw(NamedTuple):
    rate: Any

    def init(self, weights):
        return momentum(self.rate).init(weights)

    def update(self, *arguments):
        return momentum(self.rate).update(*arguments)


def holds_tracers(hyper):
    """Static fields that hold the numbers themselves, and cannot even be compared."""
    return trainable(
        lambda: Raw(hyper["rate"] * hyper["slow"]), lambda w: Module(w, None, identity)
    )


def without_static(hyper):
    """The same training with a state of plain containers."""

    def unpacked(f):
        one = made_outside(hyper)
        whole = one.init(jax.random.key(0))
        back = lambda s: dataclasses.replace(whole, params=s["params"], opt_state=s["opt"],
                                             key=s["key"])  # fmt: skip
        return f(one, back)

    there = lambda s: {"params": s.params, "opt": s.opt_state, "key": s.key}

    def epoch(state, data):
        def run(one, back):
            after, metrics = one.epoch(back(state), data)
            return there(after), metrics

        return unpacked(run)

    return pn.Trainable(
        lambda key: unpacked(lambda one, back: there(one.init(key))),
        epoch,
        lambda state, data: unpacked(lambda one, back: one.evaluate(back(state), data)),
    )


KINDS = [made_outside, made_in_init, holds_tracers]


def run(trial, trials=6, epochs=8, **options):
    return sweep.run(trial, SPACE, DATA, trials, epochs, keep=2, **options)


@functools.cache
def plain(search=sweep.random, **options):
    return run(without_static, search=search, **options)


def same(result, expected):
    np.testing.assert_array_equal(result.status, expected.status)
    for part, metrics in expected.curves.items():
        np.testing.assert_array_equal(result.curves[part]["loss"], metrics["loss"])


def usable(state, number, result):
    """Whether a state that was handed out trains on by itself, at the rate of its own trial."""
    assert not any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(state))
    rate = result.hyper["rate"][number] * result.hyper["slow"][number]
    grads = jax.tree.map(jnp.ones_like, state.params)
    fresh = state.tx.init(state.params)
    updates, _ = state.tx.update(grads, fresh, state.params)
    np.testing.assert_allclose(updates.w, -rate, rtol=1e-5)
    x, y = DATA[1]
    loss = state.apply_fn(state.params, (x, y))
    np.testing.assert_allclose(loss, result.curves["validation"]["loss"][number, -1], rtol=1e-5)


@pytest.mark.parametrize("trial", KINDS)
def test_an_optimizer_in_the_state_is_that_of_its_own_trial(trial):
    result = run(trial)
    same(result, plain())
    assert set(result.status) == {"done", "diverged"}
    for number in result.kept:
        usable(result.kept[number], number, result)
    best = result.best().number
    usable(result.replay(best).state, best, result)
    np.testing.assert_array_equal(result.replay(best).state.params.w, result.weights(best).w)


SEARCHES = {"halving": sweep.halving(), "pbt": sweep.pbt(every=2)}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_so_it_is_in_every_search_and_after_an_interruption(search, tmp_path, monkeypatch):
    trial, expected = made_in_init, plain(search)
    saves = []
    save = Store.save

    def interrupt(*arguments):
        saves.append(save(*arguments))
        if len(saves) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", interrupt)
        patch.setattr(autosave, "SHARE", np.inf)  # so a save after every report
        with pytest.raises(KeyboardInterrupt):
            run(trial, search=search, path=tmp_path)
    assert 0 < sweep.load(tmp_path).epochs.sum() < expected.epochs.sum()
    result = run(trial, search=search, path=tmp_path)
    same(result, expected)
    for number in result.kept:
        usable(result.kept[number], number, result)
    usable(result.replay(result.best().number).state, result.best().number, result)


def test_so_it_is_with_seeds_and_one_epoch():
    several = run(made_in_init, epochs=1, seeds=2)
    np.testing.assert_array_equal(
        several.curves["train"]["loss"][::2, 0], plain().curves["train"]["loss"][:, 0]
    )
    usable(several.kept[several.best().number], several.best().number, several)
    assert set(run(made_outside, trials=1, epochs=1).status) == {"done"}


class Inline(Executor):
    """Runs a block at once; what comes back travels as bytes."""

    def submit(self, f, block):
        future: Future = Future()
        future.set_result(pickle.loads(pickle.dumps(f(pickle.loads(pickle.dumps(block))))))
        return future


def test_so_it_is_in_the_workers_of_an_executor():
    result = run(made_in_init, search=SEARCHES["halving"], executor=Inline(), trials_per_block=6)
    same(result, plain(SEARCHES["halving"]))
    for number in result.kept:
        usable(result.kept[number], number, result)


def test_fit_takes_such_a_state_too():
    one = made_outside({"rate": 0.01, "slow": 1.0})
    state, history = pn.fit(one, DATA, 3, jax.random.key(0))
    assert history["validation"]["loss"][-1] < history["validation"]["loss"][0]
    assert callable(state.tx.update)


def test_a_new_optimizer_in_every_epoch_is_refused():
    def trial(hyper):
        one = made_outside(hyper)

        def epoch(state, data):
            state, metrics = one.epoch(state, data)
            return dataclasses.replace(state, tx=momentum(hyper["rate"])), metrics

        return one._replace(epoch=epoch)

    with pytest.raises(ValueError, match=r"`epoch` returned a state of structure.*both must match"):
        run(trial)
