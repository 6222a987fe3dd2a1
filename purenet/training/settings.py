"""The settings of a supervised training, and its loss, penalty and metrics."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.contracts import check_scalar, checked_metrics, traced_code
from purenet.core.padded import PaddedSizes, Size, keep_first
from purenet.core.types import Array, HookedOptimizer, Layer, Number, PyTree
from purenet.core.validate import describe_value, require
from purenet.nn.activations import sigmoid, softmax
from purenet.nn.losses import accuracy, sigmoid_binary_cross_entropy, softmax_cross_entropy


class Settings(NamedTuple):
    """The arguments of `supervised`, checked.

    >>> Settings._fields[:2]
    ('net', 'sizes')
    """

    net: Layer
    sizes: PaddedSizes
    optimizer: HookedOptimizer
    loss: Callable
    batch_size: Size
    penalty: Callable | None
    batches: str
    metrics: dict[str, Callable] | None
    microbatches: int
    weights: Callable | Array | None = None
    augment: Callable | None = None
    step: Callable | None = None  # (plain step, state, minibatch) -> (state, metrics)


def loss_of(
    settings: Settings, y: Any, t: Any, total: Number | None = None, rows: Number | None = None
) -> Array:
    """The loss of outputs and targets. Raises TypeError or ValueError unless it is one real number.

    With `rows`, only the first `rows` examples count; the others have weight 0.

    With weights it is Σ wᵢ lᵢ / total, where `total` is Σ wᵢ unless it is given.

    >>> from purenet.nn.losses import mean_squared_error
    >>> settings = Settings(*[None] * len(Settings._fields))._replace(loss=mean_squared_error)
    >>> loss_of(settings, jnp.ones(2), jnp.zeros(2)).item()
    1.0
    """
    if settings.weights is None and rows is None:
        return _checked_loss(settings, y, t)
    alone = _one_by_one(functools.partial(_checked_loss, settings), y, t)
    one = jnp.ones(alone.shape) if settings.weights is None else weights_of(settings, y, t)
    weights = keep_first(one.astype(alone.dtype), rows)
    total = weights.sum() if total is None else jnp.asarray(total, alone.dtype)
    value = (weights * keep_first(alone, rows)).sum()
    return value / jnp.where(total == 0, 1, total)  # 0 where nothing counts


def _one_by_one(f, y, t):
    """f of every example alone: the terms, if f is a mean over examples."""
    return jax.vmap(lambda y, t: f(y[None], t[None]))(y, t)


def _checked_loss(settings: Settings, y, t):
    value = settings.loss(y, t)
    check_scalar("supervised: the loss", value)
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"supervised: the loss is {describe_value(value)}, but one real number is expected."
        )
    return value


def weights_of(settings: Settings, y: Any, t: Any) -> jax.Array:
    """The weight of each example, (n,): that of its class, or from the user's function.

    Raises ValueError if the number of class weights is not the number of classes, for targets that
    are not classes, and for a function that returns another shape.

    >>> settings = Settings(*[None] * len(Settings._fields))._replace(weights=jnp.array([1.0, 5.0]))
    >>> weights_of(settings, jnp.zeros((3, 2)), jnp.array([1, 0, 1])).tolist()
    [5.0, 1.0, 5.0]
    """
    weights, t = settings.weights, jnp.asarray(t)
    if callable(weights):
        with traced_code("supervised: `weights`"):
            found = weights(t)
        shape, expected = jnp.shape(found), t.shape[:1]
        text = f"supervised: weights(t) has shape {shape}, but one weight per example, {expected}"
        require(shape == expected, f"{text}, is expected for t of shape {t.shape}.")
        return jnp.asarray(found)
    weights, columns = jnp.asarray(weights), y.shape[1] if y.ndim == 2 else 1
    classes = max(2, columns)
    require(
        weights.shape == (classes,),
        f"supervised: weights has shape {weights.shape}, but the network's outputs {y.shape} are "
        f"those of {classes} classes, so that ({classes},) is expected.",
    )
    if t.ndim == 2 and t.shape[1] == classes:  # one-hot, or the mean over its probabilities
        return t.astype(weights.dtype) @ weights
    require(
        t.size == len(t) and not jnp.issubdtype(t.dtype, jnp.inexact),
        f"supervised: class weights need class numbers or one-hot rows as targets, but t is "
        f"{describe_value(t)}; give a function weights(t) instead.",
    )
    return weights[t.reshape(-1).astype(jnp.int32)]


def penalty_of(penalty: Callable, weights: PyTree) -> Number:
    """The penalty. Raises TypeError or ValueError unless it is one number.

    >>> penalty_of(lambda weights: weights**2, 3.0)
    9.0
    """
    value = penalty(weights)
    check_scalar("supervised: the penalty", value)
    return value


def measure(
    settings: Settings, y: Any, t: Any, value: Number, rows: Number | None = None
) -> dict[str, Any]:
    """The metrics by name, including the loss `value`; with `rows`, of the first `rows` examples.

    >>> settings = Settings(*[None] * len(Settings._fields))._replace(metrics={})
    >>> measure(settings, jnp.ones(2), jnp.zeros(2), 1.0)
    {'loss': 1.0}
    """
    metrics = settings.metrics
    named = {}
    for name, metric in (_suggested(settings.loss, t) if metrics is None else metrics).items():
        with traced_code(f"supervised: the metric {name!r}"):
            named[name] = metric(y, t) if rows is None else _of_first(rows, metric, y, t)
    return checked_metrics("supervised", {"loss": value, **named})


def _of_first(rows, metric, y, t):
    """A metric of the first `rows` examples; unless it is the accuracy, but for their weights.

    Which sizes of arrays it will take is known for the whole batch alone, so the examples are
    repeated to fill it: each as often as the others where `rows` divides it.
    """
    if _whole(metric) in (accuracy, _binary_accuracy):
        right = _one_by_one(metric, y, t)
        return keep_first(right, rows).sum() / jnp.asarray(rows, right.dtype)
    repeated = lambda a: a[jnp.arange(a.shape[0]) % rows]
    return metric(*jax.tree.map(repeated, (y, t)))


def _suggested(loss, t):
    """The metrics that the loss and the targets suggest."""
    if _whole(loss) is sigmoid_binary_cross_entropy:
        return {"accuracy": _binary_accuracy}
    if _whole(loss) is softmax_cross_entropy or jnp.issubdtype(t.dtype, jnp.integer):
        return {"accuracy": accuracy}
    return {}


def _binary_accuracy(y, t):
    """The fraction of correct answers to all yes-or-no questions."""
    return accuracy(y.reshape(-1), t.reshape(-1).astype(y.dtype) > 0.5)


def is_binary(settings: Settings) -> bool:
    """Whether the loss takes one logit for each yes-or-no question.

    >>> is_binary(Settings(*[None] * len(Settings._fields)))
    False
    """
    return _whole(settings.loss) is sigmoid_binary_cross_entropy


def link(settings: Settings) -> str:
    """What makes predictions of outputs: "softmax", "sigmoid" or "identity".

    >>> link(Settings(*[None] * len(Settings._fields))._replace(loss=softmax_cross_entropy))
    'softmax'
    """
    if is_binary(settings):
        return "sigmoid"
    return "softmax" if _whole(settings.loss) is softmax_cross_entropy else "identity"


def as_prediction(settings: Settings, y: jax.Array) -> jax.Array:
    """Class probabilities if the loss is a cross-entropy, otherwise the outputs unchanged.

    >>> settings = Settings(*[None] * len(Settings._fields))
    >>> as_prediction(settings._replace(loss=softmax_cross_entropy), jnp.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """
    if link(settings) == "identity":
        return y
    return sigmoid(y) if is_binary(settings) else softmax(y)


def as_outputs(settings: Settings, p: jax.Array) -> jax.Array:
    """Outputs that give these predictions; a probability of 0 counts as the smallest number.

    >>> settings = Settings(*[None] * len(Settings._fields))
    >>> y = as_outputs(settings._replace(loss=softmax_cross_entropy), jnp.array([[0.25, 0.75]]))
    >>> print(softmax(y))
    [[0.25 0.75]]
    """
    p = jnp.asarray(p)
    if link(settings) == "identity":
        return p
    log = lambda p: jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
    return log(p) - log(1 - p) if is_binary(settings) else log(p)


def _whole(loss):
    """A loss without the arguments that functools.partial has filled in."""
    return loss.func if isinstance(loss, functools.partial) else loss
