"""serial, residual, mlp and summary."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn


def test_serial_names_weights_by_position_and_nests(key):
    net = pn.serial(pn.dense(4), pn.relu, pn.serial(pn.batch_norm(), pn.dense(2)))
    params = net.init(key, 3)
    paths = [
        jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(params.weights)
    ]
    assert paths == ["['0']['b']", "['0']['w']", "['2']['0']['beta']", "['2']['0']['gamma']",
                     "['2']['1']['b']", "['2']['1']['w']"]  # fmt: skip
    assert list(params.stats) == ["2"] and list(params.stats["2"]) == ["0"]


def test_serial_is_its_layers_one_after_the_other(key):
    net = pn.serial(pn.dense(4), functools.partial(pn.leaky_relu, slope=0.2), pn.dense(2))
    params = net.init(key, 3)
    x = jax.random.normal(key, (5, 3))
    w = params.weights
    hidden = x @ w["0"]["w"] + w["0"]["b"]
    expected = jnp.where(hidden > 0, hidden, 0.2 * hidden) @ w["2"]["w"] + w["2"]["b"]
    y, stats = net.apply(params, x, True, None)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert stats == ()


def test_apply_returns_a_pair_whose_structure_does_not_depend_on_train(key):
    net = pn.mlp(batch_norm=True, dropout=0.5)
    params = net.init(key, (3, 4, 2))
    x = jax.random.normal(key, (5, 3))
    training, inference = (net.apply(params, x, train, key) for train in (True, False))
    assert jax.tree.structure(training) == jax.tree.structure(inference)
    assert jax.tree.structure(training[1]) == jax.tree.structure(params.stats)
    without_key, _ = net.apply(params, x, False, None)
    np.testing.assert_array_equal(without_key, inference[0])


def test_layers_draw_from_keys_of_their_own(key):
    x = jnp.ones((2, 64))
    masks = [pn.serial(*[lambda x: x] * i, pn.dropout(0.5)).apply(pn.Params({}), x, True, key)[0]
             for i in range(3)]  # fmt: skip
    assert not np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[1], masks[2])


def test_serial_says_which_layer_failed(key):
    with pytest.raises(ValueError, match="flatten") as caught:
        pn.serial(pn.relu, pn.dense(2)).init(key, (28, 28))
    assert caught.value.__notes__ == ["(layer 1 of serial: dense)"]


def test_serial_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match=r"argument is 5, .*dense\(100\)"):
        pn.serial(5)


def test_whole_numbers_reach_an_embedding_however_deep_it_is_nested(key):
    net = pn.serial(pn.serial(pn.embedding(5, 4), pn.flatten), pn.dense(3))
    x, t = np.array([[0, 4], [1, 2], [3, 3]]), np.array([0, 1, 2])
    trainable = pn.supervised(net, 2, pn.adam(0.1), pn.softmax_cross_entropy, 3)
    state, history = pn.fit(trainable, (x, t), 30, key)
    assert jax.tree.map(jnp.shape, state.params.weights["0"]) == {"0": {"w": (5, 4)}}
    assert history["train"]["accuracy"][-1] == 1


def test_residual_adds_its_input(key):
    inner = pn.serial(pn.dense(3), pn.tanh)
    net = pn.residual(inner)
    params = net.init(key, 3)
    x = jax.random.normal(key, (5, 3))
    own = pn.Params(params.weights["layer"])
    np.testing.assert_allclose(
        net.apply(params, x, False, None)[0], x + inner.apply(own, x, False, None)[0]
    )


def test_residual_with_a_projection_and_running_statistics(key):
    net = pn.residual(pn.serial(pn.dense(4), pn.batch_norm()), projection=pn.dense(4))
    params = net.init(key, 3)
    x = jax.random.normal(key, (5, 3))
    y, stats = net.apply(params, x, True, None)
    w, b = params.weights["projection"]["w"], params.weights["projection"]["b"]
    branch, _ = pn.serial(pn.dense(4), pn.batch_norm()).apply(
        pn.Params(params.weights["layer"], params.stats["layer"]), x, True, None
    )
    np.testing.assert_allclose(y, x @ w + b + branch, rtol=1e-12)
    assert jax.tree.structure(stats) == jax.tree.structure(params.stats)


def test_residual_explains_terms_of_two_shapes(key):
    net = pn.residual(pn.dense(4))
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 3\).*projection"):
        net.apply(net.init(key, 3), jnp.ones((5, 3)), False, None)


def test_mlp_has_the_layers_it_describes(key):
    net = pn.mlp(activation=pn.tanh, batch_norm=True, dropout=0.1)
    x = jax.random.normal(key, (6, 3))
    params = net.init(key, (3, 5, 4, 2))
    hidden = lambda n: (pn.dense(n), pn.batch_norm(), pn.tanh, pn.dropout(0.1))
    same = pn.serial(*hidden(5), *hidden(4), pn.dense(2))
    for train in (True, False):
        got, expected = (f.apply(params, x, train, key) for f in (net, same))
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    jax.tree.map(np.testing.assert_array_equal, params, same.init(key, 3))


def test_mlp_without_hidden_layers_is_one_matrix(key):
    params = pn.mlp().init(key, (3, 2))
    assert jax.tree.map(jnp.shape, params.weights) == {"0": {"w": (3, 2), "b": (2,)}}


@pytest.mark.parametrize("sizes", [784, (784,)])
def test_mlp_explains_its_sizes(key, sizes):
    with pytest.raises(ValueError, match="list the widths"):
        pn.mlp().init(key, sizes)


@pytest.mark.parametrize("sizes", [(3, 0, 2), (3, -1, 2), (3, 2.5, 2)])
def test_sizes_are_positive_whole_numbers(key, sizes):
    with pytest.raises(ValueError, match="positive integers"):
        pn.mlp().init(key, sizes)


def test_summary_counts_what_init_makes(key):
    net, sizes = pn.mlp(batch_norm=True, dropout=0.5), (64, 30, 20, 10)
    text = pn.summary(net, sizes)
    params = net.init(key, sizes)
    count = sum(a.size for a in jax.tree.leaves(params.weights))
    size = sum(a.nbytes for a in jax.tree.leaves(params))
    last = text.splitlines()[-1].split()
    assert last == ["total", f"{count:,}", f"{size:,}"]
    assert [line.split()[1] for line in text.splitlines()[1:-1]] == [
        "dense", "batch_norm", "relu", "dropout", "dense", "batch_norm", "relu", "dropout", "dense",
    ]  # fmt: skip


def test_initial_scales_may_be_traced(key):
    init = lambda scale: pn.mlp(weight_init=pn.initializers.normal(scale)).init(key, (50, 40, 10))
    scales = jnp.array([0.1, 1.0])
    stacked = jax.jit(jax.vmap(init))(scales)
    for i, scale in enumerate(scales):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-12), stacked, init(scale)
        )


@pytest.mark.parametrize("outer", [pn.residual, pn.serial])
def test_networks_without_weights_nest(outer, key):
    net = pn.serial(pn.dense(2), outer(jnp.tanh), outer(outer(jnp.tanh)))
    y, _ = net.apply(net.init(key, 3), jnp.ones((4, 3)), True, key)
    assert y.shape == (4, 2)
