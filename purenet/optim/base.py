"""Build an optimizer from a rule for one weight."""

import inspect
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import floating, widen
from purenet.core.tree import check_same_structure
from purenet.core.types import Array, HookedOptimizer, Number, Optimizer, PyTree, Rate, only_weights
from purenet.core.validate import array, expect, is_number, require
from purenet.optim.schedules import at

Count = Any  # () int32, the updates so far; Any because every tuple has a method named count


# what they share


def optimizer_pair(
    caller: str, init: Callable, update: Callable, real: bool = True, **hooks: Callable | None
) -> Optimizer:
    """An (init, update) pair that checks the weights and the gradients, with the `hooks` of a
    HookedOptimizer.

    Its `update` accepts any further keyword arguments and passes on those that the given one takes.
    With `real` False, complex numbers are accepted: that is right only for transformations that
    add numbers or pass them on.

    Raises TypeError for a network's Params in place of its weights and for weights or gradients
    that are not real floats; ValueError for gradients with a different structure or shapes.

    >>> optimizer_pair("none", lambda weights: (), lambda g, state, w: (g, state)).init(jnp.ones(2))
    ()
    """

    step = with_extras(update)

    def checked_init(weights):
        return init(trainable_weights(caller, weights, real=real))

    def checked_update(grads, state, weights=None, **extra):
        if weights is not None:
            check_same_structure(
                caller,
                "the weights",
                trainable_weights(caller, weights, real=real),
                gradients=grads,
            )
        return step(trainable_weights(caller, grads, "gradients", real), state, weights, **extra)

    if not any(hooks.values()):
        return Optimizer(checked_init, checked_update)
    return HookedOptimizer(checked_init, checked_update, **hooks)


def with_extras(update: Callable) -> Callable:
    """An `update` that accepts any keyword argument and passes on those that `update` takes.

    They are read from its signature: all of them if it has `**extra`, otherwise the parameters
    after (grads, state, weights).
    Source: the gradient transformations with extra arguments that the JAX ecosystem shares.

    >>> halve = with_extras(lambda grads, state, weights=None: (grads / 2, state))
    >>> halve(1.0, (), None, value=3.0)
    (0.5, ())
    """
    try:
        parameters = list(inspect.signature(update).parameters.values())
    except ValueError:  # a callable without a signature
        parameters = []
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    by_name -= {p.name for p in parameters[:3] if p.kind is p.POSITIONAL_OR_KEYWORD}

    def step(grads, state, weights, **extra):
        taken = {name: a for name, a in extra.items() if takes_all or name in by_name}
        return update(grads, state, weights, **taken)

    return step


def stateless_pair(caller: str, f: Callable) -> Optimizer:
    """An optimizer without a state, from f(updates, weights) -> updates.

    >>> stateless_pair("half", lambda g, w: g / 2).update(jnp.ones(2), ())[0].tolist()
    [0.5, 0.5]
    """
    return optimizer_pair(
        caller, lambda weights: (), lambda updates, state, weights: (f(updates, weights), state)
    )


def weightwise(
    caller: str,
    state_type: Any,
    rate: Rate,
    numbers: Callable,
    rule: Callable,
    fill: Number = 0.0,
    weight_decay: Number = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """An optimizer that updates every entry of the weights independently of all others.

    `numbers(rate, t)` returns the scalars of one update, calculated once and not for each weight;
    `rule(*scalars, g, *slots) -> (u, *slots)` works on arrays. The state is
    `state_type(count, *slots)`, every slot a tree like the weights that starts at `fill`.
    The caller checks the numbers. `update` raises ValueError for gradients that do not match its
    state, and TypeError for the state of another optimizer.

    >>> from purenet.optim.transforms import ScheduleState
    >>> times = lambda rate, g: (rate * g,)
    >>> half = weightwise("half", ScheduleState, 0.5, lambda rate, t: (rate,), times)
    >>> half.update(jnp.ones(2), half.init(jnp.ones(2)))[0].tolist()
    [0.5, 0.5]
    """
    # a plain 0 needs neither the weights nor a pass over them; an array is never inspected
    decays = not (is_number(weight_decay) and weight_decay == 0)
    slots = len(state_type._fields) - 1

    def init(weights):
        # separate buffers for each slot: a tree used twice could not be donated
        full = lambda w: jnp.full_like(w, fill, dtype=jnp.result_type(w))
        trees = [jax.tree.map(full, weights) for _ in range(slots)]
        return state_type(jnp.zeros((), jnp.int32), *trees)

    def update(grads, state, weights):
        count, *trees = own_state(caller, state_type, state)
        for tree in trees:
            check_same_structure(caller, "the weights of the state", tree, gradients=grads)
        now = at(rate, count)
        scalars = [floating(number) for number in numbers(now, floating(count + 1))]
        shrink = now * floating(weight_decay)

        def leaf(g, w, chosen, *old):
            wide = lambda a: widen(a, g, w)
            u, *new = rule(*map(wide, scalars), wide(g), *map(wide, old))
            if chosen:
                u = u - wide(shrink) * wide(w)
            pairs = zip((u, *new), (w, *old), strict=True)
            return Row(a.astype(jnp.result_type(b)) for a, b in pairs)

        if decays:
            chosen = decay_mask(caller, mask, required_weights(caller, weights))
        else:
            chosen = jax.tree.map(lambda g: False, grads)
        like = grads if weights is None else weights  # the updates have its dtypes
        rows = jax.tree.map(leaf, grads, like, chosen, *trees)
        updates, *trees = (jax.tree.map(itemgetter(i), rows) for i in range(slots + 1))
        return updates, state_type(count + 1, *trees)

    return optimizer_pair(caller, init, update)


def root(x: Array) -> jax.Array:
    """√x of numbers from 0 up, whose derivative at 0 is 0: that of |g| at g = 0 from √(g²), where
    JAX's square root has ∞ · 0.

    >>> float(root(jnp.array(4.0))), float(jax.grad(lambda g: root(g * g))(0.0))
    (2.0, 0.0)
    """
    inside = x > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, x, 1)), x)


def average(old: Any, x: Any, new: Any) -> Any:
    """A step of a moving average, (1 - new) · old + new · x; exactly old where x equals it.

    Source: Brown, Statistical forecasting for inventory control (1959).

    >>> average(1.0, 2.0, 0.25)
    1.25
    """
    return old + new * (x - old)


class Row(tuple):
    """The new values for one leaf, which jax.tree takes for a leaf; a tuple would be a subtree."""


def trainable_weights(
    caller: str, weights: PyTree, what: str = "weights", real: bool = True
) -> PyTree:
    """The weights or the gradients, unchanged.

    Raises TypeError for a network's Params, for leaves that are not arrays of floats and, where
    `real`, for complex ones.

    >>> trainable_weights("sgd", {"w": 1.0})
    {'w': 1.0}
    """
    for path, leaf in jax.tree.leaves_with_path(only_weights(caller, weights)):
        name = f"the {what}{jax.tree_util.keystr(path)}"
        dtype = jnp.result_type(array(caller, name, leaf))
        require(
            jnp.issubdtype(dtype, jnp.inexact),
            f"{caller}: {name} have dtype {dtype}, but floats are expected; convert them with "
            "astype(float), or leave them out.",
            TypeError,
        )
        require(
            not real or jnp.issubdtype(dtype, jnp.floating),
            f"{caller}: {name} have dtype {dtype}, but real floats are expected: jax.grad of a "
            "complex weight is the conjugate of the direction in which the loss rises; train the "
            "real and the imaginary part as two weights.",
            TypeError,
        )
    return weights


def own_state(caller: str, state_type: Any, state: PyTree) -> Any:
    """The state, unchanged. Raises TypeError for the state of another optimizer.

    >>> own_state("chain", tuple, ())
    ()
    """
    what, kind = f"{caller}: the state", type(state).__name__
    text = f"{what} is a {kind}, but a {state_type.__name__} is expected, as `init` returns it."
    require(isinstance(state, state_type), text, TypeError)
    return state


def required_weights(caller: str, weights: PyTree | None) -> PyTree:
    """The weights, unchanged. Raises ValueError for None.

    >>> required_weights("adamw", {"w": 1.0})
    {'w': 1.0}
    """
    text = "`update` needs the weights; call update(grads, state, params.weights)."
    require(weights is not None, f"{caller}: {text}")
    return weights


def decay_mask(caller: str, mask: PyTree | Callable | None, weights: PyTree) -> PyTree:
    """Which leaves decay: a tree of Python bools with the structure of the weights.

    Raises ValueError for a mask with another structure, or with leaves other than True and False.

    >>> decay_mask("adamw", None, {"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    {'b': False, 'w': True}
    """
    if mask is None:
        return jax.tree.map(lambda w: jnp.ndim(w) >= 2, weights)
    mask = mask(weights) if callable(mask) else mask
    structures: Any = jax.tree.structure(mask), jax.tree.structure(weights)
    got, expected = structures
    require(
        got == expected,
        f"{caller}: the mask has the structure {got}, but one boolean for each of the weights "
        f"{expected} is expected.",
    )
    for leaf in jax.tree.leaves(mask):
        legal = isinstance(leaf, (bool, np.bool_))
        expect(legal, f"{caller}: a leaf of the mask", leaf, "True or False", ValueError)
    return mask
