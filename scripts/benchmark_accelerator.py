"""Suite of the benchmark in absolute figures: what an accelerator does in a second, and in how much
memory. It runs on a CPU too, with fewer epochs."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_timing import BATCH, measure, purenet_steps

import purenet as pn
from purenet import sweep

IMAGE = (28, 28, 1)


def absolute(e9, data, reps):
    """Trials, trial-epochs and steps a second, and the memory of a device: E9 with 40, 1,000 and
    10,000 trials, SimpleConvNet and DeepConvNet alone and swept."""
    device = jax.devices()[0]
    cpu = device.platform == "cpu"
    print(f"\n{device.device_kind}, {jax.device_count()} device(s): medians of {reps} warm runs")
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    for trials, epochs in ((40, 50), (1000, 50), (10_000, 2 if cpu else 50)):
        _swept("E9", e9, space, data, trials, epochs, reps if trials < 10_000 else 1)
    convnets = {"SimpleConvNet": pn.simple_convnet(), "DeepConvNet": pn.deep_convnet()}
    for name, net in convnets.items():
        _alone(name, net, 4 if cpu else 40, reps)
    rng = np.random.default_rng(0)
    count = 400 if cpu else 4000
    images = lambda n: (rng.random((n, *IMAGE), np.float32), rng.integers(0, 10, n))
    parts = images(count), images(100)
    for name, net in convnets.items():
        trial = lambda hyper, net=net: pn.supervised(
            net, IMAGE, pn.adam(hyper["rate"]), pn.softmax_cross_entropy, BATCH
        )
        rates = {"rate": sweep.loguniform(1e-4, 1e-2)}
        for trials in (4,) if cpu else (16, 128):
            _swept(name, trial, rates, parts, trials, 2, reps)


def _swept(name, trial, space, data, trials, epochs, reps):
    run = functools.partial(sweep.run, trial, space, data, trials, epochs, progress=False)
    began = time.perf_counter()
    result = run()
    first = time.perf_counter() - began
    seconds = statistics.median(measure({name: lambda: run().status}, reps, least=0)[name])
    steps = trials * epochs * (len(data[0][0]) // BATCH)
    print(
        f"  {name}, {trials} trials x {epochs} epochs: {seconds:.2f} s (first call {first:.2f} s), "
        f"{trials / seconds:.3g} trials/s, {steps / seconds:.3g} steps/s, {_memory(result)}\n"
        f"    {result.programs[0].layout}",
        flush=True,
    )


def _alone(name, net, steps, reps):
    rng = np.random.default_rng(0)
    x, t = rng.random((steps * BATCH, *IMAGE), np.float32), rng.integers(0, 10, steps * BATCH)
    program = purenet_steps(net, IMAGE, pn.adam(1e-3), (jnp.asarray(x), jnp.asarray(t)))
    seconds = statistics.median(measure({name: program}, reps)[name]) / steps
    usage = program.func.lower(*program.args).compile().memory_analysis()
    print(
        f"  {name}, a training step of {BATCH} images: {1e3 * seconds:.3g} ms, "
        f"{1 / seconds:.3g} steps/s, {BATCH / seconds:.3g} images/s, "
        f"{usage.temp_size_in_bytes / 2**20:.0f} MiB of temporaries",
        flush=True,
    )


def _memory(result):
    """What the program takes, and the most that was ever in use where the device counts that."""
    text = f"{result.programs[0].bytes_per_device / 2**20:.0f} MiB a device"
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        text += f" ({stats['peak_bytes_in_use'] / 2**20:.0f} MiB at most so far)"
    return text
