"""What every suite of the benchmark measures with."""

import functools
import random
import statistics
import time

import jax

import purenet as pn

BATCH = 100
SHOWN = {}  # {table: {row: ratio}} of this run, for `benchmark.py --record`


def measure(programs, reps, least=0.05, seed=0):
    """Seconds a call of each program: {name: sorted samples}, interleaved in random order."""
    calls = {}
    for name, program in programs.items():
        jax.block_until_ready(program())  # compiles
        started = time.perf_counter()
        jax.block_until_ready(program())
        calls[name] = max(1, round(least / (time.perf_counter() - started)))
    order, samples = random.Random(seed), {name: [] for name in programs}
    for _ in range(reps):
        for name in order.sample(list(programs), len(programs)):
            started = time.perf_counter()
            for _ in range(calls[name]):
                jax.block_until_ready(programs[name]())
            samples[name].append((time.perf_counter() - started) / calls[name])
    return {name: sorted(seconds) for name, seconds in samples.items()}


def show(title, samples, unit=1e3, name="ms", note=lambda name, seconds: ""):
    first = statistics.median(next(iter(samples.values())))
    SHOWN[title] = {row: statistics.median(times) / first for row, times in samples.items()}
    print(f"\n{title}: median [range] {name}, ratio to the first row")
    for row, seconds in samples.items():
        median = statistics.median(seconds)
        low, high = seconds[0] * unit, seconds[-1] * unit
        print(
            f"  {row:<44} {median * unit:9.3f} [{low:9.3f} .. {high:9.3f}]  x{median / first:5.2f}"
            f"  {note(row, median)}",
            flush=True,
        )


def purenet_steps(net, sizes, optimizer, data, microbatches=1):
    """An epoch of purenet's own training, as one program."""
    trainable = pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, BATCH,
                              microbatches=microbatches)  # fmt: skip
    state = jax.jit(trainable.init)(jax.random.key(0))
    epoch = jax.jit(trainable.epoch)
    return functools.partial(epoch, state, data)


def there_and_back(op, args, g):
    """The arguments moved a little by y = op(*args) and by every cotangent of them.

    The next turn of a loop then needs all of this one, and nothing can be left out.
    """
    y, pull = jax.vjp(op, *args)
    touch = 1e-12 * jax.tree.leaves(y)[0].mean()
    return jax.tree.map(lambda a, d: a + 1e-6 * d + touch, args, tuple(pull(g)))


def temporaries(program):
    """MiB that a partial of a jitted function needs besides its arguments and results."""
    usage = program.func.lower(*program.args).compile().memory_analysis()
    return round(usage.temp_size_in_bytes / 2**20)
