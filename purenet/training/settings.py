"""What one supervised training is made of, and what it measures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from purenet.core.contracts import check_scalar, checked_metrics, traced_code
from purenet.core.types import Array, Layer, Number, Optimizer, PyTree, Sizes
from purenet.core.validate import describe_value
from purenet.nn.losses import accuracy, softmax_cross_entropy


class Settings(NamedTuple):
    """The arguments of `supervised`, checked.

    >>> Settings._fields[:2]
    ('net', 'sizes')
    """

    net: Layer
    sizes: Sizes
    optimizer: Optimizer
    loss: Callable
    batch_size: int
    penalty: Callable | None
    batches: str
    metrics: dict[str, Callable] | None
    microbatches: int


def loss_of(settings: Settings, y: Any, t: Any) -> Array:
    """The loss of outputs and targets. Raises TypeError or ValueError unless it is one real number.

    >>> from purenet.nn.losses import mean_squared_error
    >>> settings = Settings(*[None] * len(Settings._fields))._replace(loss=mean_squared_error)
    >>> loss_of(settings, jnp.ones(2), jnp.zeros(2)).item()
    1.0
    """
    value = settings.loss(y, t)
    check_scalar("supervised: the loss", value)
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"supervised: the loss is {describe_value(value)}, but one real number is expected."
        )
    return value


def penalty_of(penalty: Callable, weights: PyTree) -> Number:
    """The penalty. Raises TypeError or ValueError unless it is one number.

    >>> penalty_of(lambda weights: weights**2, 3.0)
    9.0
    """
    value = penalty(weights)
    check_scalar("supervised: the penalty", value)
    return value


def measure(settings: Settings, y: Any, t: Any, value: Number) -> dict[str, Any]:
    """The metrics by name, the loss `value` among them.

    >>> settings = Settings(*[None] * len(Settings._fields))._replace(metrics={})
    >>> measure(settings, jnp.ones(2), jnp.zeros(2), 1.0)
    {'loss': 1.0}
    """
    metrics = settings.metrics
    named = {}
    for name, metric in (_suggested(settings.loss, t) if metrics is None else metrics).items():
        with traced_code(f"supervised: the metric {name!r}"):
            named[name] = metric(y, t)
    return checked_metrics("supervised", {"loss": value, **named})


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
