"""The best state so far, and the count of evaluations since."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purenet.core import best

NAN, INF = float("nan"), float("inf")


def state(i):
    return {"key": jax.random.key(i), "w": jnp.full(2, i, jnp.float32), "n": jnp.int32(i)}


def follow(scores, evaluated=None, keep_best=True):
    """The tracked state after such scores, one an epoch, in one compiled loop."""
    evaluated = jnp.ones(len(scores), bool) if evaluated is None else jnp.asarray(evaluated)
    of = lambda i: state(0) | {"key": jax.random.key(i), "w": jnp.full(2, i, jnp.float32)}
    step = lambda tracked, now: (best.update(tracked, of(now[0]), *now[1:]), None)
    epochs = jnp.arange(1, len(scores) + 1)

    def run(scores):
        return jax.lax.scan(step, best.start(state(0), keep_best), (epochs, scores, evaluated))[0]

    return jax.jit(run)(jnp.asarray(scores, jnp.float32))


@pytest.mark.parametrize(
    "scores, epoch, stale, score",
    [
        ([1, 2, 3], 3, 0, 3),
        ([-2, -1, -3], 2, 1, -1),
        ([3, 2, 1], 1, 2, 3),
        ([1, 2, 2], 2, 1, 2),  # of equal ones the first
        ([NAN, 1, NAN], 2, 1, 1),
        ([NAN, NAN, NAN], 0, 3, 0),
        ([-INF, -INF, NAN], 1, 2, -INF),
        ([1, INF, NAN], 2, 1, INF),
    ],
)
def test_the_best_epoch_is_the_first_of_the_largest_score(scores, epoch, stale, score):
    tracked = follow(scores)
    assert (int(tracked.epochs_of_best), int(tracked.stale)) == (epoch, stale)
    assert int(tracked.epochs) == 3
    np.testing.assert_equal(float(tracked.score), score)
    assert float(tracked.best["w"][0]) == epoch
    assert jax.random.key_data(tracked.best["key"])[1] == epoch
    assert float(tracked.state["w"][0]) == 3


def test_epochs_without_an_evaluation_are_neither_better_nor_stale():
    tracked = follow([1, 9, 2, 9, 1, 9], [True, False] * 3)
    assert (int(tracked.epochs_of_best), int(tracked.stale), int(tracked.epochs)) == (3, 1, 6)


def test_without_keeping_there_is_no_copy_and_the_same_counts():
    with_best, without = follow([3, 2, 1]), follow([3, 2, 1], keep_best=False)
    assert without.best == ()
    for name in ("score", "stale", "epochs", "epochs_of_best"):
        assert getattr(with_best, name) == getattr(without, name)


def test_lanes_keep_their_own_best():
    scores = jnp.array([[1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])

    def run(scores):
        step = lambda t, now: (best.update(t, now[0], now[1], True), None)
        start = best.start(jnp.zeros(()), True)
        return jax.lax.scan(step, start, (jnp.arange(1.0, 4.0), scores))[0]

    assert jax.vmap(run)(scores).best.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("patience, expected", [(1, True), (2, True), (3, False)])
def test_patience_counts_evaluations(patience, expected):
    assert bool(best.exhausted(follow([3, 2, 1]), patience)) is expected
