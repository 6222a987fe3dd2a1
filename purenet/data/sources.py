"""What examples are streamed from: array-likes, data sets by index, iterators of minibatches."""

import contextlib
import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import describe_value, require

_SMALL = 2**26  # bytes of a file that is read faster if it stays mapped


class Columns(NamedTuple):
    """Array-likes with the examples on their leading axis: NumPy arrays, memory maps, HDF5.

    >>> columns = Columns({"x": np.arange(4) * 10})
    >>> columns.examples, columns.read(np.array([3, 1]))["x"].tolist()
    (4, [30, 10])
    """

    tree: PyTree

    @property
    def examples(self) -> int:
        return jax.tree.leaves(self.tree)[0].shape[0]

    def read(self, rows: np.ndarray, into: PyTree = None) -> PyTree:
        """These examples of every column; in the arrays `into`, where a column can be read straight
        to there."""
        if into is None:
            return jax.tree.map(lambda column: _rows_of(column, rows), self.tree)
        return jax.tree.map(lambda column, place: _rows_of(column, rows, place), self.tree, into)


def _rows_of(column, rows: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    if isinstance(column, np.ndarray):
        flags = column.flags
        if into is not None and column.dtype == into.dtype and flags.c_contiguous and flags.aligned:
            # without a buffer, which another mode than "clip" needs for rows that are not there
            found = np.take(column, rows, axis=0, out=into, mode="clip")
        else:
            found = np.asarray(column[rows])
        _forget(column)
        return found
    # HDF5 reads rows in ascending order only
    order = np.argsort(rows)
    found = np.empty((len(rows), *column.shape[1:]), column.dtype)
    found[order] = column[rows[order]]
    return found


def _forget(column: np.ndarray) -> None:
    """Unmap what was read of a file; the system keeps it in memory as long as there is room.

    Without that a process seems to hold all that it has read. A small file may stay. A private copy
    of a file, which may hold changes, is left alone.
    """
    mapped = getattr(column, "_mmap", None)
    if not isinstance(mapped, mmap.mmap) or len(mapped) <= _SMALL:
        return
    if getattr(column, "mode", "c") != "c":
        with contextlib.suppress(AttributeError):  # not every system can be advised
            mapped.madvise(mmap.MADV_DONTNEED)


class Examples(NamedTuple):
    """A data set that gives one example for an index, as those of PyTorch, Hugging Face and grain.

    One with `__getitems__(indices)`, a list of examples, is asked for a minibatch at once.

    >>> Examples([(1.0, 0), (2.0, 1)]).read(np.array([1, 0]))[0].tolist()
    [2.0, 1.0]
    """

    dataset: Any

    @property
    def examples(self) -> int:
        return len(self.dataset)

    def read(self, rows: np.ndarray) -> PyTree:
        """These examples, stacked."""
        numbers = rows.tolist()
        several = getattr(self.dataset, "__getitems__", None)
        found = several(numbers) if several else [self.dataset[i] for i in numbers]
        return jax.tree.map(lambda *leaves: np.stack(list(map(np.asarray, leaves))), *found)


class Batches:
    """An iterable of minibatches whose iterators can be saved: `get_state()`, `set_state(state)`.

    >>> Batches([1, 2, 3])
    Traceback (most recent call last):
    TypeError: stream: the iterator of a list has no get_state and set_state, so that no run ...
    """

    examples = None

    def __init__(self, iterable: Any):
        self.iterable = iterable
        iterator = iter(iterable)
        able = all(callable(getattr(iterator, name, None)) for name in ("get_state", "set_state"))
        require(
            able,
            f"stream: the iterator of a {type(iterable).__name__} has no get_state and set_state, "
            "so that no run could resume; give a data set with __len__ and __getitem__, or an "
            "iterator that can be saved, such as one of grain's.",
            TypeError,
        )
        self.start = iterator.get_state()

    def open(self, state: Any = None) -> Iterator:
        """An iterator that resumes from that state, or starts from the beginning."""
        iterator: Any = iter(self.iterable)
        iterator.set_state(self.start if state is None else state)
        return iterator


AnySource = Columns | Examples | Batches


def source_of(source: Any) -> AnySource:
    """What a user gives, by its protocol. Raises TypeError for anything else, ValueError for
    arrays with different numbers of examples.

    >>> source_of((np.ones((3, 2)), np.zeros(3))).examples
    3
    """
    leaves = [] if hasattr(source, "__next__") else jax.tree.leaves(source)
    if leaves and all(map(_is_array, leaves)):
        sizes = {leaf.shape[0] if len(leaf.shape) else None for leaf in leaves}
        require(
            len(sizes) == 1 and None not in sizes,
            f"stream: the arrays have the shapes {[tuple(leaf.shape) for leaf in leaves]}, but the "
            "same number of examples on each leading axis is expected.",
        )
        plain = lambda a: np.asarray(a) if isinstance(a, jax.Array) else a
        return Columns(jax.tree.map(plain, source))
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        if not isinstance(source, (tuple, list, dict, str)):
            return Examples(source)
    elif hasattr(source, "__iter__"):
        return Batches(source)
    raise TypeError(
        f"stream: source is {describe_value(source)}, but arrays, a data set with __len__ and "
        "__getitem__, or an iterable of minibatches is expected."
    )


def _is_array(leaf) -> bool:
    return all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__"))
