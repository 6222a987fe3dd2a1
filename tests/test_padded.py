"""Padded sizes: any widths, depth and batch size in one program, each as if built alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import DictKey, tree_leaves_with_path

import purenet as pn
from purenet import initializers, sweep
from purenet.core.padded import parameter_count
from purenet.nn.dropout import drop, drop_padded

PaddedSize = pn.PaddedSize
COUNTS = ("inputs", "units", "acts")  # beside the statistics: how much acts
X = np.random.default_rng(0).normal(size=(60, 6))
T = np.random.default_rng(1).integers(0, 3, 60)


def parameters_of(net, sizes):
    """Shapes alone."""
    return jax.eval_shape(lambda key: net.init(key, sizes), jax.random.key(0))


def last_place(tree):
    """The position of the last layer of an mlp, which is the last that has weights."""
    keys = [key.key for path, _ in tree_leaves_with_path(tree) for key in path[:-1] if _place(key)]
    return DictKey(max(keys, key=int))


def _place(key):
    return isinstance(key, DictKey) and key.key.isdecimal()


def split(tree, like):
    """(what acts in every array, as `like`, and what is outside it), in NumPy.

    The last layer of a shallow network is the last one of a deep one.
    """
    ends = {last_place(like): last_place(tree)}
    rest = {path: np.array(a) for path, a in tree_leaves_with_path(tree)}
    inside = []
    for path, small in tree_leaves_with_path(like):
        path = tuple(ends.get(key, key) for key in path)
        block = tuple(map(slice, small.shape))
        inside.append(rest[path][block].copy())
        rest[path][block] = 0
    outside = [a for path, a in rest.items() if getattr(path[-1], "key", None) not in COUNTS]
    return jax.tree.unflatten(jax.tree.structure(like), inside), outside


def all_zero(arrays):
    return not any(np.any(a) for a in arrays)


# training
def numbers(state):
    return state.params, state.opt_state  # what has units


def test_sizes_under_vmap_are_one_trace(key):
    widths, depths = np.array([[1, 4], [5, 12], [12, 3]]), np.array([2, 2, 1])
    loss = lambda net, weights, stats: pn.softmax_cross_entropy(
        net.apply(pn.Params(weights, stats), X, True, None)[0], T
    )

    def gradients(widths, depth):
        net = pn.mlp(pn.sigmoid, True, depth=PaddedSize(depth, 2))
        params = net.init(key, (6, PaddedSize(widths[0], 12), PaddedSize(widths[1], 12), 3))
        return params, jax.grad(loss, 1)(net, *params)

    chex.clear_trace_counter()
    swept = jax.jit(jax.vmap(chex.assert_max_traces(gradients, 1)))
    swept(widths[::-1], depths)
    params, grads = swept(widths, depths)
    small = pn.mlp(pn.sigmoid, True)
    for i, depth in enumerate(depths):
        like = parameters_of(small, (6, *map(int, widths[i, :depth]), 3))
        one = jax.tree.map(lambda a, i=i: a[i], (params, grads))
        (active, got), rest = split(one, (like, like.weights))
        assert all_zero(rest)
        expected = jax.jit(jax.grad(functools.partial(loss, small)))(*active)
        chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-12)


def test_a_gradient_with_respect_to_a_size_is_none(key):
    def loss(width, w):
        net = pn.serial(pn.dense(PaddedSize(width, 4)), pn.relu, pn.dense(1))
        return w * net.apply(net.init(key, 6), X, True, None)[0].sum()

    of_integer, _ = jax.grad(loss, (0, 1), allow_int=True)(3, 1.0)
    assert of_integer.dtype == jax.dtypes.float0
    assert jax.grad(loss)(3.0, 1.0) == 0


def test_a_sweep_over_widths_is_one_program():
    def trial(hyper):
        net = pn.mlp(dropout=0.1)
        sizes = (6, PaddedSize(hyper["width"], 32), 3)
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
        active, rest = split(state.params, parameters_of(small, (6, int(widths[i]), 3)))
        assert all_zero(rest)
        loss = pn.softmax_cross_entropy(small.apply(active, X, False, None)[0], T)
        np.testing.assert_allclose(loss, losses[i, -1], rtol=1e-9)


def test_parameters_are_counted_without_padding(key):
    net, widths, depths = (
        functools.partial(pn.mlp, pn.relu, True),
        np.array([4, 12, 7]),
        np.array([1, 3, 2]),
    )

    @jax.vmap
    def counted(width, depth):
        sizes = (6, *[PaddedSize(width, 12)] * 3, 3)
        return parameter_count(*net(depth=PaddedSize(depth, 3)).init(key, sizes))

    for width, depth, found in zip(widths, depths, counted(widths, depths), strict=True):
        like = parameters_of(net(), (6, *[int(width)] * depth, 3))
        assert found == sum(leaf.size for leaf in jax.tree.leaves(like.weights))


# batch sizes
def mean_of(stats):
    """A layer of one's own that sees the whole batch: stats are the mean of its real examples."""

    def apply(params, x, train, key):
        real = jnp.arange(len(x)) < (train.size if isinstance(train, PaddedSize) else len(x))
        return x, {"mean": x.mean(0, where=real[:, None])} if train else params.stats

    return pn.Layer(lambda key, sizes: pn.Params((), {"mean": jnp.zeros(stats)}), apply)


def conv_net():
    block = pn.serial(pn.conv(3, 2), pn.batch_norm(), pn.relu, pn.dropout(0.3))
    return pn.serial(
        lambda x: x.reshape(-1, 2, 3, 1), pn.remat(block), pn.flatten, mean_of(6), pn.dense(3)
    )


@pytest.mark.parametrize("batches, sizes", [("shuffled", (7, 30, 70)), ("with_replacement", (9,))])
def test_a_padded_minibatch_is_one_of_its_size(batches, sizes, key):
    metrics = {"accuracy": pn.accuracy, "f1": pn.metrics.f1}
    noise = lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)

    def run(batch_size, key):
        trainable = pn.supervised(
            conv_net(), 6, pn.momentum(0.03), pn.softmax_cross_entropy, batch_size,
            batches=batches, metrics=metrics, weights=[1.0, 2.0, 5.0], augment=noise,
        )  # fmt: skip
        state, metrics_of_epoch = trainable.epoch(trainable.init(key), (X, T))
        return state._replace(key=0), metrics_of_epoch

    padded = jax.jit(lambda size, key: run(PaddedSize(size, 80), key))
    for size in sizes:  # 70 is all 60 examples
        (state, found), (expected, wanted) = (
            padded(size, key),
            jax.jit(run, static_argnums=0)(size, key),
        )
        chex.assert_trees_all_close(state, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-12)
        np.testing.assert_allclose(found["accuracy"], wanted["accuracy"], rtol=1e-6)
        assert abs(found["f1"] - wanted["f1"]) < (1e-12 if 60 % size == 0 else 0.1)
    assert padded._cache_size() == 1


@pytest.mark.parametrize("weights, microbatches, part, computed", [
    (None, 5, 12, {7: 1, 12: 1, 13: 2, 30: 3, 70: 5}),
    ([1.0, 2.0, 5.0], 5, 12, {13: 2, 70: 5}),
    (None, 7, 9, {9: 1, 10: 2, 70: 7}),  # the last part is not full
], ids=["equal", "weighted", "uneven"])  # fmt: skip
def test_a_padded_minibatch_in_parts_is_one_of_its_size(weights, microbatches, part, computed, key):
    seen = []

    def run(batch_size, microbatches, key):
        looked = lambda x: jax.debug.callback(lambda: seen.append(len(x))) or x
        trainable = pn.supervised(
            pn.serial(pn.dense(5), pn.tanh, looked, pn.dense(3)), 6, pn.momentum(0.03),
            pn.softmax_cross_entropy, batch_size, penalty=pn.l2(0.1), weights=weights,
            metrics={"accuracy": pn.accuracy}, microbatches=microbatches,
        )  # fmt: skip
        state, metrics = trainable.epoch(trainable.init(key), (X, T))
        return state._replace(key=0), metrics

    padded = jax.jit(lambda size, key: run(PaddedSize(size, 70), microbatches, key))
    for size, parts in computed.items():  # of 60 examples
        seen.clear()
        found = jax.block_until_ready(padded(size, key))
        jax.effects_barrier()
        assert seen == [part] * parts * max(1, 60 // size)
        (state, metrics), (expected, wanted) = found, jax.jit(functools.partial(run, size, 1))(key)
        chex.assert_trees_all_close(state, expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-11)
        np.testing.assert_allclose(metrics["accuracy"], wanted["accuracy"], rtol=1e-6)
    assert padded._cache_size() == 1


def test_padded_minibatches_in_parts_under_vmap(key):
    def run(size):
        trainable = pn.supervised(
            pn.mlp(dropout=0.3), (6, 5, 3), pn.momentum(0.03), pn.softmax_cross_entropy,
            PaddedSize(size, 60), microbatches=5,
        )  # fmt: skip
        state, metrics = trainable.epoch(trainable.init(key), (X, T))
        return state._replace(key=0), metrics

    sizes = jnp.array([7, 13, 60])
    together = jax.jit(jax.vmap(run))(sizes)
    alone = [jax.jit(run)(size) for size in sizes]
    expected = jax.tree.map(lambda *each: jnp.stack([jnp.asarray(a) for a in each]), *alone)
    chex.assert_trees_all_close(together, expected, rtol=1e-6, atol=1e-12)


def test_batch_sizes_in_the_lanes_of_one_sweep():
    def trial(hyper):
        batch_size = PaddedSize(hyper["batch_size"], 32)
        net = pn.mlp(batch_norm=True)
        return pn.supervised(net, (6, 4, 3), pn.sgd(0.1), pn.softmax_cross_entropy, batch_size)

    space = {"batch_size": sweep.randint(5, 33)}
    result = sweep.run(trial, space, ((X, T), (X, T)), trials=4, epochs=2)
    assert len(result.programs) == 1 and len(set(result.hyper["batch_size"])) > 2
    for i in range(4):
        state, _ = result.replay(i)
        assert state.step == 2 * (60 // int(result.hyper["batch_size"][i]))


def test_wrong_padded_batch_sizes_are_explained():
    make = lambda batch_size, **options: pn.supervised(
        pn.mlp(), (6, 3), pn.sgd(0.1), pn.softmax_cross_entropy, batch_size, **options
    )
    with pytest.raises(ValueError, match=r"supervised: batch_size\.size is 9, but a number from 1"):
        make(PaddedSize(9, 8))
    with pytest.raises(ValueError, match=r"capacity=9\) is not a multiple of microbatches 2"):
        make(PaddedSize(4, 9), microbatches=2)


# layers in a chain
def test_serial_tells_the_next_layer_what_acts(key):
    def net(units):
        inner = pn.remat(pn.serial(pn.dense(units), pn.batch_norm(), pn.softplus, pn.dropout(0.3)))
        return pn.serial(inner, pn.tanh, pn.batch_norm(), pn.dense(3), pn.layer_norm())

    params = jax.jit(lambda key: net(PaddedSize(4, 7)).init(key, 6))(key)
    like = parameters_of(net(4), 6)
    active, rest = split_nested(params, like)
    assert all_zero(rest)
    assert {k: int(v) for k, v in params.stats["3"].items()} == {"inputs": 4}
    for train in (True, False):
        apply = lambda n, params, train=train: jax.jit(
            lambda params: net(n).apply(params, X, train, key)
        )(params)
        y, stats = apply(PaddedSize(1, 7), params)  # the size is in `params`
        expected, small_stats = apply(4, active)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        chex.assert_trees_all_close(split_nested(stats, like.stats)[0], small_stats, rtol=1e-12)


def split_nested(tree, like):
    rest = {path: np.array(a) for path, a in tree_leaves_with_path(tree)}
    inside = []
    for path, small in tree_leaves_with_path(like):
        block = tuple(map(slice, small.shape))
        inside.append(rest[path][block].copy())
        rest[path][block] = 0
    outside = [a for path, a in rest.items() if path[-1].key not in COUNTS]
    return jax.tree.unflatten(jax.tree.structure(like), inside), outside


@pytest.mark.parametrize("layer, message", [
    (pn.layer_norm(), "sizes .*are padded, but only dense, batch_norm"),
    (pn.residual(pn.relu), "residual: its inputs or outputs are padded"),
    (lambda x: x[:, ::2], r"to an array of shape \(3,\), but an elementwise function"),
    (pn.Layer(lambda key, sizes: pn.Params(()), lambda params, x, train, key: (x, ())),
     "unnamed: its inputs or outputs are padded"),
])  # fmt: skip
def test_layers_that_mix_units_refuse_padding(layer, message, key):
    with pytest.raises(ValueError, match=message):
        pn.serial(pn.dense(PaddedSize(4, 6)), layer, pn.dense(2)).init(key, 3)
    pn.serial(pn.dense(6), layer, pn.dense(2)).init(key, 3)


def test_a_residual_whose_parts_end_in_padding_is_refused(key):
    branch = pn.residual(pn.dense(PaddedSize(2, 4)), pn.dense(PaddedSize(3, 4)))
    with pytest.raises(ValueError, match="residual: its inputs or outputs are padded"):
        pn.serial(branch, pn.dense(2)).init(key, 3)


def test_dropout_keeps_what_it_keeps_without_padding():
    rng = np.random.default_rng(0)
    key, x = jax.random.key(0), rng.normal(size=(5, 2, 7))
    padded, alone = jax.jit(drop_padded), jax.jit(drop)
    for rows, units in [(5, 7), (1, 1), (3, 7), (5, 2), (4, 5)]:
        expected = np.zeros_like(x)
        expected[:rows, :, :units] = alone(x[:rows, :, :units], 0.4, key)
        np.testing.assert_array_equal(padded(x, 0.4, key, rows, units), expected)
        row = padded(x[:, 0, 0], 0.4, key, rows, 1)
        np.testing.assert_array_equal(row[:rows], alone(x[:rows, 0, 0], 0.4, key))


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
def test_initial_weights_have_the_scale_of_the_small_network(name, key):
    weight_init, variance = SCALED[name]
    make = lambda *sizes, **depth: pn.mlp(weight_init=weight_init, **depth).init(key, sizes).weights
    width = lambda n: PaddedSize(jnp.array(n), 200)
    deep = make(50, width(60), width(90), width(7), 40, depth=PaddedSize(jnp.array(2), 3))
    whole = make(50, 200, 200, 200, 40)
    active, rest = split(deep, parameters_of(pn.mlp(), (50, 60, 90, 40)).weights)
    assert all_zero(rest)
    of_same_place = (whole["0"], whole["2"], whole["6"])
    for layer, drawn in zip(active.values(), of_same_place, strict=True):
        expected, of_whole = variance(*layer["w"].shape), variance(*drawn["w"].shape)
        assert abs(layer["w"].var() / expected - 1) < 5 * np.sqrt(2 / layer["w"].size)
        # the draws are those of the whole network at another scale
        draws = drawn["w"][tuple(map(slice, layer["w"].shape))]
        np.testing.assert_allclose(layer["w"], draws * np.sqrt(expected / of_whole), atol=1e-12)


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


# sizes
def test_a_plain_size_and_a_traced_one_are_the_same_network(key):
    make = lambda width: pn.mlp().init(key, (6, PaddedSize(width, 12), 3))
    traced = jax.jit(make)
    for plain in (1, 5.0, np.float32(5.9), np.int64(12)):
        chex.assert_trees_all_close(make(plain), traced(float(plain)), rtol=1e-12)
    chex.assert_trees_all_equal(make(5.9), make(5))  # rounded down
    chex.assert_trees_all_equal(traced(-3.0), traced(0.5), traced(1.0))
    chex.assert_trees_all_equal(traced(99.0), traced(12.0))
    chex.assert_trees_all_equal(make(12).weights, pn.mlp().init(key, (6, 12, 3)).weights)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int8])
def test_the_dtype_of_the_size_is_not_that_of_the_weights(dtype, key):
    make = lambda width: pn.mlp().init(key, (6, PaddedSize(width, 200), 3))
    got, expected = make(jnp.asarray(5, dtype)), make(5)
    chex.assert_trees_all_equal_dtypes(got, expected)
    chex.assert_trees_all_close(got, expected, rtol=1e-12)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_networks_know_their_sizes(suffix, tmp_path, key):
    net = pn.mlp(batch_norm=True, depth=PaddedSize(jnp.array(1), 2))
    sizes = (6, PaddedSize(np.int64(5), 12), PaddedSize(7, 12), 3)
    params = net.init(key, sizes)
    pn.save_network(tmp_path / f"net{suffix}", net, sizes, params)
    again, same_sizes, loaded = pn.load_network(tmp_path / f"net{suffix}")
    assert same_sizes == (6, PaddedSize(5, 12), PaddedSize(7, 12), 3)
    chex.assert_trees_all_equal(loaded, params, again.init(key, same_sizes))
    expected = net.apply(params, X, False, None)[0]
    np.testing.assert_array_equal(again.apply(loaded, X, False, None)[0], expected)
    with pytest.raises(ValueError, match=r"sizes\[1\]\.size is traced and has no value yet"):
        jax.jit(lambda w: pn.save_network("net.npz", net, (6, PaddedSize(w, 12), 3), params))(5)


def test_the_description_rebuilds_it_and_the_summary_counts_the_capacities(key):
    sizes = (6, PaddedSize(5, 12), PaddedSize(7, 12), 3)
    net = pn.mlp(depth=PaddedSize(1, 2))
    name, arguments = net.spec
    assert name == "mlp" and arguments["depth"] == PaddedSize(1, 2)
    chex.assert_trees_all_equal(net.init(key, sizes), pn.mlp(**arguments).init(key, sizes))
    assert pn.summary(net, sizes) == pn.summary(pn.mlp(), (6, 12, 12, 3))
    summary = pn.summary(pn.serial(pn.dense(PaddedSize(2, 4)), pn.relu, pn.dense(1)), 6)
    assert summary.splitlines()[-1].split()[1] == "33"


def own_init(key, shape):
    return jnp.ones(shape)


@pytest.mark.parametrize("error, message, size", [
    (ValueError, "size is 13, but a number from 1 to its capacity 12", PaddedSize(13, 12)),
    (ValueError, "size is 0.5, but a number from 1 to", PaddedSize(0.5, 12)),
    (ValueError, "size is nan, but a number", PaddedSize(np.float32("nan"), 12)),
    (TypeError, "size is 'all', but a single number", PaddedSize("all", 12)),
    (TypeError, "size is True, but a single number", PaddedSize(True, 12)),
    (TypeError, r"size is an array of int64 \(2,\), but a ", PaddedSize(jnp.array([5, 5]), 12)),
    (TypeError, "capacity is 12.0, but an integer", PaddedSize(5, 12.0)),
    (ValueError, "capacity is 0, but at least 1", PaddedSize(1, 0)),
])  # fmt: skip
def test_wrong_sizes_are_explained(error, message, size, key):
    with pytest.raises(error, match=f"dense: units.{message}"):
        pn.dense(size)
    with pytest.raises(error, match=f"mlp: depth.{message}"):
        pn.mlp(depth=size)
    with pytest.raises(error, match=rf"sizes\[1\].{message}"):
        pn.mlp().init(key, (6, size, 3))


def test_an_initialiser_without_fans_is_explained(key):
    with pytest.raises(
        TypeError, match=r"dense: weight_init the function own_init takes no key.*fans="
    ):
        pn.mlp(weight_init=own_init).init(key, (6, PaddedSize(5, 12), 3))
    pn.mlp(weight_init=own_init).init(key, (6, 12, 3))


@pytest.mark.parametrize("sizes", [(6, 12, 3), (6, 12, 11, 3), (6, 12, 12, 12, 3), (6, 3)])
def test_sizes_and_depth_have_to_agree(sizes, key):
    net = pn.mlp(depth=PaddedSize(1, 2))
    for call in (lambda: net.init(key, sizes), lambda: pn.summary(net, sizes)):
        with pytest.raises(
            ValueError, match=r"mlp: sizes .* have hidden layers of .*depth.*such as"
        ):
            call()


def test_only_hidden_layers_and_a_depth_may_be_padded(key):
    for sizes in [(PaddedSize(3, 6), 5, 3), (6, 5, PaddedSize(2, 3))]:
        with pytest.raises(ValueError, match="padded input or output"):
            pn.mlp().init(key, sizes)
    with pytest.raises(TypeError, match="mlp: depth is 2, but a PaddedSize is expected"):
        pn.mlp(depth=2)
