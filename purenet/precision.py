"""The dtype that a network computes in, where that is not the dtype of its parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from purenet.types import PyTree

_NAMES = ("bfloat16", "float16", "float32", "float64")


def dtype_name(name: str, dtype: DTypeLike | None) -> str | None:
    """A floating dtype by its name, as a description keeps it; None for None.

    Raises ValueError for what is neither one of four names nor a dtype that is called so.

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
            f"{name} is {dtype!r}, but a dtype for arithmetic is expected, one of {_NAMES}, or "
            "None for that of the parameters and x."
        )
    return found


def cast(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """The floating arrays of a tree in `dtype`; whole numbers and keys as they are, and all
    of them for None.

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
