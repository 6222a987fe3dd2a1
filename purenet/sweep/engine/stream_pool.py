"""A pool whose lanes train on streamed data: each chunk is read once, for all lanes.

Lanes train together as long as they are at the same minibatch of the same epoch. Those that are
behind, since their trials came later, train first, until they have caught up.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.chunk import Chunk
from purenet.core.shuffle import order_of_epoch
from purenet.core.types import Key, PyTree
from purenet.data.feed import Feed, HostChunk
from purenet.data.fold_feed import FoldFeed
from purenet.data.streams import Stream
from purenet.sweep.engine.compile import Compiled
from purenet.sweep.engine.folds import Folds, all_rows, rows_of
from purenet.sweep.engine.layout import place
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import quarantined
from purenet.sweep.engine.records import Report
from purenet.sweep.engine.streamed import (
    end_program,
    fold_outputs_program,
    no_outputs_program,
    outputs_program,
)
from purenet.sweep.engine.streaming import LaneChunk, StreamedParts, fold_scores
from purenet.sweep.engine.training import PARTS

_FOR_ORDER = 2**32 - 1  # the number of no point: the order of the examples is that of all of them


class Feeds(NamedTuple):
    """What is read for the programs of one batch size."""

    train: Feed
    validation: Feed | None
    folds: Folds | None = None

    @property
    def failed(self) -> bool:
        """Whether the data could not be read."""
        return any(feed is not None and feed.failed for feed in self[:2])

    def close(self) -> None:
        """End the threads."""
        for feed in self[:2]:
            if feed is not None:
                feed.close()


def feeds_of(data: StreamedParts, size: int, epochs: int, key: Key) -> Feeds:
    """What reads minibatches of this size in a sweep with this random key."""
    n = data.train.examples
    with jax.transfer_guard("allow"):
        key = jax.random.fold_in(key, np.uint32(_FOR_ORDER))

    order = lambda epoch: order_of_epoch(key, np.int32(epoch), n)
    if data.folds is not None:
        return _feeds_of_folds(data, data.folds, size, epochs, order)
    train = Feed("sweep", data.train, size, epochs, None if n is None else order)
    streamed = isinstance(data.validation, Stream)
    return Feeds(train, Feed("sweep", data.validation, size, 2**62) if streamed else None)


def _feeds_of_folds(data: StreamedParts, folds: Folds, size: int, epochs: int, order) -> Feeds:
    """Passes over the rows that any fold trains on, and over those that any is validated on."""
    mine, held_out = rows_of(folds.train), list(map(np.unique, rows_of(folds.validation)))
    train = FoldFeed("sweep", data.train, size, epochs, order, mine)
    validation = FoldFeed("sweep", data.train, size, 2**62, None, held_out, short=True)
    return Feeds(train, validation, folds)


class StreamPool(LanePool):
    """The trials of one static group, which train on streamed data."""

    def __init__(
        self,
        compiled: Compiled,
        key: Key,
        held: PyTree,
        feeds: Feeds,
        wanted: Callable[[], bool] = lambda: True,
    ):
        """`held` is the validation data where that is in memory; once `wanted()` turns false, data
        is not waited for any longer."""
        super().__init__(compiled, key, held)
        self.feeds, self.wanted = feeds, wanted
        self._running: jax.Array | None = None  # there once the latest chunk is trained

    @property
    def failed(self) -> bool:
        return self.feeds.failed

    def close(self) -> None:
        self.feeds.close()

    @quarantined
    def _advance(self, remaining) -> Report:
        """Train for a moment, or to the end of an epoch, those lanes that are furthest behind."""
        began = time.perf_counter()
        stream, feed = self.compiled.program.stream, self.feeds.train
        assert stream is not None and self.lanes is not None
        lanes = np.flatnonzero(np.append(remaining > 0, False)[self.lane_rows])
        epochs = self.epochs[self.lane_rows[lanes]]
        at = jax.device_get(self.lanes.state[stream.leaf])[lanes]
        epoch, first = min(zip(epochs.tolist(), at.tolist(), strict=True))
        lanes = lanes[(epochs == epoch) & (at == first)]
        active = np.zeros(self.layout.width, bool)
        active[lanes] = True
        placed, at = place(self.layout, active, split=True), first
        waiting = lambda: time.perf_counter() < began + self.report_every and self.wanted()
        while at < stream.steps:
            feed.seek(epoch, at)
            chunk = feed.next(waiting)
            if chunk is None:
                return self._report(lanes)
            at, now = chunk.at + chunk.count, self._placed(chunk)
            del chunk  # not held on the host too
            self.lanes, running = self.compiled.advance(self.lanes, now, placed)
            # one chunk is trained on and one waits, so that not all of them pile up
            jax.block_until_ready(self._running)
            self._running = running
            if at < stream.steps and not waiting():
                return self._report(lanes)
        return self._end_epoch(epoch, lanes, placed)

    def _placed(self, chunk: HostChunk) -> LaneChunk:
        number = lambda n: np.array(n, np.int32)
        moves, own, stream = number(chunk.count), chunk.own, self.compiled.program.stream
        assert stream is not None
        if own is None:
            now = Chunk(chunk.batches, moves, number(chunk.at), stream.steps)
        else:
            now = Chunk(chunk.batches, own.count, own.at, max(stream.minibatches), own.rows)
        return place(self.layout, LaneChunk(now, moves))

    def _end_epoch(self, epoch: int, lanes, active) -> Report:
        program = self.compiled.program
        due = bool(program.monitor.due(np.array(epoch)))
        outputs: PyTree = ()
        data, streamed, folds = self.data, self.feeds.validation is not None, self.feeds.folds
        if due and streamed:
            found = self._outputs(active) if folds is None else self._outputs_by_fold(folds, active)
            if found is None:
                return self._report(lanes)
            outputs, data = found
        end = end_program((program, due, streamed))
        rows = self.lane_rows[lanes]
        before = self.epochs[rows]
        self.lanes, metrics = end(self.lanes, data, outputs, active)
        standing = jax.device_get((self.lanes.epochs, self.lanes.alive, self.lanes.ended))
        self.epochs[rows], self.alive[rows], self.ended[rows] = (a[lanes] for a in standing)
        curves = jax.tree.map(lambda a: a[lanes, None], jax.device_get(metrics))
        status = self.alive[rows], self.ended[rows]
        return Report(rows, before, self.epochs[rows], *status, curves)

    def _outputs(self, active) -> tuple[jax.Array, PyTree] | None:
        """What the lanes predict for all of the validation data, and its targets."""
        feed = self.feeds.validation
        assert feed is not None
        feed.restart()
        outputs: list[jax.Array] = []
        targets: list[np.ndarray] = []
        predict, at, n = outputs_program(self.compiled.program), 0, 0
        while at < feed.steps:
            chunk = feed.next(self.wanted)
            if chunk is None:
                return None
            x, t = chunk.batches
            y = predict(self.lanes, place(self.layout, x), active)
            jax.block_until_ready(outputs[-1:])
            outputs.append(y.reshape(y.shape[0], -1, *y.shape[3:]))
            targets.append(t.reshape(-1, *t.shape[2:])[: chunk.examples])
            at, n = at + chunk.count, n + chunk.examples
        # a short minibatch is the last, so that padding is at the end of all
        return jnp.concatenate(outputs, axis=1)[:, :n], place(self.layout, np.concatenate(targets))

    def _outputs_by_fold(self, folds: Folds, active) -> tuple[jax.Array, PyTree] | None:
        """What the lanes predict for the validation rows of their folds, and what to score them
        on."""
        feed, program = self.feeds.validation, self.compiled.program
        assert isinstance(feed, FoldFeed)
        feed.restart()
        outputs = no_outputs_program(program)()
        targets, at = [], 0
        while at < feed.steps:
            chunk = feed.next(self.wanted)
            if chunk is None:
                return None
            t = chunk.batches[1]
            targets.append(t[feed.shape.waiting :][: chunk.examples])
            outputs = fold_outputs_program(program)(
                outputs, self.lanes, self._placed(chunk), active
            )
            jax.block_until_ready(outputs)
            at += chunk.count
        scores = fold_scores(folds, all_rows(folds.validation), np.concatenate(targets))
        return outputs, place(self.layout, scores)

    def _report(self, lanes) -> Report:
        """Nothing new yet."""
        rows = self.lane_rows[lanes]
        none = np.zeros((len(rows), 0))
        curves = {part: dict.fromkeys(self.compiled.program.metrics, none) for part in PARTS}
        epochs = self.epochs[rows]
        return Report(rows, epochs, epochs, self.alive[rows], self.ended[rows], curves)
