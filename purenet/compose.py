"""Networks from layers: layers in, layer out."""

import contextlib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from purenet.checks import random_key, told
from purenet.types import Layer, Params, Sizes, named, only_params, shape, stateless


def serial(*layers: Layer | Callable) -> Layer:
    """Layers one after the other; a plain function of x is a layer without parameters.

    Weights and statistics are dicts by position, `weights["3"]["w"]`, with an entry only where a
    layer has any. Each layer gets its own key, derived from the position. Nests.
    Raises TypeError for an argument that is neither a layer nor a function of x, such as `dense`
    not called, for what is no key, and for params that are no `Params`; ValueError for params of
    another network, and what its layers raise, with a note that says in which.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 6.0: a chain of functions.

    >>> from purenet.layers.dense import dense
    >>> net = serial(dense(4), jnp.tanh, dense(2))
    >>> params = net.init(jax.random.key(0), 3)
    >>> jax.tree.map(jnp.shape, params.weights)
    {'0': {'b': (4,), 'w': (3, 4)}, '2': {'b': (2,), 'w': (4, 2)}}
    >>> y, stats = net.apply(params, jnp.ones((5, 3)), train=False, key=None)
    >>> y.shape
    (5, 2)
    """
    parts = tuple(as_layer(layer) for layer in layers)

    def init(key, sizes):
        weights, stats = {}, {}
        sizes = shape(sizes)
        random_key("serial", key)
        for i, layer in enumerate(parts):
            with _at(i, layer):
                params = layer.init(jax.random.fold_in(key, i), sizes)
                sizes = output_shape(layer, params, sizes)
            if jax.tree.leaves(params.weights):
                weights[str(i)] = params.weights
            if jax.tree.leaves(params.stats):
                stats[str(i)] = params.stats
        return Params(weights, stats or ())

    def apply(params, x, train, key):
        weights, old = _by_part("serial", params, map(str, range(len(parts))), key)
        new = {}
        for i, layer in enumerate(parts):
            name = str(i)
            own = Params(weights.get(name, ()), old.get(name, ()))
            with _at(i, layer):
                x, stats = layer.apply(
                    own, x, train, None if key is None else jax.random.fold_in(key, i)
                )
            if name in old:
                new[name] = stats
        return x, new or ()

    return Layer(init, apply, spec=("serial", {"layers": parts}))


def residual(layer: Layer | Callable, projection: Layer | Callable | None = None) -> Layer:
    """y = x + layer(x), or projection(x) + layer(x) where the shapes differ.

    Weights {"layer": ..., "projection": ...}, with an entry only where there are any.
    Raises ValueError when the two terms differ in shape, and for params of another network;
    TypeError for an argument that is neither a layer nor a function of x, and for what is no key.
    Source: He, Zhang, Ren & Sun (2016), Deep residual learning for image recognition.

    >>> from purenet.layers.dense import dense
    >>> net = residual(serial(dense(3), jnp.tanh))
    >>> params = net.init(jax.random.key(0), 3)
    >>> net.apply(params, jnp.ones((5, 3)), train=False, key=None)[0].shape
    (5, 3)
    """
    parts = {"layer": as_layer(layer)}
    if projection is not None:
        parts["projection"] = as_layer(projection)

    def init(key, sizes):
        random_key("residual", key)
        params = {
            name: part.init(jax.random.fold_in(key, i), sizes)
            for i, (name, part) in enumerate(parts.items())
        }
        keep = lambda field: {
            name: getattr(p, field)
            for name, p in params.items()
            if jax.tree.leaves(getattr(p, field))
        }
        return Params(keep("weights"), keep("stats") or ())

    def apply(params, x, train, key):
        weights, old = _by_part("residual", params, parts, key)
        new, terms = {}, {"projection": x}
        for i, (name, part) in enumerate(parts.items()):
            own = Params(weights.get(name, ()), old.get(name, ()))
            sub = None if key is None else jax.random.fold_in(key, i)
            terms[name], stats = part.apply(own, x, train, sub)
            if name in old:
                new[name] = stats
        shapes = {name: jnp.shape(term) for name, term in terms.items()}
        if shapes["layer"] != shapes["projection"]:
            raise ValueError(
                f"residual: the layer gives {shapes['layer']}, but what it is added to has "
                f"shape {shapes['projection']}; make them equal, or give a `projection`."
            )
        return terms["projection"] + terms["layer"], new or ()

    return Layer(init, apply, spec=("residual", parts))


def as_layer(layer: Layer | Callable) -> Layer:
    """A layer as it is; a plain function of x as a layer without parameters.

    Raises TypeError for what is neither: a function that makes a layer is to be called first.

    >>> as_layer(abs).apply(Params(()), -2.0, True, None)
    (2.0, ())
    """
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, type) or not callable(layer):
        hint = (
            "; give the layers one by one, serial(*layers)" if type(layer) in (list, tuple) else ""
        )
        raise TypeError(
            "expected a layer such as dense(100) or a function of x such as relu, got "
            f"{told(layer)}{hint}."
        )
    name = _name(layer)
    if getattr(layer, "__annotations__", {}).get("return") is Layer:
        raise TypeError(
            f"expected a layer or a function of x, got {name}, which makes a layer: call it, "
            f"{name}(...)."
        )

    def apply(weights, x, train, key):
        named(name, "weights", weights)
        y = layer(x)
        if not hasattr(y, "shape") and not isinstance(y, (int, float)):
            raise TypeError(f"{name}: it gave {told(y)}, but a function of x gives an array.")
        return y

    return stateless(lambda key, sizes: (), apply, spec=(name, {"function": layer}))


def lifted_function(layer: Layer) -> Callable | None:
    """The function of x that `as_layer` made this layer of, or None where it made it of none.

    >>> lifted_function(as_layer(abs))
    <built-in function abs>
    """
    name, arguments = layer.spec or ("", {})
    function = arguments.get("function")
    lifted = len(arguments) == 1 and callable(function) and name == _name(function)
    return function if lifted else None


def output_shape(layer: Layer, params: Params, sizes: Sizes) -> tuple[int, ...]:
    """The shape of one output for one input of shape `sizes`, without computing it.

    >>> output_shape(as_layer(jnp.ravel), Params(()), (2, 3))
    ()
    """
    dtype = jnp.int32 if _takes_integers(layer) else float
    x = jax.ShapeDtypeStruct((1, *shape(sizes)), jax.dtypes.canonicalize_dtype(dtype))
    y, _ = jax.eval_shape(lambda p, x: layer.apply(p, x, False, None), params, x)
    return y.shape[1:]


def _by_part(who, params, names, key):
    """Weights and statistics, dicts with no entry but for these parts of a network."""
    if key is not None:
        random_key(who, key)
    names, params = set(names), only_params(who, params)
    trees = [tree or {} for tree in params]
    for what, tree in zip(("weights", "stats"), trees, strict=True):
        if not isinstance(tree, dict) or not names.issuperset(tree):
            found = ", ".join(map(str, tree)) if isinstance(tree, dict) else told(tree)
            raise ValueError(
                f"{who}: the {what} are {found}, but of {', '.join(sorted(names))} are expected: "
                "these params were made by another network."
            )
    return trees


def _name(function: Callable) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _takes_integers(layer: Layer) -> bool:
    name, arguments = layer.spec or ("", {})
    if name == "serial" and arguments["layers"]:
        return _takes_integers(arguments["layers"][0])
    return name == "embedding"


@contextlib.contextmanager
def _at(position: int, layer: Layer):
    """Say in which layer an error was raised."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name = layer.spec[0] if layer.spec else "unnamed"
        error.add_note(f"(layer {position} of serial: {name})")
        raise
