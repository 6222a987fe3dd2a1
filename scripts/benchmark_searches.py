"""Suites of the benchmark about searches: what stopping early saves, and what bookkeeping costs."""

import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_timing import measure, show

import purenet as pn
from purenet import sweep


def stopping(e9, data, reps):
    """81 trials of E9 with successive halving: seconds a trial-epoch against the full search; the
    same with a folder, and as a population."""
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    folders = (Path(tempfile.mkdtemp()) for _ in range(1000))
    searches = {
        "all to the end": lambda: {},
        "halving, eta 3": lambda: {"search": sweep.halving()},
        "hyperband, eta 3": lambda: {"search": sweep.hyperband()},
        "population, exchange every 3": lambda: {"search": sweep.pbt(every=3)},
        "all to the end, with a folder": lambda: {"path": next(folders)},
    }
    for epochs in (27, 81):
        run = functools.partial(sweep.run, e9, space, data, 81, epochs, progress=False)
        trained = {name: run(**options()).epochs.sum() for name, options in searches.items()}
        programs = {
            name: lambda options=options, run=run: run(**options()).status
            for name, options in searches.items()
        }
        samples = measure(programs, reps)
        each = {name: [t / trained[name] for t in times] for name, times in samples.items()}
        whole = {name: statistics.median(times) for name, times in samples.items()}
        note = lambda name, _, trained=trained, whole=whole: (
            f"{trained[name]} trial-epochs in {whole[name]:.2f} s"
        )
        show(f"81 trials x {epochs} epochs, a trial-epoch", each, note=note)


def without_a_library(trial, data, epochs, hyper):
    """What a user would write: vmap over whole runs, and a loop of jitted runs."""
    arrays = jax.tree.map(jnp.asarray, data)
    hypers = {name: jnp.asarray(column, jnp.float32) for name, column in hyper.items()}

    def whole(key, hyper):
        trainable = trial(hyper)

        def epoch(state, _):
            state, _ = trainable.epoch(state, arrays[0])
            return state, [trainable.evaluate(state, part) for part in arrays]

        return jax.lax.scan(epoch, trainable.init(key), None, epochs)[1]

    one, several = jax.jit(whole), jax.jit(jax.vmap(whole))
    trials = len(next(iter(hypers.values())))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(trials))
    each = [(keys[i], {name: column[i] for name, column in hypers.items()}) for i in range(trials)]
    return lambda: several(keys, hypers), lambda: [one(*arguments) for arguments in each]


def planning(e9, data, reps):
    """What a plan predicts for several workloads, what the run that follows it takes, what a run by
    itself takes, and what a loop of jitted runs."""
    decay = sweep.loguniform(1e-8, 1e-4)
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": decay}
    rng = np.random.default_rng(0)
    few = lambda n, *shape: (rng.random((n, *shape), np.float32), rng.integers(0, 10, n))
    small, images = (few(400, 64), few(100, 64)), (few(400, 28, 28, 1), few(100, 28, 28, 1))

    def supervised(net, sizes):
        return lambda hyper: pn.supervised(net, sizes, pn.sgd(hyper["rate"]),
                                           pn.softmax_cross_entropy, 100,
                                           penalty=pn.l2(hyper["decay"]))  # fmt: skip

    for name, trial, parts, trials, epochs in (
        ("E9", e9, data, 40, 50),
        ("64-16-10", supervised(pn.mlp(), (64, 16, 10)), small, 400, 50),
        ("SimpleConvNet", supervised(pn.simple_convnet(), (28, 28, 1)), images, 16, 2),
    ):
        arguments = trial, space, parts, trials, epochs
        planned = sweep.plan(*arguments)
        run = functools.partial(sweep.run, *arguments, progress=False)
        _, loop = without_a_library(trial, parts, epochs, run().hyper)
        programs = {
            "loop of jitted runs": loop,
            "sweep.run": lambda run=run: run().status,
            "sweep.run as planned": lambda run=run, planned=planned: run(plan=planned).status,
        }
        samples = measure(programs, reps)
        show(f"{name}, {trials} trials x {epochs} epochs", samples, 1, "s")
        print("  " + str(planned).replace("\n", "\n  "))


def bookkeeping(reps, trials=10_000):
    """10,000 trials of a function that costs nothing; with Optuna beside, where it is installed."""
    space = {"x": sweep.uniform(-5.0, 5.0), "y": sweep.loguniform(1e-3, 1.0)}
    nothing = ((np.ones(1, np.float32),),) * 2

    def trial(hyper):
        loss = lambda data: (hyper["x"] - 2) ** 2 + hyper["y"] ** 2 + 0 * data[0].sum()
        return pn.Trainable(
            lambda key: jnp.zeros(()), lambda s, data: (s, {}), lambda s, data: {"loss": loss(data)}
        )

    run = functools.partial(sweep.run, trial, space, nothing, trials, 1, progress=False)
    began = time.perf_counter()
    run()
    print(
        f"\n{trials} trials of a trivial function: first call {time.perf_counter() - began:.2f} s"
    )
    programs = {"purenet": lambda: run().status}
    try:
        import optuna
    except ModuleNotFoundError:
        print("  (pip install optuna to see it beside)")
    else:
        optuna.logging.set_verbosity(optuna.logging.WARNING)

        def objective(t):
            x, y = t.suggest_float("x", -5.0, 5.0), t.suggest_float("y", 1e-3, 1.0, log=True)
            return (x - 2) ** 2 + y**2

        def study(sampler, n):
            optuna.create_study(sampler=sampler).optimize(objective, n_trials=n)
            return 0

        samplers = optuna.samplers
        programs["Optuna, random sampler"] = lambda: study(samplers.RandomSampler(seed=0), trials)
        tenth = lambda: study(None, trials // 10)
        programs["Optuna, TPE, a tenth of the trials"] = tenth
    show("bookkeeping", measure(programs, reps), 1, "s")


def quality(reps, seeds=10, trials=256, epochs=50):
    """How good the best of halving is, chosen on validation data, against that of all trained to
    the end: E9 on 500 images of MNIST (in MNIST_DIR) or of the digits, several seeds."""
    del reps
    folder = os.environ.get("MNIST_DIR")
    x, t = pn.data.mnist(folder)[0] if folder else pn.data.digits()
    parts = pn.data.split(jax.random.key(0), (x[:500], t[:500]), validation=0.2)
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}

    def e9(hyper):
        sizes, optimizer = (x.shape[1], *[100] * 6, 10), pn.sgd(hyper["rate"])
        return pn.supervised(pn.mlp(), sizes, optimizer, pn.softmax_cross_entropy, 100,
                             penalty=pn.l2(hyper["decay"]), batches="with_replacement")  # fmt: skip

    run = functools.partial(sweep.run, e9, space, parts, trials, epochs, progress=False)
    run()
    searches = {"all": sweep.random, **{f"first {n}": sweep.halving(first=n) for n in (1, 3)}}
    print(f"\n{'MNIST' if folder else 'digits'}: best of {trials} x {epochs}, all and halving")
    best = {name: [] for name in searches}
    took = {name: [] for name in searches}
    for seed in range(seeds):
        for name, search in searches.items():
            began = time.perf_counter()
            best[name].append(float(run(seed=seed, search=search).best().score))
            took[name].append(time.perf_counter() - began)
    for name in searches:
        as_good = sum(a >= b for a, b in zip(best[name], best["all"], strict=True))
        share = statistics.median(a / b for a, b in zip(took[name], took["all"], strict=True))
        scores = " ".join(f"{score:.2f}" for score in best[name])
        print(f"  {name:<8} {scores}  as good in {as_good} of {seeds}, {share:.2f} of the time")
