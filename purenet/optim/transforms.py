"""Gradient transformations, to be chained before or after an optimizer, and `apply_updates`.

Clipping, weight decay and averaging are (init, update) pairs, like the optimizers, and follow the
conventions of `purenet.optim.optimizers`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating, widen
from purenet.core.tree import check_same_structure
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import (
    NonNegative,
    Positive,
    UnitInterval,
    declared,
    describe_value,
    expect,
    require,
)
from purenet.optim.base import (
    Count,
    average,
    decay_mask,
    optimizer_pair,
    own_state,
    required_weights,
    stateless_pair,
    trainable_weights,
    weightwise,
    with_extras,
)
from purenet.optim.schedules import FiniteRate, at


def apply_updates(weights: PyTree, updates: PyTree) -> PyTree:
    """The weights after an update, w + u, each in its own dtype.

    Raises ValueError where the updates do not have the structure and the shapes of the weights, and
    TypeError for weights that are neither real nor complex floats and for a network's Params.
    Source: the convention of gradient transformations; u carries the minus sign.

    >>> apply_updates({"w": jnp.ones(2)}, {"w": jnp.full(2, -0.25)})["w"].tolist()
    [0.75, 0.75]
    """
    add = lambda w, u: (jnp.asarray(w) + u).astype(jnp.result_type(w))
    trained = trainable_weights("apply_updates", weights, real=False)
    check_same_structure("apply_updates", "the weights", trained, updates=updates)
    return jax.tree.map(add, weights, updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Several optimizers in a row: the updates of one are the gradients of the next.

        u = fₙ(… f₂(f₁(g)))

    The state is a tuple, one state for each. Further keyword arguments of `update`, such as
    `value=`, are passed on to each optimizer whose `update` takes them.

    Raises TypeError for an argument that is not an (init, update) pair; ValueError for one that
    has a `gradient_at`, as schedule-free optimizers do, and is not the last, and for the state of
    another chain.
    Source: the composition of gradient transformations that the JAX ecosystem shares.

    >>> optimizer = chain(clip(1.0), scale_by_schedule(-0.5))
    >>> optimizer.update(jnp.array([9.0, 0.5]), optimizer.init(jnp.zeros(2)))[0].tolist()
    [-0.5, -0.25]
    """
    for i, optimizer in enumerate(optimizers):
        pair = hasattr(optimizer, "init") and hasattr(optimizer, "update")
        such = "an (init, update) pair such as sgd(0.1)"
        expect(pair, f"chain: argument {i}", optimizer, such)

    def init(weights):
        return tuple(optimizer.init(weights) for optimizer in optimizers)

    steps = [with_extras(optimizer.update) for optimizer in optimizers]

    def update(updates, states, weights, **extra):
        several = isinstance(states, (tuple, list))
        got = f"{len(states)} states" if several else describe_value(states)
        require(
            several and len(states) == len(optimizers),
            f"chain: the state holds {got}, but one for each of the {len(optimizers)} optimizers "
            "is expected, as `init` of this chain returns it.",
        )
        new = []
        for step, state in zip(steps, states, strict=True):
            updates, state = step(updates, state, weights, **extra)
            new.append(state)
        return updates, tuple(new)

    return optimizer_pair("chain", init, update, real=False, **_hooks_of_chain(optimizers))


def _hooks_of_chain(optimizers: tuple[Optimizer, ...]) -> dict[str, Callable | None]:
    """The hooks of a chain, of which the state is a tuple: those of its links that have them."""

    def hooks(name: str) -> list[Any]:
        return [getattr(optimizer, name, None) for optimizer in optimizers]

    places, observers = hooks("gradient_at"), hooks("observe")
    at = [i for i, place in enumerate(places) if place is not None]
    text = f"chain: arguments {at} each choose where the gradient is taken; keep one of them."
    require(len(at) < 2, text)
    last = len(optimizers) - 1
    require(
        at in ([], [last]),
        f"chain: argument {at and at[0]} of 0 to {last} chooses where the gradient is taken, as "
        "schedule-free optimizers do, so its updates have to stay as they are; put it last.",
    )

    def gradient_at(states, weights):
        return places[at[0]](states[at[0]], weights)

    def observe(states, metrics):
        pairs = zip(observers, states, strict=True)
        return tuple(see(state, metrics) if see else state for see, state in pairs)

    return {
        "gradient_at": gradient_at if at else None, "observe": observe if any(observers) else None
    }  # fmt: skip


@declared
def clip(limit: Positive) -> Optimizer:
    """Clip every entry of the gradient to the range from -limit to limit.

        u = max(-limit, min(g, limit))

    NaN stays NaN.
    Source: Mikolov, Statistical language models based on neural networks (2012), section 3.2.2.

    >>> clip(1.0).update(jnp.array([-5.0, 0.5]), ())[0].tolist()
    [-1.0, 0.5]
    """

    def bound(g):
        most = widen(limit, g)
        return jnp.clip(widen(g), -most, most).astype(jnp.result_type(g))

    return stateless_pair("clip", lambda updates, weights: jax.tree.map(bound, updates))


@declared
def clip_by_global_norm(limit: Positive) -> Optimizer:
    """Scale the gradient down to a norm of `limit` if it is larger; its direction is kept.

        u = g · min(1, limit / ‖g‖),    ‖g‖² = the sum of g² over all weights

    NaN anywhere makes everything NaN.
    Source: Pascanu, Mikolov & Bengio (2013), algorithm 1.

    >>> print(clip_by_global_norm(2.5).update(jnp.array([3.0, -4.0]), ())[0])
    [ 1.5 -2. ]
    """

    def rescale(updates, weights):
        squares = [jnp.sum(jnp.square(widen(g))) for g in jax.tree.leaves(updates)]
        square = sum(squares, start=jnp.zeros((), jnp.float32))
        # a norm of 0 becomes the smallest normal number, so that the factor is 1 and not 0 / 0
        norm = jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
        factor = jnp.minimum(1, floating(limit) / norm)
        scale = lambda g: (widen(g) * widen(factor, g)).astype(jnp.result_type(g))
        return jax.tree.map(scale, updates)

    return stateless_pair("clip_by_global_norm", rescale)


@declared
def add_weight_decay(strength: NonNegative, mask: PyTree | Callable | None = None) -> Optimizer:
    """Add the gradient of the penalty ½ · strength · Σ w² to the gradient.

        u = g + strength · w

    Chain it before an optimizer. For decoupled weight decay, which adaptive rates do not scale, use
    `adamw`. The decay applies to matrices and kernels only (two or more axes), unless `mask` says
    otherwise: a pytree of bools like the weights, or a function of the weights that returns one.

    `update` raises ValueError for a mask that does not match the weights, and if they are missing.
    Source: Krogh & Hertz (1991).

    >>> weights = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    >>> updates, _ = add_weight_decay(0.5).update(weights, (), weights)
    >>> updates["w"].tolist(), updates["b"].tolist()
    ([[1.5]], [1.0])
    """

    def decay(updates, weights):
        def add(g, w, chosen):
            if not chosen:
                return g
            return (widen(g) + widen(strength, g) * widen(w, g)).astype(jnp.result_type(g))

        weights = required_weights("add_weight_decay", weights)
        return jax.tree.map(add, updates, weights, decay_mask("add_weight_decay", mask, weights))

    return stateless_pair("add_weight_decay", decay)


class ScheduleState(NamedTuple):
    count: Count


@declared
def scale_by_schedule(schedule: FiniteRate) -> Optimizer:
    """Multiply the updates by a schedule (or a number); their sign is not flipped.

        u = schedule(t - 1) · g

    Source: the gradient transformations that the JAX ecosystem shares.

    >>> optimizer = scale_by_schedule(lambda step: 0.5 / (1 + step))
    >>> updates, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)))
    >>> updates.tolist(), optimizer.update(jnp.ones(2), state)[0].tolist()
    ([0.5, 0.5], [0.25, 0.25])
    """
    factor = lambda step: at(schedule, step)  # a rate to the helper, but it may be negative
    rule = lambda factor, g: (factor * g,)
    return weightwise("scale_by_schedule", ScheduleState, factor, lambda f, t: (f,), rule)


class AverageState(NamedTuple):
    average: PyTree  # like the weights


@declared
def exponential_moving_average(decay: UnitInterval) -> Optimizer:
    """Keep a moving average of the weights in the state; the updates pass through unchanged.

        a ← decay · a + (1 - decay) (w + u),    a₀ = the initial weights

    Chain it last, so that it sees the final updates; `averaged_weights` reads the average.

    `update` raises ValueError without the weights, and TypeError for another optimizer's state.
    Source: Polyak & Juditsky (1992), with an exponential average.

    >>> optimizer = exponential_moving_average(0.75)
    >>> _, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
    >>> averaged_weights(state).tolist()
    [0.25, 0.25]
    """

    def init(weights):
        copy = lambda w: jnp.array(w, jnp.result_type(w))  # separate buffers, safe to donate
        return AverageState(jax.tree.map(copy, weights))

    def update(updates, state, weights):
        own_state("exponential_moving_average", AverageState, state)
        after = apply_updates(required_weights("exponential_moving_average", weights), updates)
        new = 1 - floating(decay)
        follow = lambda a, w: average(widen(a), widen(w), widen(new, a)).astype(a.dtype)
        return updates, AverageState(jax.tree.map(follow, state.average, after))

    return optimizer_pair("exponential_moving_average", init, update, real=False)


def averaged_weights(state: PyTree) -> PyTree:
    """The average that an `exponential_moving_average` keeps somewhere in an optimizer's state.

    Raises ValueError unless there is exactly one.
    Source: Polyak & Juditsky (1992).

    >>> optimizer = chain(clip(1.0), exponential_moving_average(0.9))
    >>> averaged_weights(optimizer.init(jnp.ones(2))).tolist()
    [1.0, 1.0]
    """
    is_average = lambda node: isinstance(node, AverageState)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_average) if is_average(node)]
    require(
        len(found) == 1,
        f"averaged_weights: the state holds {len(found)} averages of the weights, but one is "
        "expected; chain exponential_moving_average(decay) last, once.",
    )
    return found[0].average
