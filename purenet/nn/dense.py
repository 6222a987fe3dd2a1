"""Dense layer: y = x W + b."""

import jax
import jax.numpy as jnp

from purenet.core.padded import AnySize, capacity_of, counts, keep_first
from purenet.core.types import Array, Layer, Params
from purenet.core.validate import declared
from purenet.core.vjp import hand_vjp
from purenet.nn.base import WeightInit, init_weights, named, only_params, padded_shape
from purenet.nn.initializers import he_normal


# forward
def _affine(x: Array, w: Array, b: Array) -> jax.Array:
    """Affine map of every row of x.

    Shapes: x (n, i), w (i, o), b (o,) -> (n, o), any floating dtype; x may be integers.
    With cotangent g = dL/dy: dx = g Wᵀ, dW = xᵀ g, db = Σₙ g.
    Raises ValueError unless w is a matrix, x a batch of rows of its height, and b has one number
    per column of w.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 6.5.

    >>> affine(jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.zeros(1)).shape
    (2, 1)
    """
    if jnp.ndim(w) != 2 or jnp.shape(b) != w.shape[1:]:
        raise ValueError(
            f"dense: w has shape {jnp.shape(w)} and b {jnp.shape(b)}, but a matrix (inputs, "
            "outputs) and one number per output (outputs,) are expected."
        )
    if jnp.ndim(x) != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(
            f"dense: x has shape {jnp.shape(x)}, but w {w.shape} takes (batch, {w.shape[0]}); "
            "to feed images, put `flatten` before this layer; to feed one example, x[None]."
        )
    # hand_vjp has made NumPy arrays JAX arrays
    return x @ w + b[None]  # type: ignore[return-value]


# backward, by hand
def _affine_fwd(x, w, b):
    return _affine(x, w, b), (x, w)


def _affine_bwd(residuals, g):
    x, w = residuals
    dx = g @ w.T  # (n, o)(o, i) -> (n, i)
    dw = x.T @ g  # (i, n)(n, o) -> (i, o)
    db = g.sum(axis=0)  # (n, o) -> (o,)
    return dx, dw, db


affine = hand_vjp(_affine, _affine_fwd, _affine_bwd)


# the layer
@declared
def dense(units: AnySize, weight_init: WeightInit = he_normal) -> Layer:
    """A dense layer of `units` outputs, y = x W + b; it learns its input size in `init`.

    Weights {"w": (inputs, units), "b": (units,)}, float; b starts at zero.
    Raises ValueError for examples that are not rows, and for params of another network.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 6.5.

    >>> import jax
    >>> params = dense(3).init(jax.random.key(0), 5)
    >>> params.weights["w"].shape
    (5, 3)

    With `units=PaddedSize(size, capacity)` the arrays have room for `capacity` units, of which only
    the first `size`, a number that may be traced, are used: the others and their weights are 0, and
    stay 0 in training. The used part equals a layer of `size` units, drawn with its fans;
    `weight_init` must take a keyword `fans`, as all of `purenet.initializers` do. `init` takes such
    a size too, and `serial` passes it on to the next layer. The sizes are kept in stats
    {"inputs": (), "units": ()}, each only if it is padded.

    >>> from purenet.core.padded import PaddedSize
    >>> params = dense(PaddedSize(2, capacity=4)).init(jax.random.key(0), 3)
    >>> jnp.sign(jnp.abs(params.weights["w"])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    """

    def init(key, sizes):
        sizes = padded_shape(sizes)
        if len(sizes) != 1:
            raise ValueError(
                f"dense: one example has shape {sizes}, but a row of numbers is expected; "
                "to feed images, put `flatten` before this layer."
            )
        w = init_weights("dense", weight_init, key, (*sizes, units))
        weights = {"w": w, "b": jnp.zeros(capacity_of(units), w.dtype)}
        return Params(weights, counts(inputs=sizes[0], units=units) or ())

    def apply(params, x, train, key):
        del train, key  # the same in training and inference
        weights, stats = only_params("dense", params)
        w, b = named("dense", "weights", weights, "w", "b")
        inputs, outputs = named("dense", "stats", stats, optional=("inputs", "units"))
        # padding of the inputs may hold anything, such as softplus(0)
        return keep_first(affine(keep_first(x, inputs), w, b), outputs), stats

    return Layer(init, apply, spec=("dense", {"units": units, "weight_init": weight_init}))
