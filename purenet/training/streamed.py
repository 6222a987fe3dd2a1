"""fit on streamed data: a compiled loop over each chunk of minibatches, while the next is read."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.chunk import Chunk, add_in_order
from purenet.core.contracts import (
    checked_epoch,
    checked_metrics,
    observed,
    same_state,
    traced_code,
)
from purenet.core.interrupts import InterruptFlag
from purenet.core.jit_cache import jit_for_each
from purenet.core.progress import Progress
from purenet.core.shuffle import order_of_epoch
from purenet.core.types import PyTree, Trainable
from purenet.data.feed import Feed, HostChunk
from purenet.data.streams import Stream, first_examples, from_json, to_json
from purenet.distributed import multihost
from purenet.distributed.mesh import replicate
from purenet.distributed.sharding import Placement
from purenet.training.history import Fit, record, say_interrupted, shown, until_saved
from purenet.training.run_file import RunFile
from purenet.training.stopping import Scoring

_Program = tuple[Trainable, Placement, Scoring]


class _Epoch(NamedTuple):
    """What is carried from one chunk to the next."""

    carry: PyTree  # as the `Scoring` has it
    sums: dict[str, jax.Array]  # of the metrics of the epoch's minibatches so far


def fit_streamed(
    program: _Program,
    parts: dict[str, PyTree],
    epochs: int,
    patience: int,
    key: jax.Array,
    progress: bool | None,
    run: RunFile | None,
    start: PyTree,
    first: Callable[[], PyTree],
) -> Fit:
    """`fit` after its checks, of parts of which the training data is a stream. `start` is the
    initial state by shapes and dtypes, and `first()` what the loop carries at first."""
    training = _Training(program, parts, epochs, patience, key, run)
    alone = run is not None and not program[1].several
    with training.feed, training.validation, until_saved(alone) as interrupted:
        training.begin(start, first)
        with Progress(epochs, "epoch", progress, training.done) as bar:
            if not training.ended:
                bar.say("tracing and compiling")
            if run is not None and (training.done or training.at):
                bar.advance(0, lambda: {"from": str(run.path)})
            while not training.ended:
                try:
                    bar.advance(training.advance(interrupted), training.shown)
                except Exception as error:
                    if training.loader_failed or isinstance(error, multihost.PeerError):
                        training.save()  # nothing is lost: the same call resumes here
                    raise
                if run is not None and (interrupted or run.is_due()):
                    training.save()
                if run is not None and interrupted:
                    say_interrupted(training.done, epochs, run.path)
                    interrupted.deliver()
            if training.stopped:
                bar.advance(0, dict, total=training.done)
            training.save()
    return training.result()


class _Training:
    """One run on streamed data, and how far it is."""

    def __init__(self, program, parts, epochs: int, patience: int, key, run: RunFile | None):
        self.program, self.epochs, self.patience = program, epochs, patience
        self.key, self.run = key, run
        trainable, self.where, self.told = program
        data, size = parts["train"], trainable.batch_size
        n, steps = data.examples, data.steps(size)
        with jax.transfer_guard("allow"):
            for_run = jax.random.split(key)[1]  # as the state of `supervised` holds it
        order = lambda epoch: order_of_epoch(for_run, np.int32(epoch * steps), n)
        self.feed = Feed("fit", data, size, epochs, order, self.where.share(size))
        self.validation = _Validation(program, parts.get("validation"))
        self.done = self.at = 0  # epochs, and minibatches of the one after them
        self.loader: Any = None  # the state of the source's iterator there
        self.stopped = False
        self.saved: tuple[int, int] | None = None
        self.speed, self._began, self._running = 0.0, time.perf_counter(), None

    def begin(self, start: PyTree, first: Callable[[], PyTree]) -> None:
        """The first state, or that of the file."""
        trainable, where, told = self.program
        begun = jax.eval_shape(told.begin, start)
        with where.context():
            values = jax.eval_shape(
                trainable.steps, start, self.feed.data.like_chunk(self.feed.size)
            )[1]
            sums = jax.tree.map(lambda a: np.zeros(a.shape[1:], a.dtype), values)
            checked_metrics("fit: `steps`", sums)
            names = {"train": sums} | self.validation.names(start, told)
        self.history = jax.tree.map(lambda a: np.zeros(self.epochs, a.dtype), names)
        run = self.run
        if run is not None and run.exists():
            carry, values, self.done = run.load(begun, names, self.epochs)
            carry = told.map_states(where.state, where.data, carry)
            record(self.history, 0, self.done, values, told)
            sums = self._restored(sums)
            self.saved = self.done, self.at
        else:
            carry = first()
        self.state = _Epoch(carry, where.data(sums))
        self.stopped = told.stopped(carry, self.patience)

    def _restored(self, sums):
        """Where in an epoch the file's run is; returns the sums of its metrics so far."""
        assert self.run is not None
        found, steps = self.run.stream, self.feed.steps
        if found.get("at"):
            self.at = found["at"]
            if found["of"] != steps or found["sums"].keys() != sums.keys():
                raise ValueError(
                    f"fit: {self.run.path} holds a run after minibatch {self.at} of {found['of']} "
                    f"of an epoch, but an epoch has {steps} now; stream the same data, with the "
                    "same batch size and metrics, or name another path."
                )
            sums = {name: np.asarray(found["sums"][name], a.dtype) for name, a in sums.items()}
        if found.get("loader") is not None:
            self.loader = from_json(found["loader"])
        return sums

    @property
    def ended(self) -> bool:
        return self.stopped or self.done >= self.epochs

    @property
    def loader_failed(self) -> bool:
        """Whether the data could not be read."""
        return any(feed is not None and feed.failed for feed in (self.feed, self.validation.feed))

    def advance(self, interrupted: InterruptFlag) -> int:
        """Train on the next chunk, or end an epoch of which all are done. Returns the number of
        epochs that are completed by that."""
        wanted = lambda: not interrupted
        if self.at == self.feed.steps:
            return self._end_epoch(wanted)
        self.feed.seek(self.done, self.at, self.loader)
        where, train = self.where, _train_chunk(self.program)
        found = _placed(where, self.feed, wanted)
        if found is None:
            return 0
        chunk, batches = found
        with where.context():
            count, at = where.data((np.int32(chunk.count), np.int32(chunk.at)))
            now = Chunk(batches, count, at, self.feed.steps)
            if where.several and self._running is None:
                # all processes compile before any waits for another's first sum of gradients
                none = dataclasses.replace(now, count=where.data(np.int32(0)))
                self.state, _ = train(self.state, none)
                multihost.broadcast(0)
            self.state, running = train(self.state, now)
        # one chunk is trained on and one waits, so that not all of them pile up
        jax.block_until_ready(self._running)
        self._running = running
        self.at, self.loader = chunk.at + chunk.count, chunk.state
        self._measure_speed(chunk)
        return 0

    def _end_epoch(self, wanted: Callable[[], bool]) -> int:
        where, told = self.where, self.told
        with where.context():
            due = told.due(self.done, self.epochs)
            measured = self.validation.measure(told.state(self.state.carry), due, wanted)
            if measured is None:
                return 0
            numbers = where.data((measured, np.bool_(due), np.float32(self.feed.steps)))
            carry, means = _end_epoch(self.program)(self.state, *numbers)
            sums = where.data(jax.tree.map(lambda a: np.zeros((), a.dtype), means))
        self.state = _Epoch(carry, sums)
        values = {"train": means} | ({"validation": measured} if self.validation else {})
        values = jax.tree.map(lambda a: np.asarray(jax.device_get(a))[None], values)
        self.done, self.at = record(self.history, self.done, 1, values, told), 0
        self.stopped = told.stopped(carry, self.patience)
        return 1

    def _measure_speed(self, chunk: HostChunk) -> None:
        now = time.perf_counter()
        self.speed, self._began = chunk.examples / max(now - self._began, 1e-9), now

    def shown(self) -> dict[str, str]:
        """What the progress bar says."""
        said = shown(self.history, self.done, self.speed) if self.done else {}
        return said | ({"minibatch": f"{self.at}/{self.feed.steps}"} if self.at else {})

    def save(self) -> None:
        """Save everything, if the run has a file that does not hold it yet."""
        if self.run is None or self.saved == (self.done, self.at):
            return
        sums = {name: float(value) for name, value in jax.device_get(self.state.sums).items()}
        loader = None if self.loader is None else to_json("fit", self.loader)
        stream = {"at": self.at, "of": self.feed.steps, "sums": sums, "loader": loader}
        self.run.save(self.state.carry, self.history, self.done, self.stopped, stream)
        self.saved = self.done, self.at

    def result(self) -> Fit:
        state, epoch = self.told.chosen(self.state.carry, self.done)
        state = multihost.to_local(state) if self.where.several else state
        return Fit(state, jax.tree.map(lambda curve: curve[: self.done], self.history), epoch)


class _Validation:
    """Measures on the validation data, in memory or streamed; there may be none."""

    def __init__(self, program: _Program, data: PyTree):
        self.program = program
        where, size = program[1], program[0].batch_size
        self.feed: Feed | None = None
        self.data = None
        if isinstance(data, Stream):
            assert size is not None
            self.feed = Feed("fit", data, size, 2**62, share=where.share(size))
        elif data is not None:
            self.data = where.data(data)
        self.examples = None if data is None else first_examples({"": data})[""]
        self._kinds: dict = {}

    def __bool__(self):
        return self.examples is not None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.feed is not None:
            self.feed.close()

    def names(self, start: PyTree, told: Scoring) -> dict[str, PyTree]:
        """The metrics of the part by shape and dtype; none where there is no data."""
        if not self:
            return {}
        trainable = self.program[0]
        kinds = jax.eval_shape(trainable.evaluate, start, self.examples)
        scalar = lambda a: np.zeros((), a.dtype)
        if told.every > 1:  # integers become floats, which can be NaN
            scalar = lambda a: np.zeros((), np.result_type(a.dtype, np.float32))
        self._kinds = jax.tree.map(scalar, kinds)
        return {"validation": self._kinds}

    def measure(self, state: PyTree, due: bool, wanted: Callable[[], bool]) -> PyTree | None:
        """The metrics of a state if they are `due`, otherwise zeros; None if `wanted()` turns false
        before the data arrives."""
        if not self or not due:
            return self._kinds
        if self.feed is None:
            found = _evaluate(self.program[0])(state, self.data)
        else:
            found = self._of_stream(self.feed, state, wanted)
        if found is None:
            return None
        return jax.tree.map(lambda a, kind: np.asarray(a, kind.dtype), found, self._kinds)

    def _of_stream(self, feed: Feed, state: PyTree, wanted: Callable[[], bool]) -> PyTree | None:
        """The outputs of one chunk after the other, and the metrics of all of them."""
        trainable, where, _ = self.program
        feed.restart()
        outputs: list[tuple[jax.Array, jax.Array]] = []
        n = at = 0
        while at < feed.steps:
            found = _placed(where, feed, wanted)
            if found is None:
                return None
            chunk, (x, t) = found
            outputs.append((_predict(trainable)(state, x), t))
            if len(outputs) > 1:
                jax.block_until_ready(outputs[-2])
            n, at = n + chunk.examples, at + chunk.count
        return _score(trainable)(*_joined(n)(outputs))


def _placed(
    where: Placement, feed: Feed, wanted: Callable[[], bool]
) -> tuple[HostChunk, PyTree] | None:
    """The next chunk, without its minibatches, and those on the devices; None if `wanted()` turns
    false first.

    Several processes agree on the number of minibatches, and raise the error of any of them.
    """
    try:
        chunk = feed.next(wanted)
    except Exception as error:
        if where.several:
            multihost.exchange(error)
        raise
    if chunk is None:
        return None
    batches = where.batches(chunk.batches, feed.size)
    chunk = chunk._replace(batches=())  # not held on the host too
    if where.several:
        counts = multihost.exchange(chunk.count.to_bytes(8, "little"))
        least = min(int.from_bytes(count, "little") for count in counts)
        if least < chunk.count:  # another process fails at the next one
            chunk = chunk._replace(count=least, state=None)
    return chunk, batches


# programs
@jit_for_each(donate_argnums=0)
def _train_chunk(program: _Program, loop: _Epoch, chunk: Chunk):
    """What is carried after a chunk, and a number that is there once it is trained."""
    trainable, where, told = program
    assert trainable.steps is not None
    before = told.state(loop.carry)
    with traced_code("fit: `steps`"):
        state, values = checked_epoch("fit", trainable.steps(before, chunk))
    same_state("fit", before, jax.eval_shape(lambda: state))
    carry = told.map_states(where.hold, replicate, told.with_state(loop.carry, state))
    return _Epoch(carry, replicate(add_in_order(loop.sums, values))), chunk.count + 1


@jit_for_each(donate_argnums=0)
def _end_epoch(program: _Program, loop: _Epoch, measured, due, steps):
    """What is carried after an epoch, and the means over its minibatches."""
    trainable, where, told = program
    means = jax.tree.map(lambda a: a / steps.astype(a.dtype), loop.sums)
    values = {"train": means, "validation": measured}
    state = observed("fit", trainable, told.state(loop.carry), measured, due)
    carry = told.after(loop.carry, state, values, due)
    return told.map_states(where.hold, replicate, carry), replicate(means)


@jit_for_each()
def _evaluate(trainable: Trainable, state, data):
    with traced_code("fit: `evaluate`"):
        return replicate(checked_metrics("fit: `evaluate`", trainable.evaluate(state, data)))


@jit_for_each()
def _predict(trainable: Trainable, state, minibatches):
    assert trainable.predict is not None
    with traced_code("fit: `predict`"):
        return jax.lax.map(functools.partial(trainable.predict, state), minibatches)


@jit_for_each()
def _joined(n: int, outputs):
    """All outputs and their targets; a short minibatch is the last, so padding is at the end."""
    whole = lambda *parts: jnp.concatenate([a.reshape(-1, *a.shape[2:]) for a in parts])[:n]
    return jax.tree.map(whole, *outputs)


@jit_for_each()
def _score(trainable: Trainable, y, t):
    assert trainable.score is not None
    with traced_code("fit: `score`"):
        return replicate(checked_metrics("fit: `score`", trainable.score(y, t)))
