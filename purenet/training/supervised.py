"""Supervised training: one step, one epoch as one scan, evaluation."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.contracts import check_scalar, checked_metrics, traced_code
from purenet.core.dtypes import is_numeric
from purenet.core.types import Layer, Optimizer, Params, PyTree, Sizes, Trainable, TrainState
from purenet.core.validate import (
    Function,
    PositiveInteger,
    accepts,
    declared,
    describe_value,
)
from purenet.distributed.mesh import shard_batch
from purenet.nn.losses import accuracy, softmax_cross_entropy
from purenet.optim.base import with_extras
from purenet.optim.transforms import apply_updates

# Evaluation runs through the data in chunks: of at most this many examples, which are enough for
# efficient products, and of at most this many numbers (but no fewer examples than training has in
# memory at once), so that the activations of large images fit in memory.
_EVALUATION_CHUNK = 1000
_EVALUATION_NUMBERS = 1_000_000


@declared
def supervised(
    net: Layer,
    sizes: Sizes,
    optimizer: Optimizer,
    loss: Function,
    batch_size: PositiveInteger,
    penalty: Function | None = None,
    batches: str = "shuffled",
    metrics: dict[str, Callable] | None = None,
    microbatches: PositiveInteger = 1,
) -> Trainable:
    """Training of a network on pairs (x, t): a `Trainable(init, epoch, evaluate)`.

        minimise  loss(net(x), t) + penalty(weights)  by one optimizer step per minibatch

    `sizes` are those of `net.init`. `loss(y, t)` is a mean over examples. Every
    `metrics[name](y, t)` is a function of outputs and targets, such as those of `purenet.metrics`:
    `evaluate` gives it those of all examples at once, `epoch` those of each minibatch, and reports
    the mean over the minibatches. Without `metrics`, accuracy is reported where labels are integers
    or the loss is `softmax_cross_entropy`. `penalty(weights)` is added to what is minimised, not to
    the reported loss. An optimizer whose `update` takes `value=` is given the reported loss of the
    minibatch.
    `batches` is "shuffled" (every example at most once an epoch, in a new order;
    the n mod batch_size left over sit this epoch out) or "with_replacement" (each minibatch drawn
    at random). An epoch is max(1, n // batch_size) steps; a minibatch never outgrows the data.

    `microbatches` = k > 1 computes the gradient of a minibatch in k equal parts, one after the
    other, and takes their mean: the activations of batch_size / k examples are in memory at once.

        g = ∇penalty(weights) + 1/k Σᵢ ∇loss(net(xᵢ), tᵢ)

    That is the gradient of the minibatch but for rounding, in networks whose outputs do not depend
    on the other examples. batch_norm normalises each part by its own statistics, and moves the
    running ones k times a step; each part has a dropout key of its own. Where there are fewer
    examples than batch_size, a minibatch is the most of them that k divides.

    Raises ValueError if `microbatches` does not divide `batch_size`, and for another word in
    `batches`; TypeError if `net` is not a Layer, `optimizer` not a pair (init, update), or a metric
    not a function. `check(data)` raises for data that does not fit the network, and, when it is
    traced, `epoch` for fewer examples than `microbatches` and for a loss or a metric that gives no
    real number.

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
    if batch_size % microbatches:
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
    optimizer = Optimizer(optimizer.init, with_extras(optimizer.update))
    training = _Training(
        net, sizes, optimizer, loss, batch_size, penalty, batches, metrics, microbatches
    )
    of = lambda f: functools.partial(f, training)
    return Trainable(of(_init), of(_epoch), of(_evaluate), of(_check))


class _Training(NamedTuple):
    """What one supervised training is made of: the arguments of `supervised`, checked."""

    net: Layer
    sizes: Sizes
    optimizer: Optimizer
    loss: Callable
    batch_size: int
    penalty: Callable | None
    batches: str
    metrics: dict[str, Callable] | None
    microbatches: int


def _init(training: _Training, key):
    for_params, for_run = jax.random.split(key)
    params = training.net.init(for_params, training.sizes)
    step = jnp.zeros((), jnp.int32)
    return TrainState(params, training.optimizer.init(params.weights), for_run, step)


# one step
def _step(training: _Training, state, pick, rows, key):
    """One optimizer step on the examples `rows`, which `pick` takes from the data."""
    params = state.params
    if training.microbatches == 1:
        objective = functools.partial(_objective, training, training.penalty)
        grads, (stats, values) = _gradients(objective, params, pick(rows), key)
    else:
        grads, (stats, values) = _microbatched_gradients(training, params, pick, rows, key)
    updates, opt_state = training.optimizer.update(
        grads, state.opt_state, params.weights, value=values["loss"]
    )
    params = Params(apply_updates(params.weights, updates), stats)
    return TrainState(params, opt_state, state.key, state.step + 1), values


def _objective(training: _Training, penalty, weights, stats, minibatch, key):
    """What is minimised, and beside it (the new statistics, the metrics)."""
    x, t = minibatch
    y, stats = training.net.apply(Params(weights, stats), x, True, key)
    value = _loss(training, y, t)
    total = value if penalty is None else value + _penalty(penalty, weights)
    return total, (stats, _measure(training, y, t, value))


def _gradients(objective, params, minibatch, key):
    return jax.grad(objective, has_aux=True)(params.weights, params.stats, minibatch, key)


def _microbatched_gradients(training: _Training, params, pick, rows, key):
    """What `_gradients` gives, part by part; no example is picked before its part's turn."""
    microbatches, penalty = training.microbatches, training.penalty
    objective = functools.partial(_objective, training, None)

    def add(carry, now):
        total, stats = carry
        rows, key = now
        part = Params(params.weights, stats)
        grads, (stats, values) = _gradients(objective, part, pick(rows), key)
        return (jax.tree.map(jnp.add, total, grads), stats), values

    zeros = jax.tree.map(jnp.zeros_like, params.weights)
    # every k-th row is a part: on a mesh, each device has some of the rows of every part
    parts = rows.reshape(-1, microbatches).T, jax.random.split(key, microbatches)
    (total, stats), values = jax.lax.scan(add, (zeros, params.stats), parts)
    grads = jax.tree.map(lambda a: a / microbatches, total)
    if penalty is not None:
        slopes = jax.grad(lambda weights: 0.0 + _penalty(penalty, weights))(params.weights)
        grads = jax.tree.map(jnp.add, grads, slopes)
    return grads, (stats, jax.tree.map(lambda a: a.mean(axis=0), values))


def _loss(training: _Training, y, t):
    value = training.loss(y, t)
    check_scalar("supervised: the loss", value)
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"supervised: the loss is {describe_value(value)}, but one real number is expected."
        )
    return value


def _penalty(penalty, weights):
    value = penalty(weights)
    check_scalar("supervised: the penalty", value)
    return value


def _measure(training: _Training, y, t, value):
    """The metrics by name, the loss `value` among them."""
    loss, metrics = training.loss, training.metrics
    named = {}
    for name, metric in (_default_metrics(loss, t) if metrics is None else metrics).items():
        with traced_code(f"supervised: the metric {name!r}"):
            named[name] = metric(y, t)
    return checked_metrics("supervised", {"loss": value, **named})


# one epoch, one evaluation
def _epoch(training: _Training, state, data):
    data = jax.tree.map(jnp.asarray, data)
    n, microbatches = count_examples(data), training.microbatches
    size = min(training.batch_size, n)
    size -= size % microbatches
    if size == 0:
        raise ValueError(
            f"supervised: a minibatch is split into {microbatches} microbatches, but there are "
            f"{n} examples; use at most {n} microbatches."
        )
    steps = n // size
    # derived from the step count, so that it does not matter where a run was interrupted
    for_rows, for_steps = jax.random.split(jax.random.fold_in(state.key, state.step))
    if training.batches == "shuffled":
        rows = _permutation(for_rows, n)[: steps * size].reshape(steps, size)
    else:
        rows = jax.random.randint(for_rows, (steps, size), 0, n)

    def pick(rows):
        rows = shard_batch(rows)  # each device gathers its own
        return jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)

    def body(state, now):
        return _step(training, state, pick, *now)

    state, values = jax.lax.scan(body, state, (rows, jax.random.split(for_steps, steps)))
    return state, jax.tree.map(jnp.mean, values)


def _evaluate(training: _Training, state, data):
    def chunk(part):
        x, t = shard_batch(part)
        y, _ = training.net.apply(state.params, x, False, None)
        return _loss(training, y, t), y

    numbers = max(1, math.prod(jnp.shape(data[0])[1:]))
    most = max(training.batch_size // training.microbatches, _EVALUATION_NUMBERS // numbers)
    value, y = _in_chunks(chunk, data, min(_EVALUATION_CHUNK, most))
    return _measure(training, shard_batch(y), shard_batch(data[1]), value)


def _default_metrics(loss, t):
    whole = loss.func if isinstance(loss, functools.partial) else loss
    if whole is softmax_cross_entropy or jnp.issubdtype(t.dtype, jnp.integer):
        return {"accuracy": accuracy}
    return {}


def _permutation(key, n):
    """A random order of 0 .. n - 1: that of n random numbers of 32 bits.

    What `jax.random.permutation` gives, in a quarter of its time on a CPU, where numbers are sorted
    much faster than pairs of numbers. So every sort is of single numbers, some random bits above
    the place they belong to; sorted by the low bits first, then by the higher ones.
    """
    places = jnp.arange(n, dtype=jnp.uint32)
    below = (n - 1).bit_length()
    mask = jnp.uint32(2**below - 1)
    order = places
    for k in jax.random.split(key, math.ceil(32 / (32 - below))):
        mixed = jnp.sort((jax.random.bits(k, (n,)) & ~mask) | places)
        order = order[mixed & mask]
    return order


def _in_chunks(f, data, most):
    """f of the examples, `most` at a time: the mean of its means, and its outputs for all of them.

    f(part) -> (a mean over the part, an array or a tree of them with the examples first).
    """
    n = count_examples(data)
    count = math.ceil(n / most)
    size = n // count
    if count == 1:
        return f(data)
    head = jax.tree.map(lambda a: a[: count * size].reshape(count, size, *a.shape[1:]), data)
    means, outputs = jax.lax.map(f, head)
    total = means.sum(axis=0) * size
    outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)
    if n % count:
        mean, rest = f(jax.tree.map(lambda a: a[count * size :], data))
        total = total + mean * (n % count)
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, rest)
    return total / n, outputs


def count_examples(data: PyTree) -> int:
    return jax.tree.leaves(data)[0].shape[0]


# checks
def _expect(legal: bool, name: str, value, expected: str, error: type[Exception] = TypeError):
    if not legal:
        raise error(f"supervised: {name} is {describe_value(value)}, but {expected} is expected.")


def _check_metrics(metrics) -> None:
    by_name = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    legal = by_name and all(map(callable, metrics.values()))
    _expect(legal, "metrics", metrics, "a dict from names to functions (y, t)")
    if "loss" in metrics:
        raise ValueError("supervised: a metric cannot be called 'loss', which is reported; rename.")


def _check(training: _Training, data) -> None:
    """What can be said of (x, t) before compiling: errors in the user's terms."""
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
    _check_labels(training, x, t)


def _check_labels(training: _Training, x, t) -> None:
    """Integer labels have to be those of the network's outputs; x has to fit the network."""

    def outputs(x):
        net = training.net
        return net.apply(net.init(jax.random.key(0), training.sizes), x, False, None)[0]

    probe = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
    y = jax.eval_shape(outputs, probe)
    if jnp.issubdtype(t.dtype, jnp.integer) and t.ndim == 1 and len(y.shape) == 2:
        low, high, classes = int(t.min()), int(t.max()), y.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"supervised: labels run from {low} to {high}, but the network has {classes} "
                f"outputs, so labels 0 to {classes - 1} are expected."
            )
