"""`mlp(max_width=..., width=...)`: networks of any width in one program."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import initializers, sweep

WIDEST = (6, 12, 9, 3)  # of a width above 9, the second hidden layer keeps all its units
X = np.random.default_rng(0).normal(size=(60, 6))
T = np.random.default_rng(1).integers(0, 3, 60)


def narrowed(sizes, width):
    return (sizes[0], *(min(n, width) for n in sizes[1:-1]), sizes[-1])


def parameters_of(net, sizes):
    """Shapes alone."""
    return jax.eval_shape(lambda key: net.init(key, sizes), jax.random.key(0))


def split(tree, like):
    """(the active block of every array, as `like`, and what is outside it), in NumPy."""
    block = lambda like: tuple(map(slice, like.shape))
    inside = jax.tree.map(lambda like, a: np.asarray(a)[block(like)], like, tree)

    def outside(like, a):
        a = np.array(a)
        a[block(like)] = 0
        return a

    return inside, jax.tree.map(outside, like, tree)


def all_zero(tree):
    return not any(np.any(a) for a in jax.tree.leaves(tree))


def penalty(weights):
    return pn.l2(1e-2)(weights) + pn.l1(1e-3)(weights)


@pytest.mark.parametrize(
    "optimizer, width",
    # before batch_norm, the gradient of b is 0 but for rounding, which a small eps would blow up
    [(pn.sgd(0.1), 5), (pn.adam(0.01, eps=1e-3), 10)],
    ids=["sgd", "adam"],
)
def test_it_trains_as_the_network_of_that_width(optimizer, width, key):
    masked = pn.mlp(pn.softplus, batch_norm=True, max_width=12, width=jnp.array(width))
    small = pn.mlp(pn.softplus, batch_norm=True)  # softplus is not 0 at 0
    wide, narrow = (
        pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, 20, penalty=penalty)
        for net, sizes in ((masked, WIDEST), (small, narrowed(WIDEST, width)))
    )
    numbers = lambda state: (state.params, state.opt_state)  # what has units
    state, like = jax.jit(wide.init)(key), numbers(jax.eval_shape(narrow.init, key))
    first, rest = split(numbers(state), like)
    assert all_zero(rest)
    other = state._replace(params=first[0], opt_state=first[1])

    def epochs(net, trainable, state):
        def one(state, _):
            state, metrics = trainable.epoch(state, (X, T))  # 3 minibatches
            return state, (metrics["loss"], net.apply(state.params, X, False, None)[0])

        return jax.jit(lambda state: jax.lax.scan(one, state, length=4))(state)

    state, curves = epochs(masked, wide, state)
    other, expected = epochs(small, narrow, other)
    chex.assert_trees_all_close(curves, expected, rtol=1e-9, atol=1e-10)  # losses and logits
    last, rest = split(numbers(state), like)
    assert all_zero(rest)  # the optimizer's memory too
    chex.assert_trees_all_close(last, numbers(other), rtol=1e-8, atol=1e-10)
    moves = jax.tree.map(lambda a, b: abs(a - b).max(), first[0].weights, last[0].weights)
    assert moves["0"]["w"] > 1e-3


OPTIMIZERS = {
    "sgd": pn.sgd(0.1),
    "momentum": pn.momentum(0.03),
    "nesterov": pn.nesterov(0.03),
    "adagrad": pn.adagrad(0.03),
    "rmsprop": pn.rmsprop(0.01),
    "adadelta": pn.adadelta(),
    "adam": pn.adam(0.01),
    "adamw": pn.adamw(0.01, weight_decay=0.1),
    "adamw of all": pn.adamw(0.01, mask=lambda weights: jax.tree.map(lambda _: True, weights)),
    "nadam": pn.nadam(0.01),
    "lion": pn.lion(0.003, weight_decay=0.1),
    "clipped": pn.chain(pn.clip_by_global_norm(0.1), pn.momentum(0.03)),
}


@functools.cache
def initial_and_gradients():
    """Of a masked network, and the same of its active block."""
    masked, small = pn.mlp(max_width=12, width=jnp.array(5)), pn.mlp()
    params = masked.init(jax.random.key(0), (6, 12, 3))
    active, _ = split(params, parameters_of(small, (6, 5, 3)))

    def objective(net, stats, weights):
        y, _ = net.apply(pn.Params(weights, stats), X, True, None)
        return pn.softmax_cross_entropy(y, T) + penalty(weights)

    return [
        (p.weights, jax.jit(jax.grad(functools.partial(objective, net, p.stats))))
        for net, p in ((masked, params), (small, active))
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_leaves_masked_units_alone(name):
    optimizer = OPTIMIZERS[name]
    ends = []
    for weights, gradients in initial_and_gradients():
        state, update = optimizer.init(weights), jax.jit(optimizer.update)
        for _ in range(5):
            updates, state = update(gradients(weights), state, weights)
            weights = jax.tree.map(np.add, weights, updates)
        ends.append((weights, state))
    inside, rest = split(ends[0], ends[1])
    assert all_zero(rest)
    chex.assert_trees_all_close(inside, ends[1], rtol=1e-8, atol=1e-10)


def test_widths_under_vmap_are_one_trace(key):
    widths, sizes = np.array([1, 5, 12]), (6, 12, 3)
    loss = lambda net, weights, stats: pn.softmax_cross_entropy(
        net.apply(pn.Params(weights, stats), X, True, None)[0], T
    )

    def gradients(width):
        net = pn.mlp(pn.sigmoid, True, max_width=12, width=width)
        params = net.init(key, sizes)
        return params, jax.grad(loss, 1)(net, *params)

    chex.clear_trace_counter()
    swept = jax.jit(jax.vmap(chex.assert_max_traces(gradients, 1)))
    swept(widths[::-1])
    params, grads = swept(widths)
    small = pn.mlp(pn.sigmoid, True)
    for i, width in enumerate(widths):
        like = parameters_of(small, narrowed(sizes, width))
        one = jax.tree.map(lambda a, i=i: a[i], (params, grads))
        (active, got), rest = split(one, (like, like.weights))
        assert all_zero(rest)
        expected = jax.jit(jax.grad(functools.partial(loss, small)))(*active)
        chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-12)


def test_a_sweep_over_widths_is_one_program():
    sizes = (6, 32, 3)

    def trial(hyper):
        net = pn.mlp(dropout=0.1, max_width=32, width=hyper["width"])
        return pn.supervised(net, sizes, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 20)

    space = {"rate": sweep.loguniform(1e-3, 1e-1), "width": sweep.randint(4, 33)}
    result = sweep.run(trial, space, ((X, T), (X, T)), trials=6, epochs=2)
    assert len(result.programs) == 1
    widths = result.hyper["width"]
    assert len(set(widths)) > 2 and min(widths) >= 4 and max(widths) <= 32
    losses = result.curves["validation"]["loss"]
    small = pn.mlp(dropout=0.1)
    for i in range(3):
        state, curves = result.replay(i)
        np.testing.assert_array_equal(curves["validation"]["loss"], losses[i])
        active, rest = split(state.params, parameters_of(small, narrowed(sizes, widths[i])))
        assert all_zero(rest)
        loss = pn.softmax_cross_entropy(small.apply(active, X, False, None)[0], T)
        np.testing.assert_allclose(loss, losses[i, -1], rtol=1e-9)


# the initial weights
SCALED = {
    "he_normal": (initializers.he_normal, lambda i, o: 2 / i),
    "he_uniform": (initializers.he_uniform, lambda i, o: 2 / i),
    "lecun_normal": (initializers.lecun_normal, lambda i, o: 1 / i),
    "glorot_normal": (initializers.glorot_normal, lambda i, o: 2 / (i + o)),
    "glorot_uniform": (initializers.glorot_uniform, lambda i, o: 2 / (i + o)),
    "normal": (initializers.normal(0.3), lambda i, o: 0.09),
    "uniform": (initializers.uniform(-1, 2), lambda i, o: 0.75),
}


@pytest.mark.parametrize("name", SCALED)
def test_initial_weights_have_the_scale_of_the_narrow_network(name, key):
    weight_init, variance = SCALED[name]
    sizes, width = (50, 200, 200, 40), 60
    make = lambda **widths: pn.mlp(weight_init=weight_init, **widths).init(key, sizes).weights
    like = parameters_of(pn.mlp(), narrowed(sizes, width)).weights
    active, rest = split(make(max_width=200, width=jnp.array(width)), like)
    assert all_zero(rest)
    for layer, whole in zip(active.values(), make().values(), strict=True):
        expected, of_whole = variance(*layer["w"].shape), variance(*whole["w"].shape)
        assert abs(layer["w"].var() / expected - 1) < 5 * np.sqrt(2 / layer["w"].size)
        # the draws are those of the whole network at another scale
        drawn = whole["w"][tuple(map(slice, layer["w"].shape))]
        np.testing.assert_allclose(layer["w"], drawn * np.sqrt(expected / of_whole), atol=1e-12)


@pytest.mark.parametrize("name", SCALED)
def test_traced_fans_scale_as_plain_ones_and_keep_the_dtype(name, key):
    weight_init, _ = SCALED[name]
    for dtype in (float, jnp.bfloat16):
        plain = weight_init(key, (5, 4), dtype)
        given = weight_init(key, (5, 4), dtype, fans=(5, 4))
        traced = weight_init(key, (5, 4), dtype, fans=(jnp.float32(5), jnp.array(4)))
        np.testing.assert_array_equal(plain, given)
        assert plain.dtype == given.dtype == traced.dtype == dtype
        assert not jnp.isnan(traced).any()
        np.testing.assert_allclose(
            np.asarray(traced, float), np.asarray(plain, float), rtol=4 * jnp.finfo(dtype).eps
        )


# widths
def test_a_plain_width_and_a_traced_one_are_the_same_network(key):
    make = lambda width: pn.mlp(max_width=12, width=width).init(key, (6, 12, 3))
    traced = jax.jit(make)
    for plain in (1, 5.0, np.float32(5.9), np.int64(12)):
        chex.assert_trees_all_close(make(plain), traced(float(plain)), rtol=1e-12)
    chex.assert_trees_all_equal(make(5.9), make(5))  # rounded down
    chex.assert_trees_all_equal(traced(-3.0), traced(0.5), traced(1.0))
    chex.assert_trees_all_equal(traced(99.0), traced(12.0))
    chex.assert_trees_all_equal(make(12), pn.mlp().init(key, (6, 12, 3)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int8])
def test_the_dtype_of_the_width_is_not_that_of_the_weights(dtype, key):
    make = lambda width: pn.mlp(max_width=200, width=width).init(key, (6, 200, 3))
    got, expected = make(jnp.asarray(5, dtype)), make(5)
    chex.assert_trees_all_equal_dtypes(got, expected)
    chex.assert_trees_all_close(got, expected, rtol=1e-12)


def test_the_description_rebuilds_it_and_the_summary_counts_the_widest(key):
    net = pn.mlp(max_width=12, width=np.int64(5))
    name, arguments = net.spec
    assert name == "mlp" and (arguments["max_width"], arguments["width"]) == (12, 5)
    again = pn.mlp(**arguments)
    chex.assert_trees_all_equal(net.init(key, WIDEST), again.init(key, WIDEST))
    assert pn.summary(net, WIDEST) == pn.summary(pn.mlp(), WIDEST)


def own_init(key, shape):
    return jnp.ones(shape)


@pytest.mark.parametrize("error, message, options", [
    (ValueError, "max_width is 12 and width is None, but the two go together", {"max_width": 12}),
    (ValueError, "max_width is None and width is 5, but the two go together", {"width": 5}),
    (ValueError, "width is 13, but a number from 1 to max_width", {"max_width": 12, "width": 13}),
    (ValueError, "width is 0.5, but a number from 1 to", {"max_width": 12, "width": 0.5}),
    (ValueError, "width is nan, but a number", {"max_width": 12, "width": np.float32("nan")}),
    (TypeError, "width is 'all', but one number", {"max_width": 12, "width": "all"}),
    (TypeError, "width is True, but one number", {"max_width": 12, "width": True}),
    (TypeError, r"width is Array\(\[5, 5\]", {"max_width": 12, "width": jnp.array([5, 5])}),
    (TypeError, "max_width is 12.0, but an integer", {"max_width": 12.0, "width": 5}),
    (ValueError, "max_width is 0, but at least 1", {"max_width": 0, "width": 1}),
    (TypeError, r"own_init.*takes no keyword `fans`.*fans=\(fan_in, fan_out\)",
     {"max_width": 12, "width": 5, "weight_init": own_init}),
])  # fmt: skip
def test_wrong_widths_are_explained(error, message, options):
    with pytest.raises(error, match=f"mlp: .*{message}"):
        pn.mlp(**options)


@pytest.mark.parametrize("sizes", [(6, 13, 3), (6, 11, 9, 3), (6, 3)])
def test_sizes_and_max_width_have_to_agree(sizes, key):
    net = pn.mlp(max_width=12, width=5)
    for call in (lambda: net.init(key, sizes), lambda: pn.summary(net, sizes)):
        with pytest.raises(ValueError, match=r"mlp: .*max_width 12 disagree.*\(6, 12, 3\)"):
            call()
