"""Networks from layers: layers in, layer out."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from purenet.core.dtypes import cast, common_dtype, dtype_name
from purenet.core.padded import PaddedSize, PaddedSizes, capacity_of
from purenet.core.types import Layer, Params
from purenet.core.validate import declared, describe_value, random_key, require, satisfying
from purenet.nn.base import as_layer, lifted_function, only_params, padded_shape, shape
from purenet.nn.padding import output_sizes


def serial(*layers: Layer | Callable, compute_dtype: DTypeLike | None = None) -> Layer:
    """Layers one after the other; a plain function of x is a layer without parameters.

    Weights and statistics are dicts by position, `weights["3"]["w"]`, with entries only for layers
    that have any. Each layer gets its own key, derived from the position. Can be nested.
    Raises TypeError for an argument that is neither a layer nor a function of x, such as `dense`
    not called, for anything but a key, and for params that are not `Params`; ValueError for params
    of another network, for a `compute_dtype` other than bfloat16, float16, float32 or float64, by
    name or as a dtype, and what its layers raise, with a note that names the layer.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 6.0: a chain of functions.

    >>> from purenet.nn.dense import dense
    >>> net = serial(dense(4), jnp.tanh, dense(2))
    >>> params = net.init(jax.random.key(0), 3)
    >>> jax.tree.map(jnp.shape, params.weights)
    {'0': {'b': (4,), 'w': (3, 4)}, '2': {'b': (2,), 'w': (4, 2)}}
    >>> y, stats = net.apply(params, jnp.ones((5, 3)), train=False, key=None)
    >>> y.shape
    (5, 2)

    With `compute_dtype` the arithmetic is in that dtype, but the parameters are not:

        y = layers(x as compute_dtype, weights as compute_dtype) as the dtype of the weights

    The optimizer sees weights and gradients in the dtype of the weights, losses and penalties are
    computed in float32 at least, so are the statistics of batch_norm, layer_norm,
    local_response_norm and softmax, and the running ones keep their dtype. Integers are left
    alone. Without weights, the output has the dtype of x. A part without its own
    `compute_dtype` computes in that of the whole; a part with one computes in that, but its
    weights, x and output are those of the whole, rounded. To have the last layer in float32, use
    `serial(serial(..., compute_dtype=jnp.bfloat16), dense(10))`. The loss is not scaled, so
    in float16 gradients below 6e-8 are lost; bfloat16 has the range of float32.
    Source: Micikevicius et al. (2018), Mixed precision training.

    >>> shown = lambda h: print(h.dtype) or jnp.tanh(h)
    >>> net = serial(dense(4), shown, dense(2), compute_dtype=jnp.bfloat16)
    >>> y, stats = net.apply(params, jnp.ones((5, 3)), train=False, key=None)
    bfloat16
    >>> y.dtype == params.weights["0"]["w"].dtype
    True
    """
    parts = tuple(as_layer(layer) for layer in layers)
    dtype = dtype_name("serial: compute_dtype", compute_dtype)

    def init(key, sizes):
        weights, stats = {}, {}
        sizes = padded_shape(sizes)
        random_key("serial", key)
        for i, layer in enumerate(parts):
            with _at(i, layer):
                params = layer.init(jax.random.fold_in(key, i), sizes)
                sizes = output_sizes(layer, sizes, output_shape(layer, params, sizes))
            if jax.tree.leaves(params.weights):
                weights[str(i)] = params.weights
            if jax.tree.leaves(params.stats):
                stats[str(i)] = params.stats
        return Params(weights, stats or ())

    def in_order(params, x, train, key):
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

    def in_dtype(params, x, train, key):
        weights, outside = cast(params.weights, dtype), common_dtype(params.weights, x)
        y, stats = in_order(Params(weights, params.stats), cast(x, dtype), train, key)
        return cast(y, outside), stats

    apply = in_order if dtype is None else in_dtype
    return Layer(init, apply, spec=("serial", {"layers": parts, "compute_dtype": dtype}))


def residual(layer: Layer | Callable, projection: Layer | Callable | None = None) -> Layer:
    """y = x + layer(x), or projection(x) + layer(x) where the shapes differ.

    Weights {"layer": ..., "projection": ...}, with an entry only where there are any.
    Raises ValueError if the two terms differ in shape, and for params of another network; TypeError
    for an argument that is neither a layer nor a function of x, and for anything but a key.
    Source: He, Zhang, Ren & Sun (2016), Deep residual learning for image recognition.

    >>> from purenet.nn.dense import dense
    >>> net = residual(serial(dense(3), jnp.tanh))
    >>> params = net.init(jax.random.key(0), 3)
    >>> net.apply(params, jnp.ones((5, 3)), train=False, key=None)[0].shape
    (5, 3)
    """
    parts = {"layer": as_layer(layer)}
    if projection is not None:
        parts["projection"] = as_layer(projection)

    def apply(params, x, train, key):
        terms, stats = _apply_each("residual", parts, params, x, train, key)
        terms = {"projection": x, **terms}
        shapes = {name: jnp.shape(term) for name, term in terms.items()}
        require(
            shapes["layer"] == shapes["projection"],
            f"residual: the layer gives {shapes['layer']}, but the term it is added to has shape "
            f"{shapes['projection']}; make them equal, or pass a `projection`.",
        )
        return terms["projection"] + terms["layer"], stats

    init = functools.partial(_init_each, "residual", parts)
    return Layer(init, apply, spec=("residual", parts))


def concatenate(*layers: Layer | Callable) -> Layer:
    """The outputs of several layers of the same x, one after the other along the last axis.

    Weights and statistics are dicts by position, as in `serial`.
    Raises ValueError if the outputs differ in another axis, and for params of another network;
    TypeError for an argument that is neither a layer nor a function of x, and for anything but a
    key.
    Source: Szegedy et al. (2015), Going deeper with convolutions.

    >>> from purenet.nn.dense import dense
    >>> net = concatenate(dense(2), jnp.tanh)
    >>> params = net.init(jax.random.key(0), 3)
    >>> net.apply(params, jnp.ones((5, 3)), train=False, key=None)[0].shape
    (5, 5)
    """
    require(bool(layers), "concatenate: no layers were given, but at least one is expected.")
    parts = {str(i): as_layer(layer) for i, layer in enumerate(layers)}

    def apply(params, x, train, key):
        outputs, stats = _apply_each("concatenate", parts, params, x, train, key)
        shapes = [jnp.shape(y) for y in outputs.values()]
        require(
            len({shape[:-1] for shape in shapes}) == 1 and () not in shapes,
            f"concatenate: the outputs have shapes {', '.join(map(str, shapes))}, but only the "
            "last axis may differ.",
        )
        return jnp.concatenate(list(outputs.values()), axis=-1), stats

    init = functools.partial(_init_each, "concatenate", parts)
    return Layer(init, apply, spec=("concatenate", {"layers": tuple(parts.values())}))


def per_position(layer: Layer | Callable) -> Layer:
    """A layer for rows, such as `dense`, at every position of sequences or images.

        y[n, ..., :] = layer(x[n, ..., :])

    (n, ..., features) -> (n, ..., outputs): positions count as examples, in the statistics of
    `batch_norm` too. Parameters are those of `layer`.
    Raises ValueError for examples without a position; TypeError if `layer` is neither a layer nor a
    function of x.
    Source: Vaswani et al. (2017), section 3.3.

    >>> from purenet.nn.dense import dense
    >>> net = per_position(dense(2))
    >>> params = net.init(jax.random.key(0), (7, 3))
    >>> net.apply(params, jnp.ones((5, 7, 3)), train=False, key=None)[0].shape
    (5, 7, 2)
    """
    layer = as_layer(layer)

    def init(key, sizes):
        sizes = shape(sizes)
        require(
            len(sizes) > 1,
            f"per_position: one example has shape {sizes}, but positions before the features, such "
            "as (time, features), are expected.",
        )
        return layer.init(key, sizes[-1])

    def apply(params, x, train, key):
        positions = math.prod(jnp.shape(x)[1:-1])
        rows = x.reshape(x.shape[0] * positions, x.shape[-1])
        if isinstance(train, PaddedSize):  # only the first examples are real: so are their rows
            train = PaddedSize(train.size * positions, train.capacity * positions)
        y, stats = layer.apply(params, rows, train, key)
        return y.reshape(*x.shape[:-1], *y.shape[1:]), stats

    return Layer(init, apply, spec=("per_position", {"layer": layer}))


def _init_each(caller, parts, key, sizes):
    """The params of several parts for the same examples, with entries where there are any."""
    random_key(caller, key)
    params = {
        name: part.init(jax.random.fold_in(key, i), sizes)
        for i, (name, part) in enumerate(parts.items())
    }
    keep = lambda field: {
        name: getattr(p, field) for name, p in params.items() if jax.tree.leaves(getattr(p, field))
    }
    return Params(keep("weights"), keep("stats") or ())


def _apply_each(caller, parts, params, x, train, key):
    """The output of every part for the same x, by name, and the statistics of all."""
    weights, old = _by_part(caller, params, parts, key)
    new, outputs = {}, {}
    for i, (name, part) in enumerate(parts.items()):
        own = Params(weights.get(name, ()), old.get(name, ()))
        sub = None if key is None else jax.random.fold_in(key, i)
        outputs[name], stats = part.apply(own, x, train, sub)
        if name in old:
            new[name] = stats
    return outputs, new or ()


_POLICY = "a function such as jax.checkpoint_policies.dots_saveable"
_Policy = Annotated[Callable, satisfying(callable, _POLICY)]


@declared
def remat(layer: Layer | Callable, policy: _Policy | None = None) -> Layer:
    """The same layer, whose activations are recomputed in the backward pass.

    Between forward and backward only x is kept, not the intermediate results: this saves memory at
    the cost of another forward pass. Outputs, gradients and parameters are those of `layer`,
    dropout draws the same mask again, and running statistics are updated once. `policy` may keep
    some intermediates, as `jax.checkpoint_policies.dots_saveable` keeps matrix products.
    Use it for blocks of a few layers each: around the whole network it saves nothing, since the
    backward pass would need all activations at once. The CPU compiler (of jax 0.10) keeps some of
    the activations anyway, so that less memory is saved there.
    Raises TypeError if `layer` is neither a layer nor a function of x.
    Source: Chen, Xu, Zhang & Guestrin (2016), Training deep nets with sublinear memory cost.

    >>> from purenet.nn.dense import dense
    >>> net = serial(remat(serial(dense(4), jnp.tanh, dense(4), jnp.tanh)), dense(2))
    >>> params = net.init(jax.random.key(0), 3)
    >>> net.apply(params, jnp.ones((5, 3)), train=False, key=None)[0].shape
    (5, 2)
    """
    layer = as_layer(layer)

    def apply(params, x, train, key):
        forward = lambda params, x, key: layer.apply(params, x, train, key)
        return jax.checkpoint(forward, policy=policy)(params, x, key)

    return Layer(layer.init, apply, spec=("remat", {"layer": layer, "policy": policy}))


def output_shape(layer: Layer, params: Params, sizes: PaddedSizes) -> tuple[int, ...]:
    """The shape of one output for one input of shape `sizes`, without computing it.

    >>> output_shape(as_layer(jnp.ravel), Params(()), (2, 3))
    ()
    """
    name, arguments = layer.spec or ("", {})
    if name == "dense":  # known without tracing it
        return (capacity_of(arguments["units"]),)
    dtype = jnp.int32 if _takes_integers(layer) else float
    capacities = map(capacity_of, padded_shape(sizes))
    x = jax.ShapeDtypeStruct((1, *capacities), jax.dtypes.canonicalize_dtype(dtype))
    function: Any = lifted_function(layer)
    if hasattr(function, "plain"):  # an op such as relu, which JAX traces once for all networks
        return jax.eval_shape(function, x).shape[1:]
    y, _ = jax.eval_shape(lambda p, x: layer.apply(p, x, False, None), params, x)
    return y.shape[1:]


def _by_part(caller, params, names, key):
    """Weights and statistics, dicts with entries only for these parts of a network."""
    if key is not None:
        random_key(caller, key)
    names, params = set(names), only_params(caller, params)
    trees = [tree or {} for tree in params]
    for what, tree in zip(("weights", "stats"), trees, strict=True):
        fits = isinstance(tree, dict)
        found = ", ".join(map(str, tree)) if fits else describe_value(tree)
        require(
            fits and names.issuperset(tree),
            f"{caller}: the {what} are {found}, but of {', '.join(sorted(names))} are expected: "
            "these params were made by another network.",
        )
    return trees


def _takes_integers(layer: Layer) -> bool:
    name, arguments = layer.spec or ("", {})
    if name == "serial" and arguments["layers"]:
        return _takes_integers(arguments["layers"][0])
    if name in ("remat", "per_position", "mup"):
        return _takes_integers(arguments["layer"])
    return name == "embedding"


@contextlib.contextmanager
def _at(position: int, layer: Layer):
    """Note the layer in which an error was raised."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name = layer.spec[0] if layer.spec else "unnamed"
        error.add_note(f"(layer {position} of serial: {name})")
        raise
