"""What layers share: shapes, params by name, initial weights."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from purenet.core.types import Initializer, Layer, Number, Params, PyTree, Sizes
from purenet.core.validate import (
    FINITE,
    NON_NEGATIVE,
    UNIT,
    accepts,
    array,
    by_option,
    describe_value,
    expect,
    in_range,
    is_function,
    is_integer,
    is_number,
    require,
    satisfying,
)


def _makes_weights(value: Any) -> bool:
    return is_function(value) and accepts(value, None, None)


_INITIALIZER = "a function (key, shape) -> array such as he_normal or normal(0.01)"
WeightInit = Annotated[Initializer, satisfying(_makes_weights, _INITIALIZER)]
# where an array may have any shape that broadcasts, such as one number a channel
non_negatives, fractions = in_range(NON_NEGATIVE, one=False), in_range(UNIT, one=False)
numbers = in_range(FINITE, one=False)
NonNegatives = Annotated[Number, by_option(non_negatives, NON_NEGATIVE[1])]
UnitIntervals = Annotated[Number, by_option(fractions, UNIT[1])]


def expect_shape(legal: Any, name: str, value: Any, expected: str, hint: str = "") -> None:
    """Raises ValueError, with the shape of `value`, unless `legal`.

    >>> expect_shape(False, "flatten: x", jnp.ones(()), "(n, ...)")
    Traceback (most recent call last):
    ValueError: flatten: x has shape (), but (n, ...) is expected.
    """
    require(legal, f"{name} has shape {jnp.shape(value)}, but {expected} is expected{hint}.")


def init_weights(caller: str, weight_init: Callable, key: Any, shape: tuple[int, ...]) -> Any:
    """The initial weights of a layer.

    Raises TypeError unless they are an array of floats, and ValueError for another shape.

    >>> init_weights("dense", lambda key, shape: jnp.zeros(shape), None, (2, 3)).shape
    (2, 3)
    """
    w = weight_init(key, shape)
    what = f"the result of weight_init, {describe_value(weight_init)},"
    hint = "; call a distribution first, such as normal(0.01) or uniform()"
    expect(not callable(w), f"{caller}: {what}", w, "an array", hint=hint)
    w = array(caller, what, w)
    floats = jnp.issubdtype(jnp.result_type(w), jnp.floating)
    expect(floats, f"{caller}: {what}", w, "an array of floats")
    expect_shape(jnp.shape(w) == tuple(shape), f"{caller}: {what}", w, f"{shape}")
    return w


def stateless(init: Callable, apply: Callable, spec: tuple = ()) -> Layer:
    """Lift `init(key, sizes) -> weights` and `apply(weights, x, train, key) -> y` to a Layer.

    `apply` raises TypeError for params that are not `Params`.

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
    legal = hasattr(params, "weights") and hasattr(params, "stats")
    such, hint = "what `init` returns", "; for other weights, pass Params(weights, params.stats)"
    expect(legal, f"{caller}: params", params, such, hint=hint)
    return params


def named(caller: str, what: str, tree: PyTree, *names: str) -> tuple:
    """The arrays of these names, in this order, from the weights or the stats of a layer.

    Raises ValueError if the tree has other names: these are the params of another network.

    >>> named("dense", "weights", {"w": 1.0, "b": 2.0}, "w", "b")
    (1.0, 2.0)
    """
    has_keys = hasattr(tree, "keys")
    other = [describe_value(tree)] if jax.tree.leaves(tree) else []
    found = sorted(tree.keys()) if has_keys else other
    require(
        sorted(names) == found and (has_keys or not names),
        f"{caller}: the {what} are {_list(found)}, but {_list(names)} expected: these params were "
        "made by another network, or they are incomplete.",
    )
    return tuple(tree[name] for name in names)


def _list(names) -> str:
    return ", ".join(map(str, names)) if names else "none"


def shape(sizes: Sizes) -> tuple[int, ...]:
    """The shape of one example as a tuple: 784 -> (784,), (28, 28, 1) -> (28, 28, 1).

    Raises ValueError if a size is not a positive integer.

    >>> shape(784), shape([28, 28, 1])
    ((784,), (28, 28, 1))
    """
    several = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    legal = all(is_integer(size) and size.__index__() > 0 for size in several)
    such = "a shape of positive integers such as 784 or (28, 28, 1)"
    expect(legal, "sizes", sizes, such, ValueError)
    return tuple(size.__index__() for size in several)


def as_layer(layer: Layer | Callable) -> Layer:
    """A layer as it is; a plain function of x as a layer without parameters.

    Raises TypeError for anything else, such as a function that makes a layer and was not called.

    >>> as_layer(abs).apply(Params(()), -2.0, True, None)
    (2.0, ())
    """
    if isinstance(layer, Layer):
        return layer
    name = _name(layer)
    makes_one = getattr(layer, "__annotations__", {}).get("return") is Layer
    hint = f"; call it, {name}(...)" if makes_one else ""
    hint = "; give the layers one by one, serial(*layers)" if type(layer) in (list, tuple) else hint
    such = "a layer such as dense(100) or a function of x such as relu"
    expect(is_function(layer) and not makes_one, "the argument", layer, such, hint=hint)

    def apply(weights, x, train, key):
        named(name, "weights", weights)
        y = layer(x)
        expect(hasattr(y, "shape") or is_number(y), f"{name}: its result", y, "an array")
        return y

    return stateless(lambda key, sizes: (), apply, spec=(name, {"function": layer}))


def lifted_function(layer: Layer) -> Callable | None:
    """The function of x that `as_layer` made this layer of, or None for any other layer.

    >>> lifted_function(as_layer(abs))
    <built-in function abs>
    """
    name, arguments = layer.spec or ("", {})
    function = arguments.get("function")
    lifted = len(arguments) == 1 and callable(function) and name == _name(function)
    return function if lifted else None


def _name(function: Callable) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
