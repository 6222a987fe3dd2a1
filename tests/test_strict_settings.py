"""Every network, loss and optimizer traces under the strictest settings of JAX; `test_ops` has the
operations.
"""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from every_network import LOSSES, NETWORKS, inputs

import purenet as pn

STRICT = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "transfers": lambda: jax.transfer_guard("disallow"),
}
OPTIMIZERS = ("adadelta", "adagrad", "adam", "adamw", "lion", "momentum", "muon", "nadam",
              "nesterov", "radam", "rmsprop", "schedule_free_adamw", "schedule_free_sgd",
              "sgd")  # fmt: skip


def traces(f, *args):
    """The shapes of f inside a program of the user's: tracing is where promotion is decided."""
    with contextlib.ExitStack() as settings:
        for setting in STRICT.values():
            settings.enter_context(setting())
        return jax.eval_shape(f, *args)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_and_its_gradient(name):
    net, sizes = NETWORKS[name]
    x, key = inputs(name, 3, jnp.float32), jax.random.key(0)
    make = lambda: jax.tree.map(lambda a: a.astype(jnp.float32), net.init(jax.random.key(0), sizes))
    params = jax.eval_shape(make)

    def step(params, x, key):
        def loss(weights):
            y, stats = net.apply(pn.Params(weights, params.stats), x, True, key)
            return y.sum(), stats

        return jax.grad(loss, has_aux=True)(params.weights)

    traces(step, params, x, key)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient(name):
    traces(jax.grad(LOSSES[name]), jnp.ones((3, 4)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer(name):
    optimizer = getattr(pn, name)(0.1)
    weights = {"w": jnp.ones((2, 3), jnp.float32), "b": jnp.ones(3, jnp.float32)}

    def step(weights):
        updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
        return pn.apply_updates(weights, updates)

    traces(step, weights)
