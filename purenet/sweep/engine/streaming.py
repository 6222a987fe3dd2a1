"""Streamed data in a sweep: its parts, and where in an epoch a lane is."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.chunk import Chunk
from purenet.core.subset import Subset, take
from purenet.core.tree import fingerprint
from purenet.core.types import Array, PyTree
from purenet.data.fold_feed import fold_shape
from purenet.data.streams import Stream, first_examples
from purenet.sweep.engine.folds import Folds, all_rows, rows_of


class StreamedParts:
    """Training data that is a stream, and validation data that is one too or lies in memory.

    With `folds`, both are the same stream, of which each fold takes its own rows.

    >>> from purenet.data.streams import stream
    >>> StreamedParts(stream(np.ones(3)), np.ones(2)).examples[0].shape
    (3,)
    """

    def __init__(self, train: Stream, validation: PyTree, folds: Folds | None = None):
        self.train, self.validation, self.folds = train, validation, folds
        if not isinstance(validation, Stream):
            self.validation = jax.tree.map(np.asarray, validation)

    @property
    def examples(self) -> tuple[PyTree, PyTree]:
        """A few examples of each part that is streamed, and all of one in memory."""
        found = first_examples({"train": self.train, "validation": self.validation})
        return found["train"], found["validation"]

    @property
    def held(self) -> PyTree:
        """What lies on the devices."""
        return () if isinstance(self.validation, Stream) else self.validation

    @property
    def fingerprint(self) -> str:
        """What tells the data apart, as well as some of the examples do."""
        of = lambda part: part.fingerprint if isinstance(part, Stream) else fingerprint(part)
        rows = "" if self.folds is None else f" {fingerprint(self.folds)}"
        return f"{of(self.train)} {of(self.validation)}{rows}"

    def pieces(self, rows: np.ndarray | None = None) -> Iterator[PyTree]:
        """These validation examples, or all of them, a part after the other."""
        if isinstance(self.validation, Stream):
            return self.validation.pieces(rows)
        return iter([self.validation])

    def few(self, most: int) -> "StreamedParts":
        """The first examples of each part, at most `most`, without folds, in memory."""
        few = lambda part: part.in_memory(most)
        if isinstance(self.validation, Stream):
            return StreamedParts(few(self.train), few(self.validation))
        return StreamedParts(few(self.train), jax.tree.map(lambda a: a[:most], self.validation))

    def count(self) -> float:
        """The number of examples that a lane trains and is validated on."""
        if self.folds is not None:
            parts = self.folds.train, self.folds.validation
            return float(sum(np.mean([len(rows) for rows in rows_of(part)]) for part in parts))
        of = lambda a: jax.tree.leaves(a.like_arrays() if isinstance(a, Stream) else a)[0].shape[0]
        return float(of(self.train) + of(self.validation))

    @property
    def number(self) -> int:
        """The number of folds; 1 without them."""
        return 1 if self.folds is None else self.folds.number

    def steps(self, size: int) -> int:
        """The minibatches of an epoch; with folds, those of a pass over all of their rows."""
        if self.folds is None:
            return self.train.steps(size)
        return -(-len(all_rows(self.folds.train)) // size)

    def like_chunk(self, size: int) -> "LaneChunk":
        """A chunk as the programs get it, by shapes and dtypes."""
        number: Any = jax.ShapeDtypeStruct((), np.int32)
        if self.folds is None:
            return LaneChunk(self.train.like_chunk(size), number)
        rows = rows_of(self.folds.train)
        total = max(map(len, rows)) // size
        n = len(all_rows(self.folds.train))
        shape = fold_shape(self.train, len(rows), size, n)
        return LaneChunk(shape.like_chunk(self.train.example, total), number)


class LaneChunk(NamedTuple):
    """A chunk for all lanes; with folds, `rows`, `count` and `at` are those of each fold."""

    chunk: Chunk
    moves: Any  # () int32, by how much the place in an epoch moves on

    def of(self, fold: Any) -> Chunk:
        """What a lane of this fold trains on.

        >>> one = Chunk(jnp.ones((1, 2)), jnp.int32(1), jnp.int32(0), 1)
        >>> LaneChunk(one, jnp.int32(1)).of(0) is one
        True
        """
        chunk = self.chunk
        if chunk.rows is None:
            return chunk
        count, at = jnp.asarray(chunk.count)[fold], jnp.asarray(chunk.at)[fold]
        return Chunk(chunk.batches, count, at, chunk.total, jnp.asarray(chunk.rows)[fold])


class FoldScoring(NamedTuple):
    """What the outputs of each fold are scored on, where a pass gives them in its own order.

    >>> pairs = Subset((), np.array([[[1, 2], [0, 0]]]), np.array([0]), (2,))
    >>> scores = FoldScoring(jnp.array([5, 6, 7]), pairs)
    >>> scores.score(lambda y, t: (y - t).tolist(), jnp.array([[9, 8]]), 0)
    [1, 4]
    """

    targets: Any  # (n, ...) in the order of the pass
    pairs: Subset  # of each fold: (its rows among the outputs, those among the targets)

    def score(self, score: Any, outputs: PyTree, fold: Any) -> dict:
        """The metrics of a lane's outputs (minibatches, examples, ...)."""
        flat = outputs.reshape(-1, *outputs.shape[2:])
        pairs = self.pairs
        own = Subset((flat, self.targets), pairs.rows[fold], pairs.which[fold], pairs.sizes)
        both = lambda rows, data: score(take(data[0], rows[:, 0]), take(data[1], rows[:, 1]))
        return own.each(both)


def fold_scores(folds: Folds, order: np.ndarray, targets: np.ndarray) -> FoldScoring:
    """For a pass over the validation rows of all folds, `order`, ascending.

    >>> from purenet.sweep.engine.folds import FoldRows
    >>> part = FoldRows(np.array([[4, 2]]), np.array([0]), (2,))
    >>> fold_scores(Folds((), part, part), np.array([2, 4]), np.zeros(2)).pairs.rows.tolist()
    [[[1, 1], [0, 0]]]
    """
    part = folds.validation
    rows = np.asarray(part.rows)
    pairs = np.zeros((*rows.shape, 2), np.int32)
    for fold, mine in enumerate(rows_of(part)):
        outputs = np.searchsorted(np.unique(mine), mine)
        pairs[fold, : len(mine)] = np.stack([outputs, np.searchsorted(order, mine)], axis=1)
    return FoldScoring(targets, Subset((), pairs, np.asarray(part.which), part.sizes))


class InEpoch(NamedTuple):
    """A training in the midst of an epoch.

    >>> InEpoch((), 3, {}).at
    3
    """

    state: PyTree
    at: Any  # () int32, how far this epoch is; without folds, the minibatches that are done
    sums: dict[str, Any]  # of their metrics


class StreamShape(NamedTuple):
    """How the lanes of a program take their minibatches.

    >>> StreamShape(8, 100, ("loss",), 5, (100,)).begin(()).sums["loss"].item()
    0.0
    """

    size: int  # examples in a minibatch
    steps: int  # where an epoch ends; without folds, its minibatches
    names: tuple[str, ...]  # what is measured on each of them
    leaf: int  # the place of `at` among the leaves of a packed state
    minibatches: tuple[int, ...]  # in an epoch of each fold
    output: Any = None  # of validation that is streamed by folds: shape and dtype of all of a lane

    def begin(self, state: PyTree) -> InEpoch:
        """Before the first minibatch of an epoch."""
        zero = lambda: jnp.zeros((), jnp.result_type(float))
        return InEpoch(state, jnp.zeros((), jnp.int32), {name: zero() for name in self.names})

    def means(self, sums: dict[str, Array], fold: Any) -> dict[str, jax.Array]:
        """The metrics of a whole epoch of a fold."""
        steps: Any = self.minibatches[0]
        if len({*self.minibatches}) > 1:
            steps = jnp.asarray(self.minibatches)[fold]
        return {name: jnp.asarray(value) / steps for name, value in sums.items()}
