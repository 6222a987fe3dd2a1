"""What layers share: shapes, params by name, initial weights."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from purenet.core.padded import (
    PaddedSize,
    PaddedSizes,
    Size,
    capacity_of,
    count_of,
    keep_first,
    padded_size,
)
from purenet.core.types import Initializer, Layer, Number, Params, PyTree
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
# for arrays of any shape that broadcasts, such as one number per channel
non_negatives, fractions = in_range(NON_NEGATIVE, one=False), in_range(UNIT, one=False)
numbers = in_range(FINITE, one=False)
NonNegatives = Annotated[Number, by_option(non_negatives, NON_NEGATIVE[1])]
UnitIntervals = Annotated[Number, by_option(fractions, UNIT[1])]


def expect_shape(legal: Any, name: str, value: Any, expected: str, hint: str = "") -> None:
    """Raise ValueError, with the shape of `value`, unless `legal`.

    >>> expect_shape(False, "flatten: x", jnp.ones(()), "(n, ...)")
    Traceback (most recent call last):
    ValueError: flatten: x has shape (), but (n, ...) is expected.
    """
    require(legal, f"{name} has shape {jnp.shape(value)}, but {expected} is expected{hint}.")


def init_weights(
    caller: str,
    weight_init: Callable,
    key: Any,
    shape: tuple[Size, ...],
    fans: tuple[Number, Number] | None = None,
) -> Any:
    """The initial weights of a layer.

    In a matrix with padded sizes, all that is not padding is scaled as in the small matrix, and the
    rest is 0. `fans` is (fan_in, fan_out) where the shape does not tell them, for a `weight_init`
    that takes it. Raises TypeError unless they are an array of floats, and for a `weight_init`
    without `fans` if a size is padded; ValueError for another shape.

    >>> init_weights("dense", lambda key, shape: jnp.zeros(shape), None, (2, 3)).shape
    (2, 3)
    """
    drawn, shape = shape, tuple(map(capacity_of, shape))
    takes_fans = accepts(weight_init, None, None, fans=None)
    if drawn == shape:
        scale = {} if fans is None or not takes_fans else {"fans": fans}
        w = weight_init(key, shape, **scale)
    else:
        require(
            takes_fans,
            f"{caller}: weight_init {describe_value(weight_init)} takes no keyword `fans`, but "
            "with a padded size it is called as weight_init(key, shape, fans=(fan_in, fan_out)), "
            "the numbers of inputs and outputs without padding; it may ignore them if it is not "
            "scaled by fans.",
            TypeError,
        )
        known = tuple(n.size if isinstance(n, PaddedSize) else n for n in drawn)
        w = weight_init(key, shape, fans=known)
    what = f"the result of weight_init, {describe_value(weight_init)},"
    hint = "; call a distribution first, such as normal(0.01) or uniform()"
    expect(not callable(w), f"{caller}: {what}", w, "an array", hint=hint)
    w = array(caller, what, w)
    floats = jnp.issubdtype(jnp.result_type(w), jnp.floating)
    expect(floats, f"{caller}: {what}", w, "an array of floats")
    expect_shape(jnp.shape(w) == tuple(shape), f"{caller}: {what}", w, f"{shape}")
    for axis, size in enumerate(drawn):
        w = keep_first(w, count_of(size), axis)
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


def named(
    caller: str, what: str, tree: PyTree, *names: str, optional: tuple[str, ...] = ()
) -> tuple:
    """The arrays of these names, in this order, from the weights or the stats of a layer.

    Then those of the `optional` names, None for each that is missing.
    Raises ValueError if the tree has other names, as the params of another network do.

    >>> named("dense", "weights", {"w": 1.0, "b": 2.0}, "w", "b")
    (1.0, 2.0)
    """
    has_keys = hasattr(tree, "keys")
    other = [describe_value(tree)] if jax.tree.leaves(tree) else []
    found = sorted(tree.keys()) if has_keys else other
    here = [name for name in optional if has_keys and name in found]
    require(
        sorted([*names, *here]) == found and (has_keys or not names),
        f"{caller}: the {what} are {_list(found)}, but {_list(names)} expected: these params were "
        "made by another network, or they are incomplete.",
    )
    return *(tree[name] for name in names), *(tree[n] if n in here else None for n in optional)


def _list(names) -> str:
    return ", ".join(map(str, names)) if names else "none"


def shape(sizes: PaddedSizes) -> tuple[int, ...]:
    """The shape of one example as a tuple: 784 -> (784,), (28, 28, 1) -> (28, 28, 1).

    Raises ValueError if a size is not a positive integer.

    >>> shape(784), shape([28, 28, 1])
    ((784,), (28, 28, 1))
    """
    sizes = padded_shape(sizes)
    require(
        not any(isinstance(size, PaddedSize) for size in sizes),
        f"sizes {sizes} are padded, but only dense, batch_norm, dropout, elementwise functions, "
        "and serial or remat of these, support padding; put a dense layer of plain size before "
        "this one.",
    )
    return sizes  # type: ignore[return-value]


def padded_shape(sizes: PaddedSizes) -> tuple[Size, ...]:
    """The same for sizes that may be padded.

    >>> padded_shape(PaddedSize(2, capacity=3))
    (PaddedSize(size=2, capacity=3),)
    """
    several = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    positive = lambda size: is_integer(size) and size.__index__() > 0
    legal = all(isinstance(size, PaddedSize) or positive(size) for size in several)
    such = "a shape of positive integers such as 784 or (28, 28, 1)"
    expect(legal, "sizes", sizes, such, ValueError)
    return tuple(
        padded_size(f"sizes[{i}]", size) if isinstance(size, PaddedSize) else size.__index__()
        for i, size in enumerate(several)
    )


def as_layer(layer: Layer | Callable) -> Layer:
    """A layer unchanged; a plain function of x as a layer without parameters.

    Raises TypeError for anything else, such as a function that returns a layer and was not called.

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
    """The function of x from which `as_layer` made this layer, or None for any other layer.

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
