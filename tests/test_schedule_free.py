"""Training with an optimizer that wants its gradient elsewhere than at the evaluated weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
DATA = (X, (X[:, 0] > 0).astype(int))
B1, RATE = 0.75, 0.5
LIMIT = 0.4  # of the clipped gradients


def trial(hyper, microbatches=1, batch_size=4):
    optimizer = pn.chain(pn.clip(LIMIT), pn.schedule_free_sgd(hyper["rate"], B1))
    return pn.supervised(
        pn.dense(2), (3,), optimizer, pn.softmax_cross_entropy, batch_size,
        microbatches=microbatches,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return pn.fit(trial({"rate": RATE}, batch_size=12), (DATA, DATA), 4, jax.random.key(0))


def test_a_training_takes_its_gradient_between_the_average_and_the_iterates(trained):
    weights = trial({"rate": RATE}).init(jax.random.key(0)).params.weights
    z = x = jax.tree.map(np.asarray, weights)
    loss = lambda w: pn.softmax_cross_entropy(X @ w["w"] + w["b"], DATA[1])
    for t in range(1, 5):  # one step an epoch
        y = jax.tree.map(lambda x, z: B1 * x + (1 - B1) * z, x, z)
        move = lambda z, g: z - RATE * np.clip(g, -LIMIT, LIMIT)
        z = jax.tree.map(move, z, jax.grad(loss)(y))
        x = jax.tree.map(lambda x, z, t=t: x + (z - x) / t, x, z)
    chex.assert_trees_all_close(trained.state.params.weights, x, rtol=1e-12)
    found = trained.history["validation"]["loss"][-1]
    np.testing.assert_allclose(found, loss(x), rtol=1e-12)  # what is evaluated is the average


def test_parts_of_a_minibatch_take_it_there_too():
    key = jax.random.key(1)
    one, two = (pn.fit(trial({"rate": RATE}, k), DATA, 2, key).state for k in (1, 2))
    chex.assert_trees_all_close(one.params, two.params, rtol=1e-9)


def test_a_lane_of_a_sweep_is_that_training_and_returns_the_average():
    space = {"rate": sweep.choice([0.1, RATE])}
    result = sweep.run(trial, space, (DATA, DATA), trials=2, epochs=3, search=sweep.grid(2), keep=2)
    for number in range(2):
        rate = result.hyper["rate"][number]
        net = result.network(number)
        score = trial({"rate": rate}).evaluate(pn.TrainState(net[2], (), None, 0), DATA)
        np.testing.assert_allclose(
            score["loss"], result.curves["validation"]["loss"][number, -1], rtol=1e-9
        )


def test_a_run_resumes_with_the_iterates_of_its_file(trained, tmp_path):
    run = lambda epochs: pn.fit(
        trial({"rate": RATE}, batch_size=12), (DATA, DATA), epochs, jax.random.key(0),
        path=tmp_path / "run.npz",
    )  # fmt: skip
    run(2)
    resumed = run(4)
    chex.assert_trees_all_equal(resumed.state.params, trained.state.params)
    chex.assert_trees_all_equal(resumed.state.opt_state, trained.state.opt_state)


def test_a_chain_has_one_place_for_the_gradient_at_its_end():
    two = [pn.schedule_free_sgd(0.1), pn.schedule_free_adamw(0.1)]
    with pytest.raises(ValueError, match=r"chain: arguments \[0, 1\] each choose where the gr"):
        pn.chain(*two)
    for first in (two[0], pn.chain(pn.clip(1.0), two[1])):  # the average would not be one
        with pytest.raises(ValueError, match="chain: argument 0 of 0 to 1 chooses"):
            pn.chain(first, pn.scale_by_schedule(0.5))
    inner = pn.chain(pn.clip(1.0), pn.chain(two[0]))
    w = jnp.ones(2)
    assert inner.gradient_at(inner.init(w), w).tolist() == [1.0, 1.0]
    _, _ = inner  # still a pair, as other libraries take it
    assert not hasattr(pn.chain(pn.clip(1.0), pn.sgd(0.1)), "gradient_at")
    with pytest.raises(TypeError, match="schedule_free_sgd: the state is a tuple"):
        two[0].gradient_at((), w)
    with pytest.raises(ValueError, match="schedule_free_adamw: `update` needs the weights"):
        two[1].update(w, two[1].init(w))


def test_a_rate_that_starts_at_0_moves_nothing_and_has_a_derivative():
    def end(rate):
        optimizer = pn.schedule_free_sgd(pn.schedules.warmup(rate, 1))
        x = jnp.ones(())
        state = optimizer.init(x)
        for _ in range(2):
            u, state = optimizer.update(jnp.ones(()), state, x)
            x = x + u
        return x

    still = pn.schedule_free_sgd(0.0)
    assert float(still.update(jnp.ones(()), still.init(jnp.ones(())), jnp.ones(()))[0]) == 0
    assert np.isfinite(jax.jacfwd(end)(0.0)) and np.isfinite(jax.grad(end)(0.3))
