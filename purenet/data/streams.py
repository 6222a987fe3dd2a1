"""Data that is read while a network trains, because it does not fit in memory."""

import base64
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet.core.chunk import Chunk
from purenet.core.contracts import check_data
from purenet.core.tree import fingerprint
from purenet.core.types import PyTree
from purenet.core.validate import Function, PositiveInteger, declared, describe_value, require
from purenet.data.sources import AnySource, Batches, Columns, source_of

_PARTS = 4  # chunks that are in memory at once: read, waiting, placed, trained on
_PIECE = 1000  # examples that are predicted at once, at most
_CHUNK = 2**23  # bytes in a chunk, at most: training starts once the first one is read
_SAMPLE = 64  # examples that a data set is recognised by


@declared
def stream(
    source: Any,
    *,
    prepare: Function | None = None,
    steps_per_epoch: PositiveInteger | None = None,
    memory: PositiveInteger = 2**28,
) -> "Stream":
    """Data that `fit` and `sweep.run` read while they train, in place of arrays.

    `source` is one of:

    - arrays with the examples on the leading axis, such as a pair (x, t): NumPy memory maps, HDF5
      data sets, arrays in memory;
    - a data set with a length that returns the example at an index, or a list of examples from
      `__getitems__(indices)`: those of PyTorch and Hugging Face, grain's MapDataset;
    - an iterable of minibatches whose iterators have `get_state()` and `set_state(state)`: grain's
      IterDataset and DataLoader. It must never end, as after `.repeat()`; `steps_per_epoch` of its
      minibatches make an epoch;
    - a function that returns one of these. Each process that reads calls it: the workers of an
      executor, which cannot be sent an open file.

    Examples are reshuffled for each epoch, as they are in memory; the minibatches of an iterable
    are taken in its order. `prepare(minibatch)` turns a minibatch of the source, on the host, into
    what the training takes: lambda m: (m["image"] / 255, m["label"]). A thread reads minibatches
    ahead, at most `memory` bytes of them, and the results do not depend on how many.

    Raises TypeError for another source, and for an iterable without `steps_per_epoch`; ValueError
    for arrays of different lengths, for no examples, and for `steps_per_epoch` where the source has
    a length.

    >>> stream((np.ones((6, 2), np.float32), np.zeros(6, np.int32)))
    stream(6 examples of (float32[2], int32))
    """
    made = Stream(source, prepare, steps_per_epoch, memory)
    found = made.source
    if isinstance(found, Batches):
        text = "stream: an iterable has no length; say with steps_per_epoch= what an epoch is."
        require(steps_per_epoch is not None, text, TypeError)
    else:
        text = f"stream: the source has {found.examples} examples, which an epoch passes over once"
        require(steps_per_epoch is None, f"{text}; leave out steps_per_epoch.")
        require(found.examples > 0, "stream: the source is empty; give at least one example.")
    return made


class Stream:
    """What `stream` returns: where minibatches come from, and nothing that is read yet."""

    def __init__(
        self,
        given: Any,
        prepare: Any = None,
        steps_per_epoch: int | None = None,
        memory: int = 2**28,
    ):
        self.given, self.prepare, self.memory = given, prepare, memory
        self.steps_per_epoch = steps_per_epoch

    @functools.cached_property
    def source(self) -> AnySource:
        """What is read in this process."""
        return source_of(self.given() if _opens(self.given) else self.given)

    def __getstate__(self) -> dict[str, Any]:
        mapped = [a for a in jax.tree.leaves(self.given) if isinstance(a, np.memmap)]
        text = "a stream's memory map would be sent whole; give stream a function that opens it,"
        require(not mapped, f"{text} defined at the top of a module.", TypeError)
        names = "given", "prepare", "memory", "steps_per_epoch"
        return {name: getattr(self, name) for name in names}

    def __repr__(self):
        count = f"{self.examples} examples"
        if self.examples is None:
            count = f"{self.steps_per_epoch} minibatches of {self.size} examples"
        kinds = [f"{a.dtype}{list(a.shape) or ''}" for a in jax.tree.leaves(self.example)]
        each = kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})"
        return f"stream({count} of {each})"

    @property
    def examples(self) -> int | None:
        """How many there are; None for an iterable."""
        return self.source.examples

    @functools.cached_property
    def first(self) -> PyTree:
        """The first few examples, as the training takes them: a minibatch of an iterable."""
        if isinstance(self.source, Batches):
            try:
                found = next(self.source.open())
            except StopIteration:
                raise ValueError("stream: the iterable gives no minibatch at all.") from None
        else:
            found = self.source.read(np.arange(min(_SAMPLE, self.source.examples)))
        return self.prepared(found)

    def prepared(self, minibatch: PyTree) -> PyTree:
        """A minibatch as the training takes it: arrays in dtypes that JAX has."""
        if self.prepare is not None:
            minibatch = self.prepare(minibatch)
        if not all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(minibatch)):
            minibatch = jax.tree.map(np.asarray, minibatch)
        check_data("stream", {"minibatch": minibatch})
        cast = lambda a: np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.tree.map(cast, minibatch)

    def read(self, rows: np.ndarray, into: PyTree) -> PyTree:
        """These examples of a source that has a length, as the training takes them: in the arrays
        `into`, where they can be read straight to there."""
        source: Any = self.source
        found = source.read(rows, into) if self.plain else source.read(rows)
        return self.prepared(found)

    @property
    def plain(self) -> bool:
        """Whether examples are read as they are from arrays, however many at once."""
        return self.prepare is None and isinstance(self.source, Columns)

    @functools.cached_property
    def example(self) -> PyTree:
        """Shapes and dtypes of one example."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self.first)

    @property
    def size(self) -> int | None:
        """The number of examples in a minibatch, where the source decides on it."""
        leaves = jax.tree.leaves(self.first)
        return leaves[0].shape[0] if isinstance(self.source, Batches) else None

    def steps(self, size: int) -> int:
        """The number of whole minibatches in an epoch."""
        return self.steps_per_epoch or self.examples // size  # type: ignore[operator]

    def check(self, caller: str, size: int) -> None:
        """Raises ValueError for a training with this batch size."""
        if self.size is not None:
            text = f"{caller}: the stream's minibatches have {self.size} examples, but the batch"
            require(self.size == size, f"{text} size is {size}; both need the same.")
        else:
            text = f"{caller}: the stream has {self.examples} examples, fewer than one minibatch of"
            require(self.steps(size) > 0, f"{text} {size}; lower the batch size.")

    def chunk(self, size: int, steps: int, waiting: int = 0) -> int:
        """The number of minibatches in a chunk: an epoch of `steps` minibatches is cut into the
        fewest equal parts that fit in memory, each beside so many examples that are `waiting`."""
        bytes_of = lambda a: max(1, math.prod(a.shape)) * a.dtype.itemsize
        each = max(1, sum(map(bytes_of, jax.tree.leaves(self.example))))
        held = waiting * each
        most = max(1, min(self.memory // _PARTS - held, max(_CHUNK, held)) // (size * each))
        return math.ceil(steps / math.ceil(steps / most))

    def pieces(self, rows: np.ndarray | None = None) -> Iterator[PyTree]:
        """These examples, or all of them, a part after the other, none larger than a chunk: of an
        iterable the minibatches of its first epoch."""
        source = self.source
        if isinstance(source, Batches):
            iterator = source.open()
            yield from (self.prepared(next(iterator)) for _ in range(self.steps_per_epoch or 0))
            return
        rows = np.arange(source.examples) if rows is None else rows
        most = self.chunk(1, _PIECE)
        for first in range(0, len(rows), most):
            yield self.prepared(source.read(rows[first:][:most]))

    def in_memory(self, most: int) -> "Stream":
        """A stream of the first examples, at most `most`, which are read now."""
        rows = None if self.examples is None else np.arange(min(most, self.examples))
        found, n = [], 0
        for piece in self.pieces(rows):
            found.append(piece)
            n += jax.tree.leaves(piece)[0].shape[0]
            if n >= most:
                break
        whole = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        return Stream(whole, memory=self.memory)

    def like_chunk(self, size: int) -> Chunk:
        """A chunk of an epoch's minibatches as programs get it, by shapes and dtypes."""
        steps = self.steps(size)
        most = self.chunk(size, steps)
        shape = lambda a: jax.ShapeDtypeStruct((most, size, *a.shape), a.dtype)
        number: Any = jax.ShapeDtypeStruct((), np.int32)
        return Chunk(jax.tree.map(shape, self.example), number, number, steps)

    def like_arrays(self) -> PyTree:
        """Arrays in the place of the whole data, of its shapes and dtypes and of no size."""
        n = self.examples
        if n is None:
            n = self.steps_per_epoch * self.size  # type: ignore[operator]
        whole = lambda a: np.broadcast_to(np.zeros((), a.dtype), (n, *a.shape))
        return jax.tree.map(whole, self.example)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the shapes and of some of the examples."""
        found = self.first
        if not isinstance(self.source, Batches):
            rows = np.unique(np.linspace(0, self.source.examples - 1, _SAMPLE).astype(int))
            found = self.prepared(self.source.read(rows))
        return fingerprint((np.array([self.examples or 0, self.steps_per_epoch or 0]), found))


def _opens(given: Any) -> bool:
    """Whether this is a function that returns a source."""
    protocol = "__getitem__", "__iter__"
    return callable(given) and not any(hasattr(given, name) for name in protocol)


def is_streamed(data: Any) -> bool:
    """Whether a part of the data is a stream.

    >>> is_streamed((stream(np.ones(3)), np.ones(2))), is_streamed((np.ones(3), np.ones(2)))
    (True, False)
    """
    return any(isinstance(leaf, Stream) for leaf in jax.tree.leaves(data))


def as_stream(part: PyTree) -> Stream:
    """A part of the data as a stream; one in memory is read from there.

    >>> as_stream(np.ones((3, 2), np.float32))
    stream(3 examples of float32[2])
    """
    return part if isinstance(part, Stream) else Stream(part)


def first_examples(parts: dict[str, PyTree]) -> dict[str, PyTree]:
    """The parts of the data, those that are streamed by their first few examples.

    >>> first_examples({"train": stream(np.ones(3))})["train"].shape
    (3,)
    """
    first = lambda part: part.first if isinstance(part, Stream) else part
    return {name: first(part) for name, part in parts.items()}


def like_arrays(parts: dict[str, PyTree]) -> dict[str, PyTree]:
    """The parts of the data, those that are streamed as arrays of the same shapes and dtypes.

    >>> like_arrays({"train": stream(np.ones(3))})["train"].tolist()
    [0.0, 0.0, 0.0]
    """
    like = lambda part: part.like_arrays() if isinstance(part, Stream) else part
    return {name: like(part) for name, part in parts.items()}


def described(parts: dict[str, PyTree]) -> dict[str, PyTree]:
    """The parts of the data, those that are streamed as a text that tells them apart.

    >>> described({"train": stream(np.ones(3), memory=8)})["train"].endswith(" in 8 bytes")
    True
    """
    text = lambda part: f"{part.fingerprint} in {part.memory} bytes"
    return {name: text(p) if isinstance(p, Stream) else p for name, p in parts.items()}


# the state of an iterator in a file
def to_json(caller: str, state: Any) -> Any:
    """The state of a source's iterator as JSON can hold it. Raises TypeError for one that it
    cannot.

    >>> to_json("fit", b"abc"), to_json("fit", {"next": 3})
    ({'base64': 'YWJj'}, {'json': {'next': 3}})
    """
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    try:
        same = json.loads(json.dumps(state)) == state
    except (TypeError, ValueError):
        same = False
    text = f"{caller}: the iterator's state is {describe_value(state)}, but bytes or what JSON can"
    require(same, f"{text} hold is expected of a run that is saved.", TypeError)
    return {"json": state}


def from_json(stored: Any) -> Any:
    """The state that `to_json` made this of.

    >>> from_json({"base64": "YWJj"})
    b'abc'
    """
    return base64.b64decode(stored["base64"]) if "base64" in stored else stored["json"]
