"""Losses, accuracy and weight penalties: scalars from a batch of outputs, or from the weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import widen
from purenet.core.types import Array, Number, PyTree, only_weights
from purenet.core.validate import NonNegative, array, declared, fraction, positive
from purenet.core.vjp import hand_vjp

EXAMPLES = {
    "sigmoid_binary_cross_entropy": (((4, 3), (4, 3), 0.1), ()),
    "huber": (((4, 3), (4, 3), 0.7), ()),
}


def check_labels(caller: str, y: Any, labels: Any) -> None:
    """Outputs (n, k) and labels (n,) of integers or (n, k).

    Raises ValueError for other shapes and for class numbers that are floats.

    >>> check_labels("accuracy", jnp.ones((2, 3)), jnp.array([0, 2]))
    """
    if jnp.ndim(y) != 2 or y.size == 0:
        raise ValueError(
            f"{caller}: the outputs have shape {jnp.shape(y)}, but (batch, classes) is expected, "
            "with at least one example and one class."
        )
    n, k = y.shape
    if jnp.shape(labels) not in ((n,), (n, k)):
        raise ValueError(
            f"{caller}: the labels have shape {jnp.shape(labels)}, but outputs of shape {y.shape} "
            f"take class numbers ({n},) or one row of probabilities per example ({n}, {k}); "
            "a column of class numbers (n, 1) becomes (n,) with labels[:, 0]."
        )
    if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.inexact):
        raise ValueError(
            f"{caller}: the class numbers {labels.shape} have dtype {labels.dtype}, but integers "
            "are expected; convert them with labels.astype(int)."
        )


def as_probabilities(labels: Any, like: jax.Array) -> jax.Array:
    """Probabilities (n, k) from class numbers (n,), by comparison; probabilities unchanged.

    >>> as_probabilities(jnp.array([2]), jnp.zeros((1, 3))).tolist()
    [[0.0, 0.0, 1.0]]
    """
    if labels.ndim == 1:
        labels = labels.astype(jnp.int32)[:, None]
        labels = labels == lax.broadcasted_iota(jnp.int32, like.shape, 1)
    return labels.astype(like.dtype)


# softmax cross-entropy: forward
def _softmax_cross_entropy(logits: Array, labels: Array, smoothing: Number = 0.0) -> jax.Array:
    """Softmax and cross-entropy in one, L = -1/n Σₙ Σₖ tₙₖ log pₙₖ with p = softmax(logits).

    Shapes: logits (n, k), labels (n,) integers or (n, k) probabilities, smoothing () -> (), in
    float32 or wider. t = (1 - smoothing) labels + smoothing / k.
    With cotangent g: dlogits = g/n (p Σₖ t - t), which is g/n (p - t) for probabilities,
    dlabels = -g/n (1 - smoothing) log p, dsmoothing = g/n Σ (labels - 1/k) log p.
    A class number outside 0 .. k - 1 makes the loss NaN: its value is not known while tracing.
    A logit of -∞ rules out its class. With a target of 0 such a class adds nothing to the loss or
    the gradients, by the convention 0 log 0 = 0; with any other target the loss is ∞.
    Raises ValueError for other shapes, for class numbers that are floats, and for a smoothing
    outside [0, 1); TypeError for one that is not a number.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), sections 6.2.2.3 and 7.5.1.

    >>> round(float(softmax_cross_entropy(jnp.zeros((2, 10)), jnp.array([3, 4]))), 4)
    2.3026
    """
    return _softmax_cross_entropy_fwd(logits, labels, smoothing)[0]


def _log_softmax(logits):
    z = widen(logits)
    z = z - lax.stop_gradient(z.max(axis=1, keepdims=True))
    return z - jnp.log(jnp.exp(z).sum(axis=1, keepdims=True))  # (n, k)


def _targets(labels, smoothing, log_p):
    """(labels as probabilities, the smoothed targets, the smoothing), in the dtype of log p."""
    smoothing = jnp.asarray(smoothing, log_p.dtype)
    labels = as_probabilities(labels, log_p)
    return labels, (1 - smoothing) * labels + smoothing / log_p.shape[1], smoothing


def _log_possible(log_p, t):
    """log p, and 0 for classes that are ruled out and not expected: 0 log 0 = 0."""
    return jnp.where((t == 0) & (log_p == -jnp.inf), 0, log_p)


def _outside(labels, log_p):
    """NaN where a class number has no column, 0 otherwise."""
    return _nan_above(labels, log_p.shape[1] - 1 if labels.ndim == 1 else None, log_p.dtype)


def _nan_above(labels, highest, dtype):
    """NaN where a label, an integer, is not in 0 .. highest; 0 otherwise, and without integers."""
    if highest is None or jnp.issubdtype(labels.dtype, jnp.inexact):
        return jnp.zeros((), dtype)
    labels = labels.astype(jnp.int32)
    wrong = (labels < 0) | (labels > highest)
    # log 1 = 0; a literal NaN would trigger jax_debug_nans
    return jnp.log(jnp.where(wrong.any(), -1, 1).astype(dtype))


# backward, by hand
def _softmax_cross_entropy_fwd(logits, labels, smoothing):
    check_labels("softmax_cross_entropy", logits, labels)
    fraction("softmax_cross_entropy", smoothing=smoothing)
    log_p = _log_softmax(logits)
    _, t, _ = _targets(labels, smoothing, log_p)
    loss = -(t * _log_possible(log_p, t)).sum() / log_p.shape[0] + _outside(labels, log_p)
    return loss, (log_p, labels, smoothing)


def _softmax_cross_entropy_bwd(residuals, g):
    log_p, labels, smoothing = residuals
    n, k = log_p.shape
    g = g / n
    one_hot, t, smoothing = _targets(labels, smoothing, log_p)  # (n, k), (n, k), ()
    p = jnp.exp(log_p)
    # class numbers became probabilities; rows given by the user need not sum to 1
    total = t.sum(axis=1, keepdims=True) if labels.ndim == 2 else 1
    dlogits = g * (p * total - t)  # (n, k)
    log_p = _log_possible(log_p, t)
    dlabels = -g * (1 - smoothing) * log_p if labels.ndim == 2 else None  # (n, k)
    dsmoothing = g * ((one_hot - 1 / k) * log_p).sum()  # ()
    return dlogits, dlabels, dsmoothing


softmax_cross_entropy = hand_vjp(
    _softmax_cross_entropy,
    _softmax_cross_entropy_fwd,
    _softmax_cross_entropy_bwd,
    check=lambda logits, labels, smoothing=0.0: fraction(
        "softmax_cross_entropy", smoothing=smoothing
    ),
)


# binary cross-entropy: forward
def _sigmoid_binary_cross_entropy(
    logits: Array | float, labels: Array | float, smoothing: Number = 0.0
) -> jax.Array:
    """Sigmoid and cross-entropy in one, L = -mean(t log p + (1 - t) log(1 - p)), p = σ(logits).

    Shapes: logits and labels alike, any -> (), in float32 or wider; one logit for each of two
    classes, (n,) or (n, 1), or for each of k labels that may all be 1, (n, k). The labels are
    0 and 1 or probabilities, smoothing (); t = (1 - smoothing) labels + smoothing / 2.
    With cotangent g and m elements: dlogits = g/m (p - t), dlabels = -g/m (1 - smoothing) logits,
    dsmoothing = g/m Σ (labels - 1/2) logits.
    An integer label other than 0 and 1 makes the loss NaN: its value is not known while tracing.
    A logit of ±∞ is certain: a target that agrees adds nothing to the loss and to the gradient, by
    the convention 0 log 0 = 0; with any other the loss is ∞.
    Raises ValueError if the shapes differ, and for a smoothing outside [0, 1); TypeError for one
    that is not a number.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.2.

    >>> loss = sigmoid_binary_cross_entropy(jnp.array([0.0, 1000.0]), jnp.array([1, 1]))
    >>> round(float(loss), 4)
    0.3466
    """
    return _sigmoid_binary_cross_entropy_fwd(logits, labels, smoothing)[0]


def _binary_targets(logits, labels, smoothing):
    """(logits, labels, t, log p, log(1 - p), smoothing); no log of what is impossible and does not
    occur."""
    z, smoothing = widen(logits), jnp.asarray(smoothing, widen(logits).dtype)
    labels = jnp.asarray(labels).astype(z.dtype)
    t = (1 - smoothing) * labels + smoothing / 2
    yes, no = -jnp.logaddexp(-z, 0), -jnp.logaddexp(z, 0)
    return z, labels, t, _log_possible(yes, t), _log_possible(no, 1 - t), smoothing


# backward, by hand
def _sigmoid_binary_cross_entropy_fwd(logits, labels, smoothing):
    _check_same_shape("sigmoid_binary_cross_entropy", "the labels", logits, labels)
    fraction("sigmoid_binary_cross_entropy", smoothing=smoothing)
    z, _, t, yes, no, _ = _binary_targets(logits, labels, smoothing)
    loss = -(t * yes + (1 - t) * no).mean() + _nan_above(jnp.asarray(labels), 1, z.dtype)
    return loss, (logits, labels, smoothing)


def _sigmoid_binary_cross_entropy_bwd(residuals, g):
    z, labels, t, yes, no, smoothing = _binary_targets(*residuals)
    g = g / z.size
    odds = jnp.where(jnp.isfinite(z), z, yes - no)  # log p - log(1 - p), without its rounding
    dlogits = g * (lax.logistic(z) - t)
    return dlogits, -g * (1 - smoothing) * odds, g * ((labels - 0.5) * odds).sum()


sigmoid_binary_cross_entropy = hand_vjp(
    _sigmoid_binary_cross_entropy,
    _sigmoid_binary_cross_entropy_fwd,
    _sigmoid_binary_cross_entropy_bwd,
    check=lambda logits, labels, smoothing=0.0: fraction(
        "sigmoid_binary_cross_entropy", smoothing=smoothing
    ),
)


# mean squared error: forward
def _check_same_shape(caller, name, y, t):
    if jnp.shape(y) != jnp.shape(t) or jnp.size(y) == 0:
        raise ValueError(
            f"{caller}: y has shape {jnp.shape(y)} and {name} {jnp.shape(t)}, but two equal "
            "shapes with at least one element are expected; t[:, None] or y[:, 0] matches (n,) and "
            "(n, 1)."
        )


def _mean_squared_error(y: Array | float, t: Array | float) -> jax.Array:
    """Mean of (y - t)² over all elements.

    Shapes: y and t alike, any -> (), in float32 or wider.
    With cotangent g and m elements: dy = 2 g (y - t) / m, dt = -dy.
    Raises ValueError if the shapes differ: (n,) against (n, 1) would compare all with all.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 1.1.

    >>> float(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    2.0
    """
    _check_same_shape("mean_squared_error", "t", y, t)
    error = widen(y) - widen(t)
    return (error * error).mean()


# backward, by hand
def _mean_squared_error_fwd(y, t):
    return _mean_squared_error(y, t), (y, t)


def _mean_squared_error_bwd(residuals, g):
    y, t = residuals
    dy = g * 2 / jnp.size(y) * (widen(y) - widen(t))
    return dy, -dy


mean_squared_error = hand_vjp(_mean_squared_error, _mean_squared_error_fwd, _mean_squared_error_bwd)


# Huber loss: forward
def _huber(y: Array | float, t: Array | float, delta: Number = 1.0) -> jax.Array:
    """Quadratic for small errors, linear for large ones: mean of c (e - c/2), e = y - t.

    c = e clipped to [-delta, delta], so that an element is e² / 2 up to |e| = delta, and
    delta (|e| - delta / 2) beyond.
    Shapes: y and t alike, any, delta () -> (), in float32 or wider.
    With cotangent g and m elements: dy = g c / m, dt = -dy, ddelta = g/m Σ max(|e| - delta, 0).
    Raises ValueError if the shapes differ and for a delta that is not above 0; TypeError for one
    that is not a number.
    Source: Huber, Robust estimation of a location parameter (1964).

    >>> float(huber(jnp.array([1.0, 5.0]), jnp.array([0.0, 1.0])))
    2.0
    """
    return _huber_fwd(y, t, delta)[0]


# backward, by hand
def _huber_fwd(y, t, delta):
    _check_same_shape("huber", "t", y, t)
    positive("huber", delta=delta)
    error = widen(y) - widen(t)
    delta_ = jnp.asarray(delta, error.dtype)
    clipped = jnp.clip(error, -delta_, delta_)
    return (clipped * (error - clipped / 2)).mean(), (error, delta_)


def _huber_bwd(residuals, g):
    error, delta = residuals
    g = g / error.size
    dy = g * jnp.clip(error, -delta, delta)
    return dy, -dy, g * jnp.maximum(jnp.abs(error) - delta, 0).sum()


huber = hand_vjp(
    _huber, _huber_fwd, _huber_bwd, check=lambda y, t, delta=1.0: positive("huber", delta=delta)
)


# accuracy
def accuracy(y: Array, t: Array) -> jax.Array:
    """Fraction of the examples whose largest output is at the correct class; ties go to the first.

    Shapes: y (n, k), t (n,) integers or (n, k) one-hot -> () float32. It has no gradient. For two
    classes, one logit per example also works: y (n,), with t (n,) of 0 and 1.
    Raises ValueError for other shapes, and for class numbers that are floats; TypeError unless both
    are arrays.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.1, as 1 - error.

    >>> float(accuracy(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0])))
    0.5
    """
    y, t = array("accuracy", "y", y), array("accuracy", "t", t)
    if jnp.ndim(y) == 1 == jnp.ndim(t) and len(y) == len(t) > 0:
        return ((y > 0) == jnp.asarray(t).astype(bool)).mean(dtype=jnp.float32)
    check_labels("accuracy", y, t)
    classes = t if t.ndim == 1 else t.argmax(axis=1)
    return (y.argmax(axis=1) == classes).mean(dtype=jnp.float32)


# penalties on one array: forward
def _half_sum_of_squares(w: Array | float) -> jax.Array:
    """Σ w² / 2, the L2 penalty of one array.

    Shapes: any w -> (), in float32 or wider. With cotangent g: dw = g w.
    Raises TypeError for anything but an array.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 7.1.1.

    >>> float(half_sum_of_squares(jnp.array([1.0, -3.0])))
    5.0
    """
    w = widen(w)
    return (w * w).sum() / 2


def _sum_of_magnitudes(w: Array | float) -> jax.Array:
    """Σ |w|, the L1 penalty of one array.

    Shapes: any w -> (), in float32 or wider. With cotangent g: dw = g sign(w), and sign(0) = 0.
    Raises TypeError for anything but an array.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 7.1.2.

    >>> float(sum_of_magnitudes(jnp.array([1.0, -3.0])))
    4.0
    """
    w = widen(w)
    return (w * jnp.sign(w)).sum()  # jnp.abs differentiates to 1 at 0


# backward, by hand
half_sum_of_squares = hand_vjp(
    _half_sum_of_squares, lambda w: (_half_sum_of_squares(w), w), lambda w, g: (g * widen(w),)
)
sum_of_magnitudes = hand_vjp(
    _sum_of_magnitudes, lambda w: (_sum_of_magnitudes(w), w), lambda w, g: (g * jnp.sign(widen(w)),)
)


# penalties on all weights
@declared
def l2(strength: NonNegative) -> Callable[[PyTree], jax.Array]:
    """Weight decay as a penalty: weights -> strength · Σ W² / 2, gradient strength · W.

    Only matrices and kernels count, the leaves with two or more axes: never biases, gamma, beta.
    `strength` may be traced. The penalty raises TypeError for a network's Params in place of its
    weights.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 7.1.1.

    >>> weights = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    >>> round(float(l2(0.5)(weights)), 6)
    1.5
    """
    return _penalty("l2", strength, half_sum_of_squares)


@declared
def l1(strength: NonNegative) -> Callable[[PyTree], jax.Array]:
    """Sparsity as a penalty: weights -> strength · Σ |W|, gradient strength · sign(W), 0 at 0.

    Only matrices and kernels count, the leaves with two or more axes: never biases, gamma, beta.
    `strength` may be traced. The penalty raises TypeError as that of `l2` does.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 7.1.2.

    >>> weights = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    >>> round(float(l1(0.5)(weights)), 6)
    3.0
    """
    return _penalty("l1", strength, sum_of_magnitudes)


def _penalty(caller, strength, measure):
    def penalty(weights):
        leaves = jax.tree.leaves(only_weights(caller, weights))
        matrices = [w for w in leaves if jnp.ndim(array(caller, "a weight", w)) >= 2]
        total = sum((measure(w) for w in matrices), jnp.float32(0))
        return jnp.asarray(strength, total.dtype) * total

    return penalty
