"""Losses, accuracy and weight penalties: scalars from a batch of outputs, or from the weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.dtypes import widen
from purenet.core.types import Array, Number, PyTree, only_weights
from purenet.core.validate import NonNegative, array, declared, fraction
from purenet.core.vjp import hand_vjp


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
            f"take class numbers ({n},) or one row of probabilities an example ({n}, {k}); "
            "a column of class numbers (n, 1) becomes (n,) with labels[:, 0]."
        )
    if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.inexact):
        raise ValueError(
            f"{caller}: the class numbers {labels.shape} are {labels.dtype}, but integers are "
            "expected; convert them with labels.astype(int)."
        )


def as_probabilities(labels: Any, like: jax.Array) -> jax.Array:
    """Probabilities (n, k) from class numbers (n,), by comparison; probabilities as they are.

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
    A logit of -∞ rules its class out. With a target of 0 such a class adds nothing to the loss and
    to the gradients, by the convention 0 log 0 = 0; with any other target the loss is ∞.
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
    if labels.ndim == 2:
        return jnp.zeros((), log_p.dtype)
    labels = labels.astype(jnp.int32)
    wrong = (labels < 0) | (labels >= log_p.shape[1])
    # log 1 = 0; a NaN that is written down would stop whoever looks for them (jax_debug_nans)
    return jnp.log(jnp.where(wrong.any(), -1, 1).astype(log_p.dtype))


def _check_smoothing(smoothing):
    fraction("softmax_cross_entropy", smoothing=smoothing)


# backward, by hand
def _softmax_cross_entropy_fwd(logits, labels, smoothing):
    check_labels("softmax_cross_entropy", logits, labels)
    _check_smoothing(smoothing)
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
    # class numbers are probabilities already; rows that are given need not sum to 1
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
    check=lambda logits, labels, smoothing=0.0: _check_smoothing(smoothing),
)


# mean squared error: forward
def _mean_squared_error(y: Array | float, t: Array | float) -> jax.Array:
    """Mean of (y - t)² over all elements.

    Shapes: y and t alike, any -> (), in float32 or wider.
    With cotangent g and m elements: dy = 2 g (y - t) / m, dt = -dy.
    Raises ValueError if the shapes differ: (n,) against (n, 1) would compare all with all.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 1.1.

    >>> float(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    2.0
    """
    if jnp.shape(y) != jnp.shape(t) or jnp.size(y) == 0:
        raise ValueError(
            f"mean_squared_error: y has shape {jnp.shape(y)} and t {jnp.shape(t)}, but two equal "
            "shapes with at least one element are expected; t[:, None] or y[:, 0] matches (n,) and "
            "(n, 1)."
        )
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


# accuracy
def accuracy(y: Array, t: Array) -> jax.Array:
    """Share of the examples whose largest output is at the right class; a tie goes to the first.

    Shapes: y (n, k), t (n,) integers or (n, k) one-hot -> () float32. It has no gradient. One logit
    for each of two classes will do: y (n,), positive above 0, and t (n,) of 0 and 1.
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

    Only matrices and kernels count, the leaves with two axes or more: never biases, gamma, beta.
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

    Only matrices and kernels count, the leaves with two axes or more: never biases, gamma, beta.
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
