"""A network's outputs for many examples, and the metrics computed from them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purenet.core.padded import capacity_of
from purenet.core.subset import Subset, take
from purenet.core.types import PyTree, TrainState
from purenet.distributed.mesh import shard_batch
from purenet.nn.outputs import layer_outputs
from purenet.training.settings import Settings, as_outputs, as_prediction, loss_of, measure
from purenet.training.steps import count_examples

# Evaluation runs through the data in chunks: of at most this many examples, which are enough for
# efficient products, and of at most this many numbers (but no fewer examples than training has in
# memory at once), so that the activations of large images fit in memory.
_EVALUATION_CHUNK = 1000
_EVALUATION_NUMBERS = 1_000_000


def evaluate(settings: Settings, state: TrainState, data: PyTree | Subset) -> dict[str, Any]:
    """The metrics of (x, t), or of the examples in a Subset of such a pair."""
    subset: Subset | None = None
    examples, pick = data, lambda part: part
    if isinstance(data, Subset):
        subset = jax.tree.map(jnp.asarray, data)
        data, examples, pick = subset.data, subset.rows, lambda rows: take(subset.data, rows)
    all_x, all_t = data
    # a mean over chunks is no weighted mean, and padding counts for nothing: then the loss is
    # taken afterwards, of all outputs
    padded = subset is not None and len(subset.sizes) > 1
    afterwards = padded or settings.weights is not None

    def chunk(part):
        x, t = shard_batch(pick(part))
        y, _ = settings.net.apply(state.params, x, False, None)
        return () if afterwards else loss_of(settings, y, t), y

    value, y = in_chunks(chunk, examples, _most(settings, all_x))
    if subset is not None and padded:

        def own(rows, data):
            y, t = data[0][: len(rows)], take(data[1], rows)
            return measure(settings, y, t, loss_of(settings, y, t))

        return dataclasses.replace(subset, data=(y, all_t)).each(own)
    t = take(all_t, subset.rows) if subset is not None else all_t
    y, t = shard_batch(y), shard_batch(t)
    return measure(settings, y, t, loss_of(settings, y, t) if afterwards else value)


def predict(settings: Settings, state: TrainState, x: PyTree) -> jax.Array:
    """One prediction for each example: class probabilities if the loss is a cross-entropy."""
    x = jnp.asarray(x)

    def chunk(x):
        y, _ = settings.net.apply(state.params, shard_batch(x), False, None)
        return (), as_prediction(settings, y)

    return in_chunks(chunk, x, _most(settings, x))[1]


def activations(settings: Settings, state: TrainState, x: PyTree) -> dict[str, jax.Array]:
    """The outputs of each layer with weights for all examples, in inference."""
    return layer_outputs(settings.net, settings.sizes, state.params, jnp.asarray(x))


def score(settings: Settings, predictions: jax.Array, t: jax.Array) -> dict[str, Any]:
    """The metrics of predictions, as returned by `predict`, and targets."""
    y = as_outputs(settings, predictions)
    return measure(settings, y, t, loss_of(settings, y, t))


def _most(settings: Settings, x) -> int:
    """The number of examples in a chunk."""
    numbers = max(1, math.prod(jnp.shape(x)[1:]))
    at_once = capacity_of(settings.batch_size) // settings.microbatches
    return min(_EVALUATION_CHUNK, max(at_once, _EVALUATION_NUMBERS // numbers))


def in_chunks(f: Callable, data: PyTree, most: int) -> tuple[PyTree, PyTree]:
    """f of the examples, `most` at a time: the overall means, and the outputs for all examples.

    f(part) -> (means over the part, arrays with the examples first), two trees.

    >>> means, doubled = in_chunks(lambda x: (x.mean(), 2 * x), jnp.arange(5.0), most=2)
    >>> means.item(), doubled.tolist()
    (2.0, [0.0, 2.0, 4.0, 6.0, 8.0])
    """
    n = count_examples(data)
    count = math.ceil(n / most)
    size = n // count
    if count == 1:
        return f(data)
    head = jax.tree.map(lambda a: a[: count * size].reshape(count, size, *a.shape[1:]), data)
    means, outputs = jax.lax.map(f, head)
    total = jax.tree.map(lambda a: a.sum(axis=0) * size, means)
    outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)
    if rest := n % count:
        mean, last = f(jax.tree.map(lambda a: a[count * size :], data))
        total = jax.tree.map(lambda a, b: a + b * rest, total, mean)
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, last)
    return jax.tree.map(lambda a: a / n, total), outputs
