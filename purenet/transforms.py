"""Updates on their way: what is chained before or after an optimizer, and what optimizers share.

Clipping, weight decay and averaging are (init, update) pairs as the optimizers are, with the
conventions of `purenet.optimizers`.
"""

import inspect
from collections.abc import Callable
from functools import reduce
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.checks import (
    alike,
    array,
    finite,
    fraction,
    is_number,
    non_negative,
    non_negative_or_schedule,
    positive,
    told,
)
from purenet.schedules import at, floating
from purenet.types import Number, Optimizer, Params, PyTree, Rate

Count = Any  # () int32, the updates so far; Any because every tuple has a method of the name count


def apply_updates(weights: PyTree, updates: PyTree) -> PyTree:
    """The weights after an update, w + u, each in its own dtype.

    Raises ValueError where the updates do not have the structure and the shapes of the weights, and
    TypeError for weights that are neither real nor complex floats and for a network's Params.
    Source: the convention of gradient transformations; u carries the minus sign.

    >>> apply_updates({"w": jnp.ones(2)}, {"w": jnp.full(2, -0.25)})["w"].tolist()
    [0.75, 0.75]
    """
    add = lambda w, u: (jnp.asarray(w) + u).astype(jnp.result_type(w))
    trained = _trained("apply_updates", weights, real=False)
    alike("apply_updates", "the weights", trained, updates=updates)
    return jax.tree.map(add, weights, updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Several optimizers in a row: the updates of one are the gradients of the next.

        u = fₙ(… f₂(f₁(g)))

    The state is a tuple, one state for each. What `update` is given by name beyond the weights,
    such as `value=`, is passed on to each optimizer whose `update` takes it, and to no other.

    Raises TypeError for an argument that is not an (init, update) pair, and ValueError for the
    state of another chain.
    Source: the composition of gradient transformations that the JAX ecosystem shares.

    >>> optimizer = chain(clip(1.0), scale_by_schedule(-0.5))
    >>> optimizer.update(jnp.array([9.0, 0.5]), optimizer.init(jnp.zeros(2)))[0].tolist()
    [-0.5, -0.25]
    """
    for i, optimizer in enumerate(optimizers):
        if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            raise TypeError(
                f"chain: argument {i} is {told(optimizer)}, but an (init, update) pair is "
                "expected, such as sgd(0.1)."
            )

    def init(weights):
        return tuple(optimizer.init(weights) for optimizer in optimizers)

    steps = [with_extras(optimizer.update) for optimizer in optimizers]

    def update(updates, states, weights, **extra):
        if not isinstance(states, (tuple, list)) or len(states) != len(optimizers):
            got = f"{len(states)} states" if isinstance(states, tuple) else told(states)
            raise ValueError(
                f"chain: the state holds {got}, but one for each of the {len(optimizers)} "
                "optimizers is expected: what `init` of this chain returns."
            )
        new = []
        for step, state in zip(steps, states, strict=True):
            updates, state = step(updates, state, weights, **extra)
            new.append(state)
        return updates, tuple(new)

    return optimizer_pair("chain", init, update, real=False)


def clip(limit: Number) -> Optimizer:
    """Every number of the gradient held between -limit and limit.

        u = max(-limit, min(g, limit))

    Raises ValueError unless the limit is positive, and TypeError where it is no number. NaN stays
    NaN.
    Source: Mikolov, Statistical language models based on neural networks (2012), section 3.2.2.

    >>> clip(1.0).update(jnp.array([-5.0, 0.5]), ())[0].tolist()
    [-1.0, 0.5]
    """
    positive("clip", limit=limit)

    def bound(g):
        most = _wide(limit, g)
        return jnp.clip(_wide(g), -most, most).astype(jnp.result_type(g))

    return _stateless("clip", lambda updates, weights: jax.tree.map(bound, updates))


def clip_by_global_norm(limit: Number) -> Optimizer:
    """The gradient shortened to a norm of `limit` where it is longer; its direction is kept.

        u = g · min(1, limit / ‖g‖),    ‖g‖² = the sum of g² over all weights

    Raises ValueError unless the limit is positive, and TypeError where it is no number. NaN
    anywhere makes everything NaN.
    Source: Pascanu, Mikolov & Bengio (2013), algorithm 1.

    >>> print(clip_by_global_norm(2.5).update(jnp.array([3.0, -4.0]), ())[0])
    [ 1.5 -2. ]
    """
    positive("clip_by_global_norm", limit=limit)

    def rescale(updates, weights):
        squares = [jnp.sum(jnp.square(_wide(g))) for g in jax.tree.leaves(updates)]
        square = sum(squares, start=jnp.zeros((), jnp.float32))
        # a norm of 0 divides as the smallest normal number: then the factor is 1, and no 0 / 0
        norm = jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
        factor = jnp.minimum(1, floating(limit) / norm)
        scale = lambda g: (_wide(g) * _wide(factor, g)).astype(jnp.result_type(g))
        return jax.tree.map(scale, updates)

    return _stateless("clip_by_global_norm", rescale)


def add_weight_decay(strength: Number, mask: PyTree | Callable | None = None) -> Optimizer:
    """The gradient of the penalty ½ · strength · Σ w², added to the gradient.

        u = g + strength · w

    Put it before an optimizer: after one, or for a decay that adaptive rates leave alone, take
    `adamw`. It touches matrices and kernels only (two axes or more), unless `mask` says otherwise:
    a pytree of bools like the weights, or a function of the weights that returns one.

    Raises ValueError for a negative strength, for a mask that is not like the weights, and when
    `update` is not given the weights; TypeError for a strength that is no number.
    Source: Krogh & Hertz (1991).

    >>> weights = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    >>> updates, _ = add_weight_decay(0.5).update(weights, (), weights)
    >>> updates["w"].tolist(), updates["b"].tolist()
    ([[1.5]], [1.0])
    """
    non_negative("add_weight_decay", strength=strength)

    def decay(updates, weights):
        def add(g, w, chosen):
            if not chosen:
                return g
            return (_wide(g) + _wide(strength, g) * _wide(w, g)).astype(jnp.result_type(g))

        weights = _needed("add_weight_decay", weights)
        return jax.tree.map(add, updates, weights, _chosen("add_weight_decay", mask, weights))

    return _stateless("add_weight_decay", decay)


class ScheduleState(NamedTuple):
    count: Count


def scale_by_schedule(schedule: Rate) -> Optimizer:
    """The updates times a schedule (or a number); nothing else changes, not even the sign.

        u = schedule(t - 1) · g

    Raises TypeError for what is neither a number nor a function of the step.
    Source: the gradient transformations that the JAX ecosystem shares.

    >>> optimizer = scale_by_schedule(lambda step: 0.5 / (1 + step))
    >>> updates, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)))
    >>> updates.tolist(), optimizer.update(jnp.ones(2), state)[0].tolist()
    ([0.5, 0.5], [0.25, 0.25])
    """
    if isinstance(schedule, type) or not callable(schedule):
        finite("scale_by_schedule", schedule=schedule)
    factor = lambda step: at(schedule, step)  # a rate to the helper, but it may be negative
    rule = lambda factor, g: (factor * g,)
    return weightwise("scale_by_schedule", ScheduleState, factor, lambda f, t: (f,), rule)


class AverageState(NamedTuple):
    average: PyTree  # like the weights


def exponential_moving_average(decay: Number) -> Optimizer:
    """Keeps a moving average of the weights in its state; the updates pass through unchanged.

        a ← decay · a + (1 - decay) (w + u),    a₀ = the initial weights

    Chain it last, so that it sees the weights as they will be; `averaged_weights` reads it.

    Raises ValueError for a decay outside [0, 1) and when `update` is not given the weights;
    TypeError for a decay that is no number and for the state of another optimizer.
    Source: Polyak & Juditsky (1992), with the average that forgets.

    >>> optimizer = exponential_moving_average(0.75)
    >>> _, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
    >>> averaged_weights(state).tolist()
    [0.25, 0.25]
    """
    fraction("exponential_moving_average", decay=decay)

    def init(weights):
        copy = lambda w: jnp.array(w, jnp.result_type(w))  # its own buffers: donation-safe
        return AverageState(jax.tree.map(copy, weights))

    def update(updates, state, weights):
        _own_state("exponential_moving_average", AverageState, state)
        after = apply_updates(_needed("exponential_moving_average", weights), updates)
        new = 1 - floating(decay)
        follow = lambda a, w: average(_wide(a), _wide(w), _wide(new, a)).astype(a.dtype)
        return updates, AverageState(jax.tree.map(follow, state.average, after))

    return optimizer_pair("exponential_moving_average", init, update, real=False)


def averaged_weights(state: PyTree) -> PyTree:
    """The average that an `exponential_moving_average` keeps somewhere in an optimizer's state.

    Raises ValueError unless there is exactly one.
    Source: Polyak & Juditsky (1992), as there.

    >>> optimizer = chain(clip(1.0), exponential_moving_average(0.9))
    >>> averaged_weights(optimizer.init(jnp.ones(2))).tolist()
    [1.0, 1.0]
    """
    is_average = lambda node: isinstance(node, AverageState)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_average) if is_average(node)]
    if len(found) != 1:
        raise ValueError(
            f"averaged_weights: the state holds {len(found)} averages of the weights, but one is "
            "expected; chain exponential_moving_average(decay) last, once."
        )
    return found[0].average


# what they share


def optimizer_pair(who: str, init: Callable, update: Callable, real: bool = True) -> Optimizer:
    """A pair that refuses what cannot be trained, and gradients that are not like the weights.

    Its `update` takes any further arguments by name; `update` is given those that it takes. Complex
    numbers pass where `real` is False: only what adds and hands on is right for them.

    Raises TypeError for a network's Params in place of its weights and for weights or gradients
    that are not real floats; ValueError for gradients of another structure or other shapes.

    >>> optimizer_pair("none", lambda weights: (), lambda g, state, w: (g, state)).init(jnp.ones(2))
    ()
    """

    step = with_extras(update)

    def checked_init(weights):
        return init(_trained(who, weights, real=real))

    def checked_update(grads, state, weights=None, **extra):
        if weights is not None:
            alike(who, "the weights", _trained(who, weights, real=real), gradients=grads)
        return step(_trained(who, grads, "gradients", real), state, weights, **extra)

    return Optimizer(checked_init, checked_update)


def with_extras(update: Callable) -> Callable:
    """An `update` that may be given anything by name, and passes on what `update` itself takes.

    What is taken is read from the signature: every name where there is `**extra`, else those of its
    own parameters after (grads, state, weights).
    Source: the gradient transformations with extra arguments that the JAX ecosystem shares.

    >>> halve = with_extras(lambda grads, state, weights=None: (grads / 2, state))
    >>> halve(1.0, (), None, value=3.0)
    (0.5, ())
    """
    try:
        parameters = list(inspect.signature(update).parameters.values())
    except ValueError:  # it has no signature to ask
        parameters = []
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    by_name -= {p.name for p in parameters[:3] if p.kind is p.POSITIONAL_OR_KEYWORD}

    def step(grads, state, weights, **extra):
        taken = {name: a for name, a in extra.items() if takes_all or name in by_name}
        return update(grads, state, weights, **taken)

    return step


def _stateless(who, f):
    """A pair without a state: f(updates, weights) -> updates."""
    return optimizer_pair(
        who, lambda weights: (), lambda updates, state, weights: (f(updates, weights), state)
    )


def weightwise(
    who: str,
    state_type: Any,
    rate: Rate,
    numbers: Callable,
    rule: Callable,
    fill: Number = 0.0,
    weight_decay: Number = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """An optimizer in which no number of the weights looks at another.

    `numbers(rate, t)` returns the scalars of one update, calculated once and not for each weight;
    `rule(*scalars, g, *slots) -> (u, *slots)` works on arrays. The state is
    `state_type(count, *slots)`, every slot a tree like the weights that starts at `fill`.
    Raises ValueError for a negative rate or decay, and where `update` is given other gradients than
    its state was made for; TypeError for numbers that are none and for the state of another
    optimizer.

    >>> times = lambda rate, g: (rate * g,)
    >>> half = weightwise("half", ScheduleState, 0.5, lambda rate, t: (rate,), times)
    >>> half.update(jnp.ones(2), half.init(jnp.ones(2)))[0].tolist()
    [0.5, 0.5]
    """
    non_negative_or_schedule(who, rate=rate)
    non_negative(who, weight_decay=weight_decay)
    # a plain 0 needs neither the weights nor a pass over them; an array is never looked at
    decays = not (is_number(weight_decay) and weight_decay == 0)
    slots = len(state_type._fields) - 1

    def init(weights):
        # each slot its own buffers: one tree given twice could not be donated
        full = lambda w: jnp.full_like(w, fill, dtype=jnp.result_type(w))
        trees = [jax.tree.map(full, weights) for _ in range(slots)]
        return state_type(jnp.zeros((), jnp.int32), *trees)

    def update(grads, state, weights):
        count, *trees = _own_state(who, state_type, state)
        for tree in trees:
            alike(who, "the weights of the state", tree, gradients=grads)
        now = at(rate, count)
        scalars = [floating(number) for number in numbers(now, floating(count + 1))]
        shrink = now * floating(weight_decay)

        def leaf(g, w, chosen, *old):
            wide = lambda a: _wide(a, g, w)
            u, *new = rule(*map(wide, scalars), wide(g), *map(wide, old))
            if chosen:
                u = u - wide(shrink) * wide(w)
            pairs = zip((u, *new), (w, *old), strict=True)
            return _Row(a.astype(jnp.result_type(b)) for a, b in pairs)

        if decays:
            chosen = _chosen(who, mask, _needed(who, weights))
        else:
            chosen = jax.tree.map(lambda g: False, grads)
        like = grads if weights is None else weights  # whose dtypes the updates have
        rows = jax.tree.map(leaf, grads, like, chosen, *trees)
        updates, *trees = (jax.tree.map(itemgetter(i), rows) for i in range(slots + 1))
        return updates, state_type(count + 1, *trees)

    return optimizer_pair(who, init, update)


def average(old: Any, x: Any, new: Any) -> Any:
    """A step of a moving average, (1 - new) · old + new · x; exactly old where x equals it.

    Source: Brown, Statistical forecasting for inventory control (1959).

    >>> average(1.0, 2.0, 0.25)
    1.25
    """
    return old + new * (x - old)


class _Row(tuple):
    """The new values for one leaf: to jax.tree a leaf, where a plain tuple would be a branch."""


def _wide(a, *like):
    """`a` in the dtype for arithmetic on `like` (or itself): the widest, float32 at least."""
    with jax.numpy_dtype_promotion("standard"):  # the widest, though the caller wants no promotion
        dtype = reduce(jnp.promote_types, map(jnp.result_type, like or (a,)), jnp.float32)
    return jnp.asarray(a, dtype)


def only_weights(who: str, weights: PyTree) -> PyTree:
    """The weights, as they are. Raises TypeError for a network's Params, in whole or in part.

    >>> only_weights("sgd", {"w": 1.0})
    {'w': 1.0}
    """
    is_params = lambda node: isinstance(node, Params)
    if any(map(is_params, jax.tree.leaves(weights, is_leaf=is_params))):
        raise TypeError(
            f"{who}: got a network's Params (weights and stats), but an optimizer takes what is "
            "trained; pass params.weights."
        )
    return weights


def _trained(who, weights, what="weights", real=True):
    for path, leaf in jax.tree.leaves_with_path(only_weights(who, weights)):
        name = f"the {what}{jax.tree_util.keystr(path)}"
        dtype = jnp.result_type(array(who, name, leaf))
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{who}: {name} are of {dtype}, but what is trained is floats; convert them with "
                "astype(float), or leave them out."
            )
        if real and jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"{who}: {name} are of {dtype}, but real floats are expected: JAX's gradient of a "
                "complex number is the conjugate of the direction in which the loss rises; train "
                "the real and the imaginary part as two weights."
            )
    return weights


def _own_state(who, state_type, state):
    if not isinstance(state, state_type):
        raise TypeError(
            f"{who}: the state is a {type(state).__name__}, but a {state_type.__name__} is "
            "expected: what `init` of the same optimizer returns."
        )
    return state


def _needed(who, weights):
    if weights is None:
        raise ValueError(
            f"{who}: `update` needs the weights; call update(grads, state, params.weights)."
        )
    return weights


def _chosen(who, mask, weights):
    """A tree like the weights of Python bools: which leaves decay."""
    if mask is None:
        return jax.tree.map(lambda w: jnp.ndim(w) >= 2, weights)
    mask = mask(weights) if callable(mask) else mask
    structures: Any = jax.tree.structure(mask), jax.tree.structure(weights)
    got, expected = structures
    if got != expected:
        raise ValueError(
            f"{who}: the mask has the structure {got}, but one bool for each of the weights "
            f"{expected} is expected."
        )
    for chosen in jax.tree.leaves(mask):
        if not isinstance(chosen, (bool, np.bool_)):
            raise ValueError(f"{who}: the mask holds {chosen!r}, but it is made of True and False.")
    return mask
