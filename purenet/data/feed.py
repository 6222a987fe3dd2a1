"""Reading ahead: a thread fetches the chunks of minibatches that a training takes next."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from purenet.core.types import Array, PyTree
from purenet.core.validate import require
from purenet.data.memory import Memory
from purenet.data.sources import Batches
from purenet.data.streams import Stream

_POLL = 0.05  # seconds after which a wait looks whether it is still wanted
_PATIENCE = 1.0  # seconds to wait at the end for a thread that is still reading


class HostChunk(NamedTuple):
    """Minibatches in the host's memory: `count` of them, after the first `at` of an epoch."""

    batches: PyTree  # (minibatches, examples, ...); with folds (examples, ...)
    count: int  # type: ignore[assignment]
    at: int
    examples: int  # in all of them, in all processes
    state: Any  # of the source's iterator after them, None if it has none
    own: Any = None  # with folds, the minibatches of each


class _Place(NamedTuple):
    epoch: int
    at: int  # minibatches of the epoch that are done


class Feed:
    """The minibatches of a stream, epoch after epoch, in chunks that a thread reads ahead.

    `order(epoch)` is the order of the examples of a data set, as an array of NumPy or of JAX. If it
    is None they come as they are, and the last minibatch of an epoch may be short, and is padded.
    With `share`, ascending places in a minibatch, only the examples there are given. Use it in a
    `with` block, which ends the thread.
    """

    def __init__(
        self,
        caller: str,
        data: Stream,
        size: int,
        epochs: int,
        order: Callable[[int], Array] | None = None,
        share: np.ndarray | None = None,
    ):
        self.caller, self.data, self.size = caller, data, size
        self.epochs, self.order, self.share = epochs, order, share
        self.local = size if share is None else len(share)  # examples of a minibatch
        self.steps = data.steps(size)
        if order is None and data.examples is not None:
            self.steps = -(-data.examples // size)
        self.chunk = data.chunk(self.local, self.steps)
        self.starts: dict[int, Any] = {0: None}  # of an iterator: its state before each epoch
        self.waited = 0.0  # seconds
        self.failed = False
        self._next: _Place | None = None  # what the thread gives next
        self._stop = threading.Event()
        self._chunks: queue.Queue = queue.Queue(1)
        self._thread: threading.Thread | None = None
        self._memory = Memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, and drop what it has read."""
        self._stop.set()
        thread, self._thread, self._next = self._thread, None, None
        with contextlib.suppress(queue.Empty):
            self._chunks.get_nowait()
        if thread is not None:
            thread.join(_PATIENCE)

    def seek(self, epoch: int, at: int, state: Any = None) -> None:
        """Go on with the minibatch `at` of an epoch. `state` is that of the source's iterator
        there; without it, an iterator is read again from the beginning of an epoch that was read
        before."""
        if self._next == (epoch, at):
            return
        self.close()
        skip = 0
        if state is None and isinstance(self.data.source, Batches):
            # read again from the last place before it that is known
            known = max(e for e in self.starts if e <= epoch)
            state, skip = self.starts[known], (epoch - known) * self.steps + at
        self._next, self._stop, self._chunks = _Place(epoch, at), threading.Event(), queue.Queue(1)
        self._thread = threading.Thread(
            target=_run,
            args=(self._chunks, self._stop, lambda: self._read(epoch, at, state, skip)),
            name="purenet-stream",
            daemon=True,  # a source that never answers does not keep the process alive
        )
        self._thread.start()

    def restart(self) -> None:
        """Begin an epoch again, where examples come in the same order in each."""
        ahead = self._next
        if ahead is None or ahead.at or isinstance(self.data.source, Batches):
            ahead = _Place(0, 0)
        self.seek(*ahead)

    def next(self, wanted: Callable[[], bool] = lambda: True) -> HostChunk | None:
        """The next chunk, or None if `wanted()` turns false before it arrives.

        Raises what the source raises, and ValueError for minibatches that cannot be trained on.
        """
        began = time.perf_counter()
        while True:
            try:
                found = self._chunks.get(timeout=_POLL)
                break
            except queue.Empty:
                if not wanted():
                    return None
            finally:
                now = time.perf_counter()
                self.waited, began = self.waited + now - began, now
        if isinstance(found, BaseException):
            self.close()
            self.failed = True
            raise found
        assert self._next is not None
        epoch, at = self._next.epoch, found.at + found.count
        if at == self.steps:
            epoch, at = epoch + 1, 0
            self.starts[epoch] = found.state
        self._next = _Place(epoch, at)
        return found

    # in the thread
    def _read(self, epoch: int, at: int, state: Any, skip: int) -> Iterator[HostChunk]:
        source = self.data.source
        iterator: Any = source.open(state) if isinstance(source, Batches) else None
        for _ in range(skip):
            self._after(iterator, f"epoch {epoch + 1}, minibatch {at + 1} of {self.steps}")
        for now, order in self._orders(epoch):
            while at < self.steps:
                yield from self._chunk(now, at, iterator, order)
                at += self.chunk
            at = 0

    def _orders(self, epoch: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """The epochs from this one on, with the order of the examples in each, which is asked for
        an epoch before: a device may be busy with what it was given."""
        ahead = self._order(epoch)
        while epoch < self.epochs:
            now, ahead = ahead, self._order(epoch + 1) if epoch + 1 < self.epochs else None
            with jax.transfer_guard("allow"):
                order = None if now is None else np.asarray(now)
            yield epoch, order
            epoch += 1

    def _order(self, epoch: int) -> Any:
        if self.data.examples is None:
            return None
        with jax.transfer_guard("allow"):
            return np.arange(self.data.examples) if self.order is None else self.order(epoch)

    def _chunk(self, epoch: int, at: int, iterator, order) -> Iterator[HostChunk]:
        """A chunk; where a minibatch cannot be read, those before it, and then the error."""
        whole = self._blank(self.chunk * self.local)
        count, state, error = self._fill(whole, 0, epoch, at, iterator, order)
        if count:
            apart = lambda a: a.reshape(self.chunk, self.local, *a.shape[1:])
            batches = jax.tree.map(apart, whole)
            yield HostChunk(batches, count, at, self._examples(at, count, order), state)
        if error is not None:
            raise error

    def _blank(self, examples: int) -> PyTree:
        return jax.tree.map(
            lambda a: self._memory.array((examples, *a.shape), a.dtype), self.data.example
        )

    def _examples(self, at: int, count: int, order) -> int:
        """The number of examples in these minibatches, in all processes."""
        end = (at + count) * self.size
        return (end if order is None else min(end, len(order))) - at * self.size

    def _fill(
        self, whole: PyTree, start: int, epoch: int, at: int, iterator, order
    ) -> tuple[int, Any, Exception | None]:
        """Read the minibatches of a chunk into `whole`, from the place `start` on. Returns how many
        there are, the state of the iterator after them, and the error that ended it."""
        state, count = None, min(self.chunk, self.steps - at)
        rows = [self._rows(order, at + i) for i in range(count)]
        where = lambda i: f"epoch {epoch + 1}, minibatch {at + i + 1} of {self.steps}"
        if self.data.plain:  # all at once, and one by one to find the minibatch of an error
            with contextlib.suppress(Exception):
                self._fetch(whole, start, np.concatenate(rows), where(0))
                return count, None, None
        for i in range(count):
            try:
                self._fetch(whole, start + i * self.local, rows[i], where(i), iterator)
                state = None if iterator is None else iterator.get_state()
            except Exception as error:
                return i, state, error
        return count, state, None

    def _rows(self, order: np.ndarray | None, i: int) -> Any:
        """The examples of a minibatch of an epoch, those of the share; None of an iterator."""
        if order is None:
            return None
        rows, share = order[i * self.size :][: self.size], self.share
        return rows if share is None else rows[share[share < len(rows)]]

    def _fetch(self, whole: PyTree, start: int, rows, where: str, iterator=None) -> None:
        """Read a minibatch, check it, and write it into `whole`, from the place `start` on."""
        here = slice(start, start + (self.local if rows is None else len(rows)))
        into = jax.tree.map(lambda a: a[here], whole)
        try:
            if rows is None:
                found = self.data.prepared(self._after(iterator, where))
            else:
                found = self.data.read(rows, into)
        except Exception as error:
            if not isinstance(error, BadMinibatch):
                error.add_note(f"{self.caller}: the stream's source raised this; {where}.")
            raise
        self._check(found, into, rows, where)
        for a, place in zip(jax.tree.leaves(found), jax.tree.leaves(into), strict=True):
            if a is not place:
                place[:] = a if rows is not None or self.share is None else a[self.share]

    def _after(self, iterator, where: str) -> PyTree:
        """The next minibatch of an iterator."""
        try:
            return next(iterator)
        except StopIteration:
            raise BadMinibatch(
                f"{self.caller}: the stream ended before {where}; let it go on, as with .repeat(), "
                "or lower steps_per_epoch."
            ) from None

    def _check(self, found: PyTree, into: PyTree, rows, where: str) -> None:
        """Check that a minibatch is like the others, and finite."""
        expected = self.size if rows is None else len(rows)
        same = jax.tree.structure(found) == jax.tree.structure(into)  # type: ignore[operator]
        text = f"{self.caller}: the stream gave a minibatch of another structure; {where}."
        require(same, text, BadMinibatch)
        paths = jax.tree.leaves_with_path(found)
        for (path, a), place in zip(paths, jax.tree.leaves(into), strict=True):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            leaf = f"leaf {name} of the stream" if name else "stream"
            shape = (expected, *place.shape[1:])
            require(
                a.shape == shape and a.dtype == place.dtype,
                f"{self.caller}: the {leaf} gave a minibatch of {a.dtype}{list(a.shape)}, but "
                f"{place.dtype}{list(shape)} is expected, as at first; {where}.",
                BadMinibatch,
            )
            _check_finite(f"{self.caller}: the {leaf}", a, rows, where)


class BadMinibatch(ValueError):
    """A minibatch that cannot be trained on.

    >>> raise BadMinibatch("fit: the stream ended")
    Traceback (most recent call last):
    purenet.data.feed.BadMinibatch: fit: the stream ended
    """


def _check_finite(leaf: str, a: np.ndarray, rows: np.ndarray | None, where: str) -> None:
    if not jax.numpy.issubdtype(a.dtype, np.inexact):
        return
    with np.errstate(all="ignore"):
        if np.isfinite(a.sum()):  # far quicker, and seldom wrong
            return
    bad = np.flatnonzero(~np.isfinite(a.reshape(len(a), -1)).all(axis=1))
    if len(bad):
        which = f"example {bad[0]} of the minibatch" if rows is None else f"example {rows[bad[0]]}"
        raise BadMinibatch(f"{leaf} gave a number that is not finite in {which}; {where}.")


def _run(chunks: queue.Queue, stop: threading.Event, read: Callable[[], Iterator]) -> None:
    """Put what is read in the queue, and an error at the end of it if there is one."""
    try:
        for chunk in read():
            if not _put(chunks, chunk, stop):
                return
            del chunk  # not held while the next one is read
    except BaseException as error:  # for the thread that waits
        _put(chunks, error, stop)


def _put(chunks: queue.Queue, item: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            chunks.put(item, timeout=_POLL)
            return True
    return False
