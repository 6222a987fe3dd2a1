"""What one supervised training is made of, and what it measures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.contracts import check_scalar, checked_metrics, traced_code
from purenet.core.padded import PaddedSizes, Size, keep_first
from purenet.core.types import Array, Layer, Number, Optimizer, PyTree
from purenet.core.validate import describe_value
from purenet.nn.losses import accuracy, softmax_cross_entropy


class Settings(NamedTuple):
    """The arguments of `supervised`, checked.

    >>> Settings._fields[:2]
    ('net', 'sizes')
    """

    net: Layer
    sizes: PaddedSizes
    optimizer: Optimizer
    loss: Callable
    batch_size: Size
    penalty: Callable | None
    batches: str
    metrics: dict[str, Callable] | None
    microbatches: int


def loss_of(settings: Settings, y: Any, t: Any, rows: Number | None = None) -> Array:
    """The loss of outputs and targets; of the first `rows` of them, if there is such a number.

    Raises TypeError or ValueError unless it is one real number.

    >>> from purenet.nn.losses import mean_squared_error
    >>> settings = Settings(*[None] * len(Settings._fields))._replace(loss=mean_squared_error)
    >>> loss_of(settings, jnp.ones(2), jnp.zeros(2)).item()
    1.0
    """
    if rows is not None:
        return _mean_of_first(rows, functools.partial(loss_of, settings), y, t)
    value = settings.loss(y, t)
    check_scalar("supervised: the loss", value)
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"supervised: the loss is {describe_value(value)}, but one real number is expected."
        )
    return value


def _mean_of_first(rows, f, y, t):
    """f of the first `rows` examples, where it is a mean over examples."""
    alone = lambda tree: jax.tree.map(lambda a: a[None], tree)
    each = jax.vmap(lambda y, t: f(alone(y), alone(t)))(y, t)
    return keep_first(each, rows, 0).sum() / jnp.asarray(rows, each.dtype)


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
    """The metrics by name, the loss `value` among them; of the first `rows`, if there are such.

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
    if whole(metric) is accuracy:
        return _mean_of_first(rows, metric, y, t)
    repeated = lambda a: a[jnp.arange(a.shape[0]) % rows]
    return metric(*jax.tree.map(repeated, (y, t)))


def _suggested(loss, t):
    """The metrics that the loss and the targets suggest."""
    if whole(loss) is softmax_cross_entropy or jnp.issubdtype(t.dtype, jnp.integer):
        return {"accuracy": accuracy}
    return {}


def whole(loss: Callable) -> Callable:
    """A loss without the arguments that functools.partial has filled in.

    >>> whole(functools.partial(softmax_cross_entropy, smoothing=0.1)) is softmax_cross_entropy
    True
    """
    return loss.func if isinstance(loss, functools.partial) else loss
