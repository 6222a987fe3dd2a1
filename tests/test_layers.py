"""What the layers promise beyond the rules of their ops: state, randomness, errors, structure."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.layers import LAYERS, examples
from jax.test_util import check_grads

from purenet.nn import activations
from purenet.nn.activations import elu, leaky_relu, relu, sigmoid, softmax, tanh
from purenet.nn.dropout import _threefry, drop, dropout
from purenet.nn.flatten import flatten
from purenet.nn.layer_norm import layer_norm, layer_normalise
from purenet.nn.norm import batch_norm, batch_normalise, normalise


@pytest.mark.parametrize("name", LAYERS)
def test_the_structure_of_the_parameters_changes_only_by_decision(name, key):
    case = LAYERS[name]
    with jax.enable_x64(False):
        params = jax.eval_shape(lambda key: case.layer.init(key, case.sizes), key)
    found = {jax.tree_util.keystr(path): a for path, a in jax.tree.leaves_with_path(params)}
    assert {name: a.shape for name, a in found.items()} == case.params
    assert {a.dtype.name for a in found.values()} <= {"float32"}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_apply_returns_a_pair_and_keeps_the_structure_of_the_stats(name, train, key):
    layer, sizes, _ = LAYERS[name]
    params = jax.eval_shape(lambda key: layer.init(key, sizes), key)
    apply = lambda params, x, key: layer.apply(params, x, train, key if train else None)
    y, stats = jax.eval_shape(apply, params, examples(name, 2), key)
    assert y.shape[0] == 2
    chex.assert_trees_all_equal_shapes_and_dtypes(stats, params.stats)
    assert layer.spec[0] == name.split(",")[0]


# activations
def test_relu_shows_a_nan():
    assert jnp.isnan(relu(jnp.array(jnp.nan)))


@pytest.mark.parametrize(
    "name",
    ["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh"],
)
def test_activations_do_not_overflow(name):
    x = jnp.array([-1e4, -1e3, 0.0, 1e3, 1e4], jnp.float32)
    f = getattr(activations, name)
    first = lambda x: jax.grad(lambda x: f(x).sum())(x)
    all_of_them = jax.jit(lambda x: (f(x), jax.jvp(first, (x,), (jnp.ones_like(x),))))(x)
    chex.assert_tree_all_finite(all_of_them)


def test_saturated_activations_are_exact():
    x = jnp.array([-1000.0, 0.0, 1000.0])
    np.testing.assert_array_equal(sigmoid(x), [0, 0.5, 1])
    np.testing.assert_array_equal(tanh(x), [-1, 0, 1])


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-4, 4, 9)
    np.testing.assert_allclose(activations.gelu(x), jax.nn.gelu(x, approximate=False), rtol=1e-12)


def test_softmax_subtracts_the_maximum_of_each_row():
    y = softmax(jnp.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    np.testing.assert_array_equal(y, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("f", [leaky_relu, elu])
def test_hyperparameters_have_defaults_can_be_bound_and_leave_the_dtype_alone(f):
    x = jnp.array([-1.0, 2.0], jnp.bfloat16)
    assert f(x).dtype == f(x, jnp.float32(0.3)).dtype == jnp.bfloat16
    name = {leaky_relu: "slope", elu: "alpha"}[f]
    chex.assert_trees_all_equal(functools.partial(f, **{name: 0.5})(x), f(x, 0.5))
    assert jax.jit(jax.grad(lambda x: f(x, 0).sum()))(x).tolist() == [0, 1]


def test_softmax_explains_a_missing_axis():
    with pytest.raises(ValueError, match=r"softmax: x has shape \(\).*classes"):
        softmax(jnp.array(1.0))


def test_flatten_takes_a_vector_and_an_empty_batch():
    assert flatten(jnp.ones(3)).shape == (3, 1)
    assert flatten(jnp.ones((0, 2, 2))).shape == (0, 4)


# normalisation
def test_running_statistics_equal_a_reference(key):
    net = batch_norm(momentum=0.8)
    params = net.init(key, (2, 2, 3))
    mean, variance = np.zeros(3), np.ones(3)
    for k in jax.random.split(key, 4):
        x = 2 + 3 * jax.random.normal(k, (5, 2, 2, 3))
        y, stats = net.apply(params, x, True, None)
        params = params._replace(stats=stats)
        rows = np.asarray(x).reshape(-1, 3)
        mean = 0.8 * mean + 0.2 * rows.mean(0)
        variance = 0.8 * variance + 0.2 * rows.var(0)
        expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-6)
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(params.stats["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(params.stats["variance"], variance, rtol=1e-12)


def test_inference_uses_the_running_statistics_and_returns_them_unchanged(key):
    net = batch_norm(eps=0.0)
    params = net.init(key, 2)
    params = params._replace(stats={"mean": jnp.array([1.0, 2.0]), "variance": jnp.full(2, 4.0)})
    x = jnp.array([[3.0, 2.0]])
    y, stats = net.apply(params, x, False, None)
    np.testing.assert_allclose(y, [[1.0, 0.0]])
    assert stats is params.stats
    # one example: in training it is its own mean
    np.testing.assert_allclose(batch_norm().apply(params, x, True, None)[0], [[0.0, 0.0]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_large_mean_and_half_types_keep_their_digits(dtype):
    z = np.random.default_rng(0).normal(size=(64, 8, 4))
    x = jnp.asarray(z + (1e4 if dtype == jnp.float32 else 2), dtype)
    exact = np.asarray(x, np.float64)
    ones, zeros = jnp.ones(4, dtype), jnp.zeros(4, dtype)
    y, mean, variance = batch_normalise(x, ones, zeros, 1e-6)
    assert (y.dtype, mean.dtype, variance.dtype) == (dtype, jnp.float32, jnp.float32)
    np.testing.assert_allclose(variance, exact.var((0, 1)), rtol=1e-4)
    expected = (exact - exact.mean((0, 1))) / exact.std((0, 1))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=1e-2, atol=1e-2)
    again = normalise(x, mean, variance, ones, zeros, 1e-6)
    np.testing.assert_array_equal(again, y)
    rows = layer_normalise(x, ones, zeros, 1e-6)
    expected = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(rows, np.float64), expected, rtol=2e-2, atol=2e-2)


def test_statistics_keep_their_dtype_through_a_scan(key):
    net = batch_norm(momentum=jnp.float64(0.9))
    with jax.enable_x64(False):
        params = net.init(key, 3)
    x = jnp.ones((4, 2, 3), jnp.bfloat16)
    step = lambda stats, x: (net.apply(params._replace(stats=stats), x, True, None)[1], None)
    stats, _ = jax.lax.scan(step, params.stats, x)
    chex.assert_trees_all_equal_dtypes(stats, params.stats)


X, ONE, TWO = jnp.ones((5, 3)), jnp.ones(3), jnp.ones(2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: batch_normalise(X, TWO, ONE, 1e-6), r"batch_norm: gamma has shape \(2,\).*\(3,\)"),
        (lambda: batch_normalise(X, ONE, TWO, 1e-6), r"batch_norm: beta has shape \(2,\)"),
        (
            lambda: batch_normalise(ONE, ONE, ONE, 1e-6),
            r"batch_norm: x has shape \(3,\).*x\[None\]",
        ),
        (lambda: batch_normalise(X[:0], ONE, ONE, 1e-6), r"\(0, 3\).*at least one number"),
        (lambda: normalise(X, TWO, ONE, ONE, ONE, 1e-6), r"batch_norm: mean has shape \(2,\)"),
        (lambda: normalise(X, ONE, TWO, ONE, ONE, 1e-6), r"variance has shape \(2,\)"),
        (lambda: layer_normalise(X, TWO, ONE, 1e-6), r"layer_norm: gamma has shape \(2,\).*sizes"),
        (lambda: layer_normalise(X[:0], ONE, ONE, 1e-6), r"layer_norm: x has shape \(0, 3\)"),
        (lambda: batch_norm(momentum=1.5), r"momentum is 1.5, but a number from 0 to below 1"),
        (
            lambda: batch_norm(eps=-1e-6),
            r"batch_norm: eps is -1e-06, but a finite number of at least 0",
        ),
        (lambda: layer_norm(eps=np.float32(-1)), r"layer_norm: eps is -1"),
        (lambda: flatten(jnp.ones(())), r"flatten: x has shape \(\), but a batch"),
    ],
)
def test_wrong_shapes_and_numbers_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# dropout
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_expectation(impl, rate):
    x = jnp.ones((300, 301))
    y = np.asarray(drop(x, rate, jax.random.key(5, impl=impl)))
    kept = y != 0
    acting = round(rate * 65536) / 65536
    np.testing.assert_allclose(y[kept], 1 / (1 - acting), rtol=1e-15)
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation
    # neighbours, rows and the four quarters of the stream are independent
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (kept[:150], kept[150:])):
        correlation = np.mean((a - 1 + rate) * (b - 1 + rate)) / (rate * (1 - rate))
        assert abs(correlation) < 5 / np.sqrt(a.size)


def test_dropout_masks_of_two_keys_are_independent_and_one_key_repeats():
    x = jnp.ones((100, 100))
    one, again, other = (np.asarray(drop(x, 0.5, jax.random.key(i))) > 0 for i in (0, 0, 1))
    assert (one == again).all()
    assert abs((one == other).mean() - 0.5) < 0.025


def test_the_random_words_are_those_of_jax():
    seed, count = jnp.array([123, 456], jnp.uint32), jnp.arange(7, dtype=jnp.uint32)
    from jax.extend.random import threefry_2x32

    expected = threefry_2x32(seed, jnp.concatenate([count, jnp.zeros_like(count)]))
    np.testing.assert_array_equal(jnp.concatenate(_threefry(seed, count)), expected)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 1, 3), (2, 3, 1, 1, 2), (0, 3)])
def test_dropout_takes_any_shape(shape, key):
    assert drop(jnp.ones(shape), 0.5, key).shape == shape


def test_dropout_differentiates_its_input_truly(key):
    x = jnp.linspace(-1, 1, 7)
    check_grads(lambda x: drop(x, 0.3, key) ** 2, (x,), order=2, modes=["rev"])


@pytest.mark.parametrize("rate", [0.0, 1 / 65536, 0.99999, -0.5, 1.0])
def test_traced_rates_at_and_beyond_the_ends_are_finite(rate, key):
    f = lambda rate: drop(jnp.ones(100), rate, key).sum()
    chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(f))(rate))
    assert rate > 0 or f(jnp.asarray(rate)) == 100


def test_dropout_in_inference_and_with_rate_zero_needs_no_key():
    x = jnp.ones((2, 3))
    for layer, train in ((dropout(0.5), False), (dropout(0), True), (dropout(np.float32(0)), True)):
        assert layer.apply(layer.init(None, 3), x, train, None)[0] is x


def test_dropout_explains_a_missing_key_and_a_wrong_rate(key):
    layer = dropout(0.5)
    with pytest.raises(ValueError, match=r"dropout: the key is None.* rate is 0.5"):
        layer.apply(layer.init(key, 3), jnp.ones((1, 3)), True, None)
    for rate in (1, 1.0, -0.1, float("nan"), np.float64(1.5)):
        with pytest.raises(ValueError, match=r"dropout: rate is .* from 0 to below 1"):
            dropout(rate)
    with pytest.raises(ValueError, match=r"dropout: rate is 1.5"):
        drop(jnp.ones(3), 1.5, key)


# every hyperparameter, forty values, one trace
SWEPT = {
    "slope": lambda h, x, key: leaky_relu(x, h),
    "alpha": lambda h, x, key: elu(x, h),
    "rate": lambda h, x, key: dropout(h).apply(dropout(h).init(key, 3), x, True, key)[0],
    "momentum": lambda h, x, key: batch_norm(h).apply(batch_norm(h).init(key, 3), x, True, None)[1],
    "eps": lambda h, x, key: batch_norm(0.9, h).apply(batch_norm().init(key, 3), x, True, None)[0],
    "eps, inference": lambda h, x, key: batch_norm(0.9, h).apply(
        batch_norm().init(key, 3), x, False, None
    )[0],
    "eps, layer": lambda h, x, key: layer_norm(h).apply(layer_norm().init(key, 3), x, True, None)[
        0
    ],
}


@pytest.mark.parametrize("name", SWEPT)
def test_forty_hyperparameter_values_are_one_trace(name, key):
    x, values = jax.random.normal(key, (4, 3)), jnp.linspace(0.01, 0.9, 40)
    chex.clear_trace_counter()
    f = lambda h: SWEPT[name](h, x, key)
    swept = jax.jit(jax.vmap(chex.assert_max_traces(f, 1)))
    got = swept(values)
    swept(values / 2)
    last = jax.tree.map(lambda a: a[-1], got)
    chex.assert_trees_all_close(last, f(float(values[-1])), rtol=1e-9, atol=1e-12)
