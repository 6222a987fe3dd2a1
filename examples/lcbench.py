"""LCBench's space: seven hyperparameters, two thousand networks of any depth, width and batch size.

The benchmark trained funnel-shaped networks one by one on a cluster (Zimmer, Lindauer & Hutter,
2021, Auto-PyTorch Tabular, table 1). Here depth is static. The units of the widest layer are drawn
exactly, and padded to the next of a few capacities, so that the narrow networks do not pay for the
wide ones. Batch sizes are exact too: minibatches are padded to the largest, and computed in parts,
of which only those that hold an example are.

    python examples/lcbench.py --data digits
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()

UNITS, DEPTHS = tuple(range(128, 1025, 128)), (1, 2, 3, 4, 5)
PARTS = 8  # of a minibatch
SPACE = {
    "batch_size": sweep.padded(sweep.lograndint(16, 513), to=(512,)),
    "rate": sweep.loguniform(1e-4, 1e-1),
    "momentum": sweep.uniform(0.1, 0.99),
    "decay": sweep.loguniform(1e-5, 1e-1),
    "layers": sweep.choice(DEPTHS),
    "units": sweep.padded(sweep.lograndint(64, 1025), to=UNITS),
    "dropout": sweep.uniform(0.0, 1.0),
}


def funnel(units, layers, outputs):
    """The widths of the hidden layers: `units` first, then evenly down towards the outputs."""
    return [units - (units - outputs) * i // layers for i in range(layers)]


def data_of(name, seed):
    """(train, validation), standardised by the training rows."""
    from sklearn import datasets

    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    pair = x.astype(np.float32), t.astype(np.int32)
    (x, t), (vx, vt) = pn.data.split(jax.random.key(seed), pair, validation=0.33)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    return ((x - mean) / std, t), ((vx - mean) / std, vt)


def trial_of(data, epochs, parts=PARTS):
    """The trial function: a funnel with dropout, by momentum under a rate that cools to 0."""
    x, t = data[0]
    outputs, steps = int(t.max()) + 1, epochs * len(x)

    def trial(hyper):
        units, layers = hyper["units"], hyper["layers"]
        exact, room = (funnel(n, layers, outputs) for n in (units.size, units.capacity))
        hidden = map(pn.PaddedSize, exact, room)
        cooled = pn.schedules.cosine(hyper["rate"], steps // hyper["batch_size"].size)
        return pn.supervised(
            net=pn.mlp(dropout=hyper["dropout"] * 0.999),  # a rate of 1 would leave nothing
            sizes=(x.shape[1], *hidden, outputs),
            optimizer=pn.chain(
                pn.add_weight_decay(hyper["decay"]), pn.momentum(cooled, hyper["momentum"])
            ),
            loss=pn.softmax_cross_entropy,
            batch_size=hyper["batch_size"],
            microbatches=parts,
        )

    return trial


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "wine"), default="digits")
    parser.add_argument("--trials", type=int, default=2000, help="points of the space")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--path", type=Path, help="folder for the results so far")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that it works")
    chosen = parser.parse_args()
    space = SPACE
    if chosen.quick:
        chosen.data, chosen.trials, chosen.epochs = "wine", 8, 5
        space = SPACE | {
            "layers": sweep.choice((1, 2)),
            "units": sweep.padded(sweep.lograndint(16, 65), to=(64,)),
            "batch_size": sweep.padded(sweep.lograndint(16, 65), to=(64,)),
        }
    data = data_of(chosen.data, chosen.seed)
    trial = trial_of(data, chosen.epochs)
    result = sweep.run(
        trial, space, data, chosen.trials, chosen.epochs, chosen.seed, path=chosen.path
    )
    print(result.table(10))
    compiled = sum(program.compile_seconds for program in result.programs)
    print(
        f"\n{len(result)} networks in {result.seconds:.0f} s, by {len(result.programs)} programs "
        f"that took {compiled:.0f} s to compile, most of it while others trained"
    )
    assert len(result.programs) <= len(UNITS) * len(DEPTHS)
    assert {*result.status} <= {"done", "diverged"}


if __name__ == "__main__":
    main()
