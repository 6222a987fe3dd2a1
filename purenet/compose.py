"""Networks from layers: layers in, layer out."""

import contextlib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from purenet.types import Layer, Params, Sizes, shape, stateless


def serial(*layers: Layer | Callable) -> Layer:
    """Layers one after the other; a plain function of x is a layer without parameters.

    Weights and statistics are dicts by position, `weights["3"]["w"]`, with an entry only where a
    layer has any. Each layer gets its own key, derived from the position. Nests.
    Raises TypeError for an argument that is neither a layer nor a function.

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
        weights, old, new = params.weights or {}, params.stats or {}, {}
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
    Raises ValueError when the two terms differ in shape.
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
        weights, old = params.weights or {}, params.stats or {}
        new, terms = {}, {"projection": x}
        for i, (name, part) in enumerate(parts.items()):
            own = Params(weights.get(name, ()), old.get(name, ()))
            sub = None if key is None else jax.random.fold_in(key, i)
            terms[name], stats = part.apply(own, x, train, sub)
            if name in old:
                new[name] = stats
        if terms["layer"].shape != terms["projection"].shape:
            raise ValueError(
                f"residual: the layer gives {terms['layer'].shape}, but what it is added to has "
                f"shape {terms['projection'].shape}; make them equal, or give a `projection`."
            )
        return terms["projection"] + terms["layer"], new or ()

    return Layer(init, apply, spec=("residual", parts))


def as_layer(layer: Layer | Callable) -> Layer:
    """A layer as it is; a plain function of x as a layer without parameters."""
    if isinstance(layer, Layer):
        return layer
    if not callable(layer):
        raise TypeError(
            f"expected a layer such as dense(100) or a function of x such as relu, got {layer!r}."
        )
    return stateless(
        lambda key, sizes: (),
        lambda weights, x, train, key: layer(x),
        spec=(_name(layer), {"function": layer}),
    )


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
    """The shape of one output for one input of shape `sizes`, without computing it."""
    dtype = jnp.int32 if _takes_integers(layer) else float
    x = jax.ShapeDtypeStruct((1, *shape(sizes)), jax.dtypes.canonicalize_dtype(dtype))
    y, _ = jax.eval_shape(lambda p, x: layer.apply(p, x, False, None), params, x)
    return y.shape[1:]


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
