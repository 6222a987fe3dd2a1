"""What hypergradients are worth: a search that walks down them beside searches without, at equal
trial-epochs.

Three classifications from scikit-learn's data sets; every network has a rate, a momentum, a decay
and noise on its inputs of its own. Each search trains the same number of trial-epochs, those that
the descent looks ahead included, and picks the network with the lowest validation loss; what counts
is the loss of that network on rows that no search has seen. An epoch of looking ahead takes the
time of about nine, with four numbers.

    python examples/sweep_hypergradients.py --seeds 10
"""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()

TASKS = ("wine", "breast_cancer", "digits")
SPACE = {
    "rate": sweep.loguniform(1e-4, 1.0),
    "momentum": sweep.uniform(0.0, 0.99),
    "decay": sweep.loguniform(1e-6, 1e-1),
    "noise": sweep.loguniform(1e-3, 1.0),
}


def data_of(name, seed, most=900):
    """(train, validation, test), standardised by the training rows: half, a quarter, a quarter."""
    from sklearn import datasets

    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(x))[:most]
    x, t = x[rows].astype(np.float32), t[rows].astype(np.int32)
    ends = [len(x) // 2, len(x) * 3 // 4]
    train = x[: ends[0]]
    x = (x - train.mean(axis=0)) / (train.std(axis=0) + 1e-2)
    return tuple(zip(np.split(x, ends), np.split(t, ends), strict=True))


@functools.cache
def trial_of(*sizes):
    """The trial function: one for all seeds, so that its programs are compiled once."""

    def trial(hyper):
        def noisy(key, x):
            return x + hyper["noise"] * jax.random.normal(key, x.shape, x.dtype)

        return pn.supervised(
            net=pn.mlp(pn.tanh),
            sizes=sizes,
            optimizer=pn.momentum(hyper["rate"], hyper["momentum"]),
            loss=pn.softmax_cross_entropy,
            batch_size=20,
            penalty=pn.l2(hyper["decay"]),
            augment=noisy,
        )

    return trial


def searches(trials, epochs):
    """{name: (search, points)}, each of at most trials · epochs trial-epochs."""
    budget, halving = trials * epochs, sweep.halving()
    descent = sweep.descent(every=2)
    ahead = descent.exchanges(epochs) * descent.descent.horizon  # what it looks ahead counts too
    most = max(n for n in range(1, budget) if halving.budget(n, epochs) <= budget)
    found = {
        "random": (sweep.random, trials),
        "halving": (halving, most),
        "pbt": (sweep.pbt(every=2), trials),
        "descent": (descent, budget // (epochs + ahead)),
    }
    try:
        import optuna
    except ModuleNotFoundError:
        return found
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = max(4, trials // 2)
    tpe = functools.partial(optuna.samplers.TPESampler, n_startup_trials=first)
    return found | {"tpe": (sweep.from_optuna(tpe, batch=4), trials)}


def compared(task, trials, epochs, seed, out):
    """{search: (the lowest validation loss, the loss of that network on unseen rows)}."""
    train, validation, (x, t) = data_of(task, seed)
    trial = trial_of(x.shape[1], 16, int(t.max()) + 1)
    found = {}
    for name, (search, points) in searches(trials, epochs).items():
        result = sweep.run(
            trial, SPACE, (train, validation), points, epochs, seed, search=search,
            metric="loss", mode="min", progress=False,
        )  # fmt: skip
        assert result.epochs.sum() <= trials * epochs
        right = result.predict(x)[np.arange(len(t)), t]
        unseen = -np.log(np.maximum(right, 1e-12)).mean()
        found[name] = result.best().score, float(unseen)
        if name == "descent":
            result.plot_lineage(out / "hypergradients_lineage.png")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="of the searches that train all")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10, help="splits of the rows, and searches")
    parser.add_argument("--seed", type=int, default=100, help="the first of them")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for pictures")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.trials, chosen.epochs, chosen.seeds = 6, 6, 1
    chosen.out.mkdir(parents=True, exist_ok=True)
    print(f"{'':24}{'validation':>12}{'unseen rows':>13}{'± error':>9}{'mean rank':>11}")
    for task in TASKS[:1] if chosen.quick else TASKS:
        seeds = range(chosen.seed, chosen.seed + chosen.seeds)
        runs = [compared(task, chosen.trials, chosen.epochs, seed, chosen.out) for seed in seeds]
        names = list(runs[0])
        losses = np.array([[run[name] for name in names] for run in runs])  # (seeds, searches, 2)
        assert np.isfinite(losses).all()
        ranks = losses[..., 1].argsort(axis=1).argsort(axis=1).mean(axis=0) + 1
        error = losses[..., 1].std(axis=0) / len(losses) ** 0.5
        for i, name in enumerate(names):
            known, unseen = losses[:, i].mean(axis=0)
            print(f"{task:15}{name:9}{known:12.4f}{unseen:13.4f}{error[i]:9.4f}{ranks[i]:11.1f}")


if __name__ == "__main__":
    main()
