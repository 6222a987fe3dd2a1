"""How fast purenet is on this machine, against raw JAX and against the matmul peak.

    python scripts/benchmark.py [SUITE ...] [--reps 5] [--record FILE]
    python scripts/benchmark.py --history FILE -o PNG

Suites: peak, mlp, gradients, convnets, convolutions, cores, pooling, precision, sweep,
convnet-sweep, stopping, planning, bookkeeping, scaling, folds, ensembles, wait, streams, import;
all of them by default.
Three more take minutes: quality, on MNIST if MNIST_DIR names its folder, else on the digits;
accelerator, in absolute figures; shapes, LCBench's space. The other suites use random numbers in
MNIST's shapes, so nothing has to be downloaded.
Samples of the compared programs are interleaved in random order; the median, the range and the
ratio to the first row of each table are printed. Trust ratios within one run, never single times.
"""

import argparse
import functools
import itertools
import platform
import statistics
import subprocess
import sys
import time

import benchmark_convolutions as convolutions
import benchmark_history as history
import benchmark_precision as precision
import benchmark_rows as rows
import benchmark_searches as searches
import jax
import jax.numpy as jnp
import numpy as np
from benchmark_accelerator import absolute
from benchmark_scaling import scaling
from benchmark_streams import streams
from benchmark_timing import BATCH, SHOWN, measure, purenet_steps, show, there_and_back
from jax.example_libraries import optimizers as stax_optimizers
from jax.example_libraries import stax

import purenet as pn
from purenet import ops, sweep

WIDTHS = (784, 100, 100, 100, 100, 100, 100, 10)


@functools.cache
def peak(reps):
    """float32 operations a second of a large matrix product: the limit of everything else."""
    n = 4096 if jax.default_backend() == "cpu" else 16384
    a = jax.random.normal(jax.random.key(0), (n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    samples = measure({f"{n} x {n} float32 product": lambda: product(a)}, reps)
    rate = lambda name, seconds: f"{2 * n**3 / seconds / 1e9:.0f} GFLOP/s"
    show("peak", samples, note=rate)
    return 2 * n**3 / statistics.median(*samples.values())


def examples(n):
    rng = np.random.default_rng(0)
    x = rng.random((n, 784), np.float32) * (rng.random((n, 784)) < 0.2)
    return x.astype(np.float32), rng.integers(0, 10, n).astype(np.int32)


def mlp(reps, steps=400):
    """A training step of 784-100x6-10 at batch 100 inside a scan: (a) SGD; (b) with batch
    normalisation, dropout 0.5 and Adam."""
    data = jax.tree.map(jnp.asarray, examples(steps * BATCH))
    for title, net, optimizer in (
        ("(a) 784-100x6-10, SGD", pn.mlp(), pn.sgd(0.01)),
        ("(b) with batchnorm, dropout, Adam", pn.mlp(batch_norm=True, dropout=0.5), pn.adam(1e-3)),
    ):
        full = title.startswith("(b)")
        programs = {
            "raw JAX, automatic gradients": raw_steps(full, data, steps),
            "stax": stax_steps(full, data, steps),
            "purenet": purenet_steps(net, WIDTHS, optimizer, data),
        }
        show(f"{title}, a step", {
            name: [s / steps for s in seconds] for name, seconds in measure(programs, reps).items()
        })  # fmt: skip


def raw_steps(full, data, steps):
    """The same network by the plain functions alone, differentiated by JAX."""
    keys = iter(jax.random.split(jax.random.key(0), 20))
    weights = []
    for i, o in itertools.pairwise(WIDTHS):
        layer = [jax.random.normal(next(keys), (i, o)) * np.sqrt(2 / i), jnp.zeros(o)]
        weights.append(layer + ([jnp.ones(o), jnp.zeros(o)] if full and o != 10 else []))

    def forward(weights, x, key):
        for n, (w, b, *norm) in enumerate(weights[:-1]):
            x = ops.affine.plain(x, w, b)
            if norm:
                x = ops.batch_normalise.plain(x, *norm, 1e-6)[0]
            x = ops.relu.plain(x)
            if norm:
                kept = jax.random.bernoulli(jax.random.fold_in(key, n), 0.5, x.shape)
                x = jnp.where(kept, 2 * x, 0)
        return ops.affine.plain(x, *weights[-1])

    def step(state, now):
        weights, mean, square, count = state
        rows, key = now
        x, t = data[0][rows], data[1][rows]
        loss = lambda w: ops.softmax_cross_entropy.plain(forward(w, x, key), t, 0.0)
        value, g = jax.value_and_grad(loss)(weights)
        if not full:
            return (jax.tree.map(lambda w, g: w - 0.01 * g, weights, g), mean, square, count), value
        count = count + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, g)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, g)
        scale = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        move = lambda w, m, v: w - scale * m / (jnp.sqrt(v) + 1e-8)
        return (jax.tree.map(move, weights, mean, square), mean, square, count), value

    @jax.jit
    def epoch(state, key):
        rows = jax.random.permutation(key, len(data[0])).reshape(steps, BATCH)
        return jax.lax.scan(step, state, (rows, jax.random.split(key, steps)))

    zeros = jax.tree.map(jnp.zeros_like, weights)
    return lambda: epoch((weights, zeros, zeros, 0.0), jax.random.key(1))


def stax_steps(full, data, steps):
    layers = []
    for units in WIDTHS[1:-1]:
        layers += [stax.Dense(units), *([stax.BatchNorm(axis=0)] if full else []), stax.Relu]
        layers += [stax.Dropout(0.5)] if full else []
    init, apply = stax.serial(*layers, stax.Dense(10))
    optimizer = stax_optimizers.adam(1e-3) if full else stax_optimizers.sgd(0.01)
    state = optimizer.init_fn(init(jax.random.key(0), (BATCH, 784))[1])

    def step(state, now):
        i, rows, key = now
        x, t = data[0][rows], data[1][rows]

        def loss(weights):
            logits = jax.nn.log_softmax(apply(weights, x, rng=key))
            return -jnp.take_along_axis(logits, t[:, None], 1).mean()

        value, g = jax.value_and_grad(loss)(optimizer.params_fn(state))
        return optimizer.update_fn(i, g, state), value

    @jax.jit
    def epoch(state, key):
        rows = jax.random.permutation(key, len(data[0])).reshape(steps, BATCH)
        return jax.lax.scan(step, state, (jnp.arange(steps), rows, jax.random.split(key, steps)))

    return lambda: epoch(state, jax.random.key(1))


def gradients(reps, repeats=20):
    """Forward and backward of each op inside a scan: by hand against JAX's own gradient."""
    normal = lambda *shape: jax.random.normal(jax.random.key(0), shape, jnp.float32)
    labels = jnp.arange(BATCH) % 10
    cases = {
        "affine": (ops.affine, normal(BATCH, 784), normal(784, 100), normal(100)),
        "batch_normalise": (ops.batch_normalise, normal(BATCH, 500), *normal(2, 500), 1e-6),
        "layer_normalise": (ops.layer_normalise, normal(BATCH, 500), *normal(2, 500), 1e-6),
        "softmax_cross_entropy": (
            lambda y, s: ops.softmax_cross_entropy(y, labels, s), normal(BATCH, 10), 0.1),
        "mean_squared_error": (ops.mean_squared_error, normal(BATCH, 100), normal(BATCH, 100)),
        "drop": (lambda x: ops.drop(x, 0.5, jax.random.key(0)), normal(BATCH, 500)),
    }  # fmt: skip
    plains = {
        "softmax_cross_entropy": lambda y, s: ops.softmax_cross_entropy.plain(y, labels, s),
        "drop": lambda x: ops.drop.plain(x, 0.5, jax.random.key(0)),
    }
    one_argument = ("relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax")
    for name in one_argument:
        cases[name] = (getattr(ops, name), normal(BATCH, 500))

    def program(f, args):
        args = tuple(jnp.asarray(a, jnp.float32) for a in args)
        g = jax.tree.map(lambda y: normal(*y.shape), jax.eval_shape(f, *args))

        once = lambda args, _: (there_and_back(f, args, g), None)
        many = jax.jit(lambda args: jax.lax.scan(once, args, None, repeats)[0])
        return lambda: many(args)

    for name, (op, *args) in cases.items():
        plain = plains.get(name) or op.plain
        programs = {"automatic": program(plain, args), "by hand": program(op, args)}
        samples = measure(programs, reps, least=0.02)
        show(f"gradient of {name}", samples, unit=1e6 / repeats, name="µs")


def e9(hyper):
    """The hyperparameter search of the courses: 784-100x6-10, SGD with weight decay."""
    return pn.supervised(pn.mlp(), WIDTHS, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, BATCH,
                         penalty=pn.l2(hyper["decay"]), batches="with_replacement")  # fmt: skip


def e9_data():
    x, t = examples(500)
    return (x[100:], t[100:]), (x[:100], t[:100])


def sweeps(reps, trials=40, epochs=50):
    """E9 as a whole job, warm: 400 training and 100 validation images, both accuracies an epoch."""
    data = e9_data()
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    run = functools.partial(sweep.run, e9, space, data, progress=False)
    started = time.perf_counter()
    result = run(trials, epochs)
    first = time.perf_counter() - started

    vmapped, loop = searches.without_a_library(e9, data, epochs, result.hyper)
    programs = {
        "vmap of whole runs": vmapped,
        "loop of jitted runs": loop,
        "purenet sweep.run": lambda: run(trials, epochs).status,
    }
    samples = measure(programs, reps)
    inputs = sum(i * o for i, o in itertools.pairwise(WIDTHS))
    # forward and backward of 4 minibatches (no gradient of the images), then 500 evaluated images
    training = 4 * BATCH * 2 * (3 * inputs - WIDTHS[0] * WIDTHS[1])
    work = trials * epochs * (training + 500 * 2 * inputs)
    limit = peak(reps)
    note = lambda name, seconds: f"{work / seconds / limit:.0%} of peak"
    show(f"E9, {trials} trials x {epochs} epochs, whole job", samples, 1, "s", note)
    warm = statistics.median(samples["purenet sweep.run"])
    print(f"  first call {first:.2f} s: tracing and compiling take {first - warm:.2f} s")
    print(f"  layout: {result.programs[0].layout}")

    several = {n: functools.partial(lambda n: run(n, 8).status, n) for n in (trials, 1000)}
    a_second = {n: n / statistics.median(s) for n, s in measure(several, reps).items()}
    ratio = a_second[1000] / a_second[trials]
    print(f"  trials of 8 epochs a second, 1000 against {trials}: {ratio:.2f}")


def imports(reps):
    """Wall time of a fresh interpreter that imports and leaves."""
    run = lambda code: lambda: subprocess.run([sys.executable, "-c", code], check=True) and 0
    show(
        "import", measure({f"import {m}": run(f"import {m}") for m in ("jax", "purenet")}, 2 * reps)
    )


SUITES = {
    "peak": peak,
    "mlp": mlp,
    "gradients": gradients,
    "convnets": convolutions.steps,
    "convolutions": convolutions.table,
    "cores": convolutions.cores,
    "pooling": convolutions.pooling,
    "precision": precision.steps,
    "sweep": sweeps,
    "convnet-sweep": convolutions.sweeps,
    "stopping": lambda reps: searches.stopping(e9, e9_data(), reps),
    "planning": lambda reps: searches.planning(e9, e9_data(), reps),
    "bookkeeping": searches.bookkeeping,
    "scaling": scaling,
    "folds": lambda reps: rows.folds(e9, e9_data(), reps),
    "ensembles": lambda reps: rows.ensembles(e9, e9_data(), reps),
    "wait": lambda reps: rows.wait(e9, e9_data(), reps),
    "streams": lambda reps: streams(examples(10_000), examples(1_000), reps),
    "shapes": rows.shapes,
    "import": imports,
    "quality": searches.quality,
    "accelerator": lambda reps: absolute(e9, e9_data(), reps),
}
LONG = ("quality", "accelerator", "shapes")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE",
                        help="suites to run; all but the long ones by default")  # fmt: skip
    parser.add_argument("--reps", type=int, default=5, help="samples of each program (default 5)")
    parser.add_argument("--record", metavar="FILE", help="append the ratios to this file of JSON "
                        "lines, with the machine and the commit")  # fmt: skip
    parser.add_argument("--history", metavar="FILE", help="draw the recorded ratios over time "
                        "instead of measuring (needs matplotlib)")  # fmt: skip
    parser.add_argument("-o", "--out", metavar="PNG", default="benchmark.png",
                        help="picture of --history (default benchmark.png)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.history:
        history.draw(history.read(options.history), options.out)
        return
    cores = pn.use_cpu_cores()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}, {jax.device_count()} device(s), "
          f"{cores} core(s), {platform.machine()}")  # fmt: skip
    for name in options.suites or [name for name in SUITES if name not in LONG]:
        SUITES[name](options.reps)
    if options.record:
        history.record(options.record, SHOWN)


if __name__ == "__main__":
    main()
