"""Training on some rows of a data set is training on those rows alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.core.subset import Subset, take
from purenet.training import evaluation
from purenet.training.rows import minibatch_rows, permutation, permutation_of_first

N = 40
RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, N)
DATA = (RNG.normal(size=(N, 5)) + np.eye(3, 5)[T], T)
ROWS = np.random.default_rng(1).permutation(N)


def make(**options):
    settings = {"net": pn.mlp(), "sizes": (5, 8, 3), "optimizer": pn.momentum(0.1), "batch_size": 6,
                "loss": pn.softmax_cross_entropy} | options  # fmt: skip
    return pn.supervised(**settings)


def part(rows, sizes=None, which=0):
    """A Subset of DATA, its rows padded with the last of them."""
    sizes = sizes or (len(rows),)
    padding = np.full(sizes[-1] - len(rows), rows[-1])
    return Subset(DATA, jnp.asarray(np.concatenate([rows, padding])), jnp.array(which), sizes)


def twice(trainable, state, data):
    """Two epochs and an evaluation, without typed keys."""
    state, _ = trainable.epoch(state, data)
    state, train = trainable.epoch(state, data)
    state = state._replace(key=jax.random.key_data(state.key))
    return state, train, trainable.evaluate(state, data)


KINDS = {
    "plain": {},
    "with replacement": {"batches": "with_replacement"},
    "everything": {
        "net": pn.mlp(batch_norm=True, dropout=0.3),
        "microbatches": 2,
        "penalty": pn.l2(0.1),
    },
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_one_size_is_bit_for_bit_the_training_on_the_gathered_rows(options, key):
    trainable = make(**options)
    run = jax.jit(functools.partial(twice, trainable))
    state = trainable.init(key)
    gathered = take(jax.tree.map(jnp.asarray, DATA), ROWS[:23])
    chex.assert_trees_all_equal(run(state, part(ROWS[:23])), run(state, gathered))


def test_several_sizes_in_one_program_are_the_trainings_alone(key):
    sizes, traces = (13, 29), []
    trainable = make(**KINDS["everything"])
    alone = jax.jit(functools.partial(twice, trainable))

    @jax.jit
    @jax.vmap
    def lanes(state, rows, which):
        traces.append(1)
        return twice(trainable, state, Subset(DATA, rows, which, sizes))

    states = jax.jit(jax.vmap(trainable.init))(jax.random.split(key, 3))
    rows = jnp.stack([jnp.asarray(np.roll(ROWS, i)[:29]) for i in range(3)])
    for which in ([0, 1, 1], [1, 0, 0]):
        found = lanes(states, rows, jnp.array(which))
        for lane in (0, 1):
            n = sizes[which[lane]]
            mine, state = (jax.tree.map(lambda a, i=lane: a[i], tree) for tree in (found, states))
            expected = alone(state, take(jax.tree.map(jnp.asarray, DATA), rows[lane][:n]))
            assert int(mine[0].step) == 2 * (n // 6)
            chex.assert_trees_all_close(mine, expected, rtol=1e-9, atol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize("sizes", [(1, 2, 3, 8), (5, 2**16, 2**16 + 1)])
def test_the_order_of_a_traced_number_is_the_order_of_that_number(sizes, key):
    order = jax.jit(permutation_of_first, static_argnums=1)
    alone = jax.jit(permutation, static_argnums=1)
    for n in sizes:
        got = np.asarray(order(key, sizes, jnp.int32(n)))
        np.testing.assert_array_equal(got[:n], alone(key, n))
        np.testing.assert_array_equal(got[n:], np.arange(n, sizes[-1]))


@pytest.mark.parametrize("batches", ["shuffled", "with_replacement"])
@pytest.mark.parametrize("x64", [False, True])
def test_the_minibatches_of_a_traced_number_are_those_of_that_number(batches, x64, key):
    sizes = (7, 31)
    with jax.enable_x64(x64):
        for which, n in enumerate(sizes):
            got = jax.jit(lambda w: minibatch_rows(key, batches, sizes, w, 5))(which)
            alone = jax.jit(lambda n=n: minibatch_rows(key, batches, (n,), 0, 5))()
            np.testing.assert_array_equal(got[: n // 5], alone)


def first_class_f1(y, t):
    """Not a mean over examples."""
    found, right = y.argmax(1) == 0, t == 0
    return 2 * (found & right).sum() / (found.sum() + right.sum())


@pytest.mark.parametrize("chunk", [1000, 7])
@pytest.mark.parametrize("sizes", [(23,), (9, 23, 30)])
def test_metrics_are_those_of_the_own_rows(sizes, chunk, key, monkeypatch):
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", chunk)
    trainable = make(metrics={"f1": first_class_f1})
    state = trainable.init(key)
    evaluate = jax.jit(trainable.evaluate)
    got = evaluate(state, part(ROWS[:23], sizes, sizes.index(23)))
    expected = evaluate(state, jax.tree.map(lambda a: a[ROWS[:23]], DATA))
    chex.assert_trees_all_close(got, expected, rtol=1e-6)


def test_no_epoch_and_no_evaluation_gathers_all_rows(key, monkeypatch):
    """Every array of the program that holds examples is a minibatch or a chunk of them."""
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", 7)
    trainable = make(metrics={})
    state = trainable.init(key)
    for sizes in ((23,), (13, 23)):
        for f in (trainable.epoch, trainable.evaluate):
            text = str(jax.make_jaxpr(f)(state, part(ROWS[:23], sizes, len(sizes) - 1)))
            assert f"{N},5]" in text and "23,5]" not in text and "13,5]" not in text


def test_sizes_on_both_sides_of_the_batch_size_are_refused(key):
    trainable = make(batch_size=20)
    state = trainable.init(key)
    with pytest.raises(ValueError, match=r"from 13 to 29 examples.*batch_size of at most 13"):
        jax.eval_shape(trainable.epoch, state, part(ROWS[:29], (13, 29), 1))
    few = make(batch_size=20, microbatches=20)
    with pytest.raises(ValueError, match="20 microbatches, but there are 13 examples"):
        jax.eval_shape(few.epoch, state, part(ROWS[:29], (13, 29), 1))
