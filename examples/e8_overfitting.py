"""Overfitting 300 images, and what weight decay and dropout do about it.

784-100x6-10 with relu and He's weights, 300 training images, batches of 100, 201 epochs: nothing,
L2 of 0.1, L1 of 0.005, dropout of 0.2, and dropout of 0.1 with L1 of 0.005; by SGD at 0.01, and
again by momentum at 0.01, AdaGrad at 0.01 and Adam at 0.001. The experiment is that of Saito, "Deep
Learning from Scratch" (2016), section 6.4; for dropout see Srivastava et al. (2014).

Penalties and dropout rates are numbers, so all remedies and seeds of an optimizer train in one
program. Lines are means over the seeds. Test accuracy is that of the first 2,000 test images. The
strengths are those of the courses. A smaller gap is not always a better network (L2 of 0.1 keeps it
from fitting anything well), so the table shows both accuracies. `--quick` takes two optimizers.

    python examples/e8_overfitting.py --data mnist --data-dir DIR
"""

import common
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

CURES = {  # strength of L2, of L1, rate of dropout
    "none": (0.0, 0.0, 0.0),
    "L2 0.1": (0.1, 0.0, 0.0),
    "L1 0.005": (0.0, 0.005, 0.0),
    "dropout 0.2": (0.0, 0.0, 0.2),
    "dropout 0.1, L1 0.005": (0.0, 0.005, 0.1),
}
RATES = {pn.sgd: 0.01, pn.adam: 0.001, pn.momentum: 0.01, pn.adagrad: 0.01}

pn.use_cpu_cores()
chosen = common.options(__doc__)
train, test = common.images(chosen, flatten=True, test=1497)
train, test = common.first(train, 300), common.first(test, 500 if chosen.quick else 2000)
epochs, seeds = 201, 1 if chosen.quick else 3
optimizers = list(RATES)[: 2 if chosen.quick else None]


def trial(hyper):
    strengths = jnp.array(list(CURES.values()))
    by_l2, by_l1, dropout = strengths[hyper["cure"].astype(int)]
    optimizer = hyper["optimizer"](RATES[hyper["optimizer"]])
    return pn.supervised(
        pn.mlp(dropout=dropout), (train[0].shape[1], *[100] * 6, 10), optimizer,
        pn.softmax_cross_entropy, 100, lambda weights: pn.l2(by_l2)(weights) + pn.l1(by_l1)(weights)
    )  # fmt: skip


space = {
    "cure": sweep.choice(np.arange(len(CURES), dtype=float)),
    "optimizer": sweep.choice(optimizers),
}
result = sweep.run(
    trial, space, (train, test), None, epochs, chosen.seed, search=sweep.grid(), seeds=seeds
)

shape = (len(CURES), len(optimizers), seeds, epochs)
fitted, measured = (
    result.curves[part]["accuracy"].reshape(shape).mean(axis=2) for part in ("train", "validation")
)
gap = fitted[..., -1] - measured[..., -1]
rows, panels = [], []
for i, optimizer in enumerate(optimizers):
    for j, cure in enumerate(CURES):
        name = f"{optimizer.__name__}, {cure}"
        values = (fitted[j, i, -1], measured[j, i, -1], gap[j, i])
        rows.append([name, *(f"{value:.1%}" for value in values)])
        series = {"test": measured[j, i], "training": fitted[j, i]}
        panels.append((f"{optimizer.__name__}\n{cure}\ngap {gap[j, i]:.1%}", series))
common.table(["", "training", "test", "gap"], rows)
print(f"{len(result.programs)} programs, {result.trials} networks, {result.seconds:.0f} s")
title = f"300 images, mean of {seeds} seeds" if seeds > 1 else "300 images"
pn.plots.curve_grid(chosen.out / "e8_overfitting.png", panels, columns=5, title=title)
assert (fitted[0, :, -1] > 0.99).all(), "without a cure the training images should be learnt"
assert (gap[0] > 0.03).all(), "that should be overfitting"
assert (fitted[1, :, -1] < fitted[0, :, -1] - 0.01).all(), "so much L2 should hold the fit back"
# SGD has not yet fitted the images with dropout, so it is left out
assert gap[3, 1:].mean() < gap[0, 1:].mean(), "dropout should narrow the gap"
