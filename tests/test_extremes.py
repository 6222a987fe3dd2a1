"""Networks, data and runs at their smallest and largest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep


@pytest.mark.parametrize(
    "net, widths, examples",
    [
        (pn.mlp(), (5, 3), 4),  # no hidden layer
        (pn.mlp(batch_norm=True, dropout=0.5), (5, 4, 1), 4),  # one class
        (pn.mlp(batch_norm=True), (1, 1, 1), 3),  # a width of 1
        (pn.mlp(batch_norm=True, dropout=0.2), (5, 4, 3), 1),  # one example
    ],
    ids=["no hidden layer", "one class", "width of 1", "one example"],
)
def test_small_networks_train(net, widths, examples, key):
    x, t = jax.random.normal(key, (examples, widths[0])), jnp.zeros(examples, int)
    one = pn.supervised(net, widths, pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=4)
    state, metrics = jax.jit(one.epoch)(one.init(key), (x, t))
    assert int(state.step) == 1  # an epoch of one step
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((state.params, metrics)))
    if widths[-1] == 1:  # nothing to choose from: certain, and nothing to learn
        assert metrics["loss"] == 0 and metrics["accuracy"] == 1


def test_a_hundred_layers_keep_their_scale(key):
    net = pn.mlp(pn.tanh)
    params = net.init(key, (16,) * 100 + (2,))
    assert len(params.weights) == 100
    x = jax.random.normal(key, (4, 16))
    loss = lambda w: pn.softmax_cross_entropy(
        net.apply(pn.Params(w), x, True, None)[0], jnp.zeros(4, int)
    )
    quick = {"xla_backend_optimization_level": 0}
    value, grads = jax.jit(jax.value_and_grad(loss), compiler_options=quick)(params.weights)
    assert np.isfinite(value)
    first, last = (float(jnp.linalg.norm(grads[i]["w"])) for i in ("0", "198"))
    assert 1e-4 < first / last < 1e4


def test_a_hundred_thousand_classes_are_exact():
    rng = np.random.default_rng(0)
    y, t = 5 * rng.normal(size=(3, 100_000)), np.array([0, 50_000, 99_999])
    log_p = y - y.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    expected = np.exp(log_p)
    expected[np.arange(3), t] -= 1
    run = jax.jit(jax.value_and_grad(pn.softmax_cross_entropy))
    value, gradient = run(y, t)
    np.testing.assert_allclose(value, -log_p[np.arange(3), t].mean(), rtol=1e-13)
    np.testing.assert_allclose(gradient, expected / 3, rtol=1e-10, atol=1e-18)
    # no (classes, classes) anywhere: a few times the outputs at most
    assert run.lower(y, t).compile().memory_analysis().temp_size_in_bytes < 10 * y.nbytes


def test_the_least_that_can_be_run(key):
    """A dataset smaller than a batch, one epoch of one step, one trial."""
    x, t = np.random.default_rng(0).normal(size=(3, 2)), np.array([0, 1, 0])

    def trial(hyper):
        return pn.supervised(pn.mlp(), (2, 2), pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 100)

    one = trial({"rate": 0.1})
    state, history = pn.fit(one, ((x, t), (x, t)), 1, key)
    assert int(state.step) == 1 and history["train"]["loss"].shape == (1,)
    start = one.init(key).params.weights["0"]
    loss = lambda w: pn.softmax_cross_entropy(jnp.asarray(x) @ w["w"] + w["b"], t)
    grads = jax.grad(loss)(start)  # of all three: nothing sits out
    np.testing.assert_allclose(state.params.weights["0"]["w"], start["w"] - 0.1 * grads["w"])
    result = sweep.run(
        trial, {"rate": sweep.uniform(0.1, 0.2)}, ((x, t), (x, t)), trials=1, epochs=1
    )
    assert result.curves["validation"]["loss"].shape == (1, 1)
    assert result.best().number == 0
