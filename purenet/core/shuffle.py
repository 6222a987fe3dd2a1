"""The order of the examples of an epoch."""

import functools
import math

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnums=2)
def order_of_epoch(key: jax.Array, step: int | jax.Array, n: int) -> jax.Array:
    """The order in which the epoch that begins with this step takes n examples.

    That of `supervised` in memory, with the key of its state, so that a run on streamed data takes
    the same minibatches.

    >>> sorted(order_of_epoch(jax.random.key(0), 40, 3).tolist())
    [0, 1, 2]
    """
    return permutation(epoch_keys(key, step)[0], n)


def epoch_keys(key: jax.Array, step: int | jax.Array) -> jax.Array:
    """Two keys of the epoch that begins with this step: for its rows, and for its minibatches.

    >>> epoch_keys(jax.random.key(0), 40).shape
    (2,)
    """
    # derived from the step count, so that it does not matter where a run was interrupted
    return jax.random.split(jax.random.fold_in(key, step))


def permutation(key: jax.Array, n: int) -> jax.Array:
    """A random order of 0 .. n - 1: that of n random numbers of 32 bits.

    What `jax.random.permutation` gives, in a quarter of its time on a CPU, where numbers are sorted
    much faster than pairs of numbers. So every sort is of single numbers, some random bits above
    the place they belong to; sorted by the low bits first, then by the higher ones.

    >>> sorted(permutation(jax.random.key(0), 3).tolist())
    [0, 1, 2]
    """
    places = jnp.arange(n, dtype=jnp.uint32)
    below = (n - 1).bit_length()
    mask = jnp.uint32(2**below - 1)
    order = places
    for k in jax.random.split(key, sorts(below)):
        mixed = sort_distinct((jax.random.bits(k, (n,)) & ~mask) | places)
        order = order[mixed & mask]
    return order


def sort_distinct(numbers: jax.Array) -> jax.Array:
    """Numbers in ascending order, of which none are equal, or no two that could be told apart.

    On accelerators a stable sort is one of pairs, so it is not asked for there; on a CPU it is the
    faster one.

    >>> sort_distinct(jnp.array([3, 1, 2])).tolist()
    [1, 2, 3]
    """
    unstable = functools.partial(jnp.sort, stable=False)
    return jax.lax.platform_dependent(numbers, cpu=jnp.sort, default=unstable)


def sorts(below: int) -> int:
    """How many sorts bring 32 random bits to the places, which take up the low bits `below`.

    >>> sorts(4)
    2
    """
    return math.ceil(32 / (32 - below))
