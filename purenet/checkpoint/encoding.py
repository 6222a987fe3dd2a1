"""The leaves of a tree by name, each as an array that a file can hold."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import is_key
from purenet.core.tree import short
from purenet.core.validate import expect, require

_SCALARS = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


class LeafSpec(NamedTuple):
    """The kind of a leaf, and of the array that stands for it in a file.

    `name` is the dtype of the leaf, `key threefry2x32` for random keys; `dtype` and `shape` are
    those of the array in the file.

    >>> print(LeafSpec("float64", np.dtype("float64"), (3,)))
    float64 (3,)
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self):
        stored = "" if self.name == self.dtype.name else f" stored as {self.dtype.name}"
        return f"{self.name} {self.shape}{stored}"

    @property
    def size(self) -> int:
        """The number of bytes, as a Python integer, which does not overflow."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size


def leaf_spec(caller: str, name: str, leaf: Any, native: frozenset[str] = frozenset()) -> LeafSpec:
    """The kind of a leaf; its shape and dtype are enough.

    `native` names the dtypes beyond NumPy's own that the format supports; others are stored as
    unsigned integers of their size. Raises ValueError for anything but numbers.

    >>> print(leaf_spec("save", "w", jnp.zeros(3, jnp.bfloat16)))
    bfloat16 (3,) stored as uint16
    """
    if type(leaf) in _SCALARS:
        dtype = np.dtype(_SCALARS[type(leaf)])
        return LeafSpec(dtype.name, dtype, ())
    legal = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    hint = "; put text into `metadata`"
    expect(legal, f"{caller}: the leaf {name}", leaf, "an array or a number", ValueError, hint)
    shape = tuple(leaf.shape)
    if is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, leaf.dtype))
        return LeafSpec(f"key {_generator(leaf)}", np.dtype(data.dtype), data.shape)
    dtype = np.dtype(leaf.dtype).newbyteorder("=")
    if _of_numpy(dtype) and dtype.kind in "biufc":
        return LeafSpec(dtype.name, dtype, shape)
    if not _of_numpy(dtype) and jnp.issubdtype(dtype, jnp.number):  # bfloat16 and the like
        stored = dtype if dtype.name in native else np.dtype(f"uint{8 * dtype.itemsize}")
        return LeafSpec(dtype.name, stored, shape)
    raise ValueError(f"{caller}: the leaf {name} is an array of {dtype}, but numbers are expected.")


def to_array(caller: str, name: str, leaf: Any, kind: LeafSpec) -> np.ndarray:
    """The array that stands for a leaf in a file, contiguous and in the byte order of files.

    Raises ValueError for a traced leaf, and for an integer beyond 64 bits.

    >>> to_array("save", "n", 3, leaf_spec("save", "n", 3))
    array(3)
    """
    hint = "; a traced array has no value yet; save it outside jit, vmap and grad"
    what, traced = f"{caller}: the leaf {name}", isinstance(leaf, jax.core.Tracer)
    expect(not traced, what, leaf, "a concrete array", ValueError, hint)
    fits = type(leaf) is not int or -(2**63) <= leaf < 2**63
    require(fits, f"{what} is {short(leaf)}, which does not fit in 64 bits.")
    if kind.name.startswith("key "):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf, order="C")
    if not _of_numpy(array.dtype):
        return array.view(kind.dtype)
    return array.astype(kind.dtype.newbyteorder("<"), copy=False)


def from_array(caller: str, name: str, array: np.ndarray, kind: LeafSpec, like: Any) -> Any:
    """The leaf that an array from a file stands for, with the type of `like`: a NumPy array, a
    Python number, or else a JAX array.

    Raises ValueError for numbers that JAX would narrow.

    >>> from_array("load", "n", np.array(3), leaf_spec("load", "n", 0), 0)
    3
    """
    if kind.name.startswith("key "):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_generator(like))
    if type(like) in _SCALARS:
        return array.item()
    array = array.view(np.dtype(like.dtype).newbyteorder("="))
    if isinstance(like, (np.ndarray, np.generic)):
        array = array.astype(like.dtype, copy=False)  # in its byte order
        return array if isinstance(like, np.ndarray) else array[()]
    with_jax = jnp.asarray(array)
    require(
        with_jax.dtype == array.dtype,
        f"{caller}: the leaf {name} is {kind}, which JAX narrows to {with_jax.dtype}; enable "
        "jax_enable_x64, or use NumPy arrays in `like`.",
    )
    return with_jax


def check_same(caller: str, found: dict[str, Any], expected: dict[str, LeafSpec]) -> None:
    """Check that the names and the kinds are the same.

    `found` maps names to kinds, or to functions that look them up.
    Raises ValueError with the first leaf that differs.

    >>> kind = leaf_spec("load", "n", 0)
    >>> check_same("load", {"n": kind}, {"n": kind})
    """
    extra = [name for name in found if name not in expected]
    instead = f"; the leaves {_some(extra)} are not expected" if extra else ""
    for name, kind in expected.items():
        require(name in found, f"{caller}: the leaf {name}, {kind}, is missing{instead}.")
    wanted = _some(list(expected)) or "none"
    require(not extra, f"{caller}: the leaf {_some(extra[:1])} is not expected; expected {wanted}.")
    for name, kind in expected.items():
        came = found[name]() if callable(found[name]) else found[name]
        x64 = {came.name, kind.name} in ({"float32", "float64"}, {"int32", "int64"})
        hint = "; was one of them made with jax_enable_x64?" if x64 else ""
        text = f"{caller}: the leaf {name} is {came}, but {kind} is expected{hint}."
        require(came == kind, text)


def _some(names: list[str]) -> str:
    more = f", … ({len(names)} leaves)" if len(names) > 6 else ""
    return ", ".join(map(_plain, names[: 5 if more else 6])) + more


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) <= 60 else short(name)


def _of_numpy(dtype: np.dtype) -> bool:
    return dtype.type.__module__ == "numpy"


def _generator(leaf) -> str:
    key = leaf if isinstance(leaf, jax.Array) else jnp.empty((), leaf.dtype)
    return str(jax.random.key_impl(key))
