"""Batchnorm makes a network forgive its first weights: sixteen scales, with it and without.

1,000 images, 784-100x5-10 with relu, SGD at 0.01, batches of 100, 20 epochs; initial weights of
deviation 10^0 down to 10^-4 in sixteen steps. Without batchnorm only a narrow band of scales
learns: above it the loss overflows, below it no gradient arrives. Settings: Saito, "Deep Learning
from Scratch" (2016), section 6.3, after Ioffe & Szegedy (2015). Test accuracy is that of the first
2,000 test images. `--quick` takes six scales and half of the images.

All sixteen scales train in one program, with batchnorm in a second one.

    python examples/e6_batch_norm_scales.py --data mnist --data-dir DIR
"""

import common
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()
chosen = common.options(__doc__)
train, test = common.images(chosen, flatten=True)
images, measured, count = (500, 200, 6) if chosen.quick else (1000, 2000, 16)
train, test, epochs = common.first(train, images), common.first(test, measured), 20
scales = np.logspace(0, -4, count)


def trial(hyper):
    init = pn.initializers.normal(hyper["std"])
    net = pn.mlp(batch_norm=hyper["batch_norm"], weight_init=init)
    sizes = (train[0].shape[1], *[100] * 5, 10)
    return pn.supervised(net, sizes, pn.sgd(0.01), pn.softmax_cross_entropy, batch_size=100)


space = {"batch_norm": sweep.choice([False, True]), "std": sweep.choice(scales)}
result = sweep.run(trial, space, (train, test), None, epochs, chosen.seed, search=sweep.grid())

names = ("without", "batchnorm")
fitted, tested = (
    dict(zip(names, result.curves[part]["accuracy"].reshape(2, count, epochs), strict=True))
    for part in ("train", "validation")
)
last = lambda curves, i: np.nan_to_num(curves[i, -1])  # a network that diverged knows nothing
show = lambda curves, i: "diverged" if np.isnan(curves[i, -1]) else f"{curves[i, -1]:.1%}"
rows, panels = [], []
for i, std in enumerate(scales):
    cells = (show(curves[name], i) for curves in (fitted, tested) for name in names)
    rows.append([f"{std:.4f}", *cells])
    lost = "\nwithout: diverged" if np.isnan(fitted["without"][i, -1]) else ""
    panels.append((f"std {std:.4f}{lost}", {name: fitted[name][i] for name in names}))
common.table(["std", "without", "batchnorm", "test, without", "test, batchnorm"], rows)
good = {name: sum(last(fitted[name], i) > 0.6 for i in range(count)) for name in names}
print(
    f"above 60% of the training images: {good['without']} scales without, {good['batchnorm']} with"
)
print(f"{len(result.programs)} programs, {result.trials} networks, {result.seconds:.1f} s")
pn.plots.curve_grid(
    chosen.out / "e6_batch_norm_scales.png", panels, columns=4,
    y_label="accuracy on training images", title="Initial scales",
)  # fmt: skip

assert good["batchnorm"] >= good["without"] + (3 if chosen.quick else 4), "batchnorm did not help"
assert last(fitted["without"], -1) < 0.2, "the smallest weights should not learn by themselves"
