"""Some minibatches of an epoch, in a program whose shapes do not depend on how many there are."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from purenet.core.subset import take
from purenet.core.types import Array, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["batches", "count", "at", "rows"],
    meta_fields=["total"],
)
@dataclasses.dataclass(frozen=True)
class Chunk:
    """The first `count` of `batches`, which follow the first `at` of an epoch's minibatches.

    What the `steps` of a Trainable train on. The minibatches after those are padding: any numbers.
    With `rows`, `batches` are the examples of several folds, and a minibatch is some of their rows.

    >>> chunk = Chunk(jnp.array([[1, 2], [3, 4], [9, 9]]), jnp.int32(2), jnp.int32(0), total=2)
    >>> add = lambda state, minibatch, i: (state + minibatch.sum(), {"place": i})
    >>> state, metrics = chunk.each(add, 0)
    >>> state.item(), metrics["place"].tolist()
    (10, [0.0, 1.0, 0.0])
    """

    batches: PyTree  # arrays (minibatches, examples, ...); with rows (examples, ...)
    count: Array  # () int32
    at: Array  # () int32
    total: int  # minibatches of an epoch, at most
    rows: Array | None = None  # (minibatches, examples) integers

    @property
    def most(self) -> int:
        """The number of minibatches, padding included."""
        first = jax.tree.leaves(self.batches)[0] if self.rows is None else self.rows
        return first.shape[0]

    def minibatch(self, i: int | Array) -> PyTree:
        """The minibatch in place `i`.

        >>> chunk = Chunk(jnp.arange(4) * 10, 1, 0, total=1, rows=jnp.array([[3, 0]]))
        >>> chunk.minibatch(0).tolist()
        [30, 0]
        """
        if self.rows is None:
            return jax.tree.map(lambda a: a[i], self.batches)
        return take(self.batches, self.rows[i])

    def each(self, step: Callable, state: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
        """(state, metrics) after `step(state, minibatch, i) -> (state, metrics)` of each of its
        minibatches, in order: a value for each of them, and 0 for padding. `i` is the place of a
        minibatch in its epoch.
        """
        at, state = jnp.asarray(self.at, jnp.int32), jax.tree.map(jnp.asarray, state)
        one = lambda i, state: step(state, self.minibatch(i), at + i)
        shapes = jax.eval_shape(one, jnp.int32(0), state)[1]
        float_of = lambda a: jnp.result_type(a.dtype, jnp.float32)
        values = jax.tree.map(lambda a: jnp.zeros((self.most, *a.shape), float_of(a)), shapes)

        def body(i, carry):
            state, values = carry
            state, new = one(i, state)
            return state, jax.tree.map(lambda a, value: a.at[i].set(value), values, new)

        # a traced number of turns: a loop that the compiler knows to have one turn is unrolled,
        # and rounds differently
        count = jnp.asarray(self.count, jnp.int32)
        return jax.lax.fori_loop(jnp.int32(0), count, body, (state, values))


def add_in_order(sums: PyTree, values: PyTree) -> PyTree:
    """Sums, and the metrics of more minibatches added one by one.

    In order, so that a sum does not depend on how an epoch is cut into chunks.

    >>> add_in_order({"loss": jnp.float32(1.0)}, {"loss": jnp.array([1.0, 2.0])})["loss"].item()
    4.0
    """
    add = lambda a, value: a + value.astype(a.dtype)
    return jax.lax.scan(lambda a, value: (jax.tree.map(add, a, value), None), sums, values)[0]
