"""The compiled programs of a group on streamed data: one chunk of minibatches for all lanes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.chunk import Chunk, add_in_order
from purenet.core.contracts import checked_epoch, checked_metrics, same_state, traced_code
from purenet.core.jit_cache import jit_for_each
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import require
from purenet.data.fitting import checked_streams
from purenet.sweep.engine.folds import rows_of
from purenet.sweep.engine.layout import (
    block_count,
    in_blocks,
    on_every_device,
    random_key,
    sharding,
)
from purenet.sweep.engine.monitor import checked_parts
from purenet.sweep.engine.program import Lanes, Program, end_epoch
from purenet.sweep.engine.streaming import (
    FoldScoring,
    InEpoch,
    LaneChunk,
    StreamedParts,
    StreamShape,
)
from purenet.sweep.engine.training import PARTS, checked_evaluation


def streamed(program: Program, numbers: tuple, data: StreamedParts) -> Program:
    """What `describe` gave, for a group whose training data is streamed.

    Raises TypeError or ValueError for a training that takes no minibatches, or others than the
    stream's, or measures something else on them.
    """
    shape: list[StreamShape] = []

    def steps(numbers, key):
        trainable = program.trainable(numbers)
        parts = dict(zip(PARTS, (data.train, data.validation), strict=True))
        checked_streams("sweep", trainable, parts)
        size: Any = trainable.batch_size
        own = _minibatches(data, size)
        now = data.like_chunk(size)
        like = jax.eval_shape(lambda now: now.of(0), now)
        state = trainable.init(key)
        chunk = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        after, values = _stepped(trainable, state, chunk)
        same_state("sweep", jax.eval_shape(lambda: state), jax.eval_shape(lambda: after))
        checked_metrics("sweep: `steps`", {n: np.zeros(a.shape[1:]) for n, a in values.items()})
        leaf = len(jax.tree.leaves(state))
        names = tuple(sorted(values))
        output = None if data.folds is None else _output(trainable, state, chunk, data)
        shape.append(StreamShape(size, data.steps(size), names, leaf, own, output))

    with jax.disable_jit(False):
        jax.eval_shape(steps, numbers, random_key(0))
    (stream,) = shape
    if stream.names != program.metrics:
        raise ValueError(
            f"sweep: `steps` gave the metrics {list(stream.names)}, but `evaluate` "
            f"{list(program.metrics)}; both need the same."
        )
    begun = jax.eval_shape(lambda: stream.begin(()))
    structure = program.structure
    if structure is not None:
        state = jax.tree.unflatten(structure, [0] * stream.leaf)
        structure = jax.tree.structure(begun._replace(state=state))
    added = jax.tree.leaves(begun)
    return program._replace(
        stream=stream,
        structure=structure,
        keys=(*program.keys, *[None] * len(added)),
        leaves=(*program.leaves, *added),
    )


def _minibatches(data: StreamedParts, size: int) -> tuple[int, ...]:
    """In an epoch of each fold. Raises ValueError for a fold that has none."""
    if data.folds is None:
        return (data.train.steps(size),)
    rows = rows_of(data.folds.train)
    for fold, mine in enumerate(rows):
        require(
            len(mine) >= size,
            f"sweep: fold {fold} has {len(mine)} training rows, fewer than one minibatch of {size}"
            "; lower the batch size, or make fewer folds.",
        )
    return tuple(len(mine) // size for mine in rows)


def _output(trainable: Trainable, state: PyTree, chunk: Chunk, data: StreamedParts) -> Any:
    """What a lane predicts for all of its validation rows, by shape and dtype."""
    assert trainable.predict is not None and data.folds is not None
    with traced_code("sweep: `predict`"):
        y = trainable.predict(state, chunk.minibatch(0)[0])
    most = max(len(np.unique(rows)) for rows in rows_of(data.folds.validation))
    return jax.ShapeDtypeStruct((-(-most // y.shape[0]), *y.shape), y.dtype)


def _stepped(trainable: Trainable, state: PyTree, chunk: Chunk) -> tuple[PyTree, dict]:
    assert trainable.steps is not None
    with traced_code("sweep: `steps`"):
        return checked_epoch("sweep", trainable.steps(state, chunk))


@jit_for_each(donate_argnums=0)
def chunk_program(program: Program, lanes: Lanes, chunk: LaneChunk, active):
    """Train the `active` lanes, all of which are there, on a chunk of an epoch. Returns the lanes,
    and an array that is there once they are trained."""

    def one(lane, active, chunk):
        trainable = program.trainable(lane.numbers)
        whole = program.held(lane, lambda: trainable)
        now = whole.state if program.monitor.tracks else whole
        state, values = _stepped(trainable, now.state, chunk.of(lane.fold))
        now = InEpoch(state, now.at + chunk.moves, add_in_order(now.sums, values))
        new = program.pack(whole._replace(state=now) if program.monitor.tracks else now)
        return lane._replace(
            state=jax.tree.map(lambda a, b: jnp.where(active, a, b), new, lane.state)
        )

    def train(lanes, chunk, active):
        def some(i, lanes):
            take, put, several = in_blocks(program.layout, i)
            now, on = take((lanes, active))
            work = several(functools.partial(one, chunk=chunk))
            return put(lanes, jax.lax.cond(on.any(), work, lambda now, on: now, now, on))

        lanes = jax.lax.fori_loop(0, block_count(program.layout), some, lanes)
        return lanes, active.astype(jnp.int32)

    return on_every_device(program.layout, train, (True, False, True))(lanes, chunk, active)


@jit_for_each()
def outputs_program(program: Program, lanes: Lanes, minibatches, active):
    """What the `active` lanes predict for a chunk of minibatches, 0 elsewhere: (lanes, minibatches,
    examples, ...)."""

    def one(lane, x):
        trainable = program.trainable(lane.numbers)
        assert trainable.predict is not None
        whole = program.held(lane, lambda: trainable)
        state = (whole.state if program.monitor.tracks else whole).state
        with traced_code("sweep: `predict`"):
            return jax.lax.map(functools.partial(trainable.predict, state), x)

    def predict(lanes, x, active):
        first = jax.tree.map(lambda a: a[0], lanes)
        shape = jax.eval_shape(one, first, x)
        blank = jnp.zeros((program.layout.lanes, *shape.shape), shape.dtype)

        def some(i, outputs):
            take, put, several = in_blocks(program.layout, i)
            now, on, old = take((lanes, active, outputs))
            work = lambda now, old: several(functools.partial(one, x=x))(now)
            return put(outputs, jax.lax.cond(on.any(), work, lambda now, old: old, now, old))

        return jax.lax.fori_loop(0, block_count(program.layout), some, blank)

    return on_every_device(program.layout, predict, (True, False, True))(lanes, minibatches, active)


@jit_for_each(donate_argnums=0)
def fold_outputs_program(program: Program, outputs, lanes: Lanes, chunk: LaneChunk, active):
    """The `outputs` (lanes, minibatches, examples, ...) of the `active` lanes for their own
    minibatches, of which these are some."""

    def one(lane, outputs, chunk):
        trainable = program.trainable(lane.numbers)
        assert trainable.predict is not None
        predict = trainable.predict
        whole = program.held(lane, lambda: trainable)
        state = (whole.state if program.monitor.tracks else whole).state
        mine = chunk.of(lane.fold)

        def put(i, outputs):
            with traced_code("sweep: `predict`"):
                y = predict(state, mine.minibatch(i)[0])
            return outputs.at[mine.at + i].set(y)

        return jax.lax.fori_loop(jnp.int32(0), mine.count, put, outputs)

    def predict(outputs, lanes, chunk, active):
        def some(i, outputs):
            take, put, several = in_blocks(program.layout, i)
            now, on, old = take((lanes, active, outputs))
            work = lambda now, old: several(functools.partial(one, chunk=chunk))(now, old)
            return put(outputs, jax.lax.cond(on.any(), work, lambda now, old: old, now, old))

        return jax.lax.fori_loop(0, block_count(program.layout), some, outputs)

    every = on_every_device(program.layout, predict, (True, True, False, True))
    return every(outputs, lanes, chunk, active)


@jit_for_each()
def no_outputs_program(program: Program):
    """Outputs of which none is there yet."""
    like = program.stream.output  # type: ignore[union-attr]
    zeros = jnp.zeros((program.layout.width, *like.shape), like.dtype)
    return jax.lax.with_sharding_constraint(zeros, sharding(program.layout, split=True))


@jit_for_each(donate_argnums=0)
def end_program(what: tuple[Program, bool, bool], lanes: Lanes, data, outputs, active):
    """End the epoch of the `active` lanes, which are all evaluated or none. Returns the lanes, and
    their metrics.

    `data` is the validation data, or the targets of such that is streamed, of which these are the
    `outputs`; with folds, their `FoldScoring`. `what` is the program, and whether lanes are
    evaluated, and from outputs.
    """
    program, evaluated, from_outputs = what
    layout, stream = program.layout, program.stream
    assert stream is not None

    def measured(trainable, fold, sums, outputs, data, state):
        if not evaluated:
            blank = dict.fromkeys(program.metrics, jnp.full((), jnp.nan, jnp.result_type(float)))
            return dict.fromkeys(PARTS, blank)
        with traced_code("sweep: `evaluate`"):
            if isinstance(data, FoldScoring):
                found = data.score(trainable.score, outputs, fold)
            elif from_outputs:
                found = trainable.score(outputs, data)
            else:
                found = trainable.evaluate(state, data)
        parts = {"train": stream.means(sums, fold), "validation": checked_evaluation(found)}
        return checked_parts(program.monitor, state, parts)

    def one(lane, active, outputs, data):
        trainable = program.trainable(lane.numbers)
        whole = program.held(lane, lambda: trainable)
        now = whole.state if program.monitor.tracks else whole
        look = functools.partial(measured, trainable, lane.fold, now.sums, outputs, data)
        due = active & evaluated
        return end_epoch(
            program, lane, trainable, whole, now.state, look, evaluated, active, due,
            wrap=stream.begin,
        )  # fmt: skip

    def end(lanes, data, outputs, active):
        def some(i, carry):
            take, put, several = in_blocks(layout, i)
            (now, metrics), on, y = take((carry[0], carry[1])), take(active), take(outputs)
            work = lambda now, metrics: several(functools.partial(one, data=data))(now, on, y)
            skip = lambda now, metrics: (now, metrics)
            return put(carry, jax.lax.cond(on.any(), work, skip, now, metrics))

        blank = lambda: jnp.zeros(layout.lanes, jnp.result_type(float))
        metrics = {part: {name: blank() for name in program.metrics} for part in PARTS}
        return jax.lax.fori_loop(0, block_count(layout), some, (lanes, metrics))

    split = (True, False, True, True)
    return on_every_device(layout, end, split)(lanes, data, outputs, active)
