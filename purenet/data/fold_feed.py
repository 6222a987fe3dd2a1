"""Reading ahead for several folds: one pass over the examples, of which each takes its own.

In a pass the examples lie in one order, cut into pieces of a minibatch's size, which are read one
after the other. The minibatches of a fold are its own examples in that order, so that one of them
may begin in a piece and end in a later one. What no fold has completed yet is kept in memory until
then, so an example is read once in a pass, for all folds.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.chunk import Chunk
from purenet.core.types import Array, PyTree
from purenet.data.feed import Feed, HostChunk
from purenet.data.streams import Stream


class FoldMinibatches(NamedTuple):
    """The minibatches of each fold in the examples of a chunk."""

    rows: np.ndarray  # (folds, minibatches, examples) int32; padded
    count: np.ndarray  # type: ignore[assignment]  # (folds,) int32, of which these many are there
    at: np.ndarray  # (folds,) int32, minibatches of its epoch before them


class FoldShape(NamedTuple):
    """How a chunk for several folds is laid out: the examples that wait, then `pieces` new ones.

    >>> FoldShape(folds=2, size=4, waiting=6, pieces=3, minibatches=3).examples
    18
    """

    folds: int
    size: int
    waiting: int  # examples, at most
    pieces: int
    minibatches: int  # of a fold, at most

    @property
    def examples(self) -> int:
        """The number of examples in a chunk."""
        return self.waiting + self.pieces * self.size

    def like_chunk(self, example: PyTree, total: int) -> Chunk:
        """A chunk for all folds, by shapes and dtypes."""
        kind: Any = jax.ShapeDtypeStruct
        number = kind((self.folds,), np.int32)
        rows = kind((self.folds, self.minibatches, self.size), np.int32)
        whole = jax.tree.map(lambda a: kind((self.examples, *a.shape), a.dtype), example)
        return Chunk(whole, number, number, total, rows)


def fold_shape(data: Stream, folds: int, size: int, n: int, short: bool = False) -> FoldShape:
    """The layout for a pass over n examples; with `short`, the last minibatch of a fold may be.

    >>> from purenet.data.streams import stream
    >>> fold_shape(stream(np.ones(20)), folds=2, size=4, n=20)
    FoldShape(folds=2, size=4, waiting=6, pieces=5, minibatches=5)
    """
    waiting = min(folds * (size - 1), n)
    pieces = data.chunk(size, -(-n // size), waiting)
    return FoldShape(folds, size, waiting, pieces, pieces + short)


class FoldFeed(Feed):
    """A Feed for several folds, of which each takes the examples `rows[fold]`, which are distinct.

    `order(epoch)` is the order of all examples in a pass, by default the ascending one; those of no
    fold are left out. Places in an epoch are counted in pieces of `size` examples of the pass. With
    `short`, the last minibatch of a fold may be short, and is padded; otherwise it is left out.
    """

    def __init__(
        self,
        caller: str,
        data: Stream,
        size: int,
        epochs: int,
        order: Callable[[int], Array] | None,
        rows: Sequence[np.ndarray],
        short: bool = False,
    ):
        super().__init__(caller, data, size, epochs, order)
        self.rows, self.short = rows, short
        self.some = np.unique(np.concatenate(rows))
        n = len(self.some)
        self.shape = fold_shape(data, len(rows), size, n, short)
        self.steps, self.chunk = -(-n // size), self.shape.pieces

    # in the thread
    def _read(self, epoch: int, at: int, state: Any, skip: int) -> Iterator[HostChunk]:
        for now, order in self._orders(epoch):
            assert order is not None
            order = order[np.isin(order, self.some)]
            places = _places(order, self.rows)
            waiting = _incomplete(places, at * self.size, self.size)
            held = self._again(order[waiting], now, at)
            while at < self.steps:
                whole = self._blank(self.shape.examples)
                for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(held), strict=True):
                    a[: len(b)] = b
                count, _, error = self._fill(whole, self.shape.waiting, now, at, None, order)
                if count:
                    first, examples = at * self.size, self._examples(at, count, order)
                    own = self._own(places, waiting, first, first + examples, len(order))
                    chunk = HostChunk(whole, count, at, examples, None, own)
                    yield chunk
                if error is not None:
                    raise error
                at += count
                waiting, held = self._left(chunk, places, waiting)
                del chunk, whole
            at = 0

    def _again(self, rows: np.ndarray, epoch: int, at: int) -> PyTree:
        """Examples of pieces before the first that is read, which some fold has not completed."""
        held = self._blank(len(rows))
        for first in range(0, len(rows), self.size):
            where = f"epoch {epoch + 1}, before minibatch {at + 1}"
            self._fetch(held, first, rows[first:][: self.size], where)
        return held

    def _own(self, places, waiting, first: int, last: int, n: int) -> FoldMinibatches:
        """The minibatches that the folds complete by the examples `first` to `last` of the `n` of
        a pass."""
        shape, size = self.shape, self.size
        rows = np.zeros((shape.folds, shape.minibatches, size), np.int32)
        count, at = np.zeros(shape.folds, np.int32), np.zeros(shape.folds, np.int32)
        for fold, mine in enumerate(places):
            begin, end = np.searchsorted(mine, (first, last)) // size
            if last == n and self.short:
                end = -(-len(mine) // size)
            now = mine[begin * size : end * size]
            new = shape.waiting + now - first
            found = np.where(now < first, np.searchsorted(waiting, now), new)
            rows[fold].reshape(-1)[: len(now)] = found
            count[fold], at[fold] = end - begin, begin
        return FoldMinibatches(rows, count, at)

    def _left(self, chunk: HostChunk, places, waiting) -> tuple[np.ndarray, PyTree]:
        """The places of the examples that wait after a chunk, and those examples."""
        first, size = chunk.at * self.size, self.size
        left = _incomplete(places, first + chunk.count * size, size)
        new = self.shape.waiting + left - first
        index = np.where(left < first, np.searchsorted(waiting, left), new)
        return left, jax.tree.map(lambda a: a[index], chunk.batches)


def _places(order: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Where in a pass the rows of each fold are, ascending."""
    place = np.zeros(order.max() + 1, np.int64)
    place[order] = np.arange(len(order))
    return [np.sort(place[mine]) for mine in rows]


def _incomplete(places: list[np.ndarray], before: int, size: int) -> np.ndarray:
    """The places before `before` that belong to a minibatch which is not complete there."""
    left = []
    for mine in places:
        done = int(np.searchsorted(mine, before))
        left.append(mine[done // size * size : done])
    return np.unique(np.concatenate(left))
