"""One exchange of a population, compiled: bad members copy good ones, then explore."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.types import Array, Key
from purenet.sweep.engine.layout import Layout, sharding
from purenet.sweep.engine.program import Lanes
from purenet.sweep.space.distributions import Choice
from purenet.sweep.space.padded import Padded

_KEPT = (1.0, 0.0)  # the range of a number that is copied along with the state


def reaches(leaves: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each traced hyperparameter. They are equal for one that
    must not be multiplied (a constant or a choice); the smallest is above the largest for one that
    must not change at all (a size in the shape of the state)."""
    ends = []
    for leaf in leaves:
        if isinstance(leaf, Padded):
            low_high: Sequence = _KEPT
        else:
            fixed = isinstance(leaf, Choice) or not hasattr(leaf, "ppf")
            low_high = (0.0, 0.0) if fixed else leaf.ppf(np.array([0.0, 1.0]))
        ends.append([float(end) for end in low_high])
    low, high = np.array(ends).reshape(-1, 2).T
    return low, high


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def exchange_lanes(
    layout: Layout,
    count: int,
    lanes: Lanes,
    key: Key,
    lane_of: Array,
    scores: Array,
    drawn: tuple[Array, ...],
    reaches: tuple[Array, Array],
    factors: tuple[Array, Array],
    resample: Array,
) -> tuple[Lanes, jax.Array]:
    """One exchange between the members, which are in the lanes `lane_of`. Returns the lanes, and
    the parent of each member.

    Shapes: scores (members,), larger is better, -inf for those that diverged; `drawn`, for each
    traced hyperparameter, (members,) values from its distribution.
    """
    members = len(scores)
    choose, *explore = jax.random.split(key, 1 + len(lanes.numbers))
    order = jnp.argsort(-scores)  # stable, so ties go to the lower number
    rank = jnp.zeros(members, int).at[order].set(jnp.arange(members))
    finite = jnp.isfinite(scores)
    donors = jnp.minimum(count, finite.sum())
    donor = order[jax.random.randint(choose, (members,), 0, jnp.maximum(donors, 1))]
    replaced = ((rank >= members - count) | ~finite) & (donors > 0) & (rank >= donors)
    parents = jnp.where(replaced, donor, jnp.arange(members))
    source = jnp.arange(len(lanes.alive)).at[lane_of].set(lane_of[parents])
    lanes = jax.tree.map(lambda a: a[source], lanes)

    def changed(old, key, drawn, low, high):
        which, anew = jax.random.split(key)
        factor = jnp.where(jax.random.bernoulli(which, 0.5, (members,)), *factors)
        before = old[lane_of]
        moved = jnp.clip(before * factor, low, high)
        if jnp.issubdtype(old.dtype, jnp.integer):
            moved = jnp.round(moved)
        moved = jnp.where(low < high, moved, before)
        resampled = jax.random.bernoulli(anew, resample, (members,)) & (low <= high)
        new = jnp.where(resampled, drawn, moved)
        return old.at[lane_of].set(jnp.where(replaced, new, before).astype(old.dtype))

    moved = map(changed, lanes.numbers, explore, drawn, *reaches)
    lanes = lanes._replace(numbers=tuple(moved))
    return jax.lax.with_sharding_constraint(lanes, sharding(layout, split=True)), parents
