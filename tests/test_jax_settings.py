"""Sweeps and `fit` under the settings with which JAX helps to find mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

DATA = ({"x": np.ones((4, 1), np.float32)}, {"x": np.ones((2, 1), np.float32)})
SPACE = {"rate": sweep.uniform(0.1, 0.9), "times": sweep.choice([1.0, 1e30])}  # half diverge
pytestmark = pytest.mark.usefixtures("little_garbage")  # leaks are searched for by collecting it
SEARCHES = {"random": sweep.random, "halving": sweep.halving(), "pbt": sweep.pbt(every=2)}

SETTINGS = {
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "disable_jit": lambda: jax.disable_jit(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "checking_leaks": lambda: jax.checking_leaks(),
}


def decaying(rate):
    def init(key):
        w = jax.random.uniform(key, (3,), jnp.float32)
        return {"w": w, "key": key, "n": jnp.zeros((), jnp.int32), "on": jnp.ones((), bool)}

    def epoch(state, data):
        w = state["w"] * (1 - rate * data["x"].mean())
        return state | {"w": w, "n": state["n"] + 1}, {"loss": jnp.abs(w).mean()}

    def evaluate(state, data):
        w = jnp.where(jnp.isfinite(state["w"]), state["w"], jnp.nan)
        return {"loss": jnp.abs(w).mean()}

    return pn.Trainable(init, epoch, evaluate)


def trial(hyper):
    return decaying((hyper["rate"] * hyper["times"]).astype(jnp.float32))


def run(search, **options):
    return sweep.run(trial, SPACE, DATA, 4, 4, search=search, keep=2, **options)


@pytest.fixture(scope="module")
def expected():
    return {name: run(search) for name, search in SEARCHES.items()}


def same(result, expected):
    np.testing.assert_array_equal(result.status, expected.status)
    np.testing.assert_array_equal(result.epochs, expected.epochs)
    for part, metrics in expected.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_allclose(result.curves[part][name], curve, rtol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_sweep_is_the_same_under_every_setting(setting, search, expected, tmp_path):
    with setting():
        result = run(SEARCHES[search], path=tmp_path)
        same(result, expected[search])
        same(run(SEARCHES[search], path=tmp_path), expected[search])  # from its folder
        best = result.best().number
        curves = result.replay(best).curves["validation"]["loss"]
        result.weights(best)
    np.testing.assert_allclose(curves, result.curves["validation"]["loss"][best], rtol=1e-6)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_fit_is_the_same_under_every_setting(setting, tmp_path):
    one, key = decaying(jnp.float32(0.5)), jax.random.key(0)
    expected = pn.fit(one, DATA, 3, key)
    with setting():
        pn.fit(one, DATA, 1, key, path=tmp_path / "run.npz")
        result = pn.fit(one, DATA, 3, key, path=tmp_path / "run.npz")  # from the file
    same_curves = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6)
    jax.tree.map(same_curves, result.history, expected.history)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_dense_network_can_be_traced_under_every_setting(setting):
    x, t = np.ones((4, 6), np.float32), np.zeros(4, np.int32)
    one = pn.supervised(pn.mlp(), (6, 5, 3), pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=2)
    with jax.enable_x64(False), setting():  # as users have it
        one.check((x, t))
        state = jax.eval_shape(lambda: one.init(jax.random.key(0)))
        after, metrics = jax.eval_shape(one.epoch, state, (x, t))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()


def test_without_jit_a_trial_sees_real_numbers():
    seen = []

    def looking(hyper):
        one = trial(hyper)

        def epoch(state, data):
            seen.append(state["w"])
            return one.epoch(state, data)

        return one._replace(epoch=epoch)

    with jax.disable_jit():
        result = sweep.run(looking, SPACE, DATA, 2, 2)
    real = [w for w in seen if not isinstance(w, jax.core.Tracer)]
    assert len(real) >= result.epochs.sum() and all(np.isfinite(w).all() for w in real)
    assert "1 cpu device(s)" in result.programs[0].layout
