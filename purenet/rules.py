"""The one seam to JAX's custom derivatives: reverse rules by hand, forward mode from them.

An op is `hand_vjp(plain, fwd, bwd)`. The seam, not the rule, takes care of what every rule would
otherwise repeat: a cotangent gets the dtype and the shape of its argument (a scalar `slope` may be
answered with a full-sized array, which is summed), inside `shard_map` it is summed over the mesh
axes that it varies over and its argument does not, and on a mesh with explicit axes it is sharded
like its argument.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class _Like(NamedTuple):
    """What a cotangent has to look like; hashable, so it travels as structure, not as an array."""

    shape: tuple[int, ...]
    dtype: Any
    varying: frozenset
    sharding: Any


@jax.tree_util.register_static
class _Likes(tuple):
    pass


def hand_vjp(plain: Callable, fwd: Callable, bwd: Callable, static: tuple[int, ...] = ()):
    """Give `plain` a hand-written reverse rule.

    fwd(*args) -> (out, residuals); bwd(*static_args, residuals, g) -> one cotangent per array
    argument, None for integers and keys. `static` numbers the arguments that are plain Python
    values. `.plain` keeps the untouched function: the reference that the tests differentiate.

    `fwd` must call `plain`, never the op itself: then second derivatives work.
    Source: the custom derivative rules of the JAX documentation.

    >>> square = hand_vjp(lambda x: x * x, lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    >>> float(jax.grad(square)(3.0))
    6.0
    """

    def forward(*args):
        out, residuals = fwd(*args)
        arrays = [a for i, a in enumerate(args) if i not in static]
        return out, (residuals, _Likes(_like(a) for a in arrays))

    def backward(*args):
        *static_args, (residuals, likes), g = args

        def pull(residuals, g):
            return tuple(map(_match, bwd(*static_args, residuals, g), likes))

        if jax.sharding.get_abstract_mesh().explicit_axes:
            # a contraction over a sharded batch has no sharding of its own: let the compiler
            # place the work, and say only where the answer belongs
            pull = jax.sharding.auto_axes(pull, out_sharding=tuple(a.sharding for a in likes))
        return pull(residuals, g)

    op: Any = jax.custom_vjp(plain, nondiff_argnums=static)
    op.defvjp(forward, backward)
    op.__name__ = plain.__name__.lstrip("_")
    op.plain = plain
    return op


def wide(dtype):
    """The dtype for arithmetic that has no digits to spare: float32 at least.

    Asked for by name, so under strict promotion of dtypes too.

    >>> wide(jnp.bfloat16), wide(jnp.float32)
    (dtype('float32'), dtype('float32'))
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, jnp.float32)


def jvp(f: Callable, primals: tuple, tangents: tuple):
    """Forward mode from reverse rules: the pullback is linear, so transpose it.

    Returns (f(*primals), its directional derivative), as `jax.jvp` does, which refuses functions
    that have a reverse rule only.

    >>> y, dy = jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> float(y), float(dy)
    (9.0, 6.0)
    """
    y, pullback = jax.vjp(f, *primals)
    _, push = jax.vjp(pullback, jax.tree.map(jnp.zeros_like, y))  # linear: the same everywhere
    return y, push(tuple(tangents))[0]


def _like(a) -> _Like:
    kind = jax.typeof(a)
    differentiable = jnp.issubdtype(kind.dtype, jnp.inexact)
    # the spec alone: a plain number such as a rate lies on no mesh, yet its gradient does
    return _Like(
        kind.shape, kind.dtype, _varying(a), kind.sharding.spec if differentiable else None
    )


def _varying(a) -> frozenset:
    return frozenset(jax.typeof(a).manual_axis_type.varying)


def _match(cotangent, like: _Like):
    if cotangent is None or not jnp.issubdtype(like.dtype, jnp.inexact):
        return None  # an integer has no gradient, whatever the rule answered
    # a scalar hyperparameter against a full-sized answer: sum what was broadcast
    extra = cotangent.ndim - len(like.shape)
    stretched = tuple(
        i for i, n in enumerate(cotangent.shape) if i < extra or n != like.shape[i - extra]
    )
    if stretched:
        cotangent = cotangent.sum(stretched).reshape(like.shape)
    cotangent = cotangent.astype(like.dtype)
    unsummed = tuple(sorted(_varying(cotangent) - like.varying))
    return lax.psum(cotangent, unsummed) if unsummed else cotangent
