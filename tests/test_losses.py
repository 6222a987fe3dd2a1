"""What the losses and penalties promise beyond the rules of their ops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purenet.nn.losses import (
    accuracy,
    huber,
    l1,
    l2,
    mean_squared_error,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
)
from purenet.nn.losses import half_sum_of_squares as half_squares

CLASSES = np.array([2, 0, 1, 2])


@pytest.fixture
def logits(key):
    return jax.random.normal(key, (4, 3))


def test_cross_entropy_equals_its_definition(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(4), CLASSES]).mean()
    np.testing.assert_allclose(softmax_cross_entropy(logits, CLASSES), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32, np.float64])
def test_labels_of_every_kind_agree(logits, dtype):
    one_hot = np.eye(3)[CLASSES].astype(dtype)
    for f in (softmax_cross_entropy, lambda y, t: softmax_cross_entropy(y, t, 0.1), accuracy):
        np.testing.assert_allclose(f(logits, one_hot), f(logits, CLASSES), rtol=1e-12)
    if dtype in (np.uint8, np.int32):
        assert accuracy(logits, CLASSES.astype(dtype)) == accuracy(logits, CLASSES)


def test_smoothing_is_that_of_the_smoothed_labels(logits):
    smooth = 0.8 * np.eye(3)[CLASSES] + 0.2 / 3
    expected = softmax_cross_entropy(logits, smooth)
    np.testing.assert_allclose(softmax_cross_entropy(logits, CLASSES, 0.2), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_huge_logits_are_exact(dtype):
    y = jnp.array([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype)
    right, wrong = jnp.array([0, 1]), jnp.array([1, 0])
    both = jax.jit(jax.value_and_grad(softmax_cross_entropy))
    assert both(y, right)[0] == 0
    loss, gradient = both(y, wrong)
    assert loss == 2000
    np.testing.assert_allclose(gradient, [[0.5, -0.5], [-0.5, 0.5]])


def test_a_half_precision_batch_is_averaged_in_float32(logits):
    half = logits.astype(jnp.bfloat16)
    loss, gradient = jax.value_and_grad(softmax_cross_entropy)(half, CLASSES)
    assert (loss.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    assert mean_squared_error(half, half).dtype == jnp.float32


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_class_without_a_column_is_seen(logits, bad):
    assert jnp.isnan(softmax_cross_entropy(logits, CLASSES.copy() * 0 + bad))
    assert jnp.isfinite(softmax_cross_entropy(logits, jnp.array([0, 1, 2, 0], jnp.uint8)))


def test_the_bias_gradient_of_the_squared_error_is_a_sum_over_the_batch():
    y, t = jnp.arange(4.0)[:, None], jnp.ones((4, 1))
    gradient = jax.grad(lambda b: mean_squared_error(y + b, t))(jnp.zeros(1))
    np.testing.assert_allclose(gradient, [(2 * (y - t) / 4).sum()])


def test_accuracy_counts_the_right_ones_and_gives_a_tie_to_the_first():
    y = jnp.array([[1.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    share = accuracy(y, jnp.array([0, 1, 1]))
    assert share.dtype == jnp.float32
    np.testing.assert_allclose(share, 2 / 3, rtol=1e-6)


BITS = np.array([1, 0, 0, 1])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_equals_its_definition(logits, dtype, smoothing):
    z = np.asarray(logits[:, 0])
    p, t = 1 / (1 + np.exp(-z)), (1 - smoothing) * BITS + smoothing / 2
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    for y, labels in ((z, BITS), (z[:, None], BITS[:, None])):
        got = sigmoid_binary_cross_entropy(jnp.asarray(y), labels.astype(dtype), smoothing)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_binary_cross_entropy_is_that_of_two_classes(logits):
    two = jnp.stack([jnp.zeros(4), logits[:, 0]], axis=1)
    got = sigmoid_binary_cross_entropy(logits[:, 0], BITS)
    np.testing.assert_allclose(got, softmax_cross_entropy(two, BITS), rtol=1e-12)


@pytest.mark.parametrize("size", [1000.0, np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_certain_logits_are_exact(size, dtype):
    z = jnp.array([size, -size], dtype)
    right, wrong = jnp.array([1.0, 0.0], dtype), jnp.array([0.0, 1.0], dtype)
    for f in (sigmoid_binary_cross_entropy, sigmoid_binary_cross_entropy.plain):
        f = jax.jit(f)
        assert f(z, right) == 0 and f(z, wrong) == size
    gradient = jax.jit(jax.grad(sigmoid_binary_cross_entropy, (0, 1)))
    np.testing.assert_allclose(gradient(z, right)[0], [0, 0])
    np.testing.assert_allclose(gradient(z, wrong)[0], [0.5, -0.5])
    if np.isfinite(size):
        np.testing.assert_allclose(gradient(z, right)[1], -z / 2)


def test_a_small_logit_has_the_exact_slope_in_its_label():
    z = jnp.array([1e-6], jnp.float32)
    slope = jax.grad(sigmoid_binary_cross_entropy, 1)(z, jnp.ones(1, jnp.float32))
    np.testing.assert_allclose(slope, -z, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1, 2])
def test_a_binary_label_that_is_neither_is_seen(bad):
    z = jnp.zeros(2)
    assert jnp.isnan(sigmoid_binary_cross_entropy(z, jnp.array([bad, 1])))
    assert jnp.isfinite(sigmoid_binary_cross_entropy(z, jnp.array([0, 1])))


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_huber_equals_its_definition(logits, delta):
    e = np.abs(logits)
    expected = np.where(e <= delta, e**2 / 2, delta * (e - delta / 2)).mean()
    np.testing.assert_allclose(huber(logits, 0 * logits, delta), expected, rtol=1e-12)
    half = mean_squared_error(logits, 0 * logits) / 2
    np.testing.assert_allclose(huber(logits, 0 * logits, 100.0), half, rtol=1e-12)
    assert huber(logits.astype(jnp.bfloat16), logits).dtype == jnp.float64


WEIGHTS = {
    "dense": {"w": jnp.array([[1.0, -2.0], [0.0, 3.0]]), "b": jnp.ones(2)},
    "conv": {"w": jnp.full((1, 1, 2, 1), -0.5)},
    "batch_norm": {"gamma": jnp.ones(2), "beta": jnp.ones(2)},
    "dropout": (),
}


def test_penalties_touch_matrices_and_kernels_only():
    np.testing.assert_allclose(l2(0.1)(WEIGHTS), 0.1 * 0.5 * (14 + 0.5))
    np.testing.assert_allclose(l1(0.1)(WEIGHTS), 0.1 * (6 + 1))
    for penalty, slope in ((l2(0.1), lambda w: w), (l1(0.1), jnp.sign)):
        expected = jax.tree.map(lambda w, f=slope: 0.1 * f(w) * (w.ndim > 1), WEIGHTS)
        chex.assert_trees_all_close(jax.grad(penalty)(WEIGHTS), expected)


@pytest.mark.parametrize("penalty", [l1, l2])
def test_penalties_of_nothing_are_zero_and_integers_will_do(penalty):
    assert penalty(0.1)({}) == penalty(0.1)(()) == penalty(0)(WEIGHTS) == 0
    assert penalty(jnp.float32(2))({}).shape == ()
    assert penalty(jnp.float64(2))(jnp.ones((2, 2), jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    "f",
    [
        lambda h, y: softmax_cross_entropy(y, CLASSES, h),
        lambda h, y: sigmoid_binary_cross_entropy(y[:, 0], BITS, h),
        lambda h, y: huber(y, jnp.ones((4, 3)), h),
        lambda h, y: l1(h)({"w": y}),
        lambda h, y: l2(h)({"w": y}),
    ],
    ids=["smoothing", "binary smoothing", "delta", "l1", "l2"],
)
def test_forty_hyperparameter_values_are_one_trace(f, logits):
    values = jnp.linspace(0.1, 0.9, 40)
    chex.clear_trace_counter()
    both = lambda h: jax.value_and_grad(f, argnums=(0, 1))(h, logits)
    swept = jax.jit(jax.vmap(chex.assert_max_traces(both, 1)))
    got = swept(values)
    swept(values / 2)
    last = jax.tree.map(lambda a: a[-1], got)
    chex.assert_trees_all_close(last, both(values[-1]), rtol=1e-9, atol=1e-12)


def test_integer_hyperparameters_and_targets_have_no_gradient(logits):
    expected = jax.grad(softmax_cross_entropy)(logits, CLASSES)
    gradient = jax.jit(jax.grad(lambda y: softmax_cross_entropy(y, CLASSES, 0)))(logits)
    chex.assert_trees_all_close(gradient, expected)
    gradient = jax.grad(mean_squared_error)(logits, np.ones((4, 3), int))
    chex.assert_trees_all_close(gradient, (logits - 1) / 6)


Y = jnp.ones((4, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: softmax_cross_entropy(Y, CLASSES[:, None]),
            r"labels have shape \(4, 1\).*\[:, 0\]",
        ),
        (lambda: softmax_cross_entropy(Y, CLASSES[:3]), r"\(3,\).*\(4, 3\).*class numbers \(4,\)"),
        (
            lambda: softmax_cross_entropy(Y, CLASSES * 1.0),
            r"class numbers \(4,\) have dtype float64.*int",
        ),
        (lambda: softmax_cross_entropy(Y, Y[:, :2]), r"labels have shape \(4, 2\).*\(4, 3\)"),
        (
            lambda: softmax_cross_entropy(Y[0], CLASSES),
            r"outputs have shape \(3,\).*\(batch, class",
        ),
        (lambda: softmax_cross_entropy(Y[:0], CLASSES[:0]), r"\(0, 3\).*at least one example"),
        (lambda: softmax_cross_entropy(Y, CLASSES, 1.5), r"smoothing is 1.5.*from 0 to below 1"),
        (lambda: accuracy(Y, CLASSES[:, None]), r"accuracy: the labels have shape \(4, 1\)"),
        (lambda: accuracy(Y, CLASSES * 1.0), r"accuracy: the class numbers.*astype\(int\)"),
        (lambda: mean_squared_error(Y[:, 0], Y[:, :1]), r"y has shape \(4,\) and t \(4, 1\)"),
        (lambda: mean_squared_error(Y[:0], Y[:0]), r"\(0, 3\).*at least one element"),
        (lambda: l2(-0.1), r"l2: strength is -0.1, but a finite number of at least 0"),
        (lambda: l1(float("nan")), r"l1: strength is nan"),
    ],
)
def test_wrong_shapes_and_numbers_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_raw_operations_keep_their_plain_functions():
    from purenet import ops

    found = [name for name, op in vars(ops).items() if callable(getattr(op, "plain", None))]
    assert len(found) >= 30
    assert ops.half_sum_of_squares is half_squares
