"""Supervised training: one step, one epoch as one scan, evaluation."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.contracts import check_scalar, checked_metrics, traced_code
from purenet.core.dtypes import is_numeric
from purenet.core.types import Layer, Optimizer, Params, Sizes, Trainable, TrainState
from purenet.core.validate import accepts, check_function, describe_value, integer
from purenet.distributed.mesh import shard_batch
from purenet.nn.losses import accuracy, softmax_cross_entropy
from purenet.optim.base import with_extras
from purenet.optim.transforms import apply_updates

# Evaluation runs through the data in chunks: of at most this many examples, which are enough for
# efficient products, and of at most this many numbers (but no fewer examples than training has in
# memory at once), so that the activations of large images fit in memory.
_EVALUATION_CHUNK = 1000
_EVALUATION_NUMBERS = 1_000_000


def supervised(
    net: Layer,
    sizes: Sizes,
    optimizer: Optimizer,
    loss: Callable,
    batch_size: int,
    penalty: Callable | None = None,
    batches: str = "shuffled",
    metrics: dict[str, Callable] | None = None,
    microbatches: int = 1,
) -> Trainable:
    """Training of a network on pairs (x, t): a `Trainable(init, epoch, evaluate)`.

        minimise  loss(net(x), t) + penalty(weights)  by one optimizer step per minibatch

    `sizes` is what `net.init` takes. `loss(y, t)` is a mean over examples. Every
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

    Raises ValueError for a batch size below 1 or one that `microbatches` does not divide, and for
    another word in `batches`; TypeError for a `net` or an `optimizer` that is not one, and for a
    loss, penalty or metric that is no function. `check(data)` raises for data that does not fit the
    network, and, when it is traced, `epoch` for fewer examples than `microbatches` and for a loss
    or a metric that gives no real number.

    >>> from purenet.nn.models import mlp
    >>> from purenet.optim.optimizers import sgd
    >>> digits = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> trainable = supervised(mlp(), (4, 8, 3), sgd(0.1), softmax_cross_entropy, batch_size=5)
    >>> state = trainable.init(jax.random.key(0))
    >>> state, metrics = trainable.epoch(state, digits)
    >>> int(state.step), sorted(metrics)
    (4, ['accuracy', 'loss'])
    """
    if not isinstance(net, Layer):
        raise TypeError(f"supervised: net is {_kind(net)}, but a Layer such as mlp() is expected.")
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"supervised: optimizer is {_kind(optimizer)}, but a pair (init, update) such as "
            "sgd(0.1) is expected."
        )
    batch_size = integer("supervised: batch_size", batch_size, least=1)
    microbatches = integer("supervised: microbatches", microbatches, least=1)
    if batch_size % microbatches:
        raise ValueError(
            f"supervised: batch_size {batch_size} is not a multiple of microbatches "
            f"{microbatches}, but parts of equal size are expected."
        )
    if batches not in ("shuffled", "with_replacement"):
        raise ValueError(
            f'supervised: batches is {batches!r}, but "shuffled" or "with_replacement" is expected.'
        )

    check_function("supervised", loss=loss)
    if not accepts(loss, None, None):
        raise TypeError(f"supervised: {describe_value(loss)} cannot be called as loss(y, t).")
    if penalty is not None:
        penalty = _checked_penalty(penalty)
    if metrics is not None:
        _check_metrics(metrics)

    update = with_extras(optimizer.update)

    def loss_of(y, t):
        value = loss(y, t)
        check_scalar("supervised: the loss", value)
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise TypeError(
                f"supervised: the loss is {describe_value(value)}, but one real number is expected."
            )
        return value

    def measure(y, t, value):
        chosen = _default_metrics(loss, t) if metrics is None else metrics
        named = {}
        for name, metric in chosen.items():
            with traced_code(f"supervised: the metric {name!r}"):
                named[name] = metric(y, t)
        return checked_metrics("supervised", {"loss": value, **named})

    def init(key):
        for_params, for_run = jax.random.split(key)
        params = net.init(for_params, sizes)
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, optimizer.init(params.weights), for_run, step)

    def gradients(params, minibatch, key, penalty):
        x, t = minibatch

        def objective(weights):
            y, stats = net.apply(Params(weights, params.stats), x, True, key)
            value = loss_of(y, t)
            total = value if penalty is None else value + penalty(weights)
            return total, (stats, measure(y, t, value))

        return jax.grad(objective, has_aux=True)(params.weights)

    def accumulated(params, pick, rows, key):
        """What `gradients` gives, part by part; no example is picked before its part's turn."""

        def add(carry, now):
            total, stats = carry
            rows, key = now
            grads, (stats, values) = gradients(Params(params.weights, stats), pick(rows), key, None)
            return (jax.tree.map(jnp.add, total, grads), stats), values

        zeros = jax.tree.map(jnp.zeros_like, params.weights)
        # every k-th row is a part: on a mesh, each device has some of the rows of every part
        parts = rows.reshape(-1, microbatches).T, jax.random.split(key, microbatches)
        (total, stats), values = jax.lax.scan(add, (zeros, params.stats), parts)
        grads = jax.tree.map(lambda a: a / microbatches, total)
        if penalty is not None:
            slopes = jax.grad(lambda weights: 0.0 + penalty(weights))(params.weights)
            grads = jax.tree.map(jnp.add, grads, slopes)
        return grads, (stats, jax.tree.map(lambda a: a.mean(axis=0), values))

    def train_step(state, pick, rows, key):
        params = state.params
        if microbatches == 1:
            grads, (stats, values) = gradients(params, pick(rows), key, penalty)
        else:
            grads, (stats, values) = accumulated(params, pick, rows, key)
        updates, opt_state = update(grads, state.opt_state, params.weights, value=values["loss"])
        params = Params(apply_updates(params.weights, updates), stats)
        return TrainState(params, opt_state, state.key, state.step + 1), values

    def epoch(state, data):
        data = jax.tree.map(jnp.asarray, data)
        n = count_examples(data)
        size = min(batch_size, n)
        size -= size % microbatches
        if size == 0:
            raise ValueError(
                f"supervised: a minibatch is split into {microbatches} microbatches, but there are "
                f"{n} examples; use at most {n} microbatches."
            )
        steps = n // size
        # derived from the step count, so that it does not matter where a run was interrupted
        for_rows, for_steps = jax.random.split(jax.random.fold_in(state.key, state.step))
        if batches == "shuffled":
            rows = _permutation(for_rows, n)[: steps * size].reshape(steps, size)
        else:
            rows = jax.random.randint(for_rows, (steps, size), 0, n)

        def pick(rows):
            rows = shard_batch(rows)  # each device gathers its own
            return jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)

        def body(state, now):
            return train_step(state, pick, *now)

        state, values = jax.lax.scan(body, state, (rows, jax.random.split(for_steps, steps)))
        return state, jax.tree.map(jnp.mean, values)

    def evaluate(state, data):
        def chunk(part):
            x, t = shard_batch(part)
            y, _ = net.apply(state.params, x, False, None)
            return loss_of(y, t), y

        numbers = max(1, math.prod(jnp.shape(data[0])[1:]))
        most = max(batch_size // microbatches, _EVALUATION_NUMBERS // numbers)
        value, y = _in_chunks(chunk, data, min(_EVALUATION_CHUNK, most))
        return measure(shard_batch(y), shard_batch(data[1]), value)

    def check(data):
        _check_pairs(net, sizes, data)

    return Trainable(init, epoch, evaluate, check)


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


def _checked_penalty(penalty):
    check_function("supervised", penalty=penalty)

    def of(weights):
        value = penalty(weights)
        check_scalar("supervised: the penalty", value)
        return value

    return of


def _check_metrics(metrics) -> None:
    legal = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    if not legal or not all(map(callable, metrics.values())):
        raise TypeError(
            f"supervised: metrics is {describe_value(metrics)}, but a dict from names to "
            "functions (y, t) is "
            "expected."
        )
    if "loss" in metrics:
        raise ValueError("supervised: a metric cannot be called 'loss', which is reported; rename.")


def count_examples(data) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def _check_pairs(net, sizes, data):
    """What can be said of (x, t) before compiling: errors in the user's terms."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f"supervised: data is {_kind(data)}, but a pair (x, t) is expected.")
    x, t = data
    for name, a in (("x", x), ("t", t)):
        if not (hasattr(a, "shape") and hasattr(a, "dtype")):
            raise TypeError(
                f"supervised: {name} is {_kind(a)}, but an array is expected; convert it with "
                "numpy.asarray."
            )
    for name, a in (("x", x), ("t", t)):
        if not is_numeric(a.dtype):
            raise TypeError(f"supervised: {name} is {describe_value(a)}, but numbers are expected.")
    if x.ndim == 0 or t.ndim == 0 or x.shape[0] != t.shape[0]:
        raise ValueError(
            f"supervised: x has shape {x.shape} and t has shape {t.shape}; "
            "both need the same number of examples on the leading axis."
        )
    if x.shape[0] == 0:
        raise ValueError(f"supervised: the data is empty, x has shape {x.shape}.")
    for name, a in (("x", x), ("t", t)):
        if jnp.issubdtype(a.dtype, jnp.inexact) and not np.isfinite(np.asarray(a)).all():
            row = int(np.argwhere(~np.isfinite(np.asarray(a)))[0][0])
            raise ValueError(
                f"supervised: {name} holds a number that is not finite, first in example {row}; "
                "remove or replace such examples."
            )

    def outputs(x):
        return net.apply(net.init(jax.random.key(0), sizes), x, False, None)[0]

    probe = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
    y = jax.eval_shape(outputs, probe)
    if jnp.issubdtype(t.dtype, jnp.integer) and t.ndim == 1 and len(y.shape) == 2:
        low, high, classes = int(t.min()), int(t.max()), y.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"supervised: labels run from {low} to {high}, but the network has {classes} "
                f"outputs, so labels 0 to {classes - 1} are expected."
            )


def _kind(value) -> str:
    return f"{value!r} ({type(value).__name__})" if np.isscalar(value) else type(value).__name__
