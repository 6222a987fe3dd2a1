"""What a user switches on to find a mistake finds none of ours: checks for NaN, no compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_network import LOSSES, NETWORKS, inputs
from test_ops import CASES, arguments, pullback

import purenet as pn


@pytest.mark.parametrize("name", [name for name in CASES if "NaN" not in name])
def test_an_operation_under_checks_for_nan(name):
    args, op, _ = arguments(CASES[name])
    if not all(np.isfinite(np.asarray(a, float)).all() for a in args):
        pytest.skip("what is infinite may become NaN")
    with jax.debug_nans(True):
        y = jax.jit(op)(*args)
        gradients = pullback(op, args)
    assert all(np.isfinite(np.asarray(a, float)).all() for a in jax.tree.leaves((y, gradients)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_under_checks_for_nan_and_uncompiled(name):
    y = jnp.linspace(-1, 1, 12).reshape(3, 4)
    expected = jax.grad(LOSSES[name])(y)
    with jax.debug_nans(True), jax.disable_jit():
        found = jax.grad(LOSSES[name])(y)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["dense", "conv", "max_pool", "batch_norm", "embedding", "relu"])
def test_a_network_under_checks_for_nan_and_uncompiled(name):
    net, sizes = NETWORKS[name]
    params, x = net.init(jax.random.key(0), sizes), inputs(name, 3, jnp.float32)

    def loss(weights):
        return net.apply(pn.Params(weights, params.stats), x, True, jax.random.key(1))[0].sum()

    expected = jax.grad(loss)(params.weights)
    with jax.debug_nans(True), jax.disable_jit():
        found = jax.grad(loss)(params.weights)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
