"""One-hot labels, shuffling, a validation split."""

import contextlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.tree import named_paths
from purenet.core.types import Array, Key, PyTree
from purenet.core.validate import expect, random_key, require


# labels, shuffling, splitting
@overload
def one_hot(labels: jax.Array, classes: int) -> jax.Array: ...


@overload
def one_hot(labels: np.ndarray | Sequence | int, classes: int) -> np.ndarray: ...


def one_hot(labels: Array | Sequence | int, classes: int) -> Array:
    """Labels as rows with a single 1: y[..., c] = [labels = c].

    Shapes: labels (...) of integers -> (..., classes) float32, a JAX array for JAX labels and a
    NumPy array otherwise.
    Raises TypeError for rows of unequal length; ValueError for labels that are not integers, or
    outside 0..classes-1 (traced labels cannot be checked: one out of range becomes a row of
    zeros).
    Source: the indicator coding of Bishop, Pattern Recognition and Machine Learning (2006), 4.1.2.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    check_classes("one_hot", classes)
    if not isinstance(labels, jax.Array):
        labels = _as_array(labels)
    integers = jnp.issubdtype(labels.dtype, jnp.integer)
    expect(integers, "one_hot: labels", labels, "an array of integers", ValueError)
    if not isinstance(labels, jax.core.Tracer):
        values = np.asarray(labels)
        outside = np.argwhere((values < 0) | (values >= classes)).tolist()
        if outside:
            at = tuple(outside[0])
            raise ValueError(
                f"one_hot: the label at {list(at)} is {values[at]}, but {classes} classes have "
                f"labels 0 to {classes - 1}."
            )
    numpy: Any = np if isinstance(labels, np.ndarray) else jnp
    return (labels[..., None] == numpy.arange(classes)).astype(np.float32)


def _as_array(labels: Any) -> np.ndarray:
    found: Any = None
    with contextlib.suppress(ValueError):  # of rows of unequal length
        found = np.asarray(labels)
    expect(found is not None, "one_hot: labels", labels, "an array of integers")
    return found


def shuffle(key: Key, data: PyTree) -> PyTree:
    """The examples of `data` in a random order, the same order for every leaf.

    Shapes: `data` is any pytree of arrays (n, ...); shapes and dtypes are kept, and NumPy arrays
    stay NumPy arrays.
    Raises TypeError if `key` is not a random key; ValueError for several keys, and if `data` is
    empty or its leaves disagree on n.
    Source: a uniform permutation drawn from the key by `jax.random.permutation`.

    >>> x, t = shuffle(jax.random.key(0), (np.arange(4.0) / 10, np.arange(4)))
    >>> sorted(t.tolist()), bool((x == t / 10).all())
    ([0, 1, 2, 3], True)
    """
    random_key("shuffle", key)
    return _take(data, _order(key, _count("shuffle", data)))


def split(key: Key, data: PyTree, validation: float = 0.2) -> tuple[PyTree, PyTree]:
    """(train, validation): `data` shuffled by the key, then cut in two.

    Shapes: `data` is any pytree of arrays (n, ...). `validation` is a fraction between 0 and 1,
    for round(fraction · n) examples, or an integer, the number of examples. Dtypes are kept, and
    NumPy arrays stay NumPy arrays.
    Raises TypeError if `key` is not a random key; ValueError for several keys, and if `data` is
    empty, its leaves disagree on n, or one side would be empty.
    Source: the hold-out method, Hastie, Tibshirani & Friedman (2009), section 7.2.

    >>> train, validation = split(jax.random.key(0), (np.zeros((500, 64)), np.zeros(500)))
    >>> train[0].shape, validation[1].shape
    ((400, 64), (100,))
    """
    random_key("split", key)
    count = _count("split", data)
    number = isinstance(validation, Real) and not isinstance(validation, bool)
    whole = isinstance(validation, Integral)
    legal = number and (validation >= 1 if whole else 0 < validation < 1)  # not NaN either
    such = "a fraction between 0 and 1, such as 0.2, or a number of examples"
    expect(legal, "split: validation", validation, such, ValueError)
    held = int(validation) if whole else round(float(validation) * count)
    require(
        0 < held < count,
        f"split: validation={validation} of {count} examples leaves {count - held} to train and "
        f"{held} to validate; at least 1 of each is expected.",
    )
    order = _order(key, count)
    return _take(data, order[held:]), _take(data, order[:held])


def check_classes(caller: str, classes: Any) -> None:
    legal = isinstance(classes, Integral) and not isinstance(classes, bool) and int(classes) >= 1
    expect(legal, f"{caller}: classes", classes, "a positive integer", ValueError)


def _count(caller: str, data: PyTree) -> int:
    """The number of examples that all leaves agree on."""
    leaves = named_paths(caller, data)
    require(bool(leaves), f"{caller}: data {data!r} holds no arrays.")
    counts = []
    for path, leaf in leaves:
        name = f"data{jax.tree_util.keystr(path)}"
        require(
            np.ndim(leaf) > 0,
            f"{caller}: {name} is a single value, but an array with the examples on its leading "
            "axis is expected.",
        )
        counts.append((name, np.shape(leaf)[0]))
    first, count = counts[0]
    for name, other in counts:
        require(
            other == count,
            f"{caller}: {name} has {other} examples, but {first} has {count}; the leading axes are "
            "expected to be equal.",
        )
    require(count > 0, f"{caller}: {first} has no examples.")
    return count


def _order(key: Key, count: int) -> Array:
    # int32 in float64 programs too: the same key gives the same order in both
    order = jax.random.permutation(key, jax.device_put(np.arange(count, dtype=np.int32)))
    return order if isinstance(order, jax.core.Tracer) else jax.device_get(order)


def _take(data: PyTree, order: Array) -> PyTree:
    def take(leaf):
        if isinstance(leaf, jax.Array) or isinstance(order, jax.core.Tracer):
            return jnp.asarray(leaf)[order]
        return np.asarray(leaf)[order]

    return jax.tree.map(take, data)
