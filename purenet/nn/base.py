"""What layers share: shapes, params by name, initial weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purenet.core.types import Layer, Params, PyTree, Sizes
from purenet.core.validate import accepts, array, describe_value, is_function, is_integer


def check_initializer(caller: str, weight_init: Any) -> None:
    """A function that may be called as weight_init(key, shape). Raises TypeError for what is none.

    >>> check_initializer("dense", lambda key, shape: jnp.zeros(shape))
    """
    if not (is_function(weight_init) and accepts(weight_init, None, None)):
        raise TypeError(
            f"{caller}: weight_init is {describe_value(weight_init)}, but a function (key, shape) "
            "-> array is "
            "expected, such as he_normal or normal(0.01)."
        )


def init_weights(caller: str, weight_init: Callable, key: Any, shape: tuple[int, ...]) -> Any:
    """What an initialiser draws for the weights of a layer.

    Raises TypeError unless it is an array of floats, and ValueError unless it has the shape.

    >>> init_weights("dense", lambda key, shape: jnp.zeros(shape), None, (2, 3)).shape
    (2, 3)
    """
    w = weight_init(key, shape)
    if callable(w):
        raise TypeError(
            f"{caller}: weight_init {describe_value(weight_init)} gave a function, but an array "
            "of shape "
            f"{shape} is expected; a distribution is called first, such as normal(0.01) or "
            "uniform()."
        )
    w = array(f"{caller}: weight_init {describe_value(weight_init)}", "its answer", w)
    if not jnp.issubdtype(jnp.result_type(w), jnp.floating):
        raise TypeError(
            f"{caller}: weight_init {describe_value(weight_init)} gave {describe_value(w)}, but "
            "weights are floats."
        )
    if jnp.shape(w) != tuple(shape):
        raise ValueError(
            f"{caller}: weight_init {describe_value(weight_init)} gave the shape {jnp.shape(w)}, "
            f"but {shape} is "
            "expected."
        )
    return w


def stateless(init: Callable, apply: Callable, spec: tuple = ()) -> Layer:
    """Lift `init(key, sizes) -> weights` and `apply(weights, x, train, key) -> y` to a Layer.

    Raises TypeError, when it is applied, for params that are no `Params`.

    >>> double = stateless(lambda key, sizes: (), lambda weights, x, train, key: 2 * x)
    >>> double.apply(double.init(None, 3), 1.5, True, None)
    (3.0, ())
    """
    caller = spec[0] if spec else "stateless"
    return Layer(
        lambda key, sizes: Params(init(key, sizes)),
        lambda params, x, train, key: (
            apply(only_params(caller, params).weights, x, train, key),
            (),
        ),
        spec,
    )


def only_params(caller: str, params: Any) -> Params:
    """A network's Params. Raises TypeError for anything else, such as the weights alone.

    >>> only_params("dense", Params(()))
    Params(weights=(), stats=())
    """
    if not (hasattr(params, "weights") and hasattr(params, "stats")):
        raise TypeError(
            f"{caller}: apply is given {describe_value(params)}, but Params(weights, stats) are "
            "expected: what "
            "`init` returns, or Params(weights, params.stats)."
        )
    return params


def named(caller: str, what: str, tree: PyTree, *names: str) -> tuple:
    """The arrays of these names, in their order, of the weights or the stats of a layer.

    Raises ValueError where the tree has others: these are the params of another network.

    >>> named("dense", "weights", {"w": 1.0, "b": 2.0}, "w", "b")
    (1.0, 2.0)
    """
    has_keys = hasattr(tree, "keys")
    found = (
        sorted(tree.keys()) if has_keys else [describe_value(tree)] if jax.tree.leaves(tree) else []
    )
    if sorted(names) != found or (names and not has_keys):
        raise ValueError(
            f"{caller}: the {what} are {_list(found)}, but {_list(names)} expected: these params "
            "were made by another network, or they are incomplete."
        )
    return tuple(tree[name] for name in names)


def _list(names) -> str:
    return ", ".join(map(str, names)) if names else "none"


def shape(sizes: Sizes) -> tuple[int, ...]:
    """The shape of one example as a tuple: 784 -> (784,), (28, 28, 1) -> (28, 28, 1).

    Raises ValueError when a size is not a positive whole number.

    >>> shape(784), shape([28, 28, 1])
    ((784,), (28, 28, 1))
    """
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    for size in sizes:
        if not is_integer(size) or size.__index__() < 1:
            got = (
                describe_value(size)
                if len(sizes) == 1
                else f"({', '.join(map(describe_value, sizes))})"
            )
            raise ValueError(
                f"sizes {got} describes one example by positive whole numbers, such as 784 or "
                f"(28, 28, 1); {describe_value(size)} is not one."
            )
    return tuple(size.__index__() for size in sizes)
