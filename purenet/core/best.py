"""The best state of a training so far, and how long ago it was: for early stopping."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Array, Number, PyTree


class Tracked(NamedTuple):
    """The state of a training, and its best epoch so far. Every field may be traced.

    >>> Tracked((), (), -0.5, stale=1, epochs=4, epochs_of_best=3).stale
    1
    """

    state: PyTree  # the latest
    best: PyTree  # that of the best epoch, or () if it is not kept
    score: Array  # () the best so far, larger is better; undefined while epochs_of_best is 0
    stale: Array  # () int32, evaluations since the best
    epochs: Array  # () int32, done so far
    epochs_of_best: Array  # () int32, those of the best state; 0 before there is one


def start(state: PyTree, keep_best: bool) -> Tracked:
    """The start, before the first epoch: the initial state is the best so far.

    >>> start({"w": jnp.ones(2)}, keep_best=False).best
    ()
    """
    zero = jnp.zeros((), jnp.int32)
    best = jax.tree.map(jnp.asarray, state) if keep_best else ()
    return Tracked(state, best, floating(0.0), zero, zero, zero)  # no NaN, for jax_debug_nans


def update(
    tracked: Tracked,
    state: PyTree,
    score: Number,
    evaluated: Array | bool,
    going: Array | bool = True,
) -> Tracked:
    """The record after one more epoch, with its score if it was `evaluated`; larger is better.

    The best state is replaced if the score is above the best so far: of equal scores the first
    stays, and NaN is never better. An epoch that was not evaluated is only counted. Unless the
    training is `going`, all stays as it is.

    >>> tracked = start(jnp.zeros(()), keep_best=True)
    >>> for state, score in ((1.0, 0.5), (2.0, 0.8), (3.0, 0.7)):
    ...     tracked = update(tracked, jnp.asarray(state), score, evaluated=True)
    >>> tracked.best.item(), tracked.epochs_of_best.item(), tracked.stale.item()
    (2.0, 2, 1)
    >>> update(tracked, jnp.asarray(4.0), 0.9, evaluated=True, going=False).state.item()
    3.0
    """
    score, epochs = floating(score), tracked.epochs + 1
    # the first score is better than none, even if it is -inf
    first = (tracked.epochs_of_best == 0) & ~jnp.isnan(score)
    better = jnp.asarray(evaluated & going) & (
        first | (score > tracked.score) & (tracked.epochs_of_best > 0)
    )
    state, best = _chosen(tracked, state, better, going)
    return Tracked(
        state,
        best,
        jnp.where(better, score, tracked.score),
        jnp.where(better, 0, tracked.stale + jnp.asarray(evaluated & going, jnp.int32)),
        jnp.where(going, epochs, tracked.epochs),
        jnp.where(better, epochs, tracked.epochs_of_best),
    )


def _chosen(tracked: Tracked, state: PyTree, better, going) -> tuple[PyTree, PyTree]:
    """The state and the best one. In a loop over single trainings, each is copied once."""
    leaves = lambda tree: list(map(jnp.asarray, jax.tree.leaves(tree)))
    new, old, best = leaves(state), leaves(tracked.state), leaves(tracked.best)
    ways = [lambda new, old, best: (new, best)]
    if best:
        ways.append(lambda new, old, best: (new, new))
    if going is not True:
        ways.append(lambda new, old, best: (old, best))
    which = jnp.where(going, better & bool(best), len(ways) - 1)
    state_leaves, best_leaves = jax.lax.switch(which.astype(jnp.int32), ways, new, old, best)
    structures = jax.tree.structure(state), jax.tree.structure(tracked.best)
    return structures[0].unflatten(state_leaves), structures[1].unflatten(best_leaves)


def exhausted(tracked: Tracked, patience: Number) -> jax.Array:
    """Whether the score has not improved for `patience` evaluations.

    >>> exhausted(start((), keep_best=False)._replace(stale=3), patience=3).item()
    True
    """
    return jnp.asarray(tracked.stale >= patience)
