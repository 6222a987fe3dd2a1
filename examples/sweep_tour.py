"""A tour of sweeps: from a plan to pictures, on handwritten digits.

Each step uses one more feature of the library and checks the outcome. All steps train the same
small network, so one compiled program serves nearly all of them.

    python examples/sweep_tour.py --quick
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()  # on a CPU: one device a core
SPACE = {
    "rate": sweep.loguniform(1e-3, 10.0),
    "decay": sweep.loguniform(1e-6, 1e-1),
    "dropout": sweep.uniform(0.0, 0.5),
}


def trial(hyper):
    """One training run; the numbers in `hyper` are traced."""
    return pn.supervised(
        net=pn.mlp(dropout=hyper["dropout"]),
        sizes=(64, 50, 10),
        optimizer=pn.sgd(hyper["rate"]),
        penalty=pn.l2(hyper["decay"]),
        loss=pn.softmax_cross_entropy,
        batch_size=100,
    )


def run(chosen, data, **options):
    """The sweep of this tour, with the options of one step."""
    if jax.config.jax_compilation_cache_dir is None:  # processes share compiled programs
        jax.config.update("jax_compilation_cache_dir", str(chosen.scratch / "programs"))
    same = {"trials": chosen.trials, "epochs": chosen.epochs, "seed": chosen.seed}
    return sweep.run(trial, SPACE, data, **same | options)


def done_in(folder):
    """The trial-epochs recorded in a sweep's folder, which may be read while the sweep runs."""
    return sweep.load(folder).epochs.sum() if (folder / "report.json").exists() else 0


def cost(result):
    seconds = result.seconds - sum(program.compile_seconds for program in result.programs)
    return f"{result.epochs.sum():5} trial-epochs in {seconds:5.2f} s"


def main():
    chosen = common.options(__doc__, trials=80, epochs=81)
    assert chosen.data == "digits", "this example is made for the digits"
    if chosen.quick:
        chosen.trials, chosen.epochs = 8, 27
    data = common.images(chosen, flatten=True)
    temporary = tempfile.TemporaryDirectory()
    chosen.scratch = Path(temporary.name)

    print("1. Plan: what fits in memory, which layout is fastest here, how long it will take.")
    print(sweep.plan(trial, SPACE, data, chosen.trials, chosen.epochs, chosen.seed))

    print("\n2. Random search: every trial is trained to the end, all of them in one program.")
    everything = run(chosen, data)
    print(f"{cost(everything)}, after {everything.programs[0].compile_seconds:.1f} s of compiling")
    print(everything.table(3))
    median = lambda result: np.median(result.curves["validation"]["accuracy"][:, -1])
    assert len(everything.programs) == 1

    print("\n3. Searches that stop the bad trials early, in the same program.")
    searches = (sweep.halving(), sweep.hyperband(), sweep.median_stopping())
    halved, *others = (run(chosen, data, search=search) for search in searches)
    for result in (halved, *others):
        print(f"{cost(result)}, best {result.best().score:.4f}: {result.settings['search']}")
    assert halved.epochs.sum() < 0.4 * everything.epochs.sum(), "halving did not save epochs"
    assert halved.best().score > median(everything), "halving chose a trial below the median"

    print("\n4. A population: the worst copy the best and change their hyperparameters.")
    population = run(chosen, data, search=sweep.pbt(every=9))
    copies = (population.lineage.parents != np.arange(chosen.trials)).sum()
    print(f"{cost(population)}, {copies} copies, best {population.best().score:.4f}")
    print(f"median accuracy {median(population):.4f}, without copying {median(everything):.4f}")
    assert median(population) >= median(everything)

    print("\n5. Killed and resumed: with path=, progress is on disk.")
    folder = chosen.scratch / "sweep"
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=run, args=(chosen, data), kwargs={"path": folder})
    other.start()
    enough = 1 if chosen.quick else everything.epochs.sum() // 4
    while other.is_alive() and done_in(folder) < enough:
        time.sleep(0.01)
    other.kill()  # SIGKILL: the process cannot clean up
    other.join()
    left = done_in(folder)
    print(f"killed with {left} of {everything.epochs.sum()} trial-epochs on disk")
    assert left < everything.epochs.sum(), "the other process finished before it was killed"
    resumed = run(chosen, data, path=folder)
    assert resumed.table(chosen.trials) == everything.table(chosen.trials)
    print(f"resumed: the same table of {chosen.trials} trials as in step 2, to the last digit")

    print("\n6. Several seeds per point: means, and 95% intervals.")
    seeds = 4
    repeated = run(chosen, data, trials=chosen.trials // seeds, seeds=seeds)
    print(repeated.table(3))
    assert repeated.best().interval > 0

    print("\n7. The best trial retrained alone, and its weights.")
    best = everything.best()
    again = everything.replay(best.number)
    for part, curves in again.curves.items():
        for name, curve in curves.items():
            np.testing.assert_array_equal(curve, everything.curves[part][name][best.number])
    (x, t), weights = data[1], everything.weights(best.number)
    right = (common.predictions(pn.mlp(dropout=0.0), weights, x) == t).mean()
    print(f"trial {best.number}: identical curves; its weights name {right:.2%} of the images")
    assert abs(right - best.score) < 1e-6

    print("\n8. Ask and tell: the search alone, for your own training loop.")
    space = {name: SPACE[name] for name in ("rate", "decay")}
    # sweep.from_optuna(optuna.samplers.TPESampler) instead of sobol would learn from the scores
    study = sweep.AskTell(space, search=sweep.sobol, seed=chosen.seed)
    asked = study.ask(32)  # numbers, and an array (32,) of each hyperparameter
    scores = jax.jit(jax.vmap(lambda hyper: softmax_regression(data, **hyper)))(asked.hyper)
    study.tell(asked.numbers, scores)
    best = study.best()
    print(f"best of {len(scores)}: {best.score:.4f} with the rate {best.hyper['rate']:.3g}")
    assert best.score > 0.9

    print("\n9. Pictures.")
    everything.plot(chosen.out / "tour_best.png", n=12)
    everything.plot_parallel(chosen.out / "tour_parallel.png")
    everything.plot_slices(chosen.out / "tour_slices.png")
    everything.plot_map(chosen.out / "tour_map.png")
    halved.plot_rungs(chosen.out / "tour_rungs.png")
    population.plot_lineage(chosen.out / "tour_lineage.png")
    print(f"best, parallel, slices, map, rungs, lineage: {chosen.out}/tour_*.png")


def softmax_regression(data, rate, decay):
    """Step 8 works with any traceable function of the hyperparameters."""
    (x, t), (xv, tv) = data
    loss = lambda w: pn.softmax_cross_entropy(x @ w, t) + decay * (w**2).sum() / 2
    step = lambda w, _: (w - rate * jax.grad(loss)(w), None)
    w, _ = jax.lax.scan(step, jnp.zeros((x.shape[1], 10)), length=100)
    return pn.accuracy(xv @ w, tv)


if __name__ == "__main__":
    main()
