"""Suites of the benchmark about searches: what stopping early saves, and what bookkeeping costs."""

import functools
import statistics
import tempfile
import time
from pathlib import Path

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


def planning(e9, data, reps):
    """What a plan predicts for E9 and for digits, and what the run that follows it takes."""
    del reps
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    rng = np.random.default_rng(0)
    small = [(rng.random((n, 64)).astype(np.float32), rng.integers(0, 10, n)) for n in (400, 100)]

    def digits(hyper):
        optimizer, penalty = pn.sgd(hyper["rate"]), pn.l2(hyper["decay"])
        sizes, loss = (64, 16, 10), pn.softmax_cross_entropy
        return pn.supervised(pn.mlp(), sizes, optimizer, loss, 100, penalty=penalty)

    for name, trial, parts, trials, epochs in (
        ("E9", e9, data, 40, 50), ("64-16-10", digits, tuple(small), 400, 50),
    ):  # fmt: skip
        arguments = trial, space, parts, trials, epochs
        planned = sweep.plan(*arguments)
        print(f"\nplan of {name}\n{planned}")
        for label, plan in (("by itself", None), ("as planned", planned)):
            sweep.run(*arguments, plan=plan, progress=False)
            began = time.perf_counter()
            sweep.run(*arguments, plan=plan, progress=False)
            print(f"  {label:<11} {time.perf_counter() - began:.2f} s, warm")


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


def quality(e9, data, reps, seeds=10, trials=256, epochs=50):
    """How good the best of halving is, chosen on validation data, against that of all trained to
    the end: several seeds."""
    del reps
    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    run = functools.partial(sweep.run, e9, space, data, trials, epochs, progress=False)
    run(search=sweep.halving(first=3))
    print(f"\nbest of {trials} x {epochs}, all to the end against halving (eta 3, first rung at 3)")
    as_good, times = 0, []
    for seed in range(seeds):
        took, best = [], []
        for search in (sweep.random, sweep.halving(first=3)):
            began = time.perf_counter()
            result = run(seed=seed, search=search)
            took.append(time.perf_counter() - began)
            best.append(float(result.best().score))
        as_good += best[1] >= best[0]
        times.append(took[1] / took[0])
        print(f"  seed {seed}: {best[0]:.2f} in {took[0]:.1f} s, {best[1]:.2f} in {took[1]:.1f} s")
    share = statistics.median(times)
    print(f"  as good or better in {as_good} of {seeds}, in {share:.2f} of the time")
