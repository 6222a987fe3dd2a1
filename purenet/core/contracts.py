"""Checks of what users provide: numbers, dicts, Trainables and their metrics."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import is_numeric
from purenet.core.tree import named_paths
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import accepts, check_function, expect, require

# traced code
TRACER_ERRORS = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


@contextlib.contextmanager
def traced_code(what: str) -> Iterator[None]:
    """Add advice to the error of code that reads the numbers of a traced array.

    >>> with traced_code("fit: `evaluate`"):
    ...     pass
    """
    try:
        yield
    except TRACER_ERRORS as error:
        cure = (
            " is compiled, so that its arrays are traced and hold no numbers yet: use jax.numpy "
            "instead of NumPy, jnp.where instead of `if`, and neither float(), int() nor .item()."
        )
        # the innermost code is the one to blame
        if not any(note.endswith(cure) for note in getattr(error, "__notes__", ())):
            error.add_note(f"{what}{cure}")
        raise


# Trainables
def checked_trainable(caller: str, trainable: Any) -> Trainable:
    """A Trainable of three functions, and `predict` if it has one. Raises TypeError for anything
    else.

    >>> checked_trainable("fit", 3)
    Traceback (most recent call last):
    TypeError: fit: trainable is 3, but a Trainable such as supervised(...) is expected.
    """
    legal = isinstance(trainable, Trainable)
    expect(legal, f"{caller}: trainable", trainable, "a Trainable such as supervised(...)")
    calls = {"init": "(key)", "epoch": "(state, data)", "evaluate": "(state, data)"}
    for name, given in (("predict", "(state, x)"), ("observe", "(state, metrics)")):
        if getattr(trainable, name) is not None:
            calls[name] = given
    for name, given in calls.items():
        part, count = getattr(trainable, name), len(given.split(","))
        check_function(caller, **{name: part})
        text = f"{caller}: `{name}` cannot be called with {given}, as a Trainable's is."
        require(accepts(part, *[None] * count), text, TypeError)
    return trainable


def checked_state(caller: str, state: PyTree) -> PyTree:
    """A state of numbers and random keys. Raises TypeError, naming the leaf, for anything else.

    >>> checked_state("fit", {"step": 0})
    {'step': 0}
    """
    for path, leaf in named_paths(caller, state):
        name = _name(path) or "itself"
        expect(_is_array(leaf), f"{caller}: the state's {name}", leaf, "a number or an array")
    return state


def checked_epoch(caller: str, after: Any) -> tuple[PyTree, Any]:
    """What an epoch returns, a pair (state, metrics). Raises TypeError for anything else.

    >>> checked_epoch("fit", (0.0, {}))
    (0.0, {})
    """
    pair, kind = isinstance(after, tuple) and len(after) == 2, type(after).__name__
    text = f"{caller}: `epoch` returned {kind}, but a pair (state, metrics) is expected."
    require(pair, text, TypeError)
    return checked_state(caller, after[0]), after[1]


def same_state(caller: str, before: PyTree, after: PyTree, what: str = "epoch") -> None:
    """An epoch must return a state like the one it received, or no loop could carry it; so must
    `what` else is called.

    Raises ValueError for another structure, or a leaf of another shape or dtype.

    >>> same_state("fit", jnp.zeros(2), jnp.ones(2))
    """
    expected, found = jax.tree.structure(before), jax.tree.structure(after)
    require(
        expected == found,  # type: ignore[operator]
        f"{caller}: `{what}` returned a state of structure {found}, but that of `init` is "
        f"{expected}; both must match.",
    )
    paths = jax.tree_util.tree_flatten_with_path(before)[0]
    for (path, a), b in zip(paths, jax.tree.leaves(after), strict=True):
        require(
            a.shape == b.shape and a.dtype == b.dtype,
            f"{caller}: `{what}` returned {_name(path) or 'the state'} as "
            f"{b.dtype}{list(b.shape)}, but `init` as {a.dtype}{list(a.shape)}; both must match.",
        )


def observed(
    caller: str, trainable: Trainable, state: PyTree, metrics: PyTree, due: Any = True
) -> PyTree:
    """The state after its Trainable has been told an epoch's validation metrics, if they were
    measured, or are `due`.

    >>> count = Trainable(None, None, None, observe=lambda state, metrics: state + 1)
    >>> observed("fit", count, jnp.zeros(()), {"loss": 0.5}, due=jnp.array(True)).item()
    1.0
    """
    if trainable.observe is None:
        return state
    with traced_code(f"{caller}: `observe`"):
        after = trainable.observe(state, metrics)
    before, found = (jax.tree.map(jax.typeof, tree) for tree in (state, after))
    same_state(caller, before, found, what="observe")
    # most of a state is as before
    choose = lambda new, old: old if new is old else jnp.where(due, new, old)
    return after if due is True else jax.tree.map(choose, after, state)


def checked_metrics(caller: str, metrics: Any) -> dict[str, Any]:
    """A dict of real scalars by name. Raises TypeError for other values, ValueError for arrays of
    another shape.

    >>> checked_metrics("fit: `evaluate`", {"loss": 0.5})
    {'loss': 0.5}
    """
    legal = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    such = 'a dict of scalars such as {"loss": ..., "accuracy": ...}'
    expect(legal, f"{caller}: the result", metrics, such)
    for name, value in metrics.items():
        check_scalar(f"{caller}: the metric {name!r}", value)
    return metrics


def check_scalar(what: str, value: Any) -> None:
    """One real number. Raises TypeError for another kind of value, ValueError for an array.

    >>> check_scalar("supervised: the loss", 0.5)
    """
    real = _is_array(value) and _is_real(jnp.result_type(value))
    expect(real, what, value, "one real number")
    shape = np.shape(value)
    require(shape == (), f"{what} has shape {shape}, but a scalar is expected; take its mean.")


def check_data(caller: str, parts: dict[str, PyTree]) -> None:
    """Parts of the data, each of arrays of numbers with the examples on the leading axis.

    Raises TypeError, naming the leaf, if it is not an array of numbers; ValueError for single
    numbers and for a part without an array.

    >>> check_data("fit", {"train": (np.ones((4, 2)), np.zeros(4, int))})
    """
    for part, tree in parts.items():
        found = named_paths(caller, tree)
        for path, leaf in found:
            below = _name(path)
            name = f"{caller}: the data {part}.{below}" if below else f"{caller}: the data {part}"
            numbers = hasattr(leaf, "dtype") and is_numeric(leaf.dtype)
            expect(numbers, name, leaf, "an array of numbers")
            require(
                np.ndim(leaf) > 0,
                f"{name} is a single number, but an array with the examples on its leading axis is "
                "expected.",
            )
        expect(found, f"{caller}: the {part} data", tree, "at least one array", ValueError)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_array(leaf) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex))


def _is_real(dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))
