"""Every promise of every op, one parametrised test a promise, over the table in tests/cases."""

import importlib
import pkgutil

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from purenet import jvp
from purenet.core.vjp import hand_vjp

CASES = {
    name: case
    for module in pkgutil.iter_modules(cases.__path__, "cases.")
    for name, case in importlib.import_module(module.name).CASES.items()
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def is_shape(arg):
    return isinstance(arg, tuple)


def arguments(case, dtype=jnp.float64):
    """(the differentiable arguments, op of them, plain of them)."""
    keys = jax.random.split(jax.random.key(1), len(case.args))
    args = [
        jax.random.normal(k, a, dtype) if is_shape(a) else jnp.asarray(a)
        for k, a in zip(keys, case.args, strict=True)
    ]
    floats = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def only_floats(f):
        def g(*values):
            full = list(args)
            for i, value in zip(floats, values, strict=True):
                full[i] = value
            return f(*full, *case.static)

        return g

    values = [args[i].astype(dtype) for i in floats]
    return values, only_floats(case.op), only_floats(case.op.plain)


def pullback(f, args):
    """One cotangent per argument, for outputs weighted unevenly so that no entry hides another."""
    y, pull = jax.vjp(f, *args)
    weigh = lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape).astype(a.dtype)
    return pull(jax.tree.map(weigh, y))


def test_forward_is_the_plain_function_bit_for_bit(case):
    args, op, plain = arguments(case)
    chex.assert_trees_all_equal(op(*args), plain(*args))


def compiled(f, *args):
    """One program for all that is compared: operation by operation each would be compiled alone."""
    return jax.jit(f)(*args)


def test_rule_equals_jax_grad(case):
    args, op, plain = arguments(case)
    got, expected = compiled(lambda *a: (pullback(op, a), pullback(plain, a)), *args)
    chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-12)


def test_rule_equals_finite_differences(case):
    if not case.differences:
        # at a kink, or where numbers are huge: the gradient must still be finite
        args, op, _ = arguments(case)
        chex.assert_tree_all_finite(compiled(lambda *a: pullback(op, a), *args))
        return
    args, op, _ = arguments(case)
    check_grads(jax.jit(op), args, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


def test_second_derivative(case):
    args, op, plain = arguments(case)
    hvp = lambda f, args: jax.jvp(lambda *a: pullback(f, a), args, args)[1]
    got, expected = compiled(lambda *a: (hvp(op, a), hvp(plain, a)), *args)
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-10)


def test_forward_mode(case):
    args, op, plain = arguments(case)
    got, expected = compiled(lambda *a: (jvp(op, a, a), jax.jvp(plain, a, a)), *args)
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-10)


def test_scan_and_remat_agree_with_jit(case):
    args, op, _ = arguments(case)

    def scanned(*args):
        step = lambda _, a: (None, (op(*a), pullback(op, a)))
        out = jax.lax.scan(step, None, [a[None] for a in args])[1]
        return jax.tree.map(lambda a: a[0], out)

    remat = lambda *a: (op(*a), pullback(jax.checkpoint(op), a))
    straight = lambda *a: (op(*a), pullback(op, a))
    expected, *others = compiled(lambda *a: (straight(*a), scanned(*a), remat(*a)), *args)
    for got in others:
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-12)


def test_vmap_over_every_argument_agrees_with_a_loop(case):
    """Weights, data and hyperparameters alike: each argument batched alone, then all together."""
    args, op, _ = arguments(case)
    both = lambda *a: (op(*a), pullback(op, a))
    two = [jnp.stack([a, 0.9 * a]) for a in args]
    everything = tuple(range(len(args)))
    every_way = sorted({*((i,) for i in everything), everything})

    def all_ways(two, args):
        for batched in every_way:
            axes = [0 if i in batched else None for i in everything]
            pairs = zip(two, args, axes, strict=True)
            yield jax.vmap(both, axes)(*[a if axis == 0 else b for a, b, axis in pairs])

    one = jax.jit(both)
    results = compiled(lambda two, args: list(all_ways(two, args)), two, args)
    for batched, got in zip(every_way, results, strict=True):
        pick = lambda n, batched=batched: [
            two[i][n] if i in batched else args[i] for i in everything
        ]
        expected = jax.tree.map(lambda a, b: np.stack([a, b]), one(*pick(0)), one(*pick(1)))
        chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept(case, dtype):
    args, op, plain = arguments(case, dtype)
    chex.assert_trees_all_equal_dtypes(jax.eval_shape(op, *args), jax.eval_shape(plain, *args))
    cotangents = jax.eval_shape(lambda *a: pullback(op, a), *args)
    for arg, cotangent in zip(args, cotangents, strict=True):
        assert cotangent.dtype == arg.dtype == dtype
        assert cotangent.shape == arg.shape


def test_the_gradient_check_notices_one_entry_wrong_by_one_percent():
    def plain(x, w):
        return x @ w

    def wrong(residuals, g):
        x, w = residuals
        return g @ w.T, (x.T @ g).at[1, 2].multiply(1.01)

    op = hand_vjp(plain, lambda x, w: (plain(x, w), (x, w)), wrong)
    case = cases.Case(op, ((5, 3), (3, 4)))
    with pytest.raises(AssertionError):
        test_rule_equals_jax_grad(case)
    with pytest.raises(AssertionError):
        test_rule_equals_finite_differences(case)


def test_a_sharded_rule_equals_the_unsharded_one():
    """On two host devices: explicit axes, automatic axes and shard_map with its checks on."""
    from purenet.nn.dense import affine

    kinds, spec = jax.sharding.AxisType, jax.sharding.PartitionSpec
    x, w = jnp.arange(8.0).reshape(4, 2), jnp.ones((2, 3))
    loss = lambda w, x: (affine(x, w, jnp.zeros(3)) ** 2).sum()
    expected = np.asarray(jax.grad(loss)(w, x))
    for kind in (kinds.Explicit, kinds.Auto):
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            put = lambda a, s, mesh=mesh: jax.device_put(a, jax.NamedSharding(mesh, s))
            got = jax.jit(jax.grad(loss))(put(w, spec()), put(x, spec("batch")))
        np.testing.assert_allclose(got, expected)
    sharded = jax.shard_map(
        jax.grad(loss), mesh=mesh, in_specs=(spec(), spec("batch")), out_specs=spec()
    )
    np.testing.assert_allclose(sharded(w, x), expected)
