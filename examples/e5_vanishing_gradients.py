"""Why deep networks did not learn: sigmoid, small weights, and what batchnorm does about it.

784-40-20-10, SGD at 0.1, 2,000 steps with batches of 100, for sigmoid and relu, weights of
deviation 0.01, sqrt(1/n) (LeCun) and sqrt(2/n) (He), with and without batchnorm (whose scale and
shift are trained): the twelve runs with which courses show that gradients vanish. For the reasons
see Glorot & Bengio (2010), He et al. (2015) and Ioffe & Szegedy (2015). Every hundred steps the
network is evaluated on test images and on the first 10,000 training images, where courses use the
latest batch. `--quick` stops at 600 steps.

The initialisers differ in one traced number, so each pair of activation and batchnorm is one
program, which trains three initialisers from several seeds. Lines are means over the seeds.

    python examples/e5_vanishing_gradients.py --data mnist --data-dir DIR
"""

import common
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

INITIALISERS = {0.0: "std 0.01", 1.0: "LeCun", 2.0: "He"}
SUMMARY = (np.mean, np.min, np.max)


def scaled(factor):
    """N(0, factor / fan_in), and N(0, 0.01²) where the factor is 0."""

    def init(key, shape):
        std = jnp.where(factor > 0, jnp.sqrt(factor / shape[0]), 0.01)
        return pn.initializers.normal(std)(key, shape)

    return init


pn.use_cpu_cores()
chosen = common.options(__doc__)
train, test = common.images(chosen, flatten=True)
blocks, seeds = (6, 1) if chosen.quick else (20, 5)


def trial(hyper):
    net = pn.mlp(hyper["activation"], hyper["batch_norm"], weight_init=scaled(hyper["initialiser"]))
    sizes = (train[0].shape[1], 40, 20, 10)
    trained = pn.supervised(net, sizes, pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=100)
    return common.in_blocks(trained, steps=100, batch_size=100)


space = {
    "activation": sweep.choice([pn.sigmoid, pn.relu]),
    "batch_norm": sweep.choice([False, True]),
    "initialiser": sweep.choice(list(INITIALISERS)),
}
result = sweep.run(
    trial, space, (train, test), None, blocks, chosen.seed, search=sweep.grid(), seeds=seeds
)

steps = 100 * np.arange(1, blocks + 1)
shape = (2, 2, 3, seeds, blocks)  # activation, batchnorm, initialiser, seed, time
measured, fitted = (
    result.curves[part]["accuracy"].reshape(shape) for part in ("validation", "train")
)
final, rows, panels = {}, [], []
for k, init in enumerate(INITIALISERS.values()):
    for i, activation in enumerate(("sigmoid", "relu")):
        for j, normalised in enumerate(("", "batchnorm")):
            test_curves, training_curves = measured[i, j, k], fitted[i, j, k]
            name = ", ".join(filter(None, (activation, init, normalised)))
            final[name] = test_curves[:, -1]
            values = (test_curves[:, blocks // 4].mean(), *(f(final[name]) for f in SUMMARY))
            rows.append([name, *(f"{value:.1%}" for value in values)])
            series = {
                "test": (steps, test_curves.mean(axis=0)),
                "training": (steps, training_curves.mean(axis=0)),
            }
            panels.append((f"{activation}, {init}\n{normalised or 'no batchnorm'}", series))
early = f"test at {steps[blocks // 4]}"
common.table(["", early, f"at {steps[-1]}", "worst seed", "best seed"], rows)
print(f"{len(result.programs)} programs, {result.trials} networks, {result.seconds:.0f} s")
pn.plots.curve_grid(
    chosen.out / "e5_vanishing_gradients.png", panels, columns=4, x_label="step",
    title=f"{train[0].shape[1]}-40-20-10, SGD 0.1, mean of {seeds} seeds",
)  # fmt: skip

assert final["sigmoid, std 0.01"].max() < 0.3, "sigmoid with small weights should not learn"
assert final["relu, He"].min() > 0.85, "relu with He's weights should learn"
for name in final:
    if "batchnorm" in name:
        assert final[name].min() > 0.8, f"{name}: batchnorm should make it learn"
