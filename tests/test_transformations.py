"""Hand-written gradients equal automatic ones under every transformation of JAX.

Ops: one case for each op and method of the table in tests/cases; all of them go through a
transformation in one compiled program, for compiling is nearly all that these tests cost.
Networks: the same networks with every op replaced by its `.plain`.
"""

import contextlib
import functools
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from test_ops import CASES, one_of_each

import purenet as pn
from purenet import ops
from purenet.core.dtypes import widen
from purenet.core.vjp import hand_vjp

# programs that run once: what counts is the time to compile them
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = functools.partial(jax.jit, compiler_options=QUICK)


CHOSEN = {name: CASES[name] for name in one_of_each()}
SMOOTH = [
    name for name, case in CHOSEN.items()
    if case.op.__name__ not in ("relu", "leaky_relu", "elu", "selu", "pool_max", "drop",
                                "sum_of_magnitudes", "huber")
]  # fmt: skip


def test_every_op_is_walked():
    names = {name for name in vars(ops) if callable(getattr(ops, name))}
    assert {case.op.__name__ for case in CHOSEN.values()} == names


class Example:
    """An op and its plain function of the differentiable arguments alone, and these arguments."""

    def __init__(self, case, dtype=jnp.float64, double=False):
        rng = np.random.default_rng(0)
        args = [
            rng.normal(size=a) if isinstance(a, tuple) else a if _is_key(a) else np.asarray(a)
            for a in case.args
        ]
        if double:  # as many examples again, so that two devices have equal shares
            args = [_doubled(case, i, a) for i, a in enumerate(args)]
        self.places = [i for i, a in enumerate(args) if not _is_key(a) and a.dtype.kind == "f"]
        self.values = tuple(jnp.asarray(args[i], dtype) for i in self.places)
        self.rest = tuple(jnp.asarray(a) for i, a in enumerate(args) if i not in self.places)
        self.case = case

    def call(self, f, values, rest=None):
        values, rest = iter(values), iter(self.rest if rest is None else rest)
        count = len(self.case.args)
        full = [next(values) if i in self.places else next(rest) for i in range(count)]
        return f(*full, *self.case.static)

    def op(self, *values):
        return self.call(self.case.op, values)

    def plain(self, *values):
        return self.call(self.case.op.plain, values)


def _is_key(a):
    return isinstance(a, jax.Array)


def _doubled(case, i, a):
    if _is_key(a) or i not in BATCHED.get(case.op.__name__, (0,)):
        return a
    return np.concatenate([a, 0.9 * a if a.dtype.kind == "f" else a])


# which arguments hold the examples; the first alone elsewhere
BATCHED = {
    "look_up": (1,),
    "attend": (0, 1, 2, 3),
    "gru_states_padded": (0, 5),
    "lstm_states_padded": (0, 4),
    **dict.fromkeys(("softmax_cross_entropy", "sigmoid_binary_cross_entropy"), (0, 1)),
    **dict.fromkeys(("mean_squared_error", "huber"), (0, 1)),
}


def weighted(f):
    """A sum of all outputs, each with a weight of its own, so that none can hide another."""

    def total(*args):
        uneven = lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape).astype(a.dtype)
        ys = jax.tree.leaves(f(*args))
        return sum((uneven(y) * y).sum().astype(widen(y).dtype) for y in ys)

    return total


def gradient(f):
    return lambda *args: jax.grad(weighted(f), tuple(range(len(args))))(*args)


# transformations of a function: (f, args) -> numbers. By hand and automatic have to agree.
def nested_vmap(f, args):
    """Two values of every argument inside, outside three of all but the first: the data."""
    g = lambda *args: (f(*args), gradient(f)(*args))
    stretch = lambda a, n: jnp.stack([a * (1 - 0.1 * i) for i in range(n)])
    two = [stretch(a, 2) for a in args]
    outer = [a if i == 0 < len(args) - 1 else stretch(a, 3) for i, a in enumerate(two)]
    axes = [None if i == 0 < len(args) - 1 else 0 for i in range(len(args))]
    return jax.vmap(jax.vmap(g), axes)(*outer)


def inside_while(f, args):
    """Descent until a count is reached: gradients in a loop of unknown length."""
    step = lambda args: tuple(a - 0.01 * d for a, d in zip(args, gradient(f)(*args), strict=True))
    go_on = lambda carry: carry[0] < 3 + 0 * carry[1][0].astype(int).ravel()[0]
    return jax.lax.while_loop(go_on, lambda c: (c[0] + 1, step(c[1])), (0, tuple(args)))[1]


def hessian(f, args):
    return jax.hessian(weighted(f), tuple(range(len(args))))(*args)


def reverse_over_reverse(f, args):
    norm = lambda *args: sum((jnp.sin(d) * d).sum() for d in gradient(f)(*args))
    return jax.grad(norm, tuple(range(len(args))))(*args)


def third_derivative(f, args):
    along = lambda g: lambda *a: jax.jvp(g, a, tuple(0.7 * b + 0.1 for b in a))[1]
    return along(along(gradient(f)))(*args)


TRANSFORMATIONS = [nested_vmap, inside_while, hessian, reverse_over_reverse]


def assert_close(got, expected, name, rtol=1e-9, atol=1e-10):
    """Entry by entry, atol for entries that are 0 but for rounding."""
    chex.assert_trees_all_equal_shapes_and_dtypes(got, expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def both_ways(transform, examples):
    """{name: (by hand, automatic)}, all in one program."""

    @compiled
    def run(values):
        return {
            name: (transform(e.op, values[name]), transform(e.plain, values[name]))
            for name, e in examples.items()
        }

    return run({name: e.values for name, e in examples.items()})


def check_all(transform, names=CHOSEN):
    found = both_ways(transform, {name: Example(CHOSEN[name]) for name in names})
    for name, (by_hand, automatic) in found.items():
        assert_close(by_hand, automatic, name)
        chex.assert_tree_all_finite(by_hand)


@pytest.mark.parametrize("transform", TRANSFORMATIONS, ids=lambda f: f.__name__)
def test_every_op_under(transform):
    check_all(transform)


def test_third_derivatives_of_the_smooth_ops():
    check_all(third_derivative, SMOOTH)


def test_forward_mode_from_reverse_rules_compiles_and_vmaps():
    """purenet.jvp of the op against jax.jvp of the plain function."""
    examples = {name: Example(case) for name, case in CHOSEN.items()}

    @compiled
    def run(values):
        found = {}
        for name, e in examples.items():
            args = values[name]
            many = [jnp.stack([a, 0.3 * a]) for a in args]
            found[name] = (
                jax.vmap(lambda *tangents, e=e, args=args: pn.jvp(e.op, args, tangents))(*many),
                jax.vmap(lambda *tangents, e=e, args=args: jax.jvp(e.plain, args, tangents))(*many),
            )
        return found

    for name, pair in run({name: e.values for name, e in examples.items()}).items():
        assert_close(*pair, name)


# dtypes
def forward_and_gradient(f, args):
    return f(*args), gradient(f)(*args)


@functools.cache
def exact():
    """What every op gives in float64, a function of the arguments: compiled once."""
    examples = {name: Example(case) for name, case in CHOSEN.items()}
    return compiled(lambda v: {n: forward_and_gradient(e.plain, v[n]) for n, e in examples.items()})


@pytest.mark.parametrize("x64, dtype", [(True, jnp.float16), (True, jnp.bfloat16),
                                        (False, jnp.float32)])  # fmt: skip
def test_every_dtype_without_a_promotion(x64, dtype):
    """Outputs and gradients have the dtype of their arguments and are right to its precision."""
    values = {name: Example(case, dtype).values for name, case in CHOSEN.items()}
    values = jax.tree.map(lambda a: a.astype(jnp.float64), values)  # as they are after rounding
    expected = jax.tree.map(np.asarray, exact()(values))
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"):
        examples = {name: Example(case, dtype) for name, case in CHOSEN.items()}
        found = compiled(
            lambda v: {n: forward_and_gradient(e.op, v[n]) for n, e in examples.items()}
        )({name: e.values for name, e in examples.items()})
    for name, (value, slopes) in found.items():
        assert {a.dtype for a in slopes} == {jnp.dtype(dtype)}, name
        # losses and statistics are in float32 at least
        kinds = {a.dtype for a in jax.tree.leaves(value)}
        assert kinds <= {jnp.dtype(dtype), jnp.dtype(jnp.float32)}, name
        pairs = zip(*map(jax.tree.leaves, ((value, slopes), expected[name])), strict=True)
        for a, b in pairs:
            error = np.abs(np.asarray(a, np.float64) - b).max() / (np.abs(b).max() + 0.1)
            bound = 128 if "winograd" in name else 16  # its tiles round more coarsely
            assert error < bound * float(jnp.finfo(dtype).eps), (name, error)


def through_loops(f, args):
    """The gradient of a scan over a fori_loop that calls f, not a loop over gradients."""

    def total(*args):
        inner = lambda i, carry: carry + (i + 1) * weighted(f)(*args)
        outer = lambda carry, _: (jax.lax.fori_loop(0, 2, inner, carry), None)
        return jax.lax.scan(outer, 0.0, None, length=2)[0]

    return [a / 6 for a in gradient(total)(*args)]


def test_every_op_through_loops_and_checkpoints():
    """They change nothing: the gradient is the automatic one of the op alone."""
    policies = jax.checkpoint_policies
    examples = {name: Example(case) for name, case in CHOSEN.items()}
    values = {name: e.values for name, e in examples.items()}

    @compiled
    def run(values):
        found = {}
        for name, e in examples.items():
            once = jax.checkpoint(e.op, policy=policies.nothing_saveable)
            twice = jax.checkpoint(jax.checkpoint(e.op, policy=policies.dots_saveable))
            ways = (through_loops(e.op, values[name]), gradient(once)(*values[name]),
                    gradient(twice)(*values[name]))  # fmt: skip
            found[name] = [tuple(way) for way in ways]
        return found

    expected = exact()(values)
    for name, ways in run(values).items():
        for way in ways:
            assert_close(way, expected[name][1], name)


def test_no_nan_on_the_way_where_numbers_are_huge_or_tied():
    """Not even one that a later `where` would hide: operation by operation, not compiled."""
    names = [name for name in CASES if any(w in name for w in ("extremes", "ties", "zeros"))]
    with jax.debug_nans(True):
        for name in names:
            e = Example(CASES[name])
            chex.assert_tree_all_finite(jax.vjp(e.op, *e.values)[1](e.plain(*e.values)))


# devices
MESHES = {kind: lambda kind=kind: jax.make_mesh((2,), ("batch",), axis_types=(kind,))
          for kind in (AxisType.Explicit, AxisType.Auto)}  # fmt: skip
REPLICATED, SHARDED = PartitionSpec(), PartitionSpec("batch")


def specs(case, e):
    """Examples over the devices, weights and hyperparameters on every one."""
    batched = BATCHED.get(case.op.__name__, (0,))
    rest = [i for i in range(len(case.args)) if i not in e.places]
    spec = lambda i: SHARDED if i in batched else REPLICATED
    return tuple(map(spec, e.places)), tuple(map(spec, rest))


def resized(case):
    """Static arguments that name the batch: only those of col2im."""
    if case.op is not ops.col2im:
        return case
    (n, *sizes), *others = case.static
    return case._replace(static=((2 * n, *sizes), *others))


@pytest.mark.parametrize("kind", MESHES, ids=str)
def test_every_op_on_a_mesh_equals_the_unsharded_one(kind):
    examples = {name: Example(resized(case), double=True) for name, case in CHOSEN.items()}
    mesh, values, rest = MESHES[kind](), {}, {}
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
    for name, e in examples.items():
        for_values, for_rest = specs(e.case, e)
        values[name] = tuple(map(put, e.values, for_values))
        rest[name] = tuple(map(put, e.rest, for_rest))

    def run(values, rest, by_hand):
        found = {}
        for name, e in examples.items():
            op = e.case.op if by_hand else e.case.op.plain
            f = lambda *v, e=e, op=op, name=name: e.call(op, v, rest[name])
            found[name] = forward_and_gradient(f, values[name])
        return found

    with jax.set_mesh(mesh):
        found = compiled(functools.partial(run, by_hand=True))(values, rest)
    numpy = lambda tree: jax.tree.map(np.asarray, tree)
    unsharded = unsharded_examples()
    for name in examples:
        assert_close(numpy(found[name]), unsharded[name], name)


@functools.cache
def unsharded_examples():
    examples = {name: Example(resized(case), double=True) for name, case in CHOSEN.items()}
    found = compiled(
        lambda v: {n: forward_and_gradient(e.plain, v[n]) for n, e in examples.items()}
    )({name: e.values for name, e in examples.items()})
    return jax.tree.map(np.asarray, found)


def test_every_op_in_shard_map_with_its_checks():
    """By hand against automatic, both inside: a cotangent is summed where its primal is one."""
    examples = {name: Example(case, double=True) for name, case in CHOSEN.items()}
    mesh = MESHES[AxisType.Auto]()

    def sharded(e, f):
        for_values, for_rest = specs(e.case, e)

        def body(values, rest):
            total = lambda *v: jax.lax.psum(weighted(lambda *v: e.call(f, v, rest))(*v), "batch")
            return jax.grad(total, tuple(range(len(values))))(*values)

        return jax.shard_map(
            body, mesh=mesh, in_specs=(for_values, for_rest), out_specs=for_values, check_vma=True
        )(e.values, e.rest)

    found = compiled(lambda: {
        name: (sharded(e, e.case.op), sharded(e, e.case.op.plain)) for name, e in examples.items()
    })()  # fmt: skip
    for name, (by_hand, automatic) in found.items():
        assert_close(by_hand, automatic, name)


# whole networks
def make_mlp(rate):
    return pn.mlp(pn.relu, batch_norm=True, dropout=rate), (5, 4, 3), (5,)


def make_simple_convnet(rate):
    return pn.simple_convnet(2, 3, 4, 3), (6, 6, 1), (6, 6, 1)


def make_deep_convnet(rate):
    """As deep_convnet, small: both methods of convolution, pooling, dropout."""
    net = pn.serial(
        pn.conv(5, 3, padding=1, method="direct"), pn.relu,
        pn.conv(2, 3, padding=2, method="columns"), pn.relu, pn.max_pool(2),
        pn.flatten, pn.dropout(rate), pn.dense(3),
    )  # fmt: skip
    return net, (4, 4, 1), (4, 4, 1)


def make_residual(rate):
    block = pn.residual(pn.serial(pn.dense(4), pn.layer_norm(), pn.gelu), pn.dense(4))
    return pn.serial(block, pn.residual(pn.dropout(rate)), pn.softplus, pn.dense(3)), 5, (5,)


NETWORKS = [make_mlp, make_deep_convnet, make_residual]
HYPER = {"rate": 0.3, "smoothing": 0.1, "l1": 0.01, "l2": 0.02}


@contextlib.contextmanager
def automatic():
    """Within it every op of purenet is the plain function without its rule."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == "purenet":
                for attribute, value in list(vars(module).items()):
                    if hasattr(value, "plain"):
                        patch.setattr(module, attribute, value.plain)
        yield


def problem(make, examples=4):
    _, sizes, shape = make(0.0)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(examples, *shape)))
    t = jnp.asarray(rng.integers(0, 3, examples), jnp.int32)
    return make(0.0)[0].init(jax.random.key(0), sizes), x, t


def objective(make, stats, train=True):
    """The penalised training loss, a function of weights, data and hyperparameters."""

    def loss(weights, x, t, hyper):
        net = make(hyper["rate"])[0]
        y, new = net.apply(pn.Params(weights, stats), x, train, jax.random.key(7))
        value = pn.softmax_cross_entropy(y, t, hyper["smoothing"])
        return value + pn.l1(hyper["l1"])(weights) + pn.l2(hyper["l2"])(weights), new

    return loss


def under_everything(make, weights, stats, x, t, hyper):
    """The gradient of a network's loss under one transformation after another."""
    loss = objective(make, stats)
    value = lambda *args: loss(*args)[0]
    grads = jax.grad(value, (0, 1, 3))
    args = (weights, x, t, hyper)
    scaled = lambda tree: jax.tree.map(lambda a: jnp.stack([1.0 * a, 0.9 * a]), tree)
    of_weights = lambda w: jax.grad(value)(w, x, t, hyper)
    _, push = jax.linearize(of_weights, weights)

    def step(i, w):
        return jax.tree.map(lambda a, d: a - 0.1 * d, w, of_weights(w))

    def epoch(w, rows):
        return step(0, w), jax.grad(value)(w, x[rows], t[rows], hyper)

    return {
        "eager": (loss(*args), grads(*args)),
        "ensembles of hyperparameters": jax.vmap(
            lambda w: jax.vmap(lambda h: grads(w, x, t, h))(scaled(hyper))
        )(scaled(weights)),
        "inference": jax.grad(lambda w: objective(make, stats, False)(w, x, t, hyper)[0])(weights),
        "remat": jax.grad(jax.checkpoint(value))(*args),
        "Hessian times vector": push(weights),
        "through training": jax.lax.fori_loop(0, 3, step, weights),
        "in a scan": jax.lax.scan(epoch, weights, jnp.array([[0, 1], [2, 3]])),
        "forward": pn.jvp(lambda w: value(w, x, t, hyper), (weights,), (weights,))[1],
    }


@pytest.mark.parametrize("make", NETWORKS, ids=lambda f: f.__name__)
def test_networks_under_everything(make):
    params, x, t = problem(make)
    run = lambda: compiled(functools.partial(under_everything, make))(*params, x, t, HYPER)
    by_hand = run()
    with automatic():
        expected = run()
    for name in expected:
        assert_close(by_hand[name], expected[name], f"{make.__name__}: {name}")
        chex.assert_tree_all_finite(by_hand[name])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_networks_in_every_dtype_without_a_promotion(dtype):
    """All numbers of that dtype, by hand against automatic: alike to its precision."""
    cast = lambda tree: jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )
    hyper = {name: np.asarray(value, dtype) for name, value in HYPER.items()} | {"rate": 0.0}

    def run(weights, stats, x, t):
        return jax.grad(objective(make_residual, stats), has_aux=True)(weights, x, t, hyper)[0]

    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        params, x, t = jax.tree.map(jnp.asarray, problem(make_residual))
        args = (*cast(params), cast(x), t)
        by_hand = compiled(run)(*args)
        with automatic():
            expected = compiled(run)(*args)
    assert {a.dtype for a in jax.tree.leaves(by_hand)} == {jnp.dtype(dtype)}
    for a, b in zip(*map(jax.tree.leaves, (by_hand, expected)), strict=True):
        a, b = (np.asarray(v, np.float64) for v in (a, b))
        assert np.abs(a - b).max() / (np.abs(b).max() + 0.1) < 16 * float(jnp.finfo(dtype).eps)


def test_networks_have_no_nan_on_the_way():
    """Rows that are equal, zero or huge, under the check that stops at the first NaN."""
    for make in NETWORKS:
        params, x, t = problem(make)
        run = compiled(jax.value_and_grad(objective(make, params.stats), has_aux=True))
        with jax.debug_nans(True):
            for rows in (0.0 * x, 1e6 * x, jnp.ones_like(x)):
                chex.assert_tree_all_finite(run(params.weights, rows, t, HYPER))


def test_networks_in_shard_map_with_its_checks():
    """A device has half of the examples; gradients of weights that all have are summed."""
    mesh, hyper = MESHES[AxisType.Auto](), HYPER | {"rate": 0.0}
    for make in (make_residual, make_deep_convnet, make_simple_convnet):  # without batch statistics
        params, x, t = problem(make)
        value = lambda *args, make=make: objective(make, ())(*args)[0]

        def body(weights, x, t, value=value):
            total = lambda w: jax.lax.pmean(value(w, x, t, hyper), "batch")
            return jax.grad(total)(weights)

        specs = (REPLICATED, SHARDED, SHARDED)
        step = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=True)
        found = compiled(step)(params.weights, x, t)
        expected = compiled(jax.grad(value))(params.weights, x, t, hyper)
        assert_close(jax.tree.map(np.asarray, found), expected, make.__name__)


def test_the_comparison_notices_a_rule_that_is_wrong_in_one_entry(monkeypatch):
    from purenet.nn import dense

    def wrong(residuals, g):
        dx, dw, db = dense._affine_bwd(residuals, g)
        return dx, dw.at[0, 1].multiply(1.01), db

    params, x, t = problem(make_mlp)
    gradients = lambda: compiled(jax.grad(lambda w: objective(make_mlp, params.stats)(
        w, x, t, HYPER)[0]))(params.weights)  # fmt: skip
    with automatic():
        expected = gradients()
    assert_close(gradients(), expected, "mlp")
    monkeypatch.setattr(dense, "affine", hand_vjp(dense._affine, dense._affine_fwd, wrong))
    with pytest.raises(AssertionError, match="mlp"):
        assert_close(gradients(), expected, "mlp")


def training_step(make):
    optimizer = pn.momentum(0.1)

    def step(params, opt_state, x, t):
        loss = objective(make, params.stats)
        grads, stats = jax.grad(loss, has_aux=True)(params.weights, x, t, HYPER)
        updates, opt_state = optimizer.update(grads, opt_state, params.weights)
        return pn.Params(pn.apply_updates(params.weights, updates), stats), opt_state

    return optimizer, step


@pytest.mark.parametrize("make", [make_mlp, make_simple_convnet, make_residual],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_a_sharded_training_step_equals_the_unsharded_one(make):
    """Examples over two devices, weights on both; batch statistics are those of the whole batch."""
    params, x, t = problem(make)
    optimizer, step = training_step(make)
    args = (params, optimizer.init(params.weights), x, t)
    expected = jax.tree.map(np.asarray, compiled(step)(*args))
    for kind, make_mesh in MESHES.items():
        mesh = make_mesh()
        shardings = [NamedSharding(mesh, s) for s in (REPLICATED, REPLICATED, SHARDED, SHARDED)]
        placed = [jax.device_put(a, s) for a, s in zip(args, shardings, strict=True)]
        with jax.set_mesh(mesh):
            got = compiled(step)(*placed)
        assert_close(jax.tree.map(np.asarray, got), expected, f"{make.__name__} {kind}")
        for a in jax.tree.leaves(got):
            assert a.sharding.is_fully_replicated
