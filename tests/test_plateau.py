"""A rate that falls when the validation score stops improving, for every lane alone."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
T = (X[:, 0] + RNG.normal(size=20) > 0).astype(int)
DATA = ((X[:12], T[:12]), (X[12:], T[12:]))
KEY = jax.random.key(0)


def trial(hyper):
    plateau = pn.reduce_on_plateau(
        hyper["factor"], hyper["patience"], 0.0, min_scale=0.01, metric="loss"
    )
    optimizer = pn.chain(pn.clip(1.0), pn.chain(pn.momentum(hyper["rate"]), plateau))
    # one step an epoch, as the order of streamed examples is the same for all lanes
    return pn.supervised(pn.dense(2), (3,), optimizer, pn.softmax_cross_entropy, 12)


def scale(state):
    return float(state.opt_state[1][1].scale)


# the rule


def reference(scores, factor, patience, min_delta, cooldown, min_scale):
    """The scale after each of the scores, larger is better."""
    scale, best, bad, rest, scales = 1.0, None, 0, 0, []
    for score in scores:
        if not math.isnan(score) and (best is None or score > best + min_delta):
            best, bad = score, 0
        elif rest > 0:
            bad = 0
        else:
            bad += 1
        rest = max(rest - 1, 0)
        if bad >= patience:
            scale, bad, rest = max(scale * factor, min_scale), 0, cooldown
        scales.append(scale)
    return scales


@pytest.mark.parametrize("mode", ["min", "max"])
def test_forty_rules_at_once_are_the_loop_of_each(mode):
    scores = RNG.normal(size=(40, 30)).cumsum(axis=1) * 0.1
    scores[RNG.uniform(size=scores.shape) < 0.1] = np.nan
    scores[0, :2] = -np.inf if mode == "max" else np.inf  # better than none
    rules = {
        "factor": RNG.uniform(0.2, 0.9, 40), "patience": RNG.integers(1, 5, 40),
        "min_delta": RNG.uniform(0, 0.05, 40), "cooldown": RNG.integers(0, 4, 40),
        "min_scale": RNG.uniform(0, 0.3, 40),
    }  # fmt: skip

    @jax.jit
    def of(rule, scores):
        optimizer = pn.reduce_on_plateau(**rule, metric="f", mode=mode)

        def step(state, score):
            state = optimizer.observe(state, {"f": score})
            updates, state = optimizer.update(jnp.ones(2), state)
            return state, updates

        return jax.lax.scan(step, optimizer.init(jnp.ones(2)), scores)[1]

    found = jax.vmap(of)(rules, scores)
    for i in range(40):
        rule = {name: values[i] for name, values in rules.items()}
        expected = reference(scores[i] if mode == "max" else -scores[i], **rule)
        np.testing.assert_allclose(found[i], np.outer(expected, [1, 1]), rtol=1e-12)
    assert found[..., -1].std() > 0.05


def test_defaults():
    options = {"factor": 0.1, "patience": 10, "min_delta": 1e-4, "cooldown": 0, "min_scale": 0.0}
    scores, optimizer = [0.0, *[0.9e-4] * 9, 2e-4, *[0.0] * 11], pn.reduce_on_plateau()
    state = optimizer.init(jnp.ones(1))
    for score, expected in zip(scores, reference(scores, **options), strict=True):
        with jax.numpy_dtype_promotion("strict"):  # the accuracy counts, where there is one
            state = optimizer.observe(state, {"loss": 0.0, "accuracy": jnp.float32(score)})
        np.testing.assert_allclose(float(state.scale), expected, rtol=1e-12)


# in a training


@pytest.fixture(scope="module")
def still():
    """Nothing moves, so that no epoch after the first improves."""
    return trial({"factor": 0.5, "patience": 2, "rate": 0.0})


@pytest.mark.parametrize("every, scales", [(1, [1, 1, 0.5, 0.5, 0.25]), (2, [1, 1, 1, 1, 0.5])])
def test_fit_counts_epochs_that_are_evaluated(still, every, scales):
    for epochs in (3, 5):  # the last one is evaluated in any case
        found = pn.fit(still, DATA, epochs, KEY, evaluate_every=every)
        if every == 1 or epochs == 5:
            assert scale(found.state) == scales[epochs - 1]


def test_a_run_resumes_within_its_patience_and_is_that_on_a_stream(tmp_path):
    one = trial({"factor": 0.5, "patience": 1, "rate": 2.0})
    whole = pn.fit(one, DATA, 7, KEY)
    assert 0.01 < scale(whole.state) < 1
    for epochs in (4, 7):
        resumed = pn.fit(one, DATA, epochs, KEY, path=tmp_path / "run.npz")
    chex.assert_trees_all_equal(resumed.state.opt_state, whole.state.opt_state)
    chex.assert_trees_all_equal(resumed.history, whole.history)
    streamed = pn.fit(one, (pn.data.stream(DATA[0]), DATA[1]), 7, KEY)
    assert scale(streamed.state) == scale(whole.state)
    np.testing.assert_allclose(
        streamed.history["validation"]["loss"], whole.history["validation"]["loss"], rtol=1e-9
    )


SPACE = {
    "factor": sweep.uniform(0.3, 0.9), "patience": sweep.randint(1, 4),
    "rate": sweep.uniform(1.0, 4.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def alone():
    """The curves of trials of the sweep trained by `fit`, and whether their rates fell."""

    @functools.cache
    def of(number, rate, factor, patience, every):
        one = trial({"rate": rate, "factor": factor, "patience": patience})
        key = jax.random.fold_in(KEY, number)
        found = pn.fit(one, DATA, 6, key, evaluate_every=every)
        return found.history["validation"]["loss"], scale(found.state) < 1

    return of


@pytest.mark.parametrize("every, streams", [(1, False), (1, True), (2, False)])
def test_each_lane_of_a_sweep_has_its_own_as_trained_alone(alone, every, streams):
    data = (pn.data.stream(DATA[0]), DATA[1]) if streams else DATA
    result = sweep.run(trial, SPACE, data, trials=3, epochs=6, evaluate_every=every)
    fell = []
    for number in range(3):
        hyper = {name: result.hyper[name][number].item() for name in SPACE}
        curve, less = alone(number, **hyper, every=every)
        found = result.curves["validation"]["loss"][number]
        np.testing.assert_allclose(found, curve, rtol=1e-6)
        fell.append(less)
    assert every == 2 or any(fell)


def test_its_numbers_have_hypergradients():
    one = {"factor": 0.6, "patience": 1, "rate": 2.0}
    loss = lambda factor: sweep.hypergradient(trial, one | {"factor": factor}, DATA, epochs=4)
    found, h = loss(0.6).gradient["factor"], 1e-6
    slope = (loss(0.6 + h).value - loss(0.6 - h).value) / (2 * h)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(found, slope, rtol=1e-5)


# mistakes


def test_mistakes(still):
    with pytest.raises(ValueError, match=r"fit: .* watches a validation metric; pass data=\(tr"):
        pn.fit(still, DATA[0], 1, KEY)
    state = pn.reduce_on_plateau().init(jnp.ones(2))
    for options, message in (
        ({}, r"reduce_on_plateau: `evaluate` returns the metrics \['f'\], neither accuracy nor"),
        ({"metric": "g"}, "reduce_on_plateau: metric is 'g', but `evaluate` returns .'f'"),
        ({"metric": "f"}, 'reduce_on_plateau: mode is None; say with mode="max" or'),
    ):
        with pytest.raises(ValueError, match=message):
            pn.reduce_on_plateau(**options).observe(state, {"f": 1.0})
    with pytest.raises(TypeError, match="reduce_on_plateau: the state is a tuple, but a Plateau"):
        pn.reduce_on_plateau().observe((), {"loss": 1.0})
    with pytest.raises(ValueError, match="reduce_on_plateau: mode is 'up', but one of 'max', 'm"):
        pn.reduce_on_plateau(mode="up")
    forgetful = still._replace(observe=lambda state, metrics: state.params)
    with pytest.raises(ValueError, match="fit: `observe` returned a state of structure"):
        pn.fit(forgetful, DATA, 1, KEY)
    with pytest.raises(TypeError, match=r"fit: `observe` cannot be called with \(state, metrics"):
        pn.fit(still._replace(observe=lambda state: state), DATA, 1, KEY)
