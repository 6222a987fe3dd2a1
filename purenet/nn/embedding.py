"""Embedding: integers to rows of a table."""

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import inexact
from purenet.core.types import Array, Layer
from purenet.core.validate import PositiveInteger, declared, expect, require
from purenet.core.vjp import hand_vjp
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.initializers import normal


# forward
def _look_up(table: Array, indices: Array | int) -> jax.Array:
    """Row `index` of the table for every index.

    Shapes: table (count, f), indices (...) of integers -> (..., f).
    With cotangent g: row i of d(table) is the sum of g over all places whose index is i.
    An index outside 0 .. count - 1 gives NaN and no gradient, since a compiled program cannot raise
    an error. Raises ValueError unless the indices are integers and the table is a matrix.
    Source: Bengio, Ducharme, Vincent & Jauvin (2003).

    >>> look_up(jnp.arange(6.0).reshape(3, 2), jnp.array([2, 0])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """
    whole = jnp.issubdtype(jnp.result_type(indices), jnp.integer)
    hint = "; convert them with x.astype(int)"
    expect(whole, "embedding: indices", indices, "an array of integers", ValueError, hint)
    expect_shape(jnp.ndim(table) == 2, "embedding: the table", table, "(count, features)")
    floats = jnp.asarray(inexact(table))  # which can hold NaN
    rows = floats.at[_places(floats, indices)]
    return rows.get(mode="fill", fill_value=jnp.nan, out_sharding=_sharding(floats, indices))


def _sharding(table, indices):
    """On a mesh with explicit axes: rows lie where their indices do, features as in the table."""
    if not jax.sharding.get_abstract_mesh().explicit_axes:
        return None
    (_, features), places = jax.typeof(table).sharding.spec, jax.typeof(indices).sharding.spec
    return jax.sharding.PartitionSpec(*places, features)


def _places(table, indices):
    """Negative indices count from the end elsewhere; here they are outside, like `count`."""
    return jnp.where(indices < 0, table.shape[0], indices)


# backward, by hand
def _look_up_fwd(table, indices):
    return _look_up(table, indices), (table[:, :0], indices)  # of the table only how many rows


def _look_up_bwd(residuals, g):
    rows, indices = residuals
    table = jnp.zeros((rows.shape[0], g.shape[-1]), g.dtype)
    return table.at[_places(rows, indices)].add(g, mode="drop"), None  # (..., f) -> (count, f)


look_up = hand_vjp(_look_up, _look_up_fwd, _look_up_bwd)


# the layer
@declared
def embedding(
    count: PositiveInteger, features: PositiveInteger, weight_init: WeightInit = normal(1.0)
) -> Layer:
    """A table of `count` rows of `features` numbers; integers (...) in, rows (..., features) out.

    Weights {"w": (count, features)}. Raises ValueError for params of another network and, in
    `apply`, for a concrete index outside 0 ... count - 1; a traced one outside gives NaN.
    Source: Bengio, Ducharme, Vincent & Jauvin (2003).

    >>> layer = embedding(10, 4)
    >>> params = layer.init(jax.random.key(0), 7)
    >>> layer.apply(params, jnp.zeros((2, 7), int), True, None)[0].shape
    (2, 7, 4)
    """

    def init(key, sizes):
        shape(sizes)
        return {"w": init_weights("embedding", weight_init, key, (count, features))}

    def apply(weights, x, train, key):
        del train, key  # the same in training and inference
        (w,) = named("embedding", "weights", weights, "w")
        _check_known(x, count)
        return look_up(w, x)

    arguments = {"count": count, "features": features, "weight_init": weight_init}
    return stateless(init, apply, spec=("embedding", arguments))


def _check_known(indices, count):
    known = isinstance(indices, (jax.Array, np.ndarray)) and not isinstance(
        indices, jax.core.Tracer
    )
    if not known or indices.size == 0 or not jnp.issubdtype(indices.dtype, jnp.integer):
        return
    indices = np.asarray(indices)  # known values stay known inside a traced function
    low, high = indices.min(), indices.max()
    require(
        0 <= low <= high < count,
        f"embedding: indices reach from {low} to {high}, but the table has rows 0 to {count - 1}.",
    )
