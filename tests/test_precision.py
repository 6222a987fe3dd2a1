"""Precision and memory of whole networks: compute_dtype, remat, microbatches."""

import functools
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

HALVES = ("bfloat16", "float16")


# compute_dtype
def convnet(dtype):
    # smooth, since a maximum or a sign that rounding changes moves a whole gradient
    block = pn.residual(pn.serial(pn.batch_norm(), pn.gelu, pn.conv(4, 3, padding=1)))
    return pn.serial(
        pn.conv(4, 3), pn.local_response_norm(3), pn.avg_pool(2), block, pn.flatten,
        pn.layer_norm(), pn.softmax, pn.dense(3), compute_dtype=dtype,
    )  # fmt: skip


def padded(dtype):
    return pn.mlp(pn.silu, True, 0.2, compute_dtype=dtype)


def embedded(dtype):
    table = pn.serial(pn.embedding(5, 4), pn.flatten)
    return pn.serial(table, pn.residual(pn.dense(24)), pn.gelu, pn.dense(3), compute_dtype=dtype)


NETS = {
    "padded mlp": (padded, (6, pn.PaddedSize(5, 8), 3), (6,)),
    "convnet": (convnet, (8, 8, 2), (8, 8, 2)),
    "embedding": (embedded, 6, (6,)),
}


def problem(name, dtype):
    """The penalised loss and all that comes with it, a function of weights; and the parameters."""
    make, sizes, shape = NETS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (8, 6)) if name == "embedding" else rng.normal(size=(8, *shape))
    x = jnp.asarray(x.astype(np.int32 if name == "embedding" else np.float32))
    t = jnp.arange(8, dtype=jnp.int32) % 3
    net = make(dtype)

    def loss(weights, stats):
        y, stats = net.apply(pn.Params(weights, stats), x, True, jax.random.key(1))
        return pn.softmax_cross_entropy(y, t) + pn.l2(1e-3)(weights), (y, stats)

    return loss, jax.jit(lambda key: net.init(key, sizes))(jax.random.key(0))


def distance(got, expected):
    """Of all numbers of two trees, relative to the length of the second."""
    vector = lambda tree: np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)] or [[]])
    got, expected = vector(got), vector(expected)
    return np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-3)


@pytest.mark.parametrize("name", NETS)
def test_half_precision_agrees_with_float32_and_lasts_in_float32(name):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        run = lambda loss, params: jax.jit(jax.value_and_grad(loss, has_aux=True))(*params)
        (exact, (y, stats)), grads = run(*problem(name, None))
        for dtype in HALVES:
            loss, params = problem(name, dtype)
            got = jax.eval_shape(jax.value_and_grad(loss, has_aux=True), *params)
            chex.assert_trees_all_equal_dtypes(got, ((exact, (y, stats)), grads))
        loss, params = problem(name, "bfloat16")
        (value, (rounded, new)), got = run(loss, params)
        np.testing.assert_array_equal(rounded, rounded.astype(jnp.bfloat16).astype(jnp.float32))
        assert 0 < distance(rounded, y) < 0.03  # bfloat16 has 8 bits: 0.004
        assert distance(value, exact) < 0.005 and distance(new, stats) < 0.005
        assert 0 < distance(got, grads) < 0.03


def test_all_products_are_in_the_dtype_and_statistics_are_not():
    with jax.enable_x64(False):
        loss, params = problem("convnet", jnp.bfloat16)
        text = str(jax.make_jaxpr(jax.grad(loss, has_aux=True))(*params))
        products = [line for line in text.splitlines() if "= dot_general" in line]
        assert len(products) >= 9
        assert all(":bf16[" in line.split("=")[0] for line in products)
        net = pn.serial(pn.batch_norm(momentum=0.0), compute_dtype=jnp.bfloat16)
        x = jnp.concatenate([jnp.full((150, 1), 256.0), jnp.full((150, 1), 258.0)])
        _, stats = net.apply(net.init(jax.random.key(0), 1), x, True, None)
        assert stats["0"]["mean"][0] == 257 and stats["0"]["variance"][0] == 1

    normalise = lambda x: pn.ops.local_response_normalise(x, 2.0, 1.0, 0.75, 5)
    half = jax.random.normal(jax.random.key(0), (3, 64), jnp.bfloat16)
    pull = lambda f: jax.grad(lambda x: f(x).astype(jnp.float32).sum())
    for op in (pn.softmax, normalise, pull(normalise)):  # rounded once, at the end
        np.testing.assert_array_equal(op(half), op(half.astype(jnp.float32)).astype(jnp.bfloat16))


@functools.cache
def clusters():
    rng = np.random.default_rng(0)
    t = rng.integers(0, 3, 80).astype(np.int32)
    x = (rng.normal(size=(80, 6)) + 3 * np.eye(3, 6)[t]).astype(np.float32)
    return (x[:60], t[:60]), (x[60:], t[60:])


def trained(**options):
    settings = {"net": pn.mlp(), "sizes": (6, 8, 3), "optimizer": pn.adam(3e-2), "batch_size": 12,
                "loss": pn.softmax_cross_entropy, "penalty": pn.l2(1e-3)} | options  # fmt: skip
    return pn.supervised(**settings)


def test_training_reaches_the_same_and_the_optimizer_sees_float32():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        ends = {}
        for dtype in (None, "bfloat16"):
            net = pn.mlp(batch_norm=True, dropout=0.1, compute_dtype=dtype)
            trainable = trained(net=net, microbatches=2)
            ends[dtype] = pn.fit(trainable, clusters(), 15, jax.random.key(0))
            accuracy = ends[dtype].history["validation"]["accuracy"][-1]
            assert accuracy >= 0.85, dtype
            chex.assert_trees_all_equal_dtypes(ends[dtype], ends[None])
            loss = ends[dtype].history["train"]["loss"]
            np.testing.assert_allclose(
                loss, ends[None].history["train"]["loss"], rtol=0.1, atol=0.01
            )


def test_hessian_times_vector_and_trials_side_by_side():
    with jax.enable_x64(False):
        found = {}
        for dtype in (None, "bfloat16"):
            loss, (weights, stats) = problem("embedding", dtype)
            slope = jax.grad(lambda w, loss=loss, stats=stats: loss(w, stats)[0])
            product = jax.jit(lambda w, v, slope=slope: pn.jvp(slope, (w,), (v,))[1])
            found[dtype] = product(weights, jax.tree.map(jnp.ones_like, weights))
            scaled = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), weights)
            both, one = jax.jit(jax.vmap(slope))(scaled), jax.jit(slope)(weights)
            assert distance(jax.tree.map(lambda a: a[0], both), one) < 0.02
        chex.assert_trees_all_equal_dtypes(found["bfloat16"], found[None])
        assert distance(found["bfloat16"], found[None]) < 0.05


def seen(net, x):
    """The dtypes that functions inside `net` met, and that of its output."""
    met = []
    net = net(lambda h: met.append(h.dtype.name) or h)
    params = jax.eval_shape(lambda key: net.init(key, 3), jax.random.key(0))
    met.clear()
    y, _ = jax.eval_shape(lambda params: net.apply(params, x, False, None), params)
    return set(met), y.dtype.name


def test_a_dtype_reaches_parts_that_have_none():
    bf16 = {"compute_dtype": jnp.bfloat16}
    inside = lambda note, **own: pn.serial(pn.dense(3), note, **own)
    for make, expected in [
        (lambda n: pn.serial(inside(n), pn.residual(inside(n)), pn.remat(inside(n)), **bf16),
         {"bfloat16"}),
        (lambda n: pn.serial(pn.dense(3), inside(n, **bf16), pn.dense(3)), {"bfloat16"}),
        (lambda n: pn.serial(pn.dense(3), pn.residual(inside(n, compute_dtype=np.float32)), **bf16),
         {"float32"}),
        (lambda n: pn.serial(n, pn.serial(inside(n, compute_dtype="float16")), n, **bf16),
         {"bfloat16", "float16"}),
        (lambda n: pn.serial(pn.residual(n, pn.dense(3)), compute_dtype=np.dtype("float16")),
         {"float16"}),
    ]:  # fmt: skip
        with jax.numpy_dtype_promotion("strict"):
            assert seen(make, jnp.ones((2, 3))) == (expected, "float64")


def test_the_output_has_the_dtype_of_the_weights_or_of_x():
    bf16 = {"compute_dtype": jnp.bfloat16}
    narrow = jnp.ones((2, 3), jnp.float32)
    assert seen(lambda n: pn.serial(pn.dense(3), **bf16), narrow)[1] == "float64"
    assert seen(lambda n: pn.serial(pn.relu, **bf16), narrow)[1] == "float32"
    whole = jnp.ones((2, 3), jnp.int32)
    assert seen(lambda n: pn.serial(n, pn.embedding(4, 2), **bf16), whole) == ({"int32"}, "float64")


@pytest.mark.parametrize("dtype", [jnp.int32, "int8", "half", jnp.float8_e4m3fn, complex, 5, [1]])
def test_what_is_no_dtype_for_arithmetic_is_refused(dtype):
    for make in (pn.serial, pn.mlp, pn.simple_convnet, pn.deep_convnet, pn.alexnet):
        with pytest.raises(
            ValueError, match=r"compute_dtype is .*'bfloat16', 'float16', 'float32'"
        ):
            make(compute_dtype=dtype)


def test_every_ready_made_network_passes_it_on():
    small = {"stem": (3, 1, 1), "filters": (2,) * 5, "hidden": 4}
    for net, sizes in [
        (pn.mlp(compute_dtype=jnp.bfloat16), (4, 3, 2)),
        (pn.simple_convnet(compute_dtype=jnp.bfloat16), (8, 8, 1)),
        (pn.deep_convnet(compute_dtype=jnp.bfloat16), (8, 8, 1)),
        (pn.alexnet(compute_dtype=jnp.bfloat16, **small), (17, 17, 3)),
    ]:
        assert net.spec[1]["compute_dtype"] == "bfloat16"
        assert pn.summary(net, sizes).splitlines()[-1] == "computed in bfloat16"


# remat
def deep(wrap, rate=0.2, dtype=None):
    block = pn.serial(pn.dense(16), pn.batch_norm(), pn.dropout(rate), pn.gelu)
    return pn.serial(*[wrap(block)] * 2, compute_dtype=dtype)


products = functools.partial(pn.remat, policy=jax.checkpoint_policies.dots_saveable)


@pytest.mark.parametrize("remat, dtype", [(pn.remat, None), (products, "bfloat16")])
def test_remat_changes_no_number(remat, dtype):
    """Outputs, statistics, gradients of weights and of a traced rate; the masks are the same."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(10, 16)))
    found = []
    for wrap in (lambda layer: layer, remat):
        params = deep(wrap).init(jax.random.key(0), 16)

        def total(weights, rate, stats=params.stats, wrap=wrap):
            net = deep(wrap, rate, dtype)
            y, stats = net.apply(pn.Params(weights, stats), x, True, jax.random.key(1))
            return (y**2).sum(), (y, stats)

        one = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params.weights, 0.2)
        found.append((params, one))
    if dtype is None:
        chex.assert_trees_all_close(*found, rtol=1e-12, atol=1e-12)
    assert distance(*found) < 0.01


def temporaries(f, *args):
    """Bytes that the compiled program needs besides its arguments and results; nothing runs."""
    users = {"xla_backend_optimization_level": 3}
    if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:  # which jaxlib 0.12 has no more
        users["xla_cpu_use_fusion_emitters"] = True
    compiled = jax.jit(f).lower(*args).compile(compiler_options=users)
    return compiled.memory_analysis().temp_size_in_bytes


def test_remat_needs_less_memory_inside_a_loop():
    def bytes_of(wrap):
        block = pn.serial(pn.dense(16), pn.tanh, pn.dense(16), pn.gelu)
        net = pn.serial(*[wrap(block)] * 5)
        weights = jax.eval_shape(lambda key: net.init(key, 16), jax.random.key(0)).weights
        total = lambda w: (net.apply(pn.Params(w), jnp.ones((1000, 16)), True, None)[0] ** 2).sum()
        step = lambda w, _: (jax.tree.map(jnp.subtract, w, jax.grad(total)(w)), None)
        return temporaries(lambda w: jax.lax.scan(step, w, None, 3), weights)

    assert bytes_of(pn.remat) < 0.7 * bytes_of(lambda layer: layer)


def test_remat_is_seen_through_and_explains_its_arguments(key):
    net = pn.remat(pn.mlp())
    assert pn.summary(net, (6, 8, 3)) == pn.summary(pn.mlp(), (6, 8, 3))
    chex.assert_trees_all_equal(net.init(key, (6, 8, 3)), pn.mlp().init(key, (6, 8, 3)))
    words = pn.serial(pn.remat(pn.embedding(5, 2)), pn.flatten, pn.dense(2))
    assert words.init(key, 3).weights["2"]["w"].shape == (6, 2)
    with pytest.raises(TypeError, match="remat: policy is 'dots', but a function such as"):
        pn.remat(pn.relu, "dots")
    with pytest.raises(TypeError, match="but a layer such as dense"):
        pn.remat(3)
    with pytest.raises(ValueError, match="flatten") as caught:
        pn.serial(pn.remat(pn.dense(2))).apply(
            pn.Params({"0": {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}}),
            jnp.ones((1, 3, 3)),
            1,
            None,
        )
    assert "(layer 0 of serial: remat)" in caught.value.__notes__


# microbatches
def test_the_mean_over_microbatches_is_the_gradient_of_the_minibatch(key):
    ends = []
    for k in (1, 4):
        trainable = trained(optimizer=pn.sgd(0.1), penalty=pn.l2(0.1), microbatches=k)
        epoch = jax.jit(trainable.epoch)
        state, values = epoch(*epoch(trainable.init(key), clusters()[0])[:1], clusters()[0])
        ends.append((state.params, values))
    for end in ends[1:]:
        chex.assert_trees_all_close(end, ends[0], rtol=1e-12, atol=1e-12)


def test_more_microbatches_need_less_memory_but_no_longer_program():
    x, t = jnp.ones((64, 8, 8, 1)), jnp.zeros(64, int)
    net = pn.serial(pn.conv(8, 3), pn.tanh, pn.flatten, pn.dense(3))

    def program(k):
        trainable = trained(net=net, sizes=(8, 8, 1), batch_size=64, microbatches=k)
        state = jax.eval_shape(trainable.init, jax.random.key(0))
        return lambda state: trainable.epoch(state, (x, t)), state

    lines = lambda k: str(jax.make_jaxpr(program(k)[0])(program(k)[1])).count("\n")
    assert lines(8) == lines(2) > 0
    assert temporaries(*program(8)) < 0.4 * temporaries(*program(1))


def test_statistics_and_keys_are_those_of_each_microbatch(key):
    def apply(params, x, train, key):
        drawn = jax.random.uniform(key) if train else 0.0
        stats = {"sum": params.stats["sum"] + drawn, "last": drawn, "rows": jnp.float64(len(x))}
        return x * params.weights["w"], stats

    stats = {"sum": 0.0, "last": 0.0, "rows": 0.0}
    init = lambda key, sizes: pn.Params({"w": jnp.ones(())}, jax.tree.map(jnp.float64, stats))
    net = pn.serial(pn.Layer(init, apply), pn.batch_norm(), pn.dense(2))
    data = (np.full((12, 1), 3.0), np.zeros(12, int))
    trainable = trained(net=net, sizes=1, optimizer=pn.sgd(0.0), microbatches=3)
    state, _ = jax.jit(trainable.epoch)(trainable.init(key), data)
    own = state.params.stats["0"]
    assert own["rows"] == 4 and abs(own["sum"] - 3 * own["last"]) > 1e-3
    np.testing.assert_allclose(state.params.stats["1"]["mean"], 3 * (1 - 0.9**3))


def test_microbatches_divide_what_there_is(key):
    with pytest.raises(ValueError, match="batch_size 12 is not a multiple of microbatches 5"):
        trained(microbatches=5)
    for wrong, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="microbatches is"):
            trained(microbatches=wrong)
    trainable = trained(microbatches=4)
    few = jax.tree.map(lambda a: a[:3], clusters()[0])
    with pytest.raises(ValueError, match="into 4 microbatches, but there are 3 examples; use at"):
        pn.fit(trainable, few, 1, key)
    # of 11 examples 8 are a minibatch
    net = pn.Layer(lambda key, sizes: pn.Params({"w": jnp.zeros(11)}),
                   lambda params, x, train, key: (x * params.weights["w"], ()))  # fmt: skip
    counting = trained(net=net, loss=lambda y, t: -4 * y.sum(), metrics={}, penalty=None,
                       optimizer=pn.sgd(1.0), microbatches=4)  # fmt: skip
    state, _ = counting.epoch(counting.init(key), (jnp.eye(11), jnp.zeros(11)))
    assert sorted(np.asarray(state.params.weights["w"])) == [0] * 3 + [1] * 8
    assert int(state.step) == 1


# all of them in a sweep
def test_a_sweep_over_dtypes_with_remat_and_microbatches(tmp_path):
    def trial(hyper):
        layers = pn.remat(pn.serial(pn.dense(8), pn.tanh)), pn.dense(3)
        net = pn.serial(*layers, compute_dtype=hyper["dtype"])
        optimizer = pn.adam(hyper["rate"])
        return trained(net=net, sizes=6, optimizer=optimizer, microbatches=hyper["parts"])

    space = {"rate": sweep.loguniform(1e-3, 1e-1), "parts": 2,
             "dtype": sweep.choice(["bfloat16", None])}  # fmt: skip
    result = sweep.run(trial, space, clusters(), trials=6, epochs=2, path=tmp_path / "sweep")
    dtypes = list(result.hyper["dtype"])
    assert len(result.programs) == 2 and set(dtypes) == {"bfloat16", None}
    losses = result.curves["validation"]["loss"]
    for i in map(dtypes.index, ("bfloat16", None)):
        state, curves = result.replay(i)
        np.testing.assert_array_equal(curves["validation"]["loss"], losses[i])
        chex.assert_tree_all_finite(losses[i])
        assert {a.dtype.name for a in jax.tree.leaves(state.params)} == {"float64"}


# matmul_precision
def test_every_product_of_training_and_evaluation_has_the_precision_that_was_asked_for():
    data = jnp.ones((6, 8, 8, 2), jnp.float32), jnp.zeros(6, jnp.int32)
    net = pn.serial(pn.conv(3, 3), pn.relu, pn.flatten, pn.dense(2))

    def products(precision):
        trainable = pn.supervised(net, (8, 8, 2), pn.sgd(0.1), pn.softmax_cross_entropy, 3,
                                  matmul_precision=precision)  # fmt: skip
        state = jax.eval_shape(trainable.init, jax.random.key(0))
        run = lambda state, data: (trainable.epoch(state, data), trainable.evaluate(state, data))
        text = str(jax.make_jaxpr(run)(state, data))
        return text.count("dot_general[") + text.count("conv_general_dilated["), text

    count, text = products("highest")
    assert (
        count > 5
        and text.count("precision=Precision.HIGHEST")
        + text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
        == count
    )
    assert products("high")[1].count("Precision.HIGH)") and "HIGHEST" not in products("high")[1]
    assert products(None)[0] == count and "Precision.HIGH" not in products(None)[1]


def test_a_precision_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="supervised: matmul_precision is 'double', but"):
        pn.supervised(pn.mlp(), (2, 2), pn.sgd(0.1), pn.softmax_cross_entropy, 3,
                      matmul_precision="double")  # fmt: skip


def test_gradients_are_checked_in_the_highest_precision(monkeypatch):
    from purenet import gradcheck, ops

    seen = []
    checked = ops.affine.plain

    def affine(x, w, b):
        seen.append(jax.config.jax_default_matmul_precision)
        return checked(x, w, b)

    op = pn.hand_vjp(affine, lambda *a: (affine(*a), a), lambda r, g: (g @ r[1].T, r[0].T @ g, g))
    assert gradcheck.check(op, (np.ones((2, 3)), np.ones((3, 2)), np.ones(2))).passed
    assert set(seen) == {"highest"}
