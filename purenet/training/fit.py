"""fit: the compiled loop around the epochs of one training."""

import contextlib
import functools
import os
import sys
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core import display
from purenet.core.contracts import (
    check_data,
    checked_epoch,
    checked_metrics,
    checked_state,
    checked_trainable,
    same_state,
    traced_code,
)
from purenet.core.dtypes import is_key
from purenet.core.interrupts import InterruptFlag, until_interrupted
from purenet.core.jit_cache import jit_for_each
from purenet.core.progress import Progress
from purenet.core.tree import named_leaves
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import Count, PositiveInteger, declared, random_key
from purenet.distributed import multihost
from purenet.distributed.mesh import replicate
from purenet.distributed.sharding import Placement, placement
from purenet.training.steps import count_examples

# One compiled call trains at most this many epochs; how many it does train is an argument.
_BLOCK = 64


class Fit(NamedTuple):
    """What `fit` returns: the final state, and what was measured on the way.

    `history["train"][name]` are the running means of each epoch's minibatches, and
    `history["validation"][name]` what `evaluate` gave after each epoch: NumPy arrays (epochs,).
    """

    state: PyTree
    history: dict[str, dict[str, np.ndarray]]

    def __repr__(self):
        return display.run_text("Fit", self.state, self.history)


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
) -> Fit:
    """Train one network: a compiled loop over epochs that reports after each block of them.

    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis,
    or the training data alone. `block` is the number of epochs per compiled call; it defaults to as
    many as take about a quarter of a second, and the numbers do not depend on it. `progress` shows
    a bar (default: on a terminal and in a notebook).

    With `path`, a file that ends in .npz or .safetensors, the run is saved there every so often,
    when it ends, and when Ctrl-C, SIGTERM or SIGHUP arrives: the signal then acts at the end of the
    block, a second one at once. The same call resumes from the file, with the numbers of a run
    without interruption, or returns at once; it may ask for more epochs than before. Changes to the
    rate, the loss or the batch size are not detected.

    With `mesh`, such as `jax.make_mesh((8,), ("batch",))`, each minibatch is spread over its first
    axis: a device computes with its share of the rows, and what is summed over the batch
    (gradients, the statistics of batchnorm, metrics) is summed over devices, so that the numbers
    are those of one device up to rounding. The data is replicated on every device. So is the state,
    unless `shard(name, leaf) -> jax.sharding.PartitionSpec` places its leaves, such as
    `params.weights.0.w`. Trainables other than those of `supervised` are computed in full on every
    device, unless they say otherwise. Where the mesh spans several processes (`jax.distributed`),
    each makes the same call with the same data; the first one reads and writes `path` and shows
    progress, and a signal acts at once.

    Raises TypeError if `trainable` is not a Trainable, the key not a random key, the data not
    numbers or a metric not a real scalar; ValueError for data that does not fit, for a `path` that
    holds something else (a run from another key, on other data, with weights of other shapes, or of
    more epochs), for a partition that does not divide its leaf, and where processes make different
    calls.

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
    for part in parts.values():
        trainable.check(part)
    check_data("fit", parts)
    start = jax.eval_shape(lambda key: checked_state("fit", trainable.init(key)), key)
    where = placement("fit", mesh, shard, start)
    if where.several:
        _check_same_call((parts, key, epochs, block))
        progress = progress if multihost.first() else False
    with where.context():
        return _run(trainable, parts, epochs, key, progress, block, path, where, start)


def _run(trainable, parts, epochs, key, progress, block, path, where, start) -> Fit:
    """`fit` after its checks; `start` is the initial state by shapes and dtypes."""
    parts = where.data(parts)
    train_block = _train_block((trainable, where))
    names = train_block.eval_shape(start, parts, 0)[1]
    history = jax.tree.map(lambda a: np.zeros(epochs, a.dtype), names)
    run = None if path is None else _run_file(path, key, parts, where.several)
    if run is not None and run.exists():
        state, values, done = run.load(start, names, epochs)
        state = where.state(state)
        _record(history, 0, done, values)
    else:
        state, done = _start((trainable, where))(where.data(key)), 0
    if where.several and done < epochs:
        # compiled by all before any waits for another's first sum of gradients
        state, _ = train_block(state, parts, where.data(np.int32(0)))
        multihost.broadcast(done)
    with (
        Progress(epochs, "epoch", progress, done) as bar,
        _until_interrupted(run, where) as interrupted,
    ):
        if done < epochs:
            bar.say("tracing and compiling")
        if done:
            bar.advance(0, lambda: {"from": str(path)})
        first, per_call, examples = done, block or 1, count_examples(parts["train"])
        while done < epochs:
            started = time.perf_counter()
            n = min(per_call, epochs - done)
            state, values = train_block(state, parts, where.data(np.int32(n)))
            done = _record(history, done, n, values)
            seconds = time.perf_counter() - started
            bar.advance(n, functools.partial(_shown, history, done, n * examples / seconds))
            if block is None and done > first + 1:  # the first call also compiled
                per_call = max(1, min(_BLOCK, int(0.25 * n / seconds)))
                per_call = multihost.broadcast(per_call) if where.several else per_call
            if run is not None and (interrupted or run.is_due()):
                run.save(state, history, done)
            if interrupted:
                print(
                    f"\nfit: interrupted; {done} of {epochs} epochs are in {path}, and the same "
                    "call resumes from there.",
                    file=sys.stderr,
                )
                interrupted.deliver()
        if run is not None and run.saved != done:
            run.save(state, history, done)
    return Fit(multihost.to_local(state) if where.several else state, history)


def _run_file(path, key, parts, shared: bool):
    from purenet.training.run_file import RunFile  # a fifth of the package's imports

    return RunFile(path, key, parts, shared)


def _until_interrupted(run, where: Placement):
    """Signals wait for the end of a block where that saves: with a file, in a single process."""
    waits = run is not None and not where.several
    return until_interrupted() if waits else contextlib.nullcontext(InterruptFlag())


def _record(history, done: int, n: int, values) -> int:
    """Write the metrics of `n` more epochs, and return how many epochs are done."""
    for old, new in zip(jax.tree.leaves(history), jax.tree.leaves(values), strict=True):
        old[done : done + n] = jax.device_get(new)[:n]
    return done + n


def _shown(history, done: int, speed: float) -> dict[str, str]:
    """The progress bar's words: the latest value of every metric, and the speed."""
    latest = {
        f"{part} {name}": f"{curve[done - 1]:.4g}"
        for part, curves in history.items()
        for name, curve in curves.items()
    }
    return latest | {"examples/s": f"{speed:.3g}"}


@jit_for_each()
def _start(what: tuple[Trainable, Placement], key):
    trainable, where = what
    return where.hold(trainable.init(key))


@jit_for_each(donate_argnums=0)
def _train_block(what: tuple[Trainable, Placement], state, parts, n):
    """`n` epochs; `n` is an argument, so any block size runs the same program."""
    trainable, where = what

    def one(state):
        with traced_code("fit: `epoch`"):
            state, train = checked_epoch("fit", trainable.epoch(state, parts["train"]))
        values = {"train": checked_metrics("fit: `epoch`", train)}
        if "validation" in parts:
            with traced_code("fit: `evaluate`"):
                found = trainable.evaluate(state, parts["validation"])
            values["validation"] = checked_metrics("fit: `evaluate`", found)
        return where.hold(state), replicate(jax.tree.map(jnp.asarray, values))

    after, shapes = jax.eval_shape(one, state)
    same_state("fit", jax.eval_shape(lambda: state), after)
    curves = jax.tree.map(lambda a: jnp.zeros((_BLOCK, *a.shape), a.dtype), shapes)

    def body(i, carry):
        state, curves = carry
        state, values = one(state)
        return state, jax.tree.map(lambda c, v: c.at[i].set(v), curves, values)

    return jax.lax.fori_loop(0, n, body, (state, curves))


def _check_same_call(arguments):
    """Processes that make different calls would wait for each other's sums for ever."""
    described = []
    for name, leaf in named_leaves("fit", arguments).items():
        a = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        described.append(f"{name} {a.shape} {a.dtype} {zlib.crc32(a.view(np.uint8).data):08x}")
    first, *others = multihost.all_gather_bytes("\n".join(described).encode())
    for i, other in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"fit: process {i} came with other data, another key or other numbers of epochs "
                "than process 0; every process makes the same call with the same data."
            )


def _named_parts(data) -> dict[str, PyTree]:
    """(train, validation) by name. Two bare arrays are one pair (x, t), not two datasets."""
    if isinstance(data, tuple) and len(data) == 2:
        alike = jax.tree.structure(data[0]) == jax.tree.structure(data[1])  # type: ignore[operator]
        if alike and not jax.tree_util.all_leaves(data):
            return {"train": data[0], "validation": data[1]}
    return {"train": data}
