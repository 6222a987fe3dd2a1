"""Numerical gradients: central differences, one entry of the argument at a time."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from purenet.core.contracts import check_scalar
from purenet.core.types import Array, PyTree
from purenet.core.validate import (
    Function,
    Positive,
    PositiveInteger,
    accepts,
    array,
    declared,
    describe_value,
    expect,
    is_function,
    require,
    satisfying,
)
from purenet.nn.activations import sigmoid
from purenet.nn.losses import softmax_cross_entropy

# Entries are changed in blocks, so large that the copies, and what the function computes from each
# of them, hold about this many numbers (8 MB in float64).
_NUMBERS = 1_000_000


_LOSS = satisfying(lambda f: is_function(f) and accepts(f, None, None), "a function loss(y, t)")
_Loss = Annotated[Callable, _LOSS]


# any function
@declared
def numerical_gradient(
    f: Function, tree: PyTree, h: Positive = 1e-4, block: PositiveInteger | None = None
) -> PyTree:
    """The gradient of f at `tree` by central differences, entry by entry:

        (f(x + h e) - f(x - h e)) / 2h  for every unit vector e

    2h is the distance between the two points as they were rounded, so a large x costs no accuracy;
    if h is lost in the rounding of x, the result is NaN. In float64, h = 1e-4 is a good step; in
    float32 use about 1e-2, since 1e-4 leaves about two correct digits.
    f takes a tree like `tree` and returns one number; it is traced, so it must consist of JAX
    operations. The result has the structure of `tree`, with None for leaves that are not real
    (integers, booleans, random keys), which are passed to f unchanged. `tree` is not changed.
    `block` entries are changed at once; it defaults to as many as fit in about 8 MB.
    Every call compiles; to call it often, compile it once with
    `jax.jit(lambda tree: numerical_gradient(f, tree))`.
    Raises ValueError if f does not return one real number, and for a tree without real numbers or
    with complex ones; TypeError for leaves that are not numbers.
    Source: Press, Teukolsky, Vetterling & Flannery, Numerical Recipes (2007), section 5.7.

    >>> weights = {"w": jnp.array([1.0, -3.0]), "b": jnp.array(2.0)}
    >>> f = lambda p: (p["w"] ** 2).sum() + 5 * p["b"]
    >>> jax.tree.map(lambda g: g.round(2).tolist(), numerical_gradient(f, weights, h=1e-2))
    {'b': 5.0, 'w': [2.0, -6.0]}
    """
    caller = "numerical_gradient"
    expect(accepts(f, tree), f"{caller}: f", f, "a function that can be called with one tree")
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(array(caller, "a leaf of the tree", leaf)) for leaf in leaves]
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    imaginary = any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves)
    kinds = ", ".join(sorted({str(leaf.dtype) for leaf in leaves})) or "no leaves"
    require(
        any(real) and not imaginary,
        f"{caller}: the tree holds {kinds}, but real numbers are expected, with at least one array "
        "of floats; convert integers with .astype(float), and split complex numbers into their "
        "real and imaginary parts.",
    )

    def of_leaves(leaves):
        y = f(jax.tree.unflatten(structure, leaves))
        for part in jax.tree.leaves(y):
            array(caller, "the return value of f", part)
        return y

    at_once = _numbers_at_once(caller, of_leaves, leaves)
    block = block or max(1, _NUMBERS // (2 * at_once))

    @jax.jit
    def gradient(leaves):
        return [
            _leaf_gradient(of_leaves, leaves, i, h, block) if real[i] else None
            for i in range(len(leaves))
        ]

    return jax.tree.unflatten(structure, gradient(leaves))


def _numbers_at_once(caller, f, leaves) -> int:
    """How many numbers one evaluation of f holds, its arguments included; f must return one."""
    jaxpr = jax.make_jaxpr(f)(leaves).jaxpr
    outputs = [v.aval for v in jaxpr.outvars]
    one = len(outputs) == 1 and not outputs[0].shape
    require(
        one and jnp.issubdtype(outputs[0].dtype, jnp.floating),
        f"{caller}: f returns {', '.join(a.str_short() for a in outputs) or 'nothing'}, but one "
        "real number is expected; return a sum or a mean, and leave out auxiliary "
        "results.",
    )
    made = sum(v.aval.size for equation in jaxpr.eqns for v in equation.outvars)
    return made + sum(leaf.size for leaf in leaves)


def _leaf_gradient(f, leaves, i, h, block):
    """Differences over every entry of leaf i; the others are not copied."""
    leaf = leaves[i]
    flat = leaf.ravel()
    h = jnp.asarray(h, leaf.dtype)
    places = jnp.arange(leaf.size)

    def change(entry):
        def value(step):
            moved = jnp.where(places == entry, flat + step, flat)
            return f([*leaves[:i], moved.reshape(leaf.shape), *leaves[i + 1 :]])

        ys = jax.vmap(value)(jnp.stack([h, -h]))
        return ys[0] - ys[1]

    distance = (flat + h) - (flat - h)
    gradient = _map_blocks(change, places, block) / distance
    return gradient.astype(leaf.dtype).reshape(leaf.shape)


def _map_blocks(f, xs, block):
    """f of every x, `block` of them at a time; the blocks have one shape, so f is compiled once."""
    n = len(xs)
    steps = max(1, -(-n // block))
    block = -(-n // steps)
    padded = jnp.concatenate([xs, xs[: steps * block - n]])
    if steps == 1:
        return jax.vmap(f)(padded)
    out = lax.map(jax.vmap(f), padded.reshape(steps, block, *xs.shape[1:]))
    return out.reshape(steps * block, *out.shape[2:])[:n]


# two dense layers
@declared
def numerical_gradient_two_layer(
    weights: PyTree,
    x: Array,
    t: Array,
    activation: Function = sigmoid,
    loss: _Loss = softmax_cross_entropy,
    h: Positive = 1e-4,
) -> PyTree:
    """`numerical_gradient` of a network of two dense layers, many times faster:

        z = x W₁ + b₁,  a = activation(z),  y = a W₂ + b₂,  loss(y, t)

    A step h in W₁[i, j] changes only hidden unit j: z[:, j] moves by h x[:, i], and y by
    (activation(z[:, j] + h x[:, i]) - a[:, j]) W₂[j]. One in W₂[j, k] changes only output k,
    by h a[:, j]. So no matrix product is computed twice; a bias is a weight whose input is 1.
    Shapes: x (n, i), W₁ (i, j), W₂ (j, k). `weights` are those of `mlp` or of
    `serial(dense, activation, dense)`: {"w", "b"} twice; the result has the same structure.
    `activation` must act elementwise; it and `loss` must be those of the network.
    For h and float32 see `numerical_gradient`. To call it often, compile it with `jax.jit`.
    Raises ValueError unless the weights are those of two dense layers that fit x; TypeError
    unless x and t are numbers.
    Source: the rank-one update of a matrix, Golub & Van Loan, Matrix Computations (2013).

    >>> from purenet.nn.models import mlp
    >>> weights = mlp(sigmoid).init(jax.random.key(0), (4, 5, 3)).weights
    >>> grads = numerical_gradient_two_layer(weights, jnp.ones((2, 4)), jnp.array([0, 2]))
    >>> jax.tree.map(jnp.shape, grads)
    {'0': {'b': (5,), 'w': (4, 5)}, '2': {'b': (3,), 'w': (5, 3)}}
    """
    caller = "numerical_gradient_two_layer"
    x, t = jnp.asarray(array(caller, "x", x)), jnp.asarray(array(caller, "t", t))
    (w1, b1, w2, b2), structure = _two_layers(caller, weights, x)
    z = x @ w1 + b1  # (n, j)
    a = activation(z)  # (n, j)
    require(
        np.shape(a) == z.shape,
        f"{caller}: the activation maps {z.shape} to {describe_value(a)}, but must act "
        "elementwise.",
    )
    y = a @ w2 + b2  # (n, k)
    n, outputs = y.shape
    check_scalar(f"{caller}: the loss", loss(y, t))

    def difference(move):
        ys = jax.vmap(lambda step: loss(y + move(step), t))(jnp.array([h, -h], y.dtype))
        return (ys[0] - ys[1]) / (2 * h)

    def first(inputs):  # (n,), the inputs of one row of W₁ -> (j,)
        def unit(z, a, w):  # (n,), (n,), (k,): those of one hidden unit
            return difference(lambda step: jnp.outer(activation(z + step * inputs) - a, w))

        return jax.vmap(unit, (1, 1, 0))(z, a, w2)

    def second(inputs):  # (n,), the inputs of one row of W₂ -> (k,)
        one_hot = jnp.eye(outputs, dtype=y.dtype)
        return jax.vmap(lambda e: difference(lambda step: jnp.outer(step * inputs, e)))(one_hot)

    def rows(f, inputs, copies):  # every row of the weights, then the bias
        inputs = jnp.concatenate([inputs.T, jnp.ones((1, n), inputs.dtype)])
        return _map_blocks(f, inputs, max(1, _NUMBERS // (8 * copies * y.size)))

    d1, d2 = rows(first, x, w1.shape[1]), rows(second, a, outputs)
    grads = [{"w": d[:-1].astype(w1.dtype), "b": d[-1].astype(w1.dtype)} for d in (d1, d2)]
    return jax.tree.unflatten(structure, grads)


def _two_layers(caller, weights, x):
    """(w1, b1, w2, b2) and the structure of `weights`, whose leaves are {"w", "b"}."""

    def is_layer(part):
        return isinstance(part, dict) and set(part) == {"w", "b"}

    layers, structure = jax.tree.flatten(weights, is_leaf=is_layer)
    shapes = jax.tree.map(np.shape, layers)
    fits = len(layers) == 2 and all(map(is_layer, layers)) and x.ndim == 2 and len(x) > 0
    if fits:
        first, last = (s["w"] for s in shapes)
        fits = len(first) == len(last) == 2 and (x.shape[1], first[1]) == (first[0], last[0])
        fits = fits and (shapes[0]["b"], shapes[1]["b"]) == (first[1:], last[1:])
    require(
        fits,
        f"{caller}: the weights have shapes {shapes} and x {jnp.shape(x)}, but two dense layers "
        '{"w": (i, j), "b": (j,)} and {"w": (j, k), "b": (k,)} with x (n, i), n > 0, are expected; '
        "numerical_gradient takes any other network.",
    )
    parts = [(name, layer[name]) for layer in layers for name in ("w", "b")]
    found = [jnp.asarray(array(caller, name, part)) for name, part in parts]
    require(
        all(jnp.issubdtype(a.dtype, jnp.floating) for a in found),
        f"{caller}: the weights have dtype {', '.join(str(a.dtype) for a in found)}, but real "
        "numbers are expected; convert them with .astype(float).",
    )
    return found, structure
