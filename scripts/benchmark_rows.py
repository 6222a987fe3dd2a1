"""Suites of the benchmark about what people run sweeps for: folds, patience, ensembles, the wait
before the first epoch, and spaces of many shapes."""

import functools
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_timing import measure, show

import purenet as pn
from purenet import sweep

sys.path.append(str(Path(__file__).parents[1] / "examples"))

SPACE = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}


def folds(e9, data, reps, points=8, epochs=10):
    """Points on five folds against as many ordinary trials on as many rows, and patience that
    nobody runs out of against none."""
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *data)
    n = len(whole[1]) // 5 * 5
    whole = jax.tree.map(lambda a: a[:n], whole)
    parts = jax.tree.map(lambda a: a[n // 5 :], whole), jax.tree.map(lambda a: a[: n // 5], whole)
    run = functools.partial(sweep.run, e9, SPACE, progress=False)
    five = [(np.setdiff1d(np.arange(n), held), held) for held in np.split(np.arange(n), 5)]
    programs = {
        f"{5 * points} trials": lambda: run(parts, 5 * points, epochs).status,
        f"{points} points on 5 folds": lambda: run(whole, points, epochs, folds=five).status,
        "patience, the last epoch": lambda: (
            run(parts, 5 * points, epochs, patience=10**6, select="last").status
        ),
        "patience, the best epoch": lambda: run(parts, 5 * points, epochs, patience=10**6).status,
    }
    show(f"rows of their own, {5 * points} runs x {epochs} epochs", measure(programs, reps), 1, "s")


def ensembles(e9, data, reps, members=10):
    """Ten networks as one, against their matrix products alone."""
    found = sweep.run(e9, SPACE, data, members, 1, keep=members, progress=False)
    ensemble = found.ensemble(members)
    x = jnp.asarray(np.concatenate([data[0][0]] * 4)[:1000])
    layers = [state.params.weights for state in found.kept.values()]
    matrices = [[own[i]["w"] for i in sorted(own, key=int)] for own in layers]

    @jax.jit
    def products(matrices, x):
        def through(own):
            y = x
            for w in own:
                y = y @ w
            return y

        return sum(map(through, matrices))

    programs = {
        f"matrix products of {members} networks": lambda: products(matrices, x),
        "ensemble.predict": lambda: ensemble.predict(x),
    }
    show(f"{members} networks on {len(x)} examples", measure(programs, reps))


def wait(e9, data, reps):
    """What the first call of a sweep takes beyond a warm one, against compiling the same training
    alone; every time a trial function that nothing is known of."""
    arrays = jax.tree.map(jnp.asarray, data)

    def sweeping():
        fresh = lambda hyper: e9(hyper)
        took = []
        for _ in range(2):
            began = time.perf_counter()
            sweep.run(fresh, SPACE, data, 40, 2, progress=False)
            took.append(time.perf_counter() - began)
        return took[0] - took[1]

    def alone():
        hyper = {"rate": jnp.float32(1e-3), "decay": jnp.float32(1e-5)}
        init = lambda hyper, key: e9(hyper).init(key)

        def epoch(hyper, state):
            state, _ = e9(hyper).epoch(state, arrays[0])
            return state, [e9(hyper).evaluate(state, part) for part in arrays]

        began = time.perf_counter()
        key = jax.random.key(0)
        jax.jit(init).lower(hyper, key).compile()
        jax.jit(epoch).lower(hyper, jax.eval_shape(init, hyper, key)).compile()
        return time.perf_counter() - began

    samples = {"init, epoch, two evaluations, compiled alone": [], "first call less a warm one": []}
    alone(), sweeping()
    for _ in range(reps):
        for name, sample in zip(samples, (alone, sweeping), strict=True):
            samples[name].append(sample())
    show("the wait, E9", {name: sorted(times) for name, times in samples.items()}, 1, "s")


def shapes(reps, trials=200, epochs=50, sample=8):
    """LCBench's space, compiling included: one sweep against a loop of jitted runs of own shapes,
    whose time is that of some of the same points, times the number of all."""
    import lcbench

    for name in ("wine", "digits"):
        data = lcbench.data_of(name, 0)
        trial = lcbench.trial_of(data, epochs)
        began = time.perf_counter()
        found = sweep.run(trial, lcbench.SPACE, data, trials, epochs, progress=False)
        whole = time.perf_counter() - began
        numbers = np.linspace(0, trials - 1, sample).astype(int)
        own = lcbench.trial_of(data, epochs, parts=1)
        took = [_alone(own, data, epochs, found.trial(int(i)).hyper) for i in numbers]
        loop = statistics.mean(took) * trials
        compiled = sum(program.compile_seconds for program in found.programs)
        show(
            f"LCBench's space on {name}, {trials} points x {epochs} epochs, once",
            {f"loop of jitted runs, from {sample} of them": [loop], "sweep.run": [whole]}, 1, "s",
        )  # fmt: skip
        print(f"  {len(found.programs)} programs, {compiled:.1f} s of compiling")


def _alone(trial, data, epochs, hyper):
    """Seconds of one jitted run of these hyperparameters, with arrays of just its own sizes."""
    plain = {
        name: value.item() if hasattr(value, "item") else value for name, value in hyper.items()
    }
    sizes = {name: pn.PaddedSize(plain[name], plain[name]) for name in ("units", "batch_size")}
    arrays, trainable = jax.tree.map(jnp.asarray, data), trial(plain | sizes)

    def epoch(state, _):
        state, _ = trainable.epoch(state, arrays[0])
        return state, [trainable.evaluate(state, part) for part in arrays]

    run = jax.jit(lambda key: jax.lax.scan(epoch, trainable.init(key), None, epochs)[1])
    began = time.perf_counter()
    jax.block_until_ready(run(jax.random.key(0)))
    return time.perf_counter() - began
