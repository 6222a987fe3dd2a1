"""What other libraries rely on: the protocol of gradient transformations, readable key paths."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn


class Foreign(NamedTuple):
    """A pair as other libraries write it."""

    init: Callable
    update: Callable


class Trace(NamedTuple):
    trace: Any


def foreign_momentum(rate, decay):
    def init(params):
        return Trace(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None, **extra):
        assert {*extra} <= {"value"}
        trace = jax.tree.map(lambda g, m: g + decay * m, updates, state.trace)
        return jax.tree.map(lambda m: -rate * m, trace), Trace(trace)

    return Foreign(init, update)


X = np.random.default_rng(0).normal(size=(12, 3))
DATA = (X, (X[:, 0] > 0).astype(int))


def run(optimizer, key):
    one = pn.supervised(pn.mlp(), (3, 4, 2), optimizer, pn.softmax_cross_entropy, batch_size=5)
    return pn.fit(one, DATA, 3, key).state.params.weights


def test_a_foreign_optimizer_trains_in_supervised_alone_and_in_a_chain(key):
    expected = run(pn.momentum(0.1, 0.8), key)
    chex.assert_trees_all_close(run(foreign_momentum(0.1, 0.8), key), expected, rtol=1e-10)
    chained = pn.chain(pn.clip_by_global_norm(1e6), foreign_momentum(0.1, 0.8))
    chex.assert_trees_all_close(run(chained, key), expected, rtol=1e-10)


def foreign_chain(*pairs):
    """Composition as another library writes it: pairs may be any (init, update)."""

    def update(updates, state, params=None, **extra):
        new = []
        for (_, step), old in zip(pairs, state, strict=True):
            updates, old = step(updates, old, params)
            new.append(old)
        return updates, tuple(new)

    return Foreign(lambda params: tuple(init(params) for init, _ in pairs), update)


@pytest.mark.parametrize("make", [pn.sgd, pn.momentum, pn.adam, pn.adamw, pn.lion])
def test_our_optimizers_obey_a_foreign_loop(make, key):
    params = {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}
    loss = lambda p: ((X @ p["w"] + p["b"] - 1) ** 2).mean()

    def train(optimizer):
        @jax.jit
        def step(params, state):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return jax.tree.map(lambda p, u: p + u, params, updates), state

        p, state = params, optimizer.init(params)
        for _ in range(3):
            p, new = step(p, state)
            chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
            state = new
        return p

    expected = train(pn.chain(pn.clip(0.5), make(0.01)))
    assert loss(expected) < loss(params)
    chex.assert_trees_all_close(train(foreign_chain(pn.clip(0.5), make(0.01))), expected)


def test_key_paths_read_well(key):
    net = pn.serial(pn.dense(4), pn.batch_norm(), pn.relu, pn.residual(pn.dense(4)))
    params = net.init(key, 3)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    assert names == [
        "weights.0.b", "weights.0.w", "weights.1.beta", "weights.1.gamma", "weights.3.layer.b",
        "weights.3.layer.w", "stats.1.mean", "stats.1.variance",
    ]  # fmt: skip
    state = pn.momentum(0.1).init(params.weights)
    path, _ = jax.tree_util.tree_leaves_with_path(state)[2]
    assert jax.tree_util.keystr(path, simple=True, separator=".") == "velocity.0.w"
