"""fit: the compiled loop around the epochs of one training."""

import functools
import os
import time
import zlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.contracts import (
    check_data,
    checked_epoch,
    checked_metrics,
    checked_state,
    checked_trainable,
    observed,
    same_state,
    traced_code,
)
from purenet.core.dtypes import is_key
from purenet.core.jit_cache import jit_for_each
from purenet.core.progress import Progress
from purenet.core.tree import named_leaves
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import Count, PositiveInteger, declared, one_of, random_key, require
from purenet.data.fitting import checked_streams
from purenet.data.streams import Stream, described, first_examples, is_streamed, like_arrays
from purenet.distributed import multihost
from purenet.distributed.mesh import replicate
from purenet.distributed.sharding import Placement, placement
from purenet.training.history import Fit, record, say_interrupted, shown, until_saved
from purenet.training.steps import count_examples
from purenet.training.stopping import NEVER, Scoring, evaluated, scoring

# One compiled call trains at most this many epochs; the actual number is an argument.
_BLOCK = 64


@declared
def fit(
    trainable: Trainable,
    data: PyTree,
    epochs: Count,
    key: jax.Array,
    progress: bool | None = None,
    block: PositiveInteger | None = None,
    path: str | os.PathLike | None = None,
    mesh: jax.sharding.Mesh | None = None,
    shard: Callable | None = None,
    patience: PositiveInteger | None = None,
    select: Annotated[str, one_of("last", "best")] | None = None,
    evaluate_every: PositiveInteger = 1,
    metric: str | None = None,
    mode: Annotated[str, one_of("max", "min")] | None = None,
) -> Fit:
    """Train one network: a compiled loop over epochs that reports after each block of epochs.

    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis,
    or the training data alone; data that does not fit in memory is a `data.stream` in their place,
    and a run on it is also saved, and resumes, within an epoch. `block` is the number of epochs per
    compiled call, of data in memory; it defaults to as many as take about a quarter of a second,
    and does not affect the results. `progress` shows a bar (default: on a terminal and in a
    notebook).

    With `path`, a file that ends in .npz or .safetensors, the run is saved there regularly,
    when it ends, and when Ctrl-C, SIGTERM or SIGHUP arrives: the signal then acts at the end of the
    block, a second one at once. The same call resumes from the file, with the results of an
    uninterrupted run, or returns at once if it is finished; `epochs` may be larger than before.
    Changes to the rate, the loss or the batch size are not detected.

    With `mesh`, such as `jax.make_mesh((8,), ("batch",))`, each minibatch is split over its first
    axis: each device computes its share of the rows, and sums over the batch (gradients, batch_norm
    statistics, metrics) are sums over devices, so the results equal those of one device up to
    rounding. The data is replicated on every device. So is the state, unless
    `shard(name, leaf) -> jax.sharding.PartitionSpec` places its leaves, such as
    `params.weights.0.w`. Trainables other than those of `supervised` are computed in full on every
    device, unless they shard their work themselves. If the mesh spans several processes
    (`jax.distributed`), each makes the same call with the same data; the first one reads and writes
    `path` and shows progress, and a signal acts at once. Of streamed data, each device gets its own
    rows only, and each process reads those of its devices.

    `evaluate_every` = k evaluates after epochs k, 2k and so on, and after the last one. With
    `patience`, training stops when that many evaluations in a row have not improved the score: the
    validation `metric`, by default the accuracy or else the loss, with `mode` "max" or "min". NaN
    is no improvement. `select="best"`, the default with `patience`, returns the state of the best
    epoch instead of the last one; if no epoch has a score, that is the last one. When a run
    resumes, only its patience may be larger than before; for more epochs, its score must not have
    been taken after a last epoch that is not a multiple of k.

    Raises TypeError if `trainable` is not a Trainable, or has no `steps` for streamed data, the key
    not a random key, the data not numbers or a metric not a real scalar; ValueError for data that
    does not fit, for a `path` that holds something else (a run with another key, other data,
    weights of other shapes, more epochs, or other stopping rules), for a partition that does not
    divide its leaf, for `patience` or `select="best"` without validation data, and if processes
    make different calls. Errors of a stream's source pass through; other processes then get a
    RuntimeError.

    >>> from purenet.nn.losses import softmax_cross_entropy
    >>> from purenet.training.supervised import supervised
    >>> from purenet.nn.models import mlp
    >>> from purenet.optim.optimizers import sgd
    >>> train = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> trainable = supervised(mlp(), (4, 8, 3), sgd(0.1), softmax_cross_entropy, batch_size=5)
    >>> state, history = fit(trainable, (train, train), epochs=3, key=jax.random.key(0))
    >>> history["validation"]["accuracy"].shape
    (3,)
    """
    checked_trainable("fit", trainable)
    random_key("fit", key)
    block = block and min(block, _BLOCK)
    parts = _named_parts(data)
    streams = is_streamed(parts)
    examples = parts
    if streams:
        parts = checked_streams("fit", trainable, parts)
        examples = first_examples(parts)
    for part in examples.values():
        trainable.check(part)
    check_data("fit", examples)
    start = jax.eval_shape(lambda key: checked_state("fit", trainable.init(key)), key)
    where = placement("fit", mesh, shard, start)
    text = "fit: the training watches a validation metric; pass data=(train, validation)."
    require(trainable.observe is None or "validation" in parts, text)
    measured = functools.partial(_measured, trainable, start, examples, where)
    told = scoring(
        patience, select, evaluate_every, metric, mode, measured if "validation" in parts else None
    )
    if where.several:
        _check_same_call((described(parts), key, epochs, block, str(told), patience))
        progress = progress if multihost.first() else False
    with where.context():
        shapes = like_arrays(parts) if streams else parts
        run = (
            None
            if path is None
            else _run_file(path, key, shapes, where.several, told, patience, epochs)
        )
        program = trainable, where, told
        if streams:
            from purenet.training.streamed import fit_streamed  # seldom needed

            first = lambda: _start(program)(where.data(key))
            return fit_streamed(
                program, parts, epochs, patience or NEVER, key, progress, run, start, first
            )
        setup = _Setup(program, parts, epochs, patience or NEVER)
        return _run(setup, key, progress, block, run, start)


def _measured(trainable, start, parts, where):
    with where.context(), traced_code("fit: `evaluate`"):
        found = jax.eval_shape(trainable.evaluate, start, parts["validation"])
    return checked_metrics(
        "fit: `evaluate`", jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), found)
    )


class _Setup(NamedTuple):
    """One call of `fit`, checked."""

    program: tuple[Trainable, Placement, Scoring]
    parts: dict[str, PyTree]
    epochs: int
    patience: int


def _run(setup: _Setup, key, progress, block, run, start) -> Fit:
    """`fit` after its checks; `start` is the initial state by shapes and dtypes."""
    _, where, told = setup.program
    epochs, parts = setup.epochs, where.data(setup.parts)
    block_of = _train_block(setup.program)
    train = lambda carry, done, n: block_of(
        carry, parts, *where.data(tuple(map(np.int32, (done, n, setup.patience, epochs))))
    )
    begun = jax.eval_shape(told.begin, start)
    names = block_of.eval_shape(begun, parts, *[np.int32(0)] * 4)[1]
    history = jax.tree.map(lambda a: np.zeros(epochs, a.dtype), names)
    if run is not None and run.exists():
        carry, values, done = run.load(begun, names, epochs)
        run.require_whole_epochs()
        carry = told.map_states(where.state, where.data, carry)
        record(history, 0, done, values, told)
    else:
        carry, done = _start(setup.program)(where.data(key)), 0
    if where.several and done < epochs:
        # all processes compile before any waits for another's first sum of gradients
        carry, _, _ = train(carry, done, 0)
        multihost.broadcast(done)
    with (
        Progress(epochs, "epoch", progress, done) as bar,
        until_saved(run is not None and not where.several) as interrupted,
    ):
        stopped = told.stopped(carry, setup.patience)
        if done < epochs and not stopped:
            bar.say("tracing and compiling")
        if done:
            bar.advance(0, lambda: {"from": str(run.path)})
        first, per_call, examples = done, block or 1, count_examples(parts["train"])
        while done < epochs and not stopped:
            started = time.perf_counter()
            carry, values, n = train(carry, done, min(per_call, epochs - done))
            n, stopped = int(jax.device_get(n)), told.stopped(carry, setup.patience)
            done = record(history, done, n, values, told)
            seconds = time.perf_counter() - started
            bar.advance(n, functools.partial(shown, history, done, n * examples / seconds))
            if block is None and done > first + 1:  # the first call also compiled
                per_call = max(1, min(_BLOCK, int(0.25 * n / seconds)))
                per_call = multihost.broadcast(per_call) if where.several else per_call
            if run is not None and (interrupted or run.is_due()):
                run.save(carry, history, done, stopped)
            if interrupted:
                say_interrupted(done, epochs, run.path)
                interrupted.deliver()
        if stopped:
            bar.advance(0, dict, total=done)
        if run is not None and run.saved != done:
            run.save(carry, history, done, stopped)
    state, epoch = told.chosen(carry, done)
    history = jax.tree.map(lambda curve: curve[:done], history)
    return Fit(multihost.to_local(state) if where.several else state, history, epoch)


def _run_file(path, key, parts, shared: bool, told: Scoring, patience, epochs):
    from purenet.training.run_file import RunFile  # a fifth of the package's imports

    return RunFile(path, key, parts, shared, told._asdict(), patience, epochs)


@jit_for_each()
def _start(program: tuple[Trainable, Placement, Scoring], key):
    trainable, where, told = program
    return told.map_states(where.hold, replicate, told.begin(trainable.init(key)))


@jit_for_each(donate_argnums=0)
def _train_block(
    program: tuple[Trainable, Placement, Scoring], carry, parts, done, n, patience, last
):
    """(carry, curves, epochs trained): `n` epochs after `done`, or as many as patience allows; the
    epoch `last` is evaluated in any case.

    These numbers are arguments, so that any block size runs the same program.
    """
    trainable, where, told = program

    def evaluate(state):
        with traced_code("fit: `evaluate`"):
            found = trainable.evaluate(state, parts["validation"])
        return checked_metrics("fit: `evaluate`", found)

    def one(carry, done):
        with traced_code("fit: `epoch`"):
            after = trainable.epoch(told.state(carry), parts["train"])
        state, train = checked_epoch("fit", after)
        before = jax.eval_shape(lambda: told.state(carry))
        same_state("fit", before, jax.eval_shape(lambda: state))
        values = {"train": checked_metrics("fit: `epoch`", train)}
        due = told.due(done, last)
        if "validation" in parts:
            values["validation"] = evaluated(evaluate, state, due)
            state = observed("fit", trainable, state, values["validation"], due)
        carry = told.after(carry, state, values, due)
        carry = told.map_states(where.hold, replicate, carry)
        return carry, replicate(jax.tree.map(jnp.asarray, values))

    shapes = jax.eval_shape(one, carry, done)[1]
    curves = jax.tree.map(lambda a: jnp.zeros((_BLOCK, *a.shape), a.dtype), shapes)

    def more(loop):
        i, carry, _ = loop
        return (i < n) & told.goes_on(carry, patience)

    def body(loop):
        i, carry, curves = loop
        carry, values = one(carry, done + i)
        return i + 1, carry, jax.tree.map(lambda c, v: c.at[i].set(v), curves, values)

    trained, carry, curves = jax.lax.while_loop(more, body, (jnp.zeros_like(n), carry, curves))
    return carry, curves, trained


def _check_same_call(arguments):
    """Check the calls of all processes: different ones would wait for each other for ever."""
    described = []
    for name, leaf in named_leaves("fit", arguments).items():
        a = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        described.append(f"{name} {a.shape} {a.dtype} {zlib.crc32(a.view(np.uint8).data):08x}")
    first, *others = multihost.all_gather_bytes("\n".join(described).encode())
    for i, other in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"fit: process {i} has other data, another key or other numbers of epochs than "
                "process 0; every process must make the same call with the same data."
            )


def _named_parts(data) -> dict[str, PyTree]:
    """(train, validation) by name. Two bare arrays are one pair (x, t), not two datasets."""
    if isinstance(data, tuple) and len(data) == 2:
        alike = jax.tree.structure(data[0]) == jax.tree.structure(data[1])  # type: ignore[operator]
        if any(isinstance(part, Stream) for part in data) or (
            alike and not jax.tree_util.all_leaves(data)
        ):
            return {"train": data[0], "validation": data[1]}
    return {"train": data}
