"""One optimizer step, and an epoch of them as one loop."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from purenet.core.chunk import Chunk
from purenet.core.contracts import traced_code
from purenet.core.padded import PaddedSize, count_of, keep_first
from purenet.core.shuffle import epoch_keys
from purenet.core.subset import Subset, take
from purenet.core.types import Array, Params, PyTree, TrainState
from purenet.core.validate import describe_value, require
from purenet.distributed.mesh import shard_batch
from purenet.optim.transforms import apply_updates
from purenet.training.rows import example_order, minibatch_rows
from purenet.training.settings import Settings, loss_of, measure, penalty_of, weights_of


def init(settings: Settings, key: jax.Array) -> TrainState:
    """The state before the first step."""
    for_params, for_run = jax.random.split(key)
    params = settings.net.init(for_params, settings.sizes)
    step = jnp.zeros((), jnp.int32)
    return TrainState(params, settings.optimizer.init(params.weights), for_run, step)


# one step
def _step(settings: Settings, state, pick, rows, key, train=True):
    """The step of these settings: the plain one, or theirs."""
    if settings.step is None:
        return _plain_step(settings, state, pick, rows, key, train)
    plain = lambda state, minibatch: _plain_step(settings, state, lambda _: minibatch, rows, key)
    return settings.step(plain, state, pick(rows))


def _plain_step(settings: Settings, state, pick, rows, key, train=True):
    """One optimizer step on the examples `rows`, which `pick` takes from the data.

    `train` is passed to `net.apply`: a PaddedSize if only the first rows are real. Every layer gets
    it as an argument; a layer that ignores it trains as on full batches, since a PaddedSize is
    true.
    """
    params, optimizer = state.params, settings.optimizer
    where = params
    if optimizer.gradient_at is not None:
        weights = optimizer.gradient_at(state.opt_state, params.weights)
        where = params._replace(weights=weights)
    if settings.microbatches == 1:
        objective = functools.partial(_objective, settings, settings.penalty, train)
        grads, (stats, values) = _gradients(objective, where, pick(rows), key)
    elif isinstance(train, PaddedSize):
        grads, (stats, values) = _padded_gradients(settings, where, pick, rows, key, train)
    else:
        grads, (stats, values) = _microbatched_gradients(settings, where, pick, rows, key)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, params.weights, value=values["loss"]
    )
    params = Params(apply_updates(params.weights, updates), stats)
    return TrainState(params, opt_state, state.key, state.step + 1), values


def _objective(settings: Settings, penalty, train, weights, stats, minibatch, key, total=None):
    """The objective, with (the new statistics, the metrics) as auxiliary results."""
    x, t = minibatch
    if settings.augment is not None:
        x = _augmented(settings.augment, x, key)
    y, stats = settings.net.apply(Params(weights, stats), x, train, key)
    value = loss_of(settings, y, t, total, count_of(train))
    total = value if penalty is None else value + penalty_of(penalty, weights)
    return total, (stats, measure(settings, y, t, value, count_of(train)))


# the augmentation key is derived from the network's by a number that no network reaches
_FOR_AUGMENT = 2**32 - 1


def _augmented(augment, x, key):
    with traced_code("supervised: `augment`"):
        after = augment(jax.random.fold_in(key, _FOR_AUGMENT), x)
    kind = (getattr(after, "shape", None), getattr(after, "dtype", None))
    text = f"supervised: augment returned {describe_value(after)}, but the shape and dtype of x"
    require(kind == (x.shape, x.dtype), f"{text}, {x.dtype} {x.shape}, are expected.")
    return after


def _gradients(objective, params, minibatch, key, *total):
    return jax.grad(objective, has_aux=True)(params.weights, params.stats, minibatch, key, *total)


def _microbatched_gradients(settings: Settings, params, pick, rows, key):
    """The result of `_gradients`, part by part; examples are picked only for the current part."""
    microbatches, penalty = settings.microbatches, settings.penalty
    objective = functools.partial(_objective, settings, None, True)
    # the parts are divided by the weights of the whole minibatch, not by their own
    total = (
        () if settings.weights is None else (_weight(settings, params, pick(rows)) / microbatches,)
    )

    def add(carry, now):
        summed, stats = carry
        rows, key = now
        part = Params(params.weights, stats)
        grads, (stats, values) = _gradients(objective, part, pick(rows), key, *total)
        return (jax.tree.map(jnp.add, summed, grads), stats), values

    zeros = jax.tree.map(jnp.zeros_like, params.weights)
    # every k-th row is a part: on a mesh, each device has some of the rows of every part
    parts = rows.reshape(-1, microbatches).T, jax.random.split(key, microbatches)
    (summed, stats), values = jax.lax.scan(add, (zeros, params.stats), parts)
    grads = jax.tree.map(lambda a: a / microbatches, summed)
    means = jax.tree.map(lambda a: a.mean(axis=0), values)
    return _with_penalty(penalty, params, grads), (stats, means)


def _padded_gradients(settings: Settings, params, pick, rows, key, whole: PaddedSize):
    """The same of a minibatch of which the first rows are real, without the parts that are not."""
    microbatches = settings.microbatches
    parts, keys = rows.reshape(microbatches, -1), jax.random.split(key, microbatches)
    capacity, size = parts.shape[1], jnp.asarray(whole.size, jnp.int32)
    total = size if settings.weights is None else _weight(settings, params, pick(rows), size)

    def gradients(i, stats):
        real = jnp.minimum(size - i * capacity, capacity)
        objective = functools.partial(_objective, settings, None, PaddedSize(real, capacity))
        part = Params(params.weights, stats)
        grads, (stats, values) = _gradients(objective, part, pick(parts[i]), keys[i], total)
        # the loss is divided by the total, the metrics are means over the part
        share = lambda name, a: a if name == "loss" else a * (real / size).astype(a.dtype)
        return (grads, {name: share(name, jnp.asarray(a)) for name, a in values.items()}), stats

    def add(i, carry):
        summed, stats = carry
        new, stats = gradients(i, stats)
        return jax.tree.map(jnp.add, summed, new), stats

    shapes = jax.eval_shape(gradients, 0, params.stats)[0]
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    used = (size + capacity - 1) // capacity
    (grads, values), stats = jax.lax.fori_loop(0, used, add, (zeros, params.stats))
    return _with_penalty(settings.penalty, params, grads), (stats, values)


def _with_penalty(penalty, params, grads):
    """The gradients of the loss, with that of the penalty."""
    if penalty is None:
        return grads
    slopes = jax.grad(lambda weights: 0.0 + penalty_of(penalty, weights))(params.weights)
    return jax.tree.map(jnp.add, grads, slopes)


def _weight(settings: Settings, params, minibatch, rows=None):
    """The sum of the weights of its examples, or of the first `rows`; only the shape of the outputs
    is computed."""
    x, t = minibatch
    y = jax.eval_shape(lambda x: settings.net.apply(params, x, False, None)[0], x)
    return keep_first(weights_of(settings, y, t), rows).sum()


# one epoch
def epoch(
    settings: Settings, state: TrainState, data: PyTree | Subset
) -> tuple[TrainState, dict[str, jax.Array]]:
    """(state, metrics) after one epoch on (x, t), or on a Subset of such a pair.

    Rows of a Subset are gathered minibatch by minibatch, and the steps are those of its own
    examples alone.
    """
    data = jax.tree.map(jnp.asarray, data)
    subset: Subset | None = None
    sizes: tuple[int, ...] = (count_examples(data),)
    which: Array | int = 0
    if isinstance(data, Subset):
        subset, sizes, which, data = data, data.sizes, data.which, data.data
    # derived from the step count, so that interruptions do not matter
    for_rows, for_steps = epoch_keys(state.key, state.step)
    if isinstance(settings.batch_size, PaddedSize):
        batch_size = settings.batch_size
        return _padded_epoch(settings, batch_size, state, data, subset, for_rows, for_steps)
    size = _minibatch_size(settings, settings.batch_size, sizes)
    rows = minibatch_rows(for_rows, settings.batches, sizes, which, size)
    keys = jax.random.split(for_steps, len(rows))
    if subset:
        rows = take(subset.rows, rows)

    def pick(rows):
        return take(data, shard_batch(rows))  # each device gathers its own

    def body(state, now):
        return _step(settings, state, pick, *now)

    if subset and len(sizes) > 1:
        return _first_steps(body, state, (rows, keys), subset.count // size)
    state, values = jax.lax.scan(body, state, (rows, keys))
    return state, jax.tree.map(jnp.mean, values)


def steps(
    settings: Settings, state: TrainState, chunk: Chunk
) -> tuple[TrainState, dict[str, jax.Array]]:
    """(state, sums of the metrics) after the steps of a chunk of an epoch's minibatches.

    Keys are those of `epoch`, which the chunks together make up.
    """
    _, for_steps = epoch_keys(state.key, state.step - chunk.at)
    keys = jax.random.split(for_steps, chunk.total)
    rows = jnp.arange(settings.batch_size, dtype=jnp.int32)

    def one(state, minibatch, i):
        whole = lambda rows: shard_batch(minibatch)
        part = lambda rows: take(minibatch, shard_batch(rows))
        pick = whole if settings.microbatches == 1 else part
        return _step(settings, state, pick, rows, keys[i])

    return chunk.each(one, state)


def observe(settings: Settings, state: TrainState, metrics: dict[str, Any]) -> TrainState:
    """The state after its optimizer has been told the validation metrics of an epoch."""
    see = settings.optimizer.observe
    assert see is not None
    return state._replace(opt_state=see(state.opt_state, metrics))


def _padded_epoch(
    settings: Settings, batch_size: PaddedSize, state, data, subset, for_rows, for_steps
):
    """An epoch of minibatches of which a traced number of rows are real: `size`, the first ones.

    Steps, rows and keys are those of an epoch with the batch size `size`: with a counter-based
    generator, JAX's default, random numbers do not depend on how many of them are drawn.
    """
    sizes, which = (subset.sizes, subset.which) if subset else ((count_examples(data),), 0)
    n, most = subset.count if subset else sizes[0], sizes[-1]
    parts = settings.microbatches
    capacity = -(-min(batch_size.capacity, most) // parts) * parts
    size = jnp.minimum(batch_size.size, n).astype(jnp.int32)
    order = example_order(for_rows, settings.batches, sizes, which)
    order = take(subset.rows, order) if subset else order
    keys = jax.random.split(for_steps, most)

    def body(state, now):
        i, key = now
        places = jnp.minimum(i * size + jnp.arange(capacity, dtype=jnp.int32), most - 1)
        pick = lambda rows: take(data, shard_batch(rows))
        return _step(settings, state, pick, order[places], key, PaddedSize(size, capacity))

    return _first_steps(body, state, (jnp.arange(most, dtype=jnp.int32), keys), n // size)


def _first_steps(body, state, now, steps):
    """The state after the first `steps` of a scan, a traced number, and the means of its values."""
    most = count_examples(now)
    at = lambda i: jax.tree.map(lambda a: a[i], now)
    shapes = jax.eval_shape(body, state, at(0))[1]
    values = jax.tree.map(lambda a: jnp.zeros((most, *a.shape), a.dtype), shapes)

    def one(i, carry):
        state, values = carry
        state, new = body(state, at(i))
        return state, jax.tree.map(lambda a, value: a.at[i].set(value), values, new)

    steps = steps.astype(jnp.int32)
    state, values = jax.lax.fori_loop(jnp.int32(0), steps, one, (state, values))
    done = jnp.arange(most, dtype=jnp.int32) < steps
    return state, jax.tree.map(lambda a: a.mean(where=done), values)


def _minibatch_size(settings: Settings, batch_size: int, sizes: tuple[int, ...]) -> int:
    """The size of a minibatch, which is a shape: the same for each of these numbers of examples."""
    microbatches = settings.microbatches
    found = {size - size % microbatches for n in sizes for size in [min(batch_size, n)]}
    if min(found) == 0:
        raise ValueError(
            f"supervised: a minibatch is split into {microbatches} microbatches, but there are "
            f"{sizes[0]} examples; use at most {sizes[0]} microbatches."
        )
    if len(found) > 1:
        raise ValueError(
            f"supervised: batch_size is {batch_size}, but the parts of the data that are "
            f"trained on together have from {sizes[0]} to {sizes[-1]} examples, and a minibatch is "
            f"never larger than its part; use a batch_size of at most {sizes[0]}."
        )
    return found.pop()


def count_examples(data: PyTree) -> int:
    """The number of examples in arrays.

    >>> count_examples((jnp.ones((3, 2)), jnp.ones(3)))
    3
    """
    return jax.tree.leaves(data)[0].shape[0]
