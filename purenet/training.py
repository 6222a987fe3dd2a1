"""Training: one step, one epoch as one scan, evaluation, and the loop around them.

Everything is pure and traceable: `supervised` makes a `Trainable` that `fit` trains once and a
sweep trains many times over.
"""

import functools
import math
import os
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet import display, processes
from purenet.checks import function, random_key, takes, told, whole
from purenet.forgetting import jit_for_each
from purenet.inputs import (
    check_data,
    check_scalar,
    checked_epoch,
    checked_metrics,
    checked_state,
    checked_trainable,
    is_numeric,
    same_state,
    traced_code,
)
from purenet.leaves import named_leaves
from purenet.losses import accuracy, softmax_cross_entropy
from purenet.placing import Placing, everywhere, over_batch, placing
from purenet.progress import Progress
from purenet.transforms import apply_updates, with_extras
from purenet.types import (
    Layer,
    Optimizer,
    Params,
    PyTree,
    Sizes,
    Trainable,
    TrainState,
)

# Evaluation runs through the data in chunks: of at most this many examples, which are enough for
# efficient products, and of at most this many numbers (but no fewer examples than training has in
# memory at once), so that the activations of large images fit in memory.
_EVALUATION_CHUNK = 1000
_EVALUATION_NUMBERS = 1_000_000

# One compiled call trains at most this many epochs; how many it does train is an argument.
_BLOCK = 64


def supervised(
    net: Layer,
    sizes: Sizes,
    optimizer: Optimizer,
    loss: Callable,
    batch_size: int,
    penalty: Callable | None = None,
    batches: str = "shuffled",
    metrics: dict[str, Callable] | None = None,
    microbatches: int = 1,
) -> Trainable:
    """Training of a network on pairs (x, t): a `Trainable(init, epoch, evaluate)`.

        minimise  loss(net(x), t) + penalty(weights)  by one optimizer step per minibatch

    `sizes` is what `net.init` takes. `loss(y, t)` is a mean over examples. Every
    `metrics[name](y, t)` is a function of outputs and targets, such as those of `purenet.metrics`:
    `evaluate` gives it those of all examples at once, `epoch` those of each minibatch, and reports
    the mean over the minibatches. Without `metrics`, accuracy is reported where labels are integers
    or the loss is `softmax_cross_entropy`. `penalty(weights)` is added to what is minimised, not to
    the reported loss. An optimizer whose `update` takes `value=` is given the reported loss of the
    minibatch.
    `batches` is "shuffled" (every example at most once an epoch, in a new order;
    the n mod batch_size left over sit this epoch out) or "with_replacement" (each minibatch drawn
    at random). An epoch is max(1, n // batch_size) steps; a minibatch never outgrows the data.

    `microbatches` = k > 1 computes the gradient of a minibatch in k equal parts, one after the
    other, and takes their mean: the activations of batch_size / k examples are in memory at once.

        g = ∇penalty(weights) + 1/k Σᵢ ∇loss(net(xᵢ), tᵢ)

    That is the gradient of the minibatch but for rounding, in networks whose outputs do not depend
    on the other examples. batch_norm normalises each part by its own statistics, and moves the
    running ones k times a step; each part has a dropout key of its own. Where there are fewer
    examples than batch_size, a minibatch is the most of them that k divides.

    Raises ValueError for a batch size below 1 or one that `microbatches` does not divide, and for
    another word in `batches`; TypeError for a `net` or an `optimizer` that is not one, and for a
    loss, penalty or metric that is no function. `check(data)` raises for data that does not fit the
    network, and, when it is traced, `epoch` for fewer examples than `microbatches` and for a loss
    or a metric that gives no real number.

    >>> from purenet.nets import mlp
    >>> from purenet.optimizers import sgd
    >>> digits = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> trainable = supervised(mlp(), (4, 8, 3), sgd(0.1), softmax_cross_entropy, batch_size=5)
    >>> state = trainable.init(jax.random.key(0))
    >>> state, metrics = trainable.epoch(state, digits)
    >>> int(state.step), sorted(metrics)
    (4, ['accuracy', 'loss'])
    """
    if not isinstance(net, Layer):
        raise TypeError(f"supervised: net is {_kind(net)}, but a Layer such as mlp() is expected.")
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"supervised: optimizer is {_kind(optimizer)}, but a pair (init, update) such as "
            "sgd(0.1) is expected."
        )
    batch_size = whole("supervised: batch_size", batch_size, least=1)
    microbatches = whole("supervised: microbatches", microbatches, least=1)
    if batch_size % microbatches:
        raise ValueError(
            f"supervised: batch_size {batch_size} is not a multiple of microbatches "
            f"{microbatches}, but parts of equal size are expected."
        )
    if batches not in ("shuffled", "with_replacement"):
        raise ValueError(
            f'supervised: batches is {batches!r}, but "shuffled" or "with_replacement" is expected.'
        )

    function("supervised", loss=loss)
    if not takes(loss, None, None):
        raise TypeError(f"supervised: {told(loss)} cannot be called as loss(y, t).")
    if penalty is not None:
        penalty = _checked_penalty(penalty)
    if metrics is not None:
        _check_metrics(metrics)

    update = with_extras(optimizer.update)

    def loss_of(y, t):
        value = loss(y, t)
        check_scalar("supervised: the loss", value)
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise TypeError(
                f"supervised: the loss is {told(value)}, but one real number is expected."
            )
        return value

    def measure(y, t, value):
        chosen = _default_metrics(loss, t) if metrics is None else metrics
        named = {}
        for name, metric in chosen.items():
            with traced_code(f"supervised: the metric {name!r}"):
                named[name] = metric(y, t)
        return checked_metrics("supervised", {"loss": value, **named})

    def init(key):
        for_params, for_run = jax.random.split(key)
        params = net.init(for_params, sizes)
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, optimizer.init(params.weights), for_run, step)

    def gradients(params, minibatch, key, penalty):
        x, t = minibatch

        def objective(weights):
            y, stats = net.apply(Params(weights, params.stats), x, True, key)
            value = loss_of(y, t)
            total = value if penalty is None else value + penalty(weights)
            return total, (stats, measure(y, t, value))

        return jax.grad(objective, has_aux=True)(params.weights)

    def accumulated(params, pick, rows, key):
        """What `gradients` gives, part by part; no example is picked before its part's turn."""

        def add(carry, now):
            total, stats = carry
            rows, key = now
            grads, (stats, values) = gradients(Params(params.weights, stats), pick(rows), key, None)
            return (jax.tree.map(jnp.add, total, grads), stats), values

        zeros = jax.tree.map(jnp.zeros_like, params.weights)
        # every k-th row is a part: on a mesh, each device has some of the rows of every part
        parts = rows.reshape(-1, microbatches).T, jax.random.split(key, microbatches)
        (total, stats), values = jax.lax.scan(add, (zeros, params.stats), parts)
        grads = jax.tree.map(lambda a: a / microbatches, total)
        if penalty is not None:
            slopes = jax.grad(lambda weights: 0.0 + penalty(weights))(params.weights)
            grads = jax.tree.map(jnp.add, grads, slopes)
        return grads, (stats, jax.tree.map(lambda a: a.mean(axis=0), values))

    def train_step(state, pick, rows, key):
        params = state.params
        if microbatches == 1:
            grads, (stats, values) = gradients(params, pick(rows), key, penalty)
        else:
            grads, (stats, values) = accumulated(params, pick, rows, key)
        updates, opt_state = update(grads, state.opt_state, params.weights, value=values["loss"])
        params = Params(apply_updates(params.weights, updates), stats)
        return TrainState(params, opt_state, state.key, state.step + 1), values

    def epoch(state, data):
        data = jax.tree.map(jnp.asarray, data)
        n = _examples(data)
        size = min(batch_size, n)
        size -= size % microbatches
        if size == 0:
            raise ValueError(
                f"supervised: a minibatch is split into {microbatches} microbatches, but there are "
                f"{n} examples; use at most {n} microbatches."
            )
        steps = n // size
        # derived from the step count, so that it does not matter where a run was interrupted
        for_rows, for_steps = jax.random.split(jax.random.fold_in(state.key, state.step))
        if batches == "shuffled":
            rows = _permutation(for_rows, n)[: steps * size].reshape(steps, size)
        else:
            rows = jax.random.randint(for_rows, (steps, size), 0, n)

        def pick(rows):
            rows = over_batch(rows)  # each device gathers its own
            return jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)

        def body(state, now):
            return train_step(state, pick, *now)

        state, values = jax.lax.scan(body, state, (rows, jax.random.split(for_steps, steps)))
        return state, jax.tree.map(jnp.mean, values)

    def evaluate(state, data):
        def chunk(part):
            x, t = over_batch(part)
            y, _ = net.apply(state.params, x, False, None)
            return loss_of(y, t), y

        numbers = max(1, math.prod(jnp.shape(data[0])[1:]))
        most = max(batch_size // microbatches, _EVALUATION_NUMBERS // numbers)
        value, y = _in_chunks(chunk, data, min(_EVALUATION_CHUNK, most))
        return measure(over_batch(y), over_batch(data[1]), value)

    def check(data):
        _check_pairs(net, sizes, data)

    return Trainable(init, epoch, evaluate, check)


class Fit(NamedTuple):
    """What `fit` returns: the final state, and what was measured on the way.

    `history["train"][name]` are the running means of each epoch's minibatches, and
    `history["validation"][name]` what `evaluate` gave after each epoch: NumPy arrays (epochs,).
    """

    state: PyTree
    history: dict[str, dict[str, np.ndarray]]

    def __repr__(self):
        return display.run_text("Fit", self.state, self.history)


def fit(
    trainable: Trainable,
    data: PyTree,
    epochs: int,
    key: jax.Array,
    progress: bool | None = None,
    block: int | None = None,
    path: str | os.PathLike | None = None,
    mesh: jax.sharding.Mesh | None = None,
    shard: Callable | None = None,
) -> Fit:
    """Train one network: a compiled loop over epochs that reports after each block of them.

    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis,
    or the training data alone. `block` is the number of epochs per compiled call, by itself as
    many as take about a quarter of a second; the numbers do not depend on it. `progress` shows a
    bar (by itself: on a terminal and in a notebook).

    With `path`, a file that ends in .npz or .safetensors, the run is saved there now and then, when
    it ends and when it is interrupted; the same call goes on from what is there, to the numbers of
    a run without interruption, or returns at once. More epochs than before go on too. What the file
    cannot know is up to the caller: another rate, loss or batch size goes unnoticed.

    With `mesh`, such as `jax.make_mesh((8,), ("batch",))`, each minibatch is spread over its first
    axis: a device computes with its share of the rows, and what is summed over the batch
    (gradients, the statistics of batchnorm, metrics) is summed over devices, so that the numbers
    are those of one device but for rounding. The data lies whole on every device. So does the
    state, unless `shard(name, leaf) -> jax.sharding.PartitionSpec` places its leaves, such as
    `params.weights.0.w`. Other code than that of `supervised` is computed whole on every device,
    unless it says otherwise. Where the mesh spans several processes (`jax.distributed`), each makes
    the same call with the same data; the first one reads and writes `path` and shows progress.

    Raises TypeError for a `trainable` or a key that is none, for data that is no numbers and for
    metrics that are no real scalars; ValueError for a negative count or data that does not fit, for
    a `path` that holds something else: a run from another key, on data or with weights of other
    shapes, of more epochs; for a partition that does not divide its leaf, and where processes
    differ in what they ask for.

    >>> from purenet.nets import mlp
    >>> from purenet.optimizers import sgd
    >>> train = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> trainable = supervised(mlp(), (4, 8, 3), sgd(0.1), softmax_cross_entropy, batch_size=5)
    >>> state, history = fit(trainable, (train, train), epochs=3, key=jax.random.key(0))
    >>> history["validation"]["accuracy"].shape
    (3,)
    """
    checked_trainable("fit", trainable)
    random_key("fit", key)
    epochs = whole("fit: epochs", epochs, least=0)
    if block is not None:
        block = min(whole("fit: block", block, least=1), _BLOCK)
    parts = _named_parts(data)
    for part in parts.values():
        trainable.check(part)
    check_data("fit", parts)
    start = jax.eval_shape(lambda key: checked_state("fit", trainable.init(key)), key)
    where = placing("fit", mesh, shard, start)
    if where.several:
        _check_alike((parts, key, epochs, block))
        progress = progress if processes.first() else False
    with where.context():
        return _run(trainable, parts, epochs, key, progress, block, path, where, start)


def _run(trainable, parts, epochs, key, progress, block, path, where, start) -> Fit:
    parts, run = where.data(parts), None
    if path is not None:
        from purenet.resume import RunFile  # its imports would make up a fifth of the package's

        run = RunFile(path, key, parts, where.several)
    begin, train_block = _start((trainable, where)), _train_block((trainable, where))
    names = train_block.eval_shape(start, parts, 0)[1]
    history = jax.tree.map(lambda a: np.zeros(epochs, a.dtype), names)

    def record(done, n, values):
        for old, new in zip(jax.tree.leaves(history), jax.tree.leaves(values), strict=True):
            old[done : done + n] = jax.device_get(new)[:n]
        return done + n

    done, per_call, latest = 0, block or 1, None
    if run is not None and run.exists():
        state, values, done = run.load(start, names, epochs)
        state = where.state(state)
        record(0, done, values)
    else:
        state = begin(where.data(key))
    if where.several and done < epochs:
        # compiled by all before any waits for another's first sum of gradients
        state, _ = train_block(state, parts, where.data(np.int32(0)))
        processes.agreed(done)
    first, examples = done, _examples(parts["train"])
    with Progress(epochs, "epoch", progress, done) as bar:
        if done < epochs:
            bar.say("tracing and compiling")
        if done:
            bar.advance(0, lambda: {"from": str(path)})
        try:
            while done < epochs:
                started = time.perf_counter()
                n = min(per_call, epochs - done)
                latest = (done, n, *train_block(state, parts, where.data(np.int32(n))))
                _, _, state, values = latest
                done = record(done, n, values)
                seconds = time.perf_counter() - started
                shown = {
                    f"{part} {name}": f"{curve[done - 1]:.4g}"
                    for part, curves in history.items()
                    for name, curve in curves.items()
                }
                shown["examples/s"] = f"{n * examples / seconds:.3g}"
                bar.advance(n, shown.copy)
                if block is None and done > first + 1:  # the first call also compiled
                    per_call = max(1, min(_BLOCK, int(0.25 * n / seconds)))
                    per_call = processes.agreed(per_call) if where.several else per_call
                if run is not None and run.is_due():
                    run.save(state, history, done)
            if run is not None and run.saved != done:
                run.save(state, history, done)
        except KeyboardInterrupt:
            # the block that was computed last, unless the next one has taken over its buffers; not
            # where that takes other processes, which may be anywhere
            saves = run is not None and not where.several
            if saves and latest is not None and not _deleted(latest[2]):
                done, n, state, values = latest
                run.save(state, history, record(done, n, values))  # type: ignore[union-attr]
            raise
    return Fit(processes.plain(state) if where.several else state, history)


@jit_for_each()
def _start(what: tuple[Trainable, Placing], key):
    trainable, where = what
    return where.hold(trainable.init(key))


@jit_for_each(donate_argnums=0)
def _train_block(what: tuple[Trainable, Placing], state, parts, n):
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
        return where.hold(state), everywhere(jax.tree.map(jnp.asarray, values))

    after, shapes = jax.eval_shape(one, state)
    same_state("fit", jax.eval_shape(lambda: state), after)
    curves = jax.tree.map(lambda a: jnp.zeros((_BLOCK, *a.shape), a.dtype), shapes)

    def body(i, carry):
        state, curves = carry
        state, values = one(state)
        return state, jax.tree.map(lambda c, v: c.at[i].set(v), curves, values)

    return jax.lax.fori_loop(0, n, body, (state, curves))


def _check_alike(asked):
    """All processes ask for the same: or their programs would wait for each other in vain."""
    said = []
    for name, leaf in named_leaves("fit", asked).items():
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        a = np.ascontiguousarray(leaf)
        said.append(f"{name} {a.shape} {a.dtype} {zlib.crc32(a.view(np.uint8).data):08x}")
    mine, *others = (text.decode() for text in processes.exchanged("\n".join(said).encode()))
    for i, other in enumerate(others, 1):
        if other != mine:
            raise ValueError(
                f"fit: process {i} came with other data, another key or other numbers of epochs "
                "than process 0; every process makes the same call with the same data."
            )


def _deleted(state) -> bool:
    return any(isinstance(a, jax.Array) and a.is_deleted() for a in jax.tree.leaves(state))


def _named_parts(data) -> dict[str, PyTree]:
    """(train, validation) by name. Two bare arrays are one pair (x, t), not two datasets."""
    if isinstance(data, tuple) and len(data) == 2:
        alike = jax.tree.structure(data[0]) == jax.tree.structure(data[1])  # type: ignore[operator]
        if alike and not jax.tree_util.all_leaves(data):
            return {"train": data[0], "validation": data[1]}
    return {"train": data}


def _default_metrics(loss, t):
    whole = loss.func if isinstance(loss, functools.partial) else loss
    if whole is softmax_cross_entropy or jnp.issubdtype(t.dtype, jnp.integer):
        return {"accuracy": accuracy}
    return {}


def _permutation(key, n):
    """A random order of 0 .. n - 1: that of n random numbers of 32 bits.

    What `jax.random.permutation` gives, in a quarter of its time on a CPU, where numbers are sorted
    much faster than pairs of numbers. So every sort is of single numbers, some random bits above
    the place they belong to; sorted by the low bits first, then by the higher ones.
    """
    places = jnp.arange(n, dtype=jnp.uint32)
    below = (n - 1).bit_length()
    mask = jnp.uint32(2**below - 1)
    order = places
    for k in jax.random.split(key, math.ceil(32 / (32 - below))):
        mixed = jnp.sort((jax.random.bits(k, (n,)) & ~mask) | places)
        order = order[mixed & mask]
    return order


def _in_chunks(f, data, most):
    """f of the examples, `most` at a time: the mean of its means, and its outputs for all of them.

    f(part) -> (a mean over the part, an array or a tree of them with the examples first).
    """
    n = _examples(data)
    count = math.ceil(n / most)
    size = n // count
    if count == 1:
        return f(data)
    head = jax.tree.map(lambda a: a[: count * size].reshape(count, size, *a.shape[1:]), data)
    means, outputs = jax.lax.map(f, head)
    total = means.sum(axis=0) * size
    outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)
    if n % count:
        mean, rest = f(jax.tree.map(lambda a: a[count * size :], data))
        total = total + mean * (n % count)
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, rest)
    return total / n, outputs


def _checked_penalty(penalty):
    function("supervised", penalty=penalty)

    def of(weights):
        value = penalty(weights)
        check_scalar("supervised: the penalty", value)
        return value

    return of


def _check_metrics(metrics) -> None:
    legal = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    if not legal or not all(map(callable, metrics.values())):
        raise TypeError(
            f"supervised: metrics is {told(metrics)}, but a dict from names to functions (y, t) is "
            "expected."
        )
    if "loss" in metrics:
        raise ValueError("supervised: a metric cannot be called 'loss', which is reported; rename.")


def _examples(data) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def _check_pairs(net, sizes, data):
    """What can be said of (x, t) before compiling: errors in the user's terms."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f"supervised: data is {_kind(data)}, but a pair (x, t) is expected.")
    x, t = data
    for name, a in (("x", x), ("t", t)):
        if not (hasattr(a, "shape") and hasattr(a, "dtype")):
            raise TypeError(
                f"supervised: {name} is {_kind(a)}, but an array is expected; convert it with "
                "numpy.asarray."
            )
    for name, a in (("x", x), ("t", t)):
        if not is_numeric(a.dtype):
            raise TypeError(f"supervised: {name} is {told(a)}, but numbers are expected.")
    if x.ndim == 0 or t.ndim == 0 or x.shape[0] != t.shape[0]:
        raise ValueError(
            f"supervised: x has shape {x.shape} and t has shape {t.shape}; "
            "both need the same number of examples on the leading axis."
        )
    if x.shape[0] == 0:
        raise ValueError(f"supervised: the data is empty, x has shape {x.shape}.")
    for name, a in (("x", x), ("t", t)):
        if jnp.issubdtype(a.dtype, jnp.inexact) and not np.isfinite(np.asarray(a)).all():
            row = int(np.argwhere(~np.isfinite(np.asarray(a)))[0][0])
            raise ValueError(
                f"supervised: {name} holds a number that is not finite, first in example {row}; "
                "remove or replace such examples."
            )

    def outputs(x):
        return net.apply(net.init(jax.random.key(0), sizes), x, False, None)[0]

    probe = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
    y = jax.eval_shape(outputs, probe)
    if jnp.issubdtype(t.dtype, jnp.integer) and t.ndim == 1 and len(y.shape) == 2:
        low, high, classes = int(t.min()), int(t.max()), y.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"supervised: labels run from {low} to {high}, but the network has {classes} "
                f"outputs, so labels 0 to {classes - 1} are expected."
            )


def _kind(value) -> str:
    return f"{value!r} ({type(value).__name__})" if np.isscalar(value) else type(value).__name__
