"""Every promise of every op, one parametrised test a promise, over the table in tests/cases."""

import functools
import importlib
import pkgutil

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_strict_settings import traces

from purenet import jvp, ops
from purenet.core.vjp import hand_vjp

CASES = {
    name: case
    for module in pkgutil.iter_modules(cases.__path__, "cases.")
    for name, case in importlib.import_module(module.name).CASES.items()
}


def one_of_each():
    """The name of the first case of every op, of convolve with every method."""
    first = {}
    for name, case in CASES.items():
        method = case.static[2:] if case.op is ops.convolve else ()
        first.setdefault((case.op.__name__, method), name)
    return list(first.values())


def is_shape(arg):
    return isinstance(arg, tuple)


def arguments(case, dtype=np.float64):
    """(the differentiable arguments, op of them, plain of them)."""
    rng = np.random.default_rng(1)
    known = lambda a: a if isinstance(a, jax.Array) else np.asarray(a)
    args = [rng.normal(size=a) if is_shape(a) else known(a) for a in case.args]
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
    return with_pullback(f, args)[1]


def with_pullback(f, args):
    """(f of the arguments, its pullback)."""
    y, pull = jax.vjp(f, *args)
    return y, pull(jax.tree.map(weight, y))


def weight(a):
    return jnp.cos(jnp.arange(a.size)).reshape(a.shape).astype(a.dtype)


class Numbers:
    """What the tests of a case compare, each program compiled once: that is what they cost."""

    def __init__(self, case):
        self.case = case
        self.args, self.op, self.plain = arguments(case)

    @functools.cached_property
    def both(self):
        """(op, its pullback), (plain, its pullback): a function of the arguments."""
        return jax.jit(lambda *a: (with_pullback(self.op, a), with_pullback(self.plain, a)))

    @functools.cached_property
    def here(self):
        return jax.device_get(self.both(*self.args))

    @functools.cached_property
    def pushed(self):
        """Derivatives of the pullback and of the function, each by hand and automatic."""
        along = lambda f, a: jax.jvp(lambda *a: pullback(f, a), a, a)[1]

        def run(*a):
            second = along(self.op, a), along(self.plain, a)
            return second, (jvp(self.op, a, a), jax.jvp(self.plain, a, a))

        return jax.jit(run)(*self.args)


@pytest.fixture(scope="module")
def numbers_of():
    return functools.cache(lambda name: Numbers(CASES[name]))


@pytest.fixture(params=CASES)
def numbers(request, numbers_of):
    return numbers_of(request.param)


def test_forward_is_the_plain_function_bit_for_bit(numbers):
    (by_hand, _), (plain, _) = numbers.here
    chex.assert_trees_all_equal(by_hand, plain)


def test_rule_equals_jax_grad(numbers):
    (_, by_hand), (_, automatic) = numbers.here
    chex.assert_trees_all_close(by_hand, automatic, rtol=1e-10, atol=1e-12)


def test_rule_equals_finite_differences(numbers):
    (_, slopes), _ = numbers.here
    if not numbers.case.differences:
        # at a kink, or where numbers are huge: the gradient must still be finite
        chex.assert_tree_all_finite(slopes)
        return
    rng, h = np.random.default_rng(2), 1e-4
    total = lambda y: sum(np.vdot(weight(a), a) for a in jax.tree.leaves(y))
    towards = [rng.normal(size=a.shape) for a in numbers.args]
    moved = lambda h: [a + h * d for a, d in zip(numbers.args, towards, strict=True)]
    above, below = (total(numbers.both(*moved(step))[0][0]) for step in (h, -h))
    expected = sum(np.vdot(slope, d) for slope, d in zip(slopes, towards, strict=True))
    np.testing.assert_allclose((above - below) / (2 * h), expected, rtol=1e-5, atol=1e-5)


def test_second_derivative(numbers):
    chex.assert_trees_all_close(*numbers.pushed[0], rtol=1e-9, atol=1e-10)


def test_forward_mode(numbers):
    chex.assert_trees_all_close(*numbers.pushed[1], rtol=1e-9, atol=1e-10)


def test_scan_remat_and_vmap_agree_with_a_loop(numbers):
    """Weights, data and hyperparameters alike: each argument batched alone, then all together."""
    args, op = numbers.args, jax.jit(numbers.op)
    both = jax.jit(lambda *a: with_pullback(op, a))
    two = [np.stack([a, 0.9 * a]) for a in args]
    everything = tuple(range(len(args)))
    every_way = sorted({*((i,) for i in everything), everything})

    def all_ways(two, args):
        scanned = jax.lax.scan(lambda _, a: (None, both(*a)), None, two)[1]
        vmapped = []
        for batched in every_way:
            axes = [0 if i in batched else None for i in everything]
            pairs = zip(two, args, axes, strict=True)
            vmapped.append(jax.vmap(both, axes)(*[a if axis == 0 else b for a, b, axis in pairs]))
        return pullback(jax.checkpoint(op), args), scanned, vmapped

    remat, scanned, vmapped = jax.device_get(jax.jit(all_ways)(two, args))
    chex.assert_trees_all_close(remat, numbers.here[0][1], rtol=1e-10, atol=1e-12)
    one = lambda args: numbers.both(*args)[0]
    for batched, got in zip(every_way, vmapped, strict=True):
        pick = lambda n, batched=batched: [
            two[i][n] if i in batched else args[i] for i in everything
        ]
        expected = jax.tree.map(lambda a, b: np.stack([a, b]), one(pick(0)), one(pick(1)))
        chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-11)
        if batched == everything:
            chex.assert_trees_all_close(scanned, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept_without_a_promotion(numbers, dtype):
    """Under the strictest settings."""
    args, op, plain = arguments(numbers.case, dtype)
    shapes, cotangents = traces(lambda *a: with_pullback(op, a), *args)
    chex.assert_trees_all_equal_dtypes(shapes, jax.eval_shape(plain, *args))
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
    numbers = Numbers(cases.Case(op, ((5, 3), (3, 4))))
    with pytest.raises(AssertionError):
        test_rule_equals_jax_grad(numbers)
    with pytest.raises(AssertionError):
        test_rule_equals_finite_differences(numbers)


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
