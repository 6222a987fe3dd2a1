"""What a user switches on to find a mistake finds none of ours: checks for NaN, no compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_network import LOSSES, NETWORKS, inputs
from test_ops import CASES, arguments, one_of_each, with_pullback

import purenet as pn


@pytest.mark.parametrize("name", one_of_each())
def test_an_operation_under_checks_for_nan(name):
    """Uncompiled, every step is checked; extreme values have a test among transformations."""
    args, op, _ = arguments(CASES[name])
    with jax.debug_nans(True):
        found = with_pullback(op, args)
    assert all(np.isfinite(np.asarray(a, float)).all() for a in jax.tree.leaves(found))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_under_checks_for_nan_and_uncompiled(name):
    y = jnp.linspace(-1, 1, 12).reshape(3, 4)
    expected = jax.jit(jax.grad(LOSSES[name]))(y)
    with jax.debug_nans(True), jax.disable_jit():
        found = jax.grad(LOSSES[name])(y)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["dense", "conv", "max_pool", "batch_norm", "embedding", "relu"])
def test_a_network_under_checks_for_nan_and_uncompiled(name):
    net, sizes = NETWORKS[name]
    params, x = net.init(jax.random.key(0), sizes), inputs(name, 3, jnp.float32)

    def loss(weights):
        return net.apply(pn.Params(weights, params.stats), x, True, jax.random.key(1))[0].sum()

    expected = jax.jit(jax.grad(loss))(params.weights)
    with jax.debug_nans(True), jax.disable_jit():
        found = jax.grad(loss)(params.weights)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
