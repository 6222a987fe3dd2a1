"""Supervised training: a network, a loss and an optimizer as a Trainable."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import is_numeric
from purenet.core.padded import AnySize, PaddedSize, PaddedSizes, capacity_of
from purenet.core.precision import MatmulPrecision, at_precision
from purenet.core.types import Array, HookedOptimizer, Layer, Optimizer, Trainable
from purenet.core.validate import (
    Function,
    PositiveInteger,
    accepts,
    declared,
    describe_value,
    non_negative,
    require,
)
from purenet.optim.base import with_extras
from purenet.training.evaluation import activations, evaluate, predict, score
from purenet.training.settings import Settings, is_binary
from purenet.training.steps import epoch, init, observe, steps


@declared
def supervised(
    net: Layer,
    sizes: PaddedSizes,
    optimizer: Optimizer,
    loss: Function,
    batch_size: AnySize,
    penalty: Function | None = None,
    batches: str = "shuffled",
    metrics: dict[str, Callable] | None = None,
    microbatches: PositiveInteger = 1,
    weights: Callable | Sequence | Array | None = None,
    augment: Function | None = None,
    matmul_precision: MatmulPrecision | None = None,
) -> Trainable:
    """Training of a network on pairs (x, t): a `Trainable(init, epoch, evaluate)`.

        minimise  loss(net(x), t) + penalty(weights)  by one optimizer step per minibatch

    `sizes` are those of `net.init`. `loss(y, t)` is a mean over examples. Every
    `metrics[name](y, t)` is a function of outputs and targets, such as those of `purenet.metrics`:
    `evaluate` applies it to all examples at once, `epoch` to each minibatch, reporting the mean
    over minibatches. Without `metrics`, accuracy is reported if labels are integers or the loss is
    `softmax_cross_entropy`. `penalty(weights)` is added to the objective, not to the reported loss.
    An optimizer whose `update` takes `value=` gets the reported loss of the minibatch, and one with
    an `observe`, such as `reduce_on_plateau`, the validation metrics of each epoch.
    `batches` is "shuffled" (every example at most once per epoch, in a new order; the remaining
    n mod batch_size are left out of this epoch) or "with_replacement" (each minibatch drawn at
    random). An epoch is max(1, n // batch_size) steps; a minibatch is never larger than the data.

    `microbatches` = k > 1 computes the gradient of a minibatch in k equal parts, one after the
    other, and takes their mean: the activations of batch_size / k examples are in memory at once.

        g = ∇penalty(weights) + 1/k Σᵢ ∇loss(net(xᵢ), tᵢ)

    Up to rounding, that is the gradient of the minibatch, in networks whose outputs do not depend
    on other examples. batch_norm normalises each part by its own statistics and updates the
    running ones with each of them; each part has its own dropout key. With fewer examples than
    batch_size, a minibatch holds the largest number of them that k divides.

    `weights` makes the loss a weighted mean, Σ wᵢ lᵢ / Σ wᵢ, with lᵢ the loss of example i alone,
    in training and in evaluation; the metrics stay unweighted. It is either one weight per
    class, possibly traced, or a function `weights(t) -> (n,)` of the targets: individual weights
    can be a column of t that the loss ignores. A minibatch whose weights are all 0 has loss 0.

    `augment(key, x) -> x` is applied to the examples of every training minibatch, with a new key
    each time, but not in evaluation. It must be pure and keep the shape and the dtype; its
    parameters may be traced.

    `matmul_precision` is that of all matrix products and convolutions, in training and evaluation:
    "default", "high" or "highest"; without it, JAX's own setting, `jax.default_matmul_precision`.
    On a CPU all are the same; a GPU or TPU is faster, and rounds its operands, by default.

    With `batch_size=PaddedSize(size, capacity)` minibatches are arrays of `capacity` examples, of
    which the first `size`, a number that may be traced, are real: one program trains with every
    batch size. Steps, order and random keys are those of `batch_size=size`, and so are, up to
    rounding, gradients, losses, dropout and the statistics of batch_norm, as long as the loss is a
    mean over examples. The network gets the PaddedSize as `train`, so a custom layer that mixes
    examples can tell which are real. For each minibatch, metrics other than accuracy are computed
    on its real examples, repeated to fill the capacity, which is exact if `size` divides it.
    `augment` gets the whole array. With `microbatches`, a part is an array of capacity / k
    examples, and those without a real one are not computed: with small parts, a size far below the
    capacity costs what it would alone.

    `epoch` and `evaluate` take a `Subset` as data too. `predict(state, x)` returns the network's
    outputs, as class probabilities if the loss is `softmax_cross_entropy` or
    `sigmoid_binary_cross_entropy`, also as a functools.partial; `score(predictions, t)` returns
    the loss and the metrics of such predictions. `activations(state, x)` returns the outputs of
    each layer with weights. Streamed data needs "shuffled" batches of a plain
    size.

    Raises ValueError if `microbatches` does not divide `batch_size`, or the capacity of one that is
    padded, and for any other word in `batches`; TypeError if `net` is not a Layer, `optimizer` not
    a pair (init, update), a metric not a function, or `weights` neither a function nor numbers.
    `check(data)` raises for data that does not fit the network, and, when it is traced, `epoch` for
    fewer examples than `microbatches`, for a loss or a metric that is not a real number, and for
    weights and augmented examples of another shape.

    >>> from purenet.nn.losses import softmax_cross_entropy
    >>> from purenet.nn.models import mlp
    >>> from purenet.optim.optimizers import sgd
    >>> digits = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> trainable = supervised(mlp(), (4, 8, 3), sgd(0.1), softmax_cross_entropy, batch_size=5)
    >>> state = trainable.init(jax.random.key(0))
    >>> state, metrics = trainable.epoch(state, digits)
    >>> int(state.step), sorted(metrics)
    (4, ['accuracy', 'loss'])
    """
    _expect(isinstance(net, Layer), "net", net, "a Layer such as mlp()")
    pair = all(callable(getattr(optimizer, name, None)) for name in ("init", "update"))
    _expect(pair, "optimizer", optimizer, "a pair (init, update) such as sgd(0.1)")
    if capacity_of(batch_size) % microbatches:
        raise ValueError(
            f"supervised: batch_size {batch_size} is not a multiple of microbatches "
            f"{microbatches}, but parts of equal size are expected."
        )
    words = '"shuffled" or "with_replacement"'
    _expect(batches in ("shuffled", "with_replacement"), "batches", batches, words, ValueError)
    if not accepts(loss, None, None):
        raise TypeError(f"supervised: {describe_value(loss)} cannot be called as loss(y, t).")
    if metrics is not None:
        _check_metrics(metrics)
    weighing = weights if weights is None or callable(weights) else _class_weights(weights)
    settings = Settings(
        net, sizes, hooked(optimizer), loss, batch_size, penalty, batches, metrics, microbatches,
        weighing, augment,
    )  # fmt: skip
    return trainable_of(settings, matmul_precision)


def hooked(optimizer: Optimizer) -> HookedOptimizer:
    """The optimizer with all that a step asks of it.

    >>> from purenet.optim.optimizers import sgd
    >>> hooked(sgd(0.1)).observe is None
    True
    """
    hooks = (getattr(optimizer, name, None) for name in ("gradient_at", "observe"))
    return HookedOptimizer(optimizer.init, with_extras(optimizer.update), *hooks)


def trainable_of(settings: Settings, matmul_precision: str | None = None) -> Trainable:
    """The Trainable of checked settings.

    >>> from purenet.optim.optimizers import sgd
    >>> settings = Settings(*[None] * len(Settings._fields))._replace(optimizer=hooked(sgd(0.1)))
    >>> trainable_of(settings).observe is None
    True
    """
    of = lambda f: at_precision(matmul_precision, functools.partial(f, settings))
    # one function for all parts of the data, which JAX traces once
    outputs = functools.partial(_outputs, settings)
    check = of(functools.partial(_check, outputs))
    observed = settings.optimizer.observe is not None
    trainable = Trainable(
        of(init), of(epoch), of(evaluate), check, of(predict), of(score), subsets=True,
        network=of(_network), activations=of(activations),
        observe=of(observe) if observed else None,
    )  # fmt: skip
    if settings.batches != "shuffled" or isinstance(settings.batch_size, PaddedSize):
        return trainable  # whose minibatches are drawn from data in memory
    return trainable._replace(steps=of(steps), batch_size=settings.batch_size)


def _network(settings: Settings) -> tuple[Layer, PaddedSizes]:
    return settings.net, settings.sizes


# checks
def _expect(legal: bool, name: str, value, expected: str, error: type[Exception] = TypeError):
    if not legal:
        raise error(f"supervised: {name} is {describe_value(value)}, but {expected} is expected.")


def _check_metrics(metrics) -> None:
    by_name = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    legal = by_name and all(map(callable, metrics.values()))
    _expect(legal, "metrics", metrics, "a dict from names to functions (y, t)")
    if "loss" in metrics:
        raise ValueError(
            "supervised: a metric cannot be named 'loss', which is reported too; rename it."
        )


def _class_weights(weights):
    """One number per class, as an array. Plain numbers are inspected, arrays never."""
    if isinstance(weights, (list, tuple)):
        for weight in weights:
            non_negative("supervised", weights=weight)
        weights = jnp.stack([jnp.asarray(weight, float) for weight in weights])
    legal = isinstance(weights, (jax.Array, np.ndarray)) and weights.ndim == 1
    _expect(legal, "weights", weights, "one number per class, or a function of the targets,")
    return weights


def _check(outputs: Callable, settings: Settings, data) -> None:
    """Check (x, t) before compiling, with errors in the user's terms."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    _expect(pair, "data", data, "a pair (x, t)", ValueError)
    x, t = data
    for name, a in (("x", x), ("t", t)):
        array = hasattr(a, "shape") and hasattr(a, "dtype")
        _expect(array, name, a, "an array such as numpy.asarray makes")
        _expect(is_numeric(a.dtype), name, a, "an array of numbers")
    if x.ndim == 0 or t.ndim == 0 or x.shape[0] != t.shape[0]:
        raise ValueError(
            f"supervised: x has shape {x.shape} and t has shape {t.shape}; "
            "both need the same number of examples on the leading axis."
        )
    _expect(x.shape[0] > 0, "the data is empty: x", x, "at least one example", ValueError)
    for name, a in (("x", x), ("t", t)):
        if jnp.issubdtype(a.dtype, jnp.inexact) and not np.isfinite(np.asarray(a)).all():
            row = int(np.argwhere(~np.isfinite(np.asarray(a)))[0][0])
            raise ValueError(
                f"supervised: {name} holds a number that is not finite, first in example {row}; "
                "remove or replace such examples."
            )
    _check_labels(outputs, settings, x, t)


def _outputs(settings: Settings, x):
    net = settings.net
    return net.apply(net.init(jax.random.key(0), settings.sizes), x, False, None)[0]


def _check_labels(outputs: Callable, settings: Settings, x, t) -> None:
    """Integer labels have to be those of the network's outputs; x has to fit the network."""
    probe = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
    y = jax.eval_shape(outputs, probe)
    if is_binary(settings):
        require(
            y.shape[1:] == t.shape[1:],
            f"supervised: t has shape {t.shape}, but the network's outputs have shape "
            f"{(len(t), *y.shape[1:])}, and one target for each is expected; t[:, None] makes a "
            "column.",
        )
    elif jnp.issubdtype(t.dtype, jnp.integer) and t.ndim == 1 and len(y.shape) == 2:
        labels = np.asarray(t)  # not traced where a program of the user's holds them
        low, high, classes = int(labels.min()), int(labels.max()), y.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"supervised: labels run from {low} to {high}, but the network has {classes} "
                f"outputs, so labels 0 to {classes - 1} are expected."
            )
