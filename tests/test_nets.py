"""The ready-made convolutional networks."""

import jax
import numpy as np
import pytest

import purenet as pn

NETS = {
    "simple_convnet": (pn.simple_convnet(filters=3, kernel=3, hidden=8), (8, 8, 1)),
    "deep_convnet": (pn.deep_convnet(), (8, 8, 1)),
    "alexnet": (
        pn.alexnet(10, stem=(3, 1, 1), filters=(4, 6, 6, 6, 4), hidden=8),
        (17, 17, 3),
    ),
}


@pytest.mark.parametrize("net, sizes", NETS.values(), ids=NETS)
def test_networks_train(net, sizes, key):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(8, *sizes)), rng.integers(0, 10, 8)
    trainable = pn.supervised(net, sizes, pn.adam(3e-3), pn.softmax_cross_entropy, 8)
    state, history = pn.fit(trainable, (x, t), 25, key)
    assert history["train"]["loss"][-1] < 0.7 * history["train"]["loss"][0]
    y, stats = jax.jit(lambda params: net.apply(params, x, False, None))(state.params)
    assert y.shape == (8, 10) and stats == ()


@pytest.mark.parametrize("net, sizes, parameters", [
    (pn.simple_convnet(), (28, 28, 1), 433_890),
    (pn.deep_convnet(), (28, 28, 1), 123_552),
    (pn.alexnet(), (227, 227, 3), 62_378_344),
])  # fmt: skip
def test_networks_have_the_published_number_of_parameters(net, sizes, parameters, key):
    params = jax.eval_shape(lambda key: net.init(key, sizes), key)
    assert sum(a.size for a in jax.tree.leaves(params.weights)) == parameters


def test_convnets_sweep_with_every_trial_its_own():
    """Two methods of convolution meet here: one kernel a lane, and a batch of kernels."""
    from purenet import sweep
    from purenet.sweep.engine.layout import Layout

    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(12, 6, 6, 1)), rng.integers(0, 3, 12)

    def trial(hyper):
        net = pn.simple_convnet(2, 3, 4, 3, pn.initializers.normal(hyper["scale"]))
        return pn.supervised(net, (6, 6, 1), pn.adam(hyper["rate"]), pn.softmax_cross_entropy, 6)

    space = {"rate": sweep.loguniform(1e-3, 1e-1), "scale": sweep.loguniform(0.05, 0.5)}
    run = lambda: sweep.run(trial, space, ((x, t), (x, t)), trials=4, epochs=2)
    one_by_one = run()
    with pytest.MonkeyPatch.context() as patch:
        together = lambda n, devices: Layout(tuple(devices)[:1], n, n)
        patch.setattr("purenet.sweep.config.layout", together)
        together = run()
    for part, metrics in one_by_one.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_allclose(curve, together.curves[part][name], rtol=1e-8)
