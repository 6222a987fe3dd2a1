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
    return Tracked(
        either(going, state, tracked.state),
        either(better, state, tracked.best) if jax.tree.leaves(tracked.best) else tracked.best,
        jnp.where(better, score, tracked.score),
        jnp.where(better, 0, tracked.stale + jnp.asarray(evaluated & going, jnp.int32)),
        jnp.where(going, epochs, tracked.epochs),
        jnp.where(better, epochs, tracked.epochs_of_best),
    )


def either(chosen: Array | bool, new: PyTree, old: PyTree) -> PyTree:
    """`new` where it is chosen, otherwise `old`, of the same structure.

    Without vmap, `new` is copied over `old` in a loop of one turn or none: XLA runs that in place,
    where it would copy the tree that a branch returns. With vmap it is a select.

    >>> either(jnp.bool(False), {"w": 2.0}, {"w": 1.0})["w"].item()
    1.0
    """
    if chosen is True:
        return new
    leaves = lambda tree: list(map(jnp.asarray, jax.tree.leaves(tree)))
    kept = _over(jnp.asarray(chosen), leaves(new), leaves(old))
    return jax.tree.unflatten(jax.tree.structure(new), kept)


@jax.custom_batching.custom_vmap
def _over(chosen, new, old):
    return jax.lax.fori_loop(0, chosen.astype(jnp.int32), lambda _, __: new, old)


@_over.def_vmap
def _over_batched(count, batched, chosen, new, old):
    del count
    axes = jax.tree.map(lambda b: 0 if b else None, batched)
    choose = lambda chosen, *pair: jax.tree.map(lambda a, b: jnp.where(chosen, a, b), *pair)
    return jax.vmap(choose, axes)(chosen, new, old), jax.tree.map(lambda _: True, old)


def exhausted(tracked: Tracked, patience: Number) -> jax.Array:
    """Whether the score has not improved for `patience` evaluations.

    >>> exhausted(start((), keep_best=False)._replace(stale=3), patience=3).item()
    True
    """
    return jnp.asarray(tracked.stale >= patience)
