"""Flatten: images to rows."""

import math

import jax
import jax.numpy as jnp

from purenet.core.types import Array
from purenet.core.vjp import hand_vjp
from purenet.nn.base import expect_shape


@jax.tree_util.register_static
class _Shape(tuple):
    """A shape that travels as structure, so that the backward holds no array alive."""


# forward
def _flatten(x: Array) -> jax.Array:
    """Every example as one row.

    Shapes: x (n, ...) -> (n, product of the rest), any dtype. With cotangent g: dx = g, reshaped.
    Used as a layer directly. Raises ValueError if there is no batch axis.
    Source: LeCun, Bottou, Bengio & Haffner (1998), from the last images to the first row.

    >>> flatten(jnp.ones((2, 28, 28, 1))).shape
    (2, 784)
    """
    hint = "; give one example a leading axis with x[None]"
    expect_shape(jnp.ndim(x) > 0, "flatten: x", x, "a batch (n, ...)", hint)
    # hand_vjp has made NumPy arrays JAX arrays
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))  # type: ignore[return-value]


# backward, by hand
def _flatten_fwd(x):
    return _flatten(x), _Shape(x.shape)


def _flatten_bwd(shape, g):
    return (g.reshape(shape),)  # (n, product) -> (n, ...)


flatten = hand_vjp(_flatten, _flatten_fwd, _flatten_bwd)
