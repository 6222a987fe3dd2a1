"""Derivatives of a whole training with respect to its hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.forward import without_rules

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(18, 4)), RNG.integers(0, 3, 18)
DATA = (X[:12], T[:12]), (X[12:], T[12:])
HYPER = {"rate": 0.1, "b1": 0.8, "decay": 0.02, "smoothing": 0.1, "noise": 0.2, "drop": 0.25}
OPTIMIZERS = {
    "sgd": lambda h: pn.sgd(h["rate"]),
    "momentum": lambda h: pn.momentum(h["rate"], h["b1"]),
    "adam": lambda h: pn.adam(h["rate"] / 10, b1=h["b1"]),
}


def scaled(rate):
    """Dropout whose mask stays while the scale of what is kept follows `rate`: what dropout's
    derivative with respect to its rate is the derivative of."""
    first = HYPER["drop"]
    inner = pn.dropout(first)

    def apply(params, x, train, key):
        y, stats = inner.apply(params, x, train, key)
        return (y * (1 - first) / (1 - rate) if train else y), stats

    return pn.Layer(inner.init, apply)


def trial(optimizer, drop=pn.dropout):
    def of(h):
        # dropout of the inputs has no weights below it: no gradient inside uses its rule
        layers = [drop(h["drop"]), pn.dense(5), pn.batch_norm(), pn.tanh, pn.dense(3)]
        return pn.supervised(
            net=pn.serial(*layers), sizes=4, optimizer=OPTIMIZERS[optimizer](h), batch_size=4,
            loss=lambda y, t: pn.softmax_cross_entropy(y, t, h["smoothing"]),
            penalty=pn.l2(h["decay"]),
            augment=lambda key, x: x + h["noise"] * jax.random.normal(key, x.shape, x.dtype),
        )  # fmt: skip

    return of


def score(trial, hyper, number=0, epochs=3):
    """The validation loss of a plain training."""
    trainable = trial(hyper)
    state = trainable.init(jax.random.fold_in(jax.random.key(0), number))
    state, _ = jax.lax.scan(
        lambda s, _: (trainable.epoch(s, DATA[0])[0], None), state, None, epochs
    )
    return trainable.evaluate(state, DATA[1])["loss"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_central_differences_of_the_whole_training(optimizer):
    found = sweep.hypergradient(trial(optimizer), HYPER, DATA, 3)
    names, step = list(HYPER), 4e-4
    moves = step * np.concatenate([m * np.eye(len(HYPER)) for m in (-2, -1, 1, 2)])
    points = {name: HYPER[name] + moves[:, i] for i, name in enumerate(names)}
    scores = jax.jit(jax.vmap(lambda h: score(trial(optimizer, scaled), h)))(points)
    low, lower, upper, high = np.asarray(scores).reshape(4, -1)
    expected = (low - 8 * lower + 8 * upper - high) / (12 * step)
    got = np.array([found.gradient[name] for name in names])
    if optimizer == "sgd":
        assert got[1] == 0  # it has no momentum
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.value, scores.mean(), rtol=1e-3)
    assert set(found.metrics) == {"loss", "accuracy"}


def test_many_points_at_once_are_those_of_a_sweep():
    def of(rate, number):
        hyper = {**HYPER, "rate": rate, "width": 5}
        return sweep.hypergradient(trial("sgd"), hyper, DATA, 2, seed=4, number=number)

    space = {**HYPER, "rate": sweep.uniform(0.01, 0.2), "width": 5}
    result = sweep.run(trial("sgd"), space, DATA, trials=2, epochs=2, seed=4, metric="loss",
                       mode="min")  # fmt: skip
    rates = jnp.asarray(result.outcomes.hyper["rate"])
    found = jax.jit(jax.vmap(of))(rates, jnp.arange(2))
    np.testing.assert_allclose(found.value, result.curves["validation"]["loss"][:, -1], rtol=1e-9)
    assert found.gradient["width"] is None
    assert found.gradient["rate"].shape == (2,)


def shrink(hyper):
    """Any code: s halves towards each of the limits, step by step."""

    def epoch(state, data):
        inner = lambda s, x: (s - hyper["rate"] * (s - x * hyper["limits"]), None)
        return jax.lax.scan(inner, state, data)[0], {}

    return pn.Trainable(
        lambda key: jnp.zeros(2), epoch, lambda s, data: {"loss": jnp.sum(s), "count": 3}
    )


def test_any_trainable_and_arrays_of_numbers():
    data, hyper = (np.ones(1), np.ones(1)), {"rate": 0.5, "limits": np.array([1.0, 3.0])}
    found = sweep.hypergradient(shrink, hyper, data, 3)
    np.testing.assert_allclose(found.value, 4 * (1 - 0.5**3))
    np.testing.assert_allclose(found.gradient["limits"], 2 * [1 - 0.5**3])
    np.testing.assert_allclose(found.gradient["rate"], 4 * 3 * 0.5**2)
    with pytest.raises(TypeError, match="the metric 'count' is 3, but a float"):
        sweep.hypergradient(shrink, hyper, data, 3, metric="count")


def test_the_memory_does_not_depend_on_the_number_of_steps():
    def temporaries(epochs):
        of = lambda rate: sweep.hypergradient(
            shrink, {"rate": rate, "limits": jnp.ones(2)}, (jnp.ones(5), jnp.ones(5)), epochs
        )
        return jax.jit(of).lower(0.1).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(2) == temporaries(200)


def test_rules_give_way_in_loops_branches_and_calls():
    def f(x):
        y = jax.lax.cond(x[0] > 0, pn.ops.tanh, lambda x: x, x)
        y = jax.lax.fori_loop(0, 2, lambda i, y: jax.jit(pn.ops.sigmoid)(y), y)
        slope = jax.checkpoint(
            lambda y: pn.ops.tanh(y) + jax.grad(lambda y: pn.ops.tanh(y).sum())(y)
        )
        return slope(y)

    x = jnp.array([0.3, -0.2])
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(f, (x,), (x,))
    got, expected = jax.jvp(without_rules(f), (x,), (x,)), pn.jvp(without_rules(f), (x,), (x,))
    np.testing.assert_allclose(got[0], f(x))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert "custom_vjp" not in str(jax.make_jaxpr(without_rules(f))(x))


@pytest.mark.parametrize(
    "name",
    [
        "adam",
        "adamw",
        "nadam",
        "rmsprop",
        "adagrad",
        "adadelta",
        "muon",
        "radam",
        "schedule_free_adamw",
    ],
)
def test_an_optimizer_has_a_derivative_where_all_gradients_are_0(name):
    optimizer = getattr(pn, name)(0.1)
    for weights in (jnp.ones(2), jnp.ones((2, 2))):
        state, none = optimizer.init(weights), jnp.zeros_like(weights)
        update = lambda g, state=state, weights=weights: optimizer.update(g, state, weights)[0]
        assert jnp.isfinite(jax.jvp(update, (none,), (none,))[1]).all()
