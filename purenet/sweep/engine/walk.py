"""A step of every lane down its own hypergradient, compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.jit_cache import jit_for_each
from purenet.core.types import Array, PyTree
from purenet.sweep.engine.folds import parts_of
from purenet.sweep.engine.layout import block_count, in_blocks, on_every_device
from purenet.sweep.engine.program import Lanes, Program
from purenet.sweep.engine.tangents import slopes
from purenet.sweep.space.distributions import LogUniform, Normal, Uniform


class Axis(NamedTuple):
    """How one traced hyperparameter moves.

    >>> axes([Uniform(1.0, 3.0), 0.5])
    (Axis(log=False, width=2.0, low=1.0, high=3.0), None)
    """

    log: bool  # whether its logarithm moves
    width: float  # of a step of 1
    low: float
    high: float


class Walk(NamedTuple):
    """Everything that a compiled step depends on besides the shapes of its data; hashable."""

    program: Program
    axes: tuple[Axis | None, ...]  # of each traced hyperparameter; None for one that stays
    horizon: int
    metric: str


def axes(leaves: Sequence) -> tuple[Axis | None, ...]:
    """How hyperparameters of these distributions move, None for those that stay.

    >>> axes([LogUniform(0.1, 10.0)])[0].log
    True
    """
    found = []
    for leaf in leaves:
        if isinstance(leaf, Uniform):
            axis = Axis(False, leaf.high - leaf.low, leaf.low, leaf.high)
        elif isinstance(leaf, LogUniform):
            axis = Axis(True, float(np.log(leaf.high / leaf.low)), leaf.low, leaf.high)
        elif isinstance(leaf, Normal):  # as wide as the uniform distribution with this spread
            axis = Axis(False, 12**0.5 * leaf.std, -np.inf, np.inf)
        found.append(axis if isinstance(leaf, Uniform | LogUniform | Normal) else None)
    return tuple(found)


@jit_for_each(donate_argnums=0)
def walk_program(walk: Walk, lanes: Lanes, data: PyTree, step: Array) -> Lanes:
    """The lanes after a step; those that are not alive, or whose hypergradient is not finite,
    stay."""
    layout = walk.program.layout

    def every(lanes, data, step):
        def some(i, lanes):
            take, put, several = in_blocks(layout, i)
            now = take(lanes)
            moved = several(lambda lane: _moved(walk, data, step, lane))
            stay = lambda lanes: lanes.numbers
            numbers = jax.lax.cond(now.alive.any(), moved, stay, now)
            return put(lanes, now._replace(numbers=numbers))

        return jax.lax.fori_loop(0, block_count(layout), some, lanes)

    return on_every_device(layout, every, (True, False, False))(lanes, data, step)


def _moved(walk: Walk, data: PyTree, step: Array, lane: Lanes) -> tuple:
    """The hyperparameters of a lane after a step of this length."""
    program = walk.program
    which = [i for i, axis in enumerate(walk.axes) if axis is not None]
    moving = tuple(axis for axis in walk.axes if axis is not None)

    def trainable(values):
        numbers = list(lane.numbers)
        for i, value in zip(which, values, strict=True):
            numbers[i] = value
        return program.trainable(numbers)

    begin = lambda trainable: program.held(lane, lambda: trainable)
    before = tuple(lane.numbers[i] for i in which)
    parts = parts_of(data, lane.fold)
    found, _ = slopes(trainable, begin, parts, walk.horizon, walk.metric, before)
    # in the unit cube, where a step is as long for every hyperparameter
    wide = [axis.width * (x if axis.log else 1.0) for axis, x in zip(moving, before, strict=True)]
    slope = jnp.stack([g * w for g, w in zip(found, wide, strict=True)])
    size = jnp.abs(slope).max()
    slope = slope / jnp.where(size > 0, size, 1)
    slope = slope / jnp.maximum(jnp.sqrt((slope * slope).sum()), 1)
    ok = lane.alive & jnp.isfinite(slope).all()
    after = list(lane.numbers)
    for i, axis, x, down in zip(which, moving, before, step * slope, strict=True):
        new = x * jnp.exp(-axis.width * down) if axis.log else x - axis.width * down
        after[i] = jnp.where(ok, jnp.clip(new, axis.low, axis.high), x).astype(x.dtype)
    return tuple(after)
