"""Rules at values where rounding, NaN and infinities decide, against what is known exactly."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purenet import ops
from purenet.nn import losses

INF = float("inf")


def grad(f, *args, **options):
    """The gradient by hand, and the automatic one of the plain forward."""
    both = lambda *args: (jax.grad(f, **options)(*args), jax.grad(f.plain, **options)(*args))
    return jax.jit(both)(*args)


# the left tail of elu and selu
TAIL = np.array([-700.0, -300.0, -100.0, -50.0, -38.0, -37.0, -36.0, -20.0, -1.0, -0.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_slope_of_elu_keeps_its_digits_in_the_left_tail(dtype):
    x = TAIL.astype(dtype)
    slope = lambda f: jax.jit(jax.vmap(jax.grad(f)))(x)
    with np.errstate(under="ignore"):
        expected = np.exp(x.astype(np.float64))
    tiny, close = np.finfo(dtype).tiny, {"rtol": 40 * np.finfo(dtype).eps}
    normal = expected > tiny  # compilers may flush what is below to 0
    np.testing.assert_allclose(slope(ops.elu)[normal], expected[normal], **close)
    np.testing.assert_allclose(
        slope(lambda x: ops.elu(x, dtype(0.5)))[normal], expected[normal] / 2, **close
    )
    at_zero = 1.0507009873554805 * 1.6732632423543772  # scale alpha, of the paper
    selu = slope(ops.selu)
    np.testing.assert_allclose(selu[normal], at_zero * expected[normal], **close)


# a NaN that is the maximum
def test_the_gradient_of_max_pool_goes_to_the_first_nan():
    nan = float("nan")
    x = jnp.array([[1.0, nan, 5, 2], [nan, 4, 2, 1]]).reshape(1, 2, 4, 1)
    y, pull = jax.vjp(lambda x: ops.pool_max(x, 2), x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[nan, 5.0]])
    (dx,) = pull(jnp.array([3.0, 7.0]).reshape(y.shape))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 3, 7, 0], [0, 0, 0, 0]])


# logits of -∞: classes that are ruled out
LOGITS = jnp.array([[-INF, 0.0, -1.0], [0.5, -INF, -INF]])
CLASSES = jnp.array([1, 0])
KEPT = (jnp.array([[0.0, -1.0]]), jnp.array([0]))  # the same two examples without such classes
VALUE = float(losses.softmax_cross_entropy(*KEPT)) / 2  # the second example is certain


def labels_of(kind):
    return CLASSES if kind == "classes" else jax.nn.one_hot(CLASSES, 3)


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_a_class_that_is_ruled_out_and_not_expected_adds_nothing(kind):
    labels = labels_of(kind)
    assert abs(VALUE - 0.3132617 / 2) < 1e-7  # log(1 + 1/e), as PyTorch has it
    for smoothing in (0.0, jnp.array(0.0)):
        loss = lambda z, s=smoothing: losses.softmax_cross_entropy(z, labels, s)
        value, slope = jax.jit(jax.value_and_grad(loss))(LOGITS)
        assert float(value) == pytest.approx(VALUE, rel=1e-14)
        p = jax.nn.softmax(LOGITS)
        expected = (p - jax.nn.one_hot(CLASSES, 3)) / 2
        chex.assert_trees_all_close(slope, expected, atol=1e-15)
        assert not expected[0, 0] and not expected[1, 1]


def test_soft_labels_may_be_zero_where_a_class_is_ruled_out():
    labels = jnp.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    log_p = jax.nn.log_softmax(jnp.array([0.0, -1.0]))
    expected = -(0.25 * log_p[0] + 0.75 * log_p[1]) / 2
    got = losses.softmax_cross_entropy(LOGITS, labels)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    chex.assert_trees_all_close(
        *grad(losses.softmax_cross_entropy, LOGITS, labels, argnums=(0, 1)), atol=1e-14
    )


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_an_expected_class_that_is_ruled_out_makes_the_loss_infinite(kind):
    labels = labels_of(kind)
    right = LOGITS.at[0].set(jnp.array([0.0, -INF, 0.0]))  # the first class is 1
    assert losses.softmax_cross_entropy(right, labels) == INF
    assert losses.softmax_cross_entropy(LOGITS, labels, 0.1) == INF  # smoothing expects all
    for logits, smoothing in ((right, 0.0), (LOGITS, 0.1)):
        by_hand, automatic = grad(losses.softmax_cross_entropy, logits, labels, smoothing)
        chex.assert_trees_all_close(by_hand, automatic, atol=1e-15)
        chex.assert_tree_all_finite(by_hand)


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_derivatives_of_all_arguments_with_ruled_out_classes_are_finite_and_equal(kind):
    labels = labels_of(kind)
    args = (LOGITS, labels, jnp.array(0.0))
    places = (0, 2) if kind == "classes" else (0, 1, 2)
    by_hand, automatic = grad(losses.softmax_cross_entropy, *args, argnums=places)
    chex.assert_tree_all_finite(by_hand)
    chex.assert_trees_all_close(by_hand, automatic, atol=1e-14)


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_second_derivatives_with_ruled_out_classes_are_those_of_the_softmax(kind):
    labels = labels_of(kind)
    hessian = lambda f: jax.hessian(lambda z: f(z, labels))  # (2, 3, 2, 3)
    forward_over_reverse = lambda f: jax.jacfwd(jax.grad(lambda z: f(z, labels)))
    p = jax.nn.softmax(LOGITS)
    expected = np.zeros((2, 3, 2, 3))
    for i in range(2):
        expected[i, :, i, :] = (np.diag(p[i]) - np.outer(p[i], p[i])) / 2
    op = losses.softmax_cross_entropy
    reverse_twice = jax.jacrev(jax.grad(lambda z: op(z, labels)))
    ways = (forward_over_reverse(op), reverse_twice, hessian(op.plain))
    for got in jax.jit(lambda z: [way(z) for way in ways])(LOGITS):
        np.testing.assert_allclose(got, expected, atol=1e-15)


def test_a_row_without_any_possible_class_has_no_loss():
    logits = jnp.full((1, 3), -INF)
    assert jnp.isnan(losses.softmax_cross_entropy(logits, jnp.array([0])))
