"""Freeze-thaw against other searches, on learning curves that were recorded once.

Three tasks, each with the curves of 400 random points, are in `sweep_freeze_thaw.npz`. A trial
looks its curve up in place of training, so a hundred searches take minutes. Every search may spend
a fifth of the trial-epochs of a random search that trains 100 points to the end.

    python examples/sweep_freeze_thaw.py
    python examples/sweep_freeze_thaw.py --record  # trains the networks again
"""

from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

RECORDED = Path(__file__).with_suffix(".npz")
TASKS = ("wine", "breast_cancer", "digits")
POINTS, EPOCHS, TRIALS, SHARE = 400, 27, 100, 0.2
BUDGET = int(SHARE * TRIALS * EPOCHS)
SPACE = {
    "rate": sweep.loguniform(1e-4, 1.0),
    "momentum": sweep.uniform(0.0, 0.99),
    "decay": sweep.loguniform(1e-6, 1e-1),
    "dropout": sweep.uniform(0.0, 0.7),
    "units": sweep.padded(sweep.lograndint(4, 65), to=(64,)),
}
LEAVES = list(SPACE.values())
CUBE = sweep.random(LEAVES, POINTS, 0)  # of the recorded points
RATES = LEAVES[0].ppf(CUBE[:, 0])  # no two are equal: they tell the points apart


def data_of(name):
    """(train, validation), standardised by the training rows."""
    from sklearn import datasets

    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    pair = x.astype(np.float32), t.astype(np.int32)
    (x, t), (vx, vt) = pn.data.split(jax.random.key(0), pair, validation=0.33)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    return ((x - mean) / std, t), ((vx - mean) / std, vt)


def record(name):
    """The validation losses (points, epochs) of all points, trained."""
    data = data_of(name)
    x, t = data[0]

    def trial(hyper):
        return pn.supervised(
            net=pn.mlp(dropout=hyper["dropout"]),
            sizes=(x.shape[1], hyper["units"], int(t.max()) + 1),
            optimizer=pn.chain(
                pn.add_weight_decay(hyper["decay"]), pn.momentum(hyper["rate"], hyper["momentum"])
            ),
            loss=pn.softmax_cross_entropy,
            batch_size=32,
        )

    result = sweep.run(trial, SPACE, data, POINTS, EPOCHS, metric="loss", mode="min")
    return np.minimum(result.curves["validation"]["loss"].astype(np.float32), 1e30)


def replayed(hyper):
    """A training that looks its curve up: its data are all curves."""
    row = jnp.argmin(jnp.abs(jnp.log(jnp.asarray(RATES, jnp.float32) / hyper["rate"])))
    return pn.Trainable(
        init=lambda key: jnp.zeros((), jnp.int32),
        epoch=lambda epoch, curves: (epoch + 1, {}),
        evaluate=lambda epoch, curves: {"loss": curves[row, epoch - 1]},
    )


def shuffled(distributions, trials, seed):
    """The recorded points in an order of this seed."""
    return CUBE[np.random.default_rng(seed).permutation(POINTS)[:trials]]


RECORDED_POINTS = sweep.Sampler(shuffled, "recorded", prefix=True)


def affordable(search):
    """The largest number of points with which a search stays within the budget."""
    return max(n for n in range(9, POINTS + 1) if search.budget(n, EPOCHS) <= BUDGET)


def searches():
    """Each search, and its number of points."""
    halving = sweep.halving(sampler=RECORDED_POINTS)
    hyperband = sweep.hyperband(sampler=RECORDED_POINTS)
    median = sweep.median_stopping(grace=5, sampler=RECORDED_POINTS)
    freeze_thaw = sweep.freeze_thaw(BUDGET / (POINTS * EPOCHS), sampler=RECORDED_POINTS)
    return {
        "random, all epochs": (RECORDED_POINTS, TRIALS),
        "random": (RECORDED_POINTS, BUDGET // EPOCHS),
        # what it stops is not known in advance; by half of the points every few epochs, this many
        "median_stopping": (median, 2 * BUDGET // EPOCHS),
        "hyperband": (hyperband, affordable(hyperband)),
        "halving": (halving, affordable(halving)),
        "freeze_thaw": (freeze_thaw, POINTS),
    }


def best_loss(curves, search, points, seed):
    """The best loss after the last epoch that a search finds, and the trial-epochs it takes."""
    data = (curves, curves)
    result = sweep.run(
        replayed, SPACE, data, points, EPOCHS, seed, search=search, metric="loss", mode="min",
        keep=0, devices=1, progress=False,
    )  # fmt: skip
    return result.best().score, int(result.epochs.sum())


def interval(differences):
    """A 95% interval of the median, by bootstrap."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(differences, (2000, len(differences)))
    return np.quantile(np.median(drawn, axis=1), [0.025, 0.975])


def main():
    chosen = common.options(__doc__, record=False, seeds=10)
    if chosen.record:
        np.savez_compressed(RECORDED, **{name: record(name) for name in TASKS})
    with np.load(RECORDED) as file:
        recorded = {name: file[name] for name in TASKS}
    tasks = TASKS[:1] if chosen.quick else TASKS
    seeds = range(chosen.seed, chosen.seed + (1 if chosen.quick else chosen.seeds))
    for name in tasks:
        losses, spent = {}, {}
        for label, (search, points) in searches().items():
            found = [best_loss(recorded[name], search, points, seed) for seed in seeds]
            losses[label], spent[label] = map(np.array, zip(*found, strict=True))
        full, halving = losses["random, all epochs"], losses["halving"]
        print(f"\n{name}: loss of the best point, {len(seeds)} seeds")
        rows = [
            (label, f"{np.median(spent[label]):.0f}", f"{np.median(loss):.5f}",
             f"{loss.max():.5f}", f"{np.mean(loss <= full):.0%}")
            for label, loss in losses.items()
        ]  # fmt: skip
        common.table(("search", "trial-epochs", "median", "worst", "reaches random"), rows)
        mine = losses["freeze_thaw"]
        low, high = interval(mine - halving)
        print(
            f"freeze_thaw - halving: median {np.median(mine - halving):.5f} [{low:.5f}, {high:.5f}]"
        )
        assert spent["freeze_thaw"].max() <= BUDGET
        assert np.median(mine) < np.median(losses["random"]), "it should beat chance"
        if not chosen.quick:
            assert np.median(mine) <= np.median(full), "a fifth of the epochs should be enough"
            assert low <= 0, "it should not be worse than halving"


if __name__ == "__main__":
    main()
