"""What other libraries hand to optimizers, `fit` and `supervised`: look-alikes of their types."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn

X = np.random.default_rng(0).normal(size=(12, 3))
DATA = (X, (X[:, 0] > 0).astype(int))
WEIGHTS = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
GRADS = jax.tree.map(lambda w: 0.5 * w, WEIGHTS)


# as optax has them
class Transformation(NamedTuple):
    init: Callable
    update: Callable


class ExtraArgs(Transformation):
    """Its `update` takes any extra arguments."""


class PlateauState(NamedTuple):
    scale: Any
    best: Any
    count: Any


class Empty(NamedTuple):
    pass


def reduce_on_plateau(factor, patience):
    """The updates scaled down by `factor` once `value` has not fallen for `patience` updates."""

    def init(params):
        return PlateauState(jnp.ones(()), jnp.full((), jnp.inf), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, *, value, **extra):
        better = value < state.best
        count = jnp.where(better, 0, state.count + 1)
        late = count == patience
        scale = jnp.where(late, state.scale * factor, state.scale)
        best = jnp.where(better, value, state.best)
        new = PlateauState(scale, best.astype(state.best.dtype), jnp.where(late, 0, count))
        return jax.tree.map(lambda g: scale * g, updates), new

    return ExtraArgs(init, update)


def scale(factor):
    """Without extra arguments: none must reach it."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: factor * g, updates), state

    return Transformation(lambda params: Empty(), update)


OURS = {
    **{f.__name__: f(0.1) for f in (pn.sgd, pn.momentum, pn.adagrad, pn.adam, pn.adamw, pn.lion)},
    "clip": pn.clip(1.0),
    "clip_by_global_norm": pn.clip_by_global_norm(1.0),
    "add_weight_decay": pn.add_weight_decay(0.1),
    "scale_by_schedule": pn.scale_by_schedule(0.1),
    "reduce_on_plateau": pn.reduce_on_plateau(),
    "exponential_moving_average": pn.exponential_moving_average(0.9),
}


@pytest.mark.parametrize("name", OURS)
def test_our_optimizers_ignore_extra_arguments(name):
    optimizer = OURS[name]
    state = optimizer.init(WEIGHTS)
    plain = optimizer.update(GRADS, state, WEIGHTS)
    chex.assert_trees_all_equal(
        optimizer.update(GRADS, state, WEIGHTS, value=1.0, value_fn=lambda w: w), plain
    )


def test_a_chain_passes_extra_arguments_to_those_that_take_them_and_to_no_other():
    optimizer = pn.chain(pn.clip(1.0), pn.chain(scale(-1.0), reduce_on_plateau(0.5, 2)), scale(0.1))
    state, factors = optimizer.init(WEIGHTS), []
    for value in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0):
        updates, state = optimizer.update(GRADS, state, WEIGHTS, value=value, other="ignored")
        factors.append(float(updates["b"][0] / GRADS["b"][0]))
    np.testing.assert_allclose(factors, [-0.1, -0.1, -0.1, -0.05, -0.05, -0.025, -0.025])
    with pytest.raises(TypeError, match="value"):  # by the transformation that misses it
        optimizer.update(GRADS, state, WEIGHTS)


def test_what_an_update_takes_is_read_from_its_signature():
    def takes_one(updates, state, params=None, *, value):
        return updates * value, state

    def takes_it_by_place(updates, state, params=None, value=1.0):
        return updates * value, state

    @jax.jit
    def compiled(updates, state, params=None, value=1.0):
        return updates * value, state

    bound = partial(lambda factor, updates, state, params=None: (updates * factor, state), 3.0)
    for update in (takes_one, takes_it_by_place, compiled, bound):
        optimizer = pn.chain(Transformation(lambda params: (), update))
        assert optimizer.update(jnp.ones(()), ((),), jnp.ones(()), value=3.0, other=1)[0] == 3


def test_training_gives_the_loss_to_an_optimizer_that_takes_it(key):
    def record(updates, state, params=None, *, value, **extra):
        return jax.tree.map(lambda g: -0.1 * g, updates), state + value

    recording = ExtraArgs(lambda params: jnp.zeros(()), record)
    make = partial(pn.supervised, pn.mlp(), (3, 4, 2), loss=pn.softmax_cross_entropy, batch_size=4)
    for microbatches in (1, 2):
        optimizer = pn.chain(pn.clip(1e6), recording)
        state, history = pn.fit(make(optimizer, microbatches=microbatches), DATA, 2, key)
        losses = history["train"]["loss"].sum() * 3  # steps an epoch
        np.testing.assert_allclose(state.opt_state[1], losses, rtol=1e-9)
    same = pn.fit(make(pn.sgd(0.1)), DATA, 2, key).history["train"]["loss"]
    np.testing.assert_allclose(
        pn.fit(make(pn.chain(scale(-0.1), reduce_on_plateau(0.5, 100))), DATA, 2, key)
        .history["train"]["loss"],
        same, rtol=1e-9,
    )  # fmt: skip


# as flax has it: a registered dataclass, of which some fields are static
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FlaxState:
    step: Any
    params: Any
    opt_state: Any
    key: Any
    apply: Callable = field(metadata={"static": True})
    tx: Any = field(metadata={"static": True})

    def apply_gradients(self, grads):
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = jax.tree.map(lambda p, u: p + u, self.params, updates)
        return FlaxState(self.step + 1, params, opt_state, self.key, self.apply, self.tx)


def linear(params, x):
    return x @ params["w"] + params["b"]


def flax_like(tx):
    def init(key):
        params = {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}
        return FlaxState(jnp.zeros((), jnp.int32), params, tx.init(params), key, linear, tx)

    def loss(params, apply, data):
        return pn.softmax_cross_entropy(apply(params, data[0]), data[1])

    def epoch(state, data):
        value, grads = jax.value_and_grad(loss)(state.params, state.apply, data)
        return state.apply_gradients(grads), {"loss": value}

    return pn.Trainable(
        init, epoch, lambda state, data: {"loss": loss(state.params, state.apply, data)}
    )


def test_a_state_with_static_fields_trains_is_saved_and_resumes(key, tmp_path):
    trainable = flax_like(pn.chain(pn.clip_by_global_norm(1.0), scale(1.0), pn.adam(0.1)))
    whole = pn.fit(trainable, (DATA, DATA), 4, key)
    assert isinstance(whole.state, FlaxState) and whole.state.apply is linear
    assert int(whole.state.step) == 4
    path = tmp_path / "run.npz"
    pn.fit(trainable, (DATA, DATA), 2, key, path=path)
    resumed = pn.fit(trainable, (DATA, DATA), 4, key, path=path)
    chex.assert_trees_all_equal(resumed.state, whole.state)
    np.testing.assert_array_equal(
        resumed.history["validation"]["loss"], whole.history["validation"]["loss"]
    )


# as equinox has it: a module is a tree, and a filter leaves None where something is not trained
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    w: Any
    b: Any
    activation: Any


def partition(tree):
    is_array = lambda a: isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.inexact)
    trained = jax.tree.map(lambda a: a if is_array(a) else None, tree)
    return trained, jax.tree.map(lambda a: None if is_array(a) else a, tree)


def combine(*trees):
    pick = lambda *leaves: next((a for a in leaves if a is not None), None)
    return jax.tree.map(pick, *trees, is_leaf=lambda a: a is None)


MODEL = [Linear(jnp.ones((3, 2)), None, jnp.tanh), Linear(jnp.ones((2, 2)), jnp.zeros(2), None)]


@pytest.mark.parametrize(
    "optimizer",
    [
        pn.chain(pn.clip_by_global_norm(1.0), pn.add_weight_decay(0.1), pn.momentum(0.1)),
        pn.chain(pn.adamw(0.1, mask=lambda w: jax.tree.map(lambda a: a.ndim > 1, w))),
        pn.chain(pn.lion(0.1), pn.exponential_moving_average(0.5)),
        pn.chain(pn.clip(1.0), scale(1.0), pn.adadelta()),
    ],
    ids=["momentum", "adamw with a mask", "lion and an average", "a foreign link"],
)
def test_weights_filtered_to_arrays_are_updated_and_put_together_again(optimizer):
    trained, rest = partition(MODEL)
    assert trained[0].b is None and trained[0].activation is None

    def loss(trained):
        h = jnp.asarray(X)
        for layer in combine(trained, rest):
            h = h @ layer.w + (0 if layer.b is None else layer.b)
            h = h if layer.activation is None else layer.activation(h)
        return pn.softmax_cross_entropy(h, DATA[1]) + jnp.square(h).mean()

    @jax.jit
    def step(trained, state):
        updates, state = optimizer.update(jax.grad(loss)(trained), state, trained)
        return pn.apply_updates(trained, updates), state

    before, state = loss(trained), optimizer.init(trained)
    for _ in range(3):
        trained, new = step(trained, state)
        chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
        state = new
    assert trained[0].b is None and loss(trained) < before
    assert combine(trained, rest)[0].activation is jnp.tanh


# what the numbers in a signature mean: seen only where gradients are as small as they
DEFAULTS = {
    "momentum": (0.9,), "nesterov": (0.9,), "adagrad": (1e-8, 0.0, 0.0),
    "rmsprop": (0.9, 1e-8, 0.0), "adadelta": (0.95, 1e-6), "adam": (0.9, 0.999, 1e-8, 0.0),
    "adamw": (0.9, 0.999, 1e-8, 0.0, 0.01), "nadam": (0.9, 0.999, 1e-8, 0.0),
    "lion": (0.9, 0.99, 0.0), "radam": (0.9, 0.999, 1e-8, 0.0, 0.0),
    "schedule_free_sgd": (0.9, 0.0), "schedule_free_adamw": (0.9, 0.999, 1e-8, 0.0, 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_the_published_ones_where_gradients_are_tiny(name):
    make, weights = getattr(pn, name), {"w": jnp.ones((1, 3))}
    both = [make(0.1), make(0.1, *DEFAULTS[name])]
    grads = [{"w": jnp.array([[1e-8, 3e-9, -1e-7]])}, {"w": jnp.array([[-2e-8, 1e-9, 1e-3]])}]
    states = [optimizer.init(weights) for optimizer in both]
    for g in grads:
        found = [o.update(g, s, weights) for o, s in zip(both, states, strict=True)]
        chex.assert_trees_all_equal(*[updates for updates, _ in found])
        states = [state for _, state in found]
