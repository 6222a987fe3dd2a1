"""The forms that a rule has on other platforms give the same numbers, and run where they should."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_ops import CASES, arguments, pullback

from purenet.core.shuffle import permutation
from purenet.nn.activations import relu
from purenet.nn.dropout import drop
from purenet.nn.pool import pool_average, pool_max
from purenet.training.rows import permutation_of_first


@pytest.fixture(params=["tpu", "cuda"])
def elsewhere(request, monkeypatch):
    """f as another platform would compute it, on this one."""

    def chosen(*args, default=None, **forms):
        return forms.get(request.param, default)(*args)

    def run(f, *args):
        with monkeypatch.context() as patched:
            patched.setattr(jax.lax, "platform_dependent", chosen)
            return jax.jit(lambda *args: f(*args))(*args)

    return run


FORMED = ("pool_max", "pool_average", "drop", "drop_padded", "relu")


@pytest.mark.parametrize("name", FORMED)
def test_an_operation_and_its_gradient_are_the_same_elsewhere(name, elsewhere):
    made = [arguments(case) for case in CASES.values() if case.op.__name__ == name]
    run = lambda all_args: [
        (op(*args), pullback(op, args)) for args, (_, op, _) in zip(all_args, made, strict=True)
    ]
    all_args = [args for args, _, _ in made]
    found, expected = elsewhere(run, all_args), jax.jit(run)(all_args)
    chex.assert_trees_all_close(found, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 3)])
def test_dropout_keeps_the_same_numbers_everywhere(shape, elsewhere):
    f = lambda x: drop(x, 0.4, jax.random.key(5))
    x = jnp.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    assert elsewhere(f, x).tolist() == f(x).tolist()


def test_a_maximum_that_is_not_a_number_gets_the_gradient_everywhere(elsewhere):
    x = jnp.array([[1.0, jnp.nan, 3.0, 2.0], [5.0, jnp.nan, 3.0, 1.0]]).reshape(1, 2, 4, 1)
    f = lambda x: pullback(lambda x: pool_max(x, 2), [x])[0]
    found = elsewhere(f, x)[0, :, :, 0]
    assert (found != 0).tolist() == [[False, True, True, False], [False] * 4]
    chex.assert_trees_all_equal(found, f(x)[0, :, :, 0])


def test_the_order_of_examples_is_the_same_everywhere(elsewhere):
    orders = lambda key: (permutation(key, 9), permutation_of_first(key, (4, 9), jnp.int32(6)))
    found, expected = elsewhere(orders, jax.random.key(2)), orders(jax.random.key(2))
    chex.assert_trees_all_equal(found, expected)


def test_relu_is_the_same_everywhere_at_its_edge_and_in_second_derivatives(elsewhere):
    x = jnp.array([-jnp.inf, -1.0, -0.0, 0.0, 1.0, jnp.nan])
    sign = lambda x: (relu(x), jnp.signbit(relu(x)))
    chex.assert_trees_all_equal(elsewhere(sign, x), sign(x))
    slopes = jax.grad(lambda x: (jax.grad(lambda x: (relu(x) ** 3).sum())(x)).sum())
    assert elsewhere(slopes, x[1:5]).tolist() == slopes(x[1:5]).tolist() == [0, 0, 0, 6]
    assert elsewhere(jax.grad(lambda x: relu.plain(x).sum()), x[1:5]).tolist() == [0, 0, 0, 1]


X = jnp.ones((1, 4, 4, 1))
FORMS = {
    "max": (lambda x: pullback(lambda x: pool_max(x, 2), [x]), "select_and_scatter", {"tpu"}),
    "mean": (lambda x: pullback(lambda x: pool_average(x, 2), [x]), "concatenate", {"cpu"}),
    "dropout": (lambda x: drop(x, 0.5, jax.random.key(0)), "iota dim = 2", {"cuda", "tpu", "rocm"}),
    "relu": (lambda x: relu(x), "clamp", {"cuda", "rocm"}),
    "order": (lambda x: permutation(jax.random.key(0), 5), "is_stable = true", {"cpu"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_platform_runs_its_own_form(name):
    f, word, where = FORMS[name]
    jitted = jax.jit(f)
    text = lambda platform: jax.export.export(jitted, platforms=[platform])(X).mlir_module()
    platforms = ("cpu", "cuda", "tpu", "rocm")
    assert {platform for platform in platforms if word in text(platform)} == where
