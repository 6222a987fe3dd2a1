"""Dense layer: y = x W + b."""

import jax.numpy as jnp

from purenet.initializers import he_normal
from purenet.rules import hand_vjp
from purenet.types import Layer, shape, stateless


# forward
def _affine(x, w, b):
    """Affine map of every row of x.

    Shapes: x (n, i), w (i, o), b (o,) -> (n, o), any floating dtype.
    With cotangent g = dL/dy: dx = g Wᵀ, dW = xᵀ g, db = Σₙ g.
    Raises ValueError where x is not a batch of rows as long as w is high.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 6.5.

    >>> affine(jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.zeros(1)).shape
    (2, 1)
    """
    if x.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(
            f"dense: x has shape {x.shape}, but w {w.shape} takes (batch, {w.shape[0]}); "
            "to feed images, put `flatten` before this layer."
        )
    return x @ w + b


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
def dense(units: int, weight_init=he_normal) -> Layer:
    """A dense layer of `units` outputs, y = x W + b; it learns its input size in `init`.

    Weights {"w": (inputs, units), "b": (units,)}, float; b starts at zero.
    Raises ValueError when `units` is not a positive whole number, or when one example is not a
    row of numbers.

    >>> import jax
    >>> params = dense(3).init(jax.random.key(0), 5)
    >>> params.weights["w"].shape
    (5, 3)
    """
    (units,) = shape(units)

    def init(key, sizes):
        sizes = shape(sizes)
        if len(sizes) != 1:
            raise ValueError(
                f"dense: one example has shape {sizes}, but a row of numbers is expected; "
                "to feed images, put `flatten` before this layer."
            )
        w = weight_init(key, (*sizes, units))
        return {"w": w, "b": jnp.zeros(units, w.dtype)}

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        return affine(x, weights["w"], weights["b"])

    return stateless(init, apply, spec=("dense", {"units": units, "weight_init": weight_init}))
