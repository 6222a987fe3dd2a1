"""Whole trainings on one device, against raw JAX and against the device's limits.

A row is a sweep: so many networks, each with its own learning rate, trained and evaluated after
every epoch. Raw JAX is `jit(vmap(...))` of the same trainings, with automatic gradients.

`scripts/accelerator` starts this file, in a process for each row, with `["device", quick]` or
`["row", quick, number, dtype, limits]` as JSON; the answer is the last line that is printed.
"""

import functools
import json
import statistics
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_convolutions import lax_conv, lax_max_pool
from compiled_text import work

import purenet as pn
from purenet import sweep

RATE = {"rate": sweep.loguniform(1e-5, 1e-2)}
TOGETHER = 1000  # networks that raw JAX trains in one call
COUNTED = 16  # networks whose step is counted


class Row(NamedTuple):
    """What is trained."""

    name: str
    net: Any  # dtype -> a serial network of dense, conv, relu, max_pool, flatten and dropout
    sizes: tuple
    optimizer: Any
    trials: int
    epochs: int
    batch: int = 100
    train: int = 400  # examples
    validation: int = 100


def perceptron(*widths):
    """dtype -> dense layers of these widths with relu between them."""
    layers = [layer for n in widths[:-1] for layer in (pn.dense(n), pn.relu)]
    return lambda dtype: pn.serial(*layers, pn.dense(widths[-1]), compute_dtype=dtype)


def rows(quick):
    """All rows; the `quick` one shows that the script works, on a CPU too."""
    if quick:
        simple = lambda dtype: pn.simple_convnet(2, 3, 4, compute_dtype=dtype)
        return [Row("SimpleConvNet", simple, (6, 6, 1), pn.adam, 2, 1, 4, 8, 4)]
    e9 = functools.partial(Row, "E9", perceptron(*[100] * 6, 10), (784,), pn.sgd)
    simple = lambda dtype: pn.simple_convnet(compute_dtype=dtype)
    deep = lambda dtype: pn.deep_convnet(compute_dtype=dtype)
    convnet = functools.partial(Row, sizes=(28, 28, 1), optimizer=pn.adam, epochs=2, train=4000)
    tabular = perceptron(*[384] * 4, 10)
    return [
        *(e9(trials, epochs) for trials, epochs in ((40, 50), (1000, 50), (10_000, 50))),
        *(convnet("SimpleConvNet", simple, trials=n) for n in (1, 16)),
        *(convnet("SimpleConvNet", simple, trials=n, train=1000) for n in (256, 1024)),
        *(convnet("DeepConvNet", deep, trials=n) for n in (1, 16)),
        Row("TabPack: 4 x 384, AdamW", tabular, (100,), pn.adamw, 64, 10, 256, 25_600, 2560),
    ]


def limits(quick):
    """What the device does at most, measured: operations a second by dtype, bytes a second."""
    n = 64 if quick else 8192
    found = {}
    for name, dtype in (("float32", jnp.float32), ("bfloat16", jnp.bfloat16)):
        a = jnp.ones((n, n), dtype)
        found[name] = 2 * n**3 / _seconds(jax.jit(lambda a: a @ a), a)
    large = jnp.ones(2**16 if quick else 2**28, jnp.float32)
    return found | {"bytes": 2 * large.nbytes / _seconds(jax.jit(lambda a: a + 1), large)}


def _seconds(f, *args, reps=5, most=20, first=True):
    """The median of a few runs after the `first`, fewer if they take more than `most` seconds."""
    if first:
        jax.block_until_ready(f(*args))
    samples = []
    while not samples or (len(samples) < reps and sum(samples) < most):
        began = time.perf_counter()
        jax.block_until_ready(f(*args))
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def measured(row, dtype, peaks, reps=3):
    """One row of the table, as plain values; without those of raw JAX if that fails."""
    net = row.net(None if dtype == "float32" else jnp.dtype(dtype))
    data = _examples(row.train, row), _examples(row.validation, row)
    trial = lambda hyper: pn.supervised(
        net, row.sizes, row.optimizer(hyper["rate"]), pn.softmax_cross_entropy, row.batch
    )
    run = lambda: sweep.run(trial, RATE, data, row.trials, row.epochs, progress=False)
    began = time.perf_counter()
    result = run()
    first = time.perf_counter() - began
    seconds = _seconds(lambda: run().status, reps=reps, first=False)
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    raw_seconds, fault = None, None
    try:
        raw = raw_job(row, net, data, np.asarray(result.hyper["rate"], np.float32))
        raw_seconds = _seconds(raw, reps=reps)
    except jax.errors.JaxRuntimeError as error:  # such as no memory
        fault = str(error)[:300]
    flops, moved = cost_of_a_step(row, net)
    steps = row.epochs * (row.train // row.batch)
    limit = steps * max(flops / peaks[dtype], moved / peaks["bytes"])
    return {
        "name": row.name, "dtype": dtype, "trials": row.trials, "epochs": row.epochs,
        "seconds": seconds, "first_seconds": first, "raw_seconds": raw_seconds,
        "raw_fault": fault, "ratio": raw_seconds and seconds / raw_seconds,
        "ms_a_step": 1e3 * seconds / steps, "flops_a_step": flops, "bytes_a_step": moved,
        "share_of_limit": limit / seconds, "peak_bytes": memory,
        "layout": result.programs[0].layout,
    }  # fmt: skip


def _examples(n, row):
    rng = np.random.default_rng(n)
    return rng.random((n, *row.sizes), np.float32), rng.integers(0, 10, n).astype(np.int32)


def forward(net, weights, x, key):
    """A network by JAX's own operations."""
    dtype = net.spec[1]["compute_dtype"]
    if dtype is not None:
        x, weights = jax.tree.map(lambda a: a.astype(dtype), (x, weights))
    for i, layer in enumerate(net.spec[1]["layers"]):
        w, (name, options) = weights.get(str(i), {}), layer.spec
        if name == "conv":
            x = lax_conv(x, w["w"], w["b"], 1, options["padding"])
        elif name == "max_pool":
            x = lax_max_pool(x, 2, 2)
        elif name == "flatten":
            x = x.reshape(len(x), -1)
        elif name == "dense":
            x = x @ w["w"] + w["b"]
        elif name == "dropout" and key is not None:
            x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
        elif name == "relu":
            x = jax.nn.relu(x)
    return x.astype(jnp.float32)


def _losses(net, weights, x, t, key):
    logs = jax.nn.log_softmax(forward(net, weights, x, key))
    return -jnp.take_along_axis(logs, t[:, None], 1).mean(), (logs.argmax(1) == t).mean()


def _evaluation(net, weights, data, batch):
    """The mean loss and accuracy by minibatches: all examples at once would not fit in memory."""
    parts = jax.tree.map(lambda a: a.reshape(-1, batch, *a.shape[1:]), data)
    several = jax.lax.map(lambda part: _losses(net, weights, *part, None), parts)
    return jax.tree.map(jnp.mean, several)


def _step(net, optimizer, data, state, now):
    weights, opt_state = state
    rows, key = now
    x, t = data[0][rows], data[1][rows]
    g = jax.grad(lambda w: _losses(net, w, x, t, key)[0])(weights)
    updates, opt_state = optimizer.update(g, opt_state, weights)
    return (pn.apply_updates(weights, updates), opt_state), None


def raw_job(row, net, data, rates):
    """All trainings of a row without the library's loops, rules and sweeps."""
    count, arrays = row.train // row.batch, jax.tree.map(jnp.asarray, data)

    def training(key, rate):
        optimizer = row.optimizer(rate)
        weights = net.init(key, row.sizes).weights

        def epoch(state, key):
            rows = jax.random.permutation(key, row.train)[: count * row.batch]
            now = rows.reshape(count, row.batch), jax.random.split(key, count)
            step = functools.partial(_step, net, optimizer, arrays[0])
            state, _ = jax.lax.scan(step, state, now)
            return state, [_evaluation(net, state[0], part, row.batch) for part in arrays]

        keys = jax.random.split(key, row.epochs)
        return jax.lax.scan(epoch, (weights, optimizer.init(weights)), keys)[1]

    several = jax.jit(jax.vmap(training))
    keys = jax.random.split(jax.random.key(0), row.trials)
    parts = [slice(i, i + TOGETHER) for i in range(0, row.trials, TOGETHER)]
    return lambda: [several(keys[part], jnp.asarray(rates[part])) for part in parts]


def cost_of_a_step(row, net):
    """FLOP and bytes of one step of all networks, by a program of one step of some of them.

    FLOP are counted before the program is compiled too: libraries that a GPU calls have none.
    """
    together = min(row.trials, COUNTED)
    optimizer = row.optimizer(0.01)
    batch = _examples(row.batch, row)

    def step(key, x, t):
        weights = net.init(key, row.sizes).weights
        return weights, optimizer.init(weights), x, t

    def one(weights, opt_state, x, t, key):
        now = jnp.arange(row.batch), key
        return _step(net, optimizer, (x, t), (weights, opt_state), now)[0]

    keys = jax.random.split(jax.random.key(0), together)
    shapes = jax.eval_shape(jax.vmap(step, (0, None, None)), keys, *batch)
    weights, opt_state = shapes[:2]
    program = jax.jit(jax.vmap(one, (0, 0, None, None, 0)))
    lowered = program.lower(weights, opt_state, *batch, keys)
    compiled = lowered.compile()
    flops = max((f.cost_analysis() or {}).get("flops", 0.0) for f in (lowered, compiled))
    scale = row.trials / together
    return scale * flops, scale * work(compiled.as_text()).bytes


def table(found):
    """The rows as a table that can be pasted into the documentation."""
    lines = [
        "| work | dtype | ms a step | raw JAX | ratio | of the limit |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        ratio = row["ratio"]
        raw = f"{row['ms_a_step'] / ratio:.3g} | {ratio:.2f}" if ratio else "failed | "
        lines.append(
            f"| {row['name']}, {row['trials']:,} | {row['dtype']} | {row['ms_a_step']:.3g} | "
            f"{raw} | {row['share_of_limit']:.0%} |"
        )
    return "\n".join(lines)


def answer(what, quick, number=0, dtype="float32", peaks=None):
    """What `scripts/accelerator` asks for; a CPU has no limits unless `quick`."""
    if what == "row":
        return measured(rows(quick)[number], dtype, peaks)
    device = jax.devices()[0]
    about = f"{device.device_kind}, {jax.device_count()} device(s), jax {jax.__version__}"
    return about, limits(quick) if quick or device.platform != "cpu" else None


if __name__ == "__main__":
    print(json.dumps(answer(*json.loads(sys.argv[1]))))
