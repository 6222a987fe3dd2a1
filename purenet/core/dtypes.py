"""Dtypes: which ones arithmetic uses, and which ones JAX has."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from purenet.core.types import Number, PyTree

_NAMES = ("bfloat16", "float16", "float32", "float64")


def dtype_name(name: str, dtype: DTypeLike | None) -> str | None:
    """The name of a floating dtype, for descriptions; None for None.

    Raises ValueError for anything but one of the four names or a dtype of that name.

    >>> dtype_name("serial: compute_dtype", jnp.bfloat16), dtype_name("", "float16")
    ('bfloat16', 'float16')
    """
    if dtype is None:
        return None
    found: Any = dtype
    if not isinstance(dtype, str):
        try:
            found = jnp.dtype(dtype).name
        except (TypeError, ValueError):
            found = None
    if found not in _NAMES:
        raise ValueError(
            f"{name} is {dtype!r}, but one of {_NAMES} is expected, or None for the dtype of the "
            "parameters and x."
        )
    return found


def cast(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """A tree with its floating arrays in `dtype`; integers and keys are unchanged, and with None
    everything is.

    >>> cast({"x": jnp.ones(2), "i": jnp.arange(2)}, "bfloat16")["x"].dtype
    dtype(bfloat16)
    """
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if _floating(a) else a, tree)


def common_dtype(*trees: PyTree) -> np.dtype:
    """The dtype of the floating arrays of the first tree that has any, float32 if none has.

    Where arrays differ it is what they promote to, under strict promotion of dtypes too.

    >>> common_dtype((), {"x": jnp.ones(2, jnp.bfloat16), "i": jnp.arange(2)})
    dtype(bfloat16)
    """
    for tree in trees:
        arrays = [a for a in jax.tree.leaves(tree) if _floating(a)]
        if arrays:
            with jax.numpy_dtype_promotion("standard"):
                return jnp.result_type(*arrays)
    return jnp.dtype("float32")


def _floating(a) -> bool:
    return jnp.issubdtype(jnp.result_type(a), jnp.floating)


def is_numeric(dtype: Any) -> bool:
    """Whether JAX has arrays of this dtype: numbers, booleans and random keys.

    >>> is_numeric(np.dtype("bool")), is_numeric(np.dtype("U1"))
    (True, False)
    """
    kinds = (jnp.number, jnp.bool_, jax.dtypes.prng_key)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or the shape and dtype of one, is an array of typed random keys.

    >>> is_key(jax.random.key(0)), is_key(jax.random.PRNGKey(0)), is_key(0)
    (True, False, False)
    """
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def widen(a: Any, *like: Any) -> jax.Array:
    """`a` in the dtype for arithmetic on `like` (or itself): the widest one, at least float32.

    In half precision, a mean over a batch, a variance or a root would lose too many digits.

    >>> widen(jnp.ones(1, jnp.bfloat16)).dtype, widen(0.5, jnp.ones(1, jnp.float16)).dtype
    (dtype('float32'), dtype('float32'))
    """
    with jax.numpy_dtype_promotion("standard"):
        dtypes = map(jnp.result_type, like or (a,))
        return jnp.asarray(a, functools.reduce(jnp.promote_types, dtypes, jnp.float32))


def inexact(x: Any) -> Any:
    """Integers and bools as floats, of the default width; floats unchanged.

    >>> inexact(jnp.arange(2)).tolist(), inexact(jnp.ones(1, jnp.bfloat16)).dtype
    ([0.0, 1.0], dtype(bfloat16))
    """
    return x if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else jnp.asarray(x, float)


def floating(value: Number) -> jax.Array:
    """The value in the widest float dtype enabled, whatever its type.

    A schedule or a bias correction then has the same digits for a Python number and a traced one.
    Source: the convention of this module.

    >>> floating(1) == floating(jnp.ones((), jnp.bfloat16))
    Array(True, dtype=bool)
    """
    return jnp.asarray(value, float)
