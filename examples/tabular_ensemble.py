"""Sixty-four networks for one table, each with its own numbers, and a greedy ensemble of them.

The setting is that of TabPack (arXiv 2607.05380): each network has its own rate, decay, dropout and
depth, stops by its own patience and keeps its best epoch. Depth is padded, so all of them are one
program; the table's numbers are embedded by periodic features.

    python examples/tabular_ensemble.py --optimizer muon
"""

import argparse

import jax
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()

OPTIMIZERS = {"adamw": pn.adamw, "muon": pn.muon}


def table(name, seed):
    """(train, validation, test), standardised by the training rows."""
    from sklearn import datasets

    x, t = getattr(datasets, f"{'fetch' if name == 'california_housing' else 'load'}_{name}")(
        return_X_y=True
    )
    pair = x.astype(np.float32), t.astype(np.float32)[:, None]
    first, second = jax.random.split(jax.random.key(seed))
    rest, test = pn.data.split(first, pair, validation=0.2)
    train, validation = pn.data.split(second, rest, validation=0.2)
    centre = [(a.mean(axis=0), a.std(axis=0) + 1e-6) for a in train]
    scaled = lambda part: tuple((a - m) / s for a, (m, s) in zip(part, centre, strict=True))
    return scaled(train), scaled(validation), scaled(test), float(centre[1][1][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=("diabetes", "california_housing"), default="diabetes")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--width", type=int, default=384, help="units of every hidden layer")
    parser.add_argument("--epochs", type=int, default=400, help="epochs at most")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that it works")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.networks, chosen.width, chosen.epochs = 6, 32, 20
    train, validation, test, unit = table(chosen.table, chosen.seed)
    columns = train[0].shape[1]

    def trial(hyper):
        net = pn.mlp(depth=hyper["depth"], dropout=hyper["dropout"], embed=pn.periodic(16))
        optimizer = OPTIMIZERS[chosen.optimizer](hyper["rate"], weight_decay=hyper["decay"])
        sizes = (columns, *[chosen.width] * 4, 1)
        batch_size = 32 if len(train[0]) < 2000 else 256
        return pn.supervised(net, sizes, optimizer, pn.mean_squared_error, batch_size)

    space = {
        "rate": sweep.loguniform(1e-4, 1e-2),
        "decay": sweep.loguniform(1e-4, 1e-1),
        "dropout": sweep.uniform(0.0, 0.5),
        "depth": sweep.padded(sweep.randint(1, 5), to=(4,)),
    }
    result = sweep.run(
        trial, space, (train, validation), chosen.networks, chosen.epochs, chosen.seed,
        patience=16, keep=chosen.networks,
    )  # fmt: skip
    print(result.table(10))
    print(f"\n{len(result.programs)} program, {result.seconds:.1f} s")
    for name, ensemble in (("the best network", result.ensemble(1)),
                           ("greedy ensemble", result.ensemble("greedy", size=15))):  # fmt: skip
        error = unit * ensemble.score(test)["loss"] ** 0.5
        print(f"{name}, {len(ensemble)} of {chosen.networks}: root mean squared error {error:.4g}")
        assert np.isfinite(error)


if __name__ == "__main__":
    main()
