"""Which examples an epoch trains on, minibatch by minibatch."""

import jax
import jax.numpy as jnp

from purenet.core.shuffle import permutation, sort_distinct, sorts
from purenet.core.types import Array


def minibatch_rows(
    key: jax.Array, batches: str, sizes: tuple[int, ...], which: Array | int, size: int
) -> jax.Array:
    """Minibatches of `size` from n = sizes[which] examples: numbers below n, (steps, size).

    With several sizes there are as many steps as the largest allows. The first n // size are those
    of n examples alone: with a counter-based generator, JAX's default, random numbers do not depend
    on how many are drawn. The later ones are padding.

    >>> minibatch_rows(jax.random.key(0), "shuffled", (7,), 0, size=3).shape
    (2, 3)
    """
    most = sizes[-1]
    n = jnp.asarray(sizes, jnp.int32)[which] if len(sizes) > 1 else most
    steps = most // size
    if batches == "with_replacement":
        # as one row: it compiles faster
        return jax.random.randint(key, (steps * size,), 0, n).reshape(steps, size)
    order = permutation(key, n) if isinstance(n, int) else permutation_of_first(key, sizes, n)
    return order[: steps * size].reshape(steps, size)


def example_order(
    key: jax.Array, batches: str, sizes: tuple[int, ...], which: jax.Array | int
) -> jax.Array:
    """The order of examples that `minibatch_rows` cuts into minibatches: max(sizes) numbers.

    >>> sorted(example_order(jax.random.key(0), "shuffled", (3,), 0).tolist())
    [0, 1, 2]
    """
    return minibatch_rows(key, batches, sizes, which, 1)[:, 0]


def permutation_of_first(key: jax.Array, sizes: tuple[int, ...], n: jax.Array) -> jax.Array:
    """`permutation(key, n)` of a traced n, one of `sizes`, and then the numbers from n on.

    >>> permutation_of_first(jax.random.key(0), (3, 6), jnp.int32(3)).tolist()[3:]
    [3, 4, 5]
    """
    most = sizes[-1]
    places = jnp.arange(most, dtype=jnp.uint32)
    own = places < n.astype(jnp.uint32)
    below = 32 - jax.lax.clz(n.astype(jnp.uint32) - 1)  # as bit_length
    mask = (jnp.uint32(1) << below) - jnp.uint32(1)
    rounds = [sorts((size - 1).bit_length()) for size in sizes]
    due = jnp.asarray(rounds, jnp.int32)[jnp.searchsorted(jnp.asarray(sizes, jnp.int32), n)]
    order = places
    for i, k in enumerate(jax.random.split(key, max(rounds))):
        mixed = (jax.random.bits(k, (most,)) & ~mask) | places
        # padding is the largest possible number, so that it stays at the end
        mixed = sort_distinct(jnp.where(own, mixed, jnp.uint32(2**32 - 1)))
        order = jnp.where(i < due, order[jnp.where(own, mixed & mask, places)], order)
    return order
