"""Metrics: one number from all outputs and all targets of a part of the data.

`metric(y, t)` takes the raw outputs of a network, and `supervised(metrics={...})` calls it with
those of all examples at once. For classes, y are logits:

- (n, k) with k ≥ 2 for k classes, t (n,) integers or (n, k) one-hot; the prediction is the largest
  output, the first of equal ones;
- (n,) for two classes, t (n,) of 0 and 1; the prediction is 1 above 0.

For real targets y and t have one shape, (n,) or (n, d), and the metric of d columns is the mean
over columns. The result is a scalar in float32 or wider. Metrics are pure and work under jit and
vmap; they are for evaluation: most have no useful gradient.

Metrics of one class (precision, recall, f1, auroc, average_precision) are, for k classes, the mean
over classes ("macro"). Undefined values are NaN, unless the metric says otherwise, and so are
rankings of outputs that hold NaN.

All raise TypeError for anything but arrays, and ValueError for other shapes, without examples and
for class numbers (n,) that are floats.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purenet.core.dtypes import widen
from purenet.core.types import Array
from purenet.core.validate import PositiveInteger, array, declared
from purenet.nn.base import expect_shape
from purenet.nn.losses import accuracy as accuracy
from purenet.nn.losses import as_probabilities, check_labels, softmax_cross_entropy


def _classes(caller, y, t):
    """(outputs, the right classes as bools), both (n, k), or (n,) for two classes."""
    y, t = array(caller, "y", y), jnp.asarray(array(caller, "t", t))
    if jnp.ndim(y) == 1:
        legal = jnp.shape(t) == jnp.shape(y) and len(y) > 0
        such = f"{jnp.shape(y)}, a label 0 or 1 for each logit, and at least one example,"
        expect_shape(legal, f"{caller}: t", t, such)
        return widen(y), t.astype(bool)
    check_labels(caller, y, t)
    hint = "; one logit per example becomes (n,) with y[:, 0]"
    expect_shape(y.shape[1] > 1, f"{caller}: y", y, "(n, k) with k > 1 classes", hint)
    y = widen(y)
    return y, as_probabilities(t, y) > 0.5


def _reals(caller, y, t):
    """Outputs and targets (n, d)."""
    y, t = array(caller, "y", y), array(caller, "t", t)
    legal = jnp.shape(y) == jnp.shape(t) and jnp.ndim(y) in (1, 2) and jnp.size(y) > 0
    such = f"that of t {jnp.shape(t)}, (n,) or (n, d) with at least one example,"
    expect_shape(legal, f"{caller}: y", y, such, "; t[:, None] or y[:, 0] matches (n,) and (n, 1)")
    y, t = widen(y), widen(t)
    return (y, t) if y.ndim == 2 else (y[:, None], t[:, None])


def _predicted(y):
    """The predicted class as bools, of the shape of y."""
    return y > 0 if y.ndim == 1 else as_probabilities(y.argmax(axis=1), y) > 0.5


def _probabilities(y):
    """(n, k), for two classes (n, 2)."""
    return jax.nn.softmax(jnp.stack([jnp.zeros_like(y), y], axis=1) if y.ndim == 1 else y, axis=1)


def _both(right):
    """The right classes as (n, k), for two classes (n, 2)."""
    return jnp.stack([~right, right], axis=1) if right.ndim == 1 else right


def _ratio(a, b, otherwise):
    """a / b in the dtype of a, and `otherwise` where b is 0."""
    b = b.astype(a.dtype)
    return jnp.where(b == 0, otherwise, a / jnp.where(b == 0, 1, b))


def _mean_where(values, chosen):
    """Mean of the chosen values; NaN if there are none."""
    return _ratio(jnp.where(chosen, values, 0).sum(), chosen.sum(), jnp.nan)


def _counts(caller, y, t):
    """For each class, the numbers of true positives, predictions and examples; dtype of y."""
    y, right = _classes(caller, y, t)
    predicted = _predicted(y)
    found = (predicted & right, predicted, right)
    return tuple(a.sum(axis=0).astype(y.dtype) for a in found)


def _macro(values, predicted, right):
    """The value of the one class, or the mean over those that occur in outputs or targets."""
    return values if values.ndim == 0 else _mean_where(values, (predicted + right) > 0)


# from the predicted classes
def balanced_accuracy(y: Array, t: Array) -> jax.Array:
    """Mean over classes of the fraction of their examples that is predicted correctly.

        1/|K| Σₖ rightₖ / nₖ,    K the classes with nₖ > 0 examples

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> (). With a single class it is the fraction of
    that class.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Brodersen, Ong, Stephan & Buhmann (2010).

    >>> y, t = jnp.array([2.0, 1.0, -1.0]), jnp.array([1, 1, 1])
    >>> round(float(balanced_accuracy(y, t)), 4)
    0.6667
    """
    y, right = _classes("balanced_accuracy", y, t)
    right, predicted = _both(right), _both(_predicted(y))
    hits, count = (right & predicted).sum(axis=0).astype(y.dtype), right.sum(axis=0)
    return _mean_where(_ratio(hits, count, 0), count > 0)


@declared
def top_k(k: PositiveInteger) -> Callable[[Array, Array], jax.Array]:
    """A metric: the fraction of the examples whose class is among the k largest outputs.

    Of equal outputs the first classes come first, so that top_k(1) is `accuracy`.
    Shapes: y (n, classes), t (n,) or (n, classes) -> ().
    The metric raises ValueError for y (n,), where there is nothing to rank.
    Source: Russakovsky et al. (2015), section 4.1, as 1 - error.

    >>> y = jnp.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    >>> float(top_k(2)(y, jnp.array([1, 0])))
    0.5
    """

    def share(y, t):
        y, right = _classes("top_k", y, t)
        expect_shape(y.ndim == 2, "top_k: y", y, "(n, classes), one output for each class,")
        own = right.argmax(axis=1)[:, None]
        at = jnp.take_along_axis(y, own, axis=1)
        before = (y > at) | ((y == at) & (jnp.arange(y.shape[1]) < own))
        return ((before.sum(axis=1) < k) & right.any(axis=1)).astype(y.dtype).mean()

    return share


def precision(y: Array, t: Array) -> jax.Array:
    """Fraction of the predictions of a class that are correct; 0 if there are none.

        tp / (tp + fp),    for k classes the mean over those in outputs or targets

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: van Rijsbergen, Information Retrieval (1979), chapter 7.

    >>> float(precision(jnp.array([1.0, 2.0, -1.0]), jnp.array([1, 0, 1])))
    0.5
    """
    hits, predicted, right = _counts("precision", y, t)
    return _macro(_ratio(hits, predicted, 0), predicted, right)


def recall(y: Array, t: Array) -> jax.Array:
    """Fraction of the examples of a class that are found; 0 if there are none.

        tp / (tp + fn),    for k classes the mean over those in outputs or targets

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: van Rijsbergen, Information Retrieval (1979), chapter 7.

    >>> float(recall(jnp.array([1.0, 2.0, -1.0]), jnp.array([1, 0, 1])))
    0.5
    """
    hits, predicted, right = _counts("recall", y, t)
    return _macro(_ratio(hits, right, 0), predicted, right)


def f1(y: Array, t: Array) -> jax.Array:
    """Harmonic mean of precision and recall; 0 if the class is neither predicted nor present.

        2 tp / (2 tp + fp + fn),    for k classes the mean over those in outputs or targets

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: van Rijsbergen, Information Retrieval (1979), chapter 7, with β = 1.

    >>> float(f1(jnp.array([1.0, 2.0, -1.0]), jnp.array([1, 0, 1])))
    0.5
    """
    hits, predicted, right = _counts("f1", y, t)
    return _macro(_ratio(2 * hits, predicted + right, 0), predicted, right)


# from the order of the scores
def _ranked(caller, y, t, of_one):
    """of_one(scores, right) of the one class, or the mean over the classes where it is defined."""
    y, right = _classes(caller, y, t)
    if y.ndim == 1:
        value = of_one(y, right)
    else:
        values = jax.vmap(of_one, in_axes=1)(_probabilities(y), right)
        value = _mean_where(values, ~jnp.isnan(values))
    return jnp.where(jnp.isnan(y).any(), jnp.nan, value)


def _places(scores):
    """(the order, the number below each score, the number not above it)."""
    order = jnp.argsort(scores)
    ordered = scores[order]
    below, upto = (jnp.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return order, below, upto


def _running(chosen):
    """(n + 1,): how many of the first i are chosen."""
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(chosen, dtype=jnp.int32)])


def auroc(y: Array, t: Array) -> jax.Array:
    """Area under the ROC curve: the probability that a positive is ranked above a negative example.

        1/(n₊ n₋) Σ₊ Σ₋ [s₊ > s₋] + ½ [s₊ = s₋]

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> (). For k classes each is ranked against the rest
    by its probability, and the mean is over those with examples on both sides. NaN for data of
    one class.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Hanley & McNeil (1982); Hand & Till (2001) for several classes against the rest.

    >>> float(auroc(jnp.array([3.0, 2.0, 2.0, 1.0]), jnp.array([1, 1, 0, 0])))
    0.875
    """

    def of_one(scores, right):
        order, below, upto = _places(scores)
        negatives = _running(~right[order])
        beaten = (negatives[below] + negatives[upto]).astype(scores.dtype) / 2
        return _mean_where(_ratio(beaten, negatives[-1], jnp.nan), right)

    return _ranked("auroc", y, t, of_one)


def average_precision(y: Array, t: Array) -> jax.Array:
    """Area under the precision-recall curve, as a sum of steps, without interpolation.

        1/n₊ Σ₊ (positives with a score ≥ s₊) / (examples with a score ≥ s₊)

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> (). For k classes each is ranked against the rest
    by its probability, and the mean is over those with examples. NaN without a positive
    example (0 in scikit-learn), and 1 if all are.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Manning, Raghavan & Schütze, Introduction to Information Retrieval (2008), section 8.4.

    >>> round(float(average_precision(jnp.array([3.0, 2.0, 1.0]), jnp.array([1, 0, 1]))), 4)
    0.8333
    """

    def of_one(scores, right):
        order, below, _ = _places(scores)
        positives = _running(right[order])
        above = (positives[-1] - positives[below]).astype(scores.dtype)
        return _mean_where(_ratio(above, len(scores) - below, 0), right)

    return _ranked("average_precision", y, t, of_one)


# from the probabilities
def log_loss(y: Array, t: Array) -> jax.Array:
    """Mean of the negative logarithm of the probability of the correct class.

        -1/n Σₙ log pₙ(tₙ),    p = softmax(y), and sigmoid(y) for y (n,)

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> (). Nothing is clipped: it may be infinite.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Good, Rational decisions (1952).

    >>> round(float(log_loss(jnp.zeros(3), jnp.array([1, 0, 1]))), 4)
    0.6931
    """
    y, right = _classes("log_loss", y, t)
    if y.ndim == 1:
        return jax.nn.softplus(jnp.where(right, -y, y)).mean()
    return softmax_cross_entropy(y, t)


def brier(y: Array, t: Array) -> jax.Array:
    """Mean squared distance of the probabilities from the targets.

        1/n Σₙ Σₖ (pₙₖ - tₙₖ)²,    from 0 to 2; for y (n,) that of the positive class alone, to 1

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Brier (1950).

    >>> t = jnp.array([1, 0, 1])
    >>> float(brier(jnp.zeros(3), t)), float(brier(jnp.zeros((3, 2)), t))
    (0.25, 0.5)
    """
    y, right = _classes("brier", y, t)
    answer = _both(right).astype(y.dtype)
    distance = jnp.square(_probabilities(y) - answer).sum(axis=1).mean()
    return distance / 2 if y.ndim == 1 else distance


@declared
def calibration_error(y: Array, t: Array, bins: PositiveInteger = 15) -> jax.Array:
    """Mean gap between confidence and accuracy, over bins of examples of similar confidence.

        Σ_b n_b/n |accuracy_b - confidence_b|,    confidence = maxₖ p in (b/bins, (b + 1)/bins]

    Shapes: y (n, k) or (n,), t (n,) or (n, k) -> (). `bins` is an integer; set it with
    functools.partial.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Naeini, Cooper & Hauskrecht (2015); Guo, Pleiss, Sun & Weinberger (2017), section 2.

    >>> float(calibration_error(jnp.zeros(4), jnp.array([0, 0, 0, 1])))
    0.25
    """
    y, right = _classes("calibration_error", y, t)
    confidence = _probabilities(y).max(axis=1)
    correct = (_both(_predicted(y)) & _both(right)).any(axis=1).astype(y.dtype)
    edges = jnp.arange(1, bins, dtype=y.dtype) / bins
    place = jnp.searchsorted(edges, confidence, side="left")
    gaps = jnp.zeros(bins, y.dtype).at[place].add(correct - confidence)
    return jnp.abs(gaps).sum() / len(y)


# of real numbers
def mae(y: Array, t: Array) -> jax.Array:
    """Mean of |y - t|.

    Shapes: y and t alike, (n,) or (n, d) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Willmott & Matsuura (2005).

    >>> float(mae(jnp.array([1.0, 4.0]), jnp.array([1.0, 2.0])))
    1.0
    """
    y, t = _reals("mae", y, t)
    return jnp.abs(y - t).mean()


def rmse(y: Array, t: Array) -> jax.Array:
    """Root of the mean of (y - t)², for d columns the mean of their roots.

    Shapes: y and t alike, (n,) or (n, d) -> ().
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Willmott & Matsuura (2005).

    >>> float(rmse(jnp.array([1.0, 4.0]), jnp.array([3.0, 6.0])))
    2.0
    """
    y, t = _reals("rmse", y, t)
    return jnp.sqrt(jnp.square(y - t).mean(axis=0)).mean()


def r2(y: Array, t: Array) -> jax.Array:
    """Coefficient of determination: 1 for perfect outputs, 0 for the mean of the targets.

        1 - Σ (t - y)² / Σ (t - t̄)²,    for d columns the mean of theirs

    Shapes: y and t alike, (n,) or (n, d) -> (). A column of equal targets counts as 1 where the
    outputs equal them and as 0 elsewhere; a single example is NaN.
    Raises ValueError and TypeError as `purenet.metrics` says.
    Source: Draper & Smith, Applied Regression Analysis (1998), section 1.3.

    >>> float(r2(jnp.array([1.0, 2.0, 2.0]), jnp.array([1.0, 2.0, 3.0])))
    0.5
    """
    y, t = _reals("r2", y, t)
    left = jnp.square(y - t).sum(axis=0)
    spread = jnp.square(t - t.mean(axis=0)).sum(axis=0)
    equal = (t == t[0]).all(axis=0)
    constant = jnp.where(left == 0, 1.0, jnp.where(jnp.isnan(left), left, 0.0))
    columns = jnp.where(equal, constant, 1 - left / jnp.where(equal, 1, spread))
    return columns.mean() if len(y) > 1 else jnp.full((), jnp.nan, y.dtype)
