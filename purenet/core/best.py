"""The best state of a training so far, and how long ago it was: for patience and best epochs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Array, Number, PyTree


class Tracked(NamedTuple):
    """A training's state, and what is known of its best epoch. Every field may be traced.

    >>> Tracked((), (), -0.5, stale=1, epochs=4, epochs_of_best=3).stale
    1
    """

    state: PyTree  # the latest
    best: PyTree  # that of the best epoch, or () where it is not kept
    score: Array  # () the best so far, larger is better; there is none while epochs_of_best is 0
    stale: Array  # () int32, evaluations since then
    epochs: Array  # () int32, done so far
    epochs_of_best: Array  # () int32, of which the best state has seen so many; 0 before it


def start(state: PyTree, keep_best: bool) -> Tracked:
    """Before the first epoch: the initial state is the best that there is.

    >>> start({"w": jnp.ones(2)}, keep_best=False).best
    ()
    """
    zero = jnp.zeros((), jnp.int32)
    best = jax.tree.map(jnp.asarray, state) if keep_best else ()
    return Tracked(state, best, floating(0.0), zero, zero, zero)  # no NaN, for jax_debug_nans


def update(tracked: Tracked, state: PyTree, score: Number, evaluated: Array | bool) -> Tracked:
    """After one more epoch, whose state has this score if it was `evaluated`; larger is better.

    The best state is replaced where the score is above the best one so far: of equal scores the
    first one stays, and a NaN is never better. An epoch that was not evaluated only counts.

    >>> tracked = start(jnp.zeros(()), keep_best=True)
    >>> for state, score in ((1.0, 0.5), (2.0, 0.8), (3.0, 0.7)):
    ...     tracked = update(tracked, jnp.asarray(state), score, evaluated=True)
    >>> tracked.best.item(), tracked.epochs_of_best.item(), tracked.stale.item()
    (2.0, 2, 1)
    """
    score, epochs = floating(score), tracked.epochs + 1
    # the first number is better than none, even where it is -inf
    first = (tracked.epochs_of_best == 0) & ~jnp.isnan(score)
    better = jnp.asarray(evaluated) & (
        first | (score > tracked.score) & (tracked.epochs_of_best > 0)
    )
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    return Tracked(
        state,
        choose(state, tracked.best) if jax.tree.leaves(tracked.best) else tracked.best,
        choose(score, tracked.score),
        jnp.where(better, 0, tracked.stale + jnp.asarray(evaluated, jnp.int32)),
        epochs,
        choose(epochs, tracked.epochs_of_best),
    )


def exhausted(tracked: Tracked, patience: Number) -> jax.Array:
    """Whether the score has not improved for `patience` evaluations.

    >>> exhausted(start((), keep_best=False)._replace(stale=3), patience=3).item()
    True
    """
    return jnp.asarray(tracked.stale >= patience)
