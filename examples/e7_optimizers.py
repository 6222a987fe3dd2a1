"""Ten optimizers on one network: each at five rates, so that none is judged by one number.

784-100x4-10 with relu and He's weights, batches of 128, 2,000 steps: the network on which Saito,
"Deep Learning from Scratch" (2016), section 6.1, compares SGD, momentum, AdaGrad and Adam. Every
optimizer runs at a rate that its paper or textbook suggests and at 1/10, 1/3, 3 and 10 times that.
Every hundred steps the network is evaluated on the first 10,000 training images, whose loss ranks
the optimizers, and on test images.

The rates of an optimizer are one program. With `--quick` there are two optimizers and 250 steps.

    python examples/e7_optimizers.py --data mnist --data-dir DIR
"""

import common
import numpy as np

import purenet as pn
from purenet import sweep

SUGGESTED = {
    pn.sgd: 0.01, pn.momentum: 0.01, pn.adam: 0.001, pn.adagrad: 0.01, pn.nesterov: 0.01,
    pn.rmsprop: 0.001, pn.adadelta: 1.0, pn.adamw: 0.001, pn.nadam: 0.001, pn.lion: 0.0001,
}  # fmt: skip
TIMES = (0.1, 1 / 3, 1.0, 3.0, 10.0)

pn.use_cpu_cores()
chosen = common.options(__doc__)
train, test = common.images(chosen, flatten=True)
optimizers = [pn.sgd, pn.adam] if chosen.quick else list(SUGGESTED)
blocks, every = (5, 50) if chosen.quick else (20, 100)


def trial(hyper):
    optimizer = hyper["optimizer"](SUGGESTED[hyper["optimizer"]] * hyper["times"])
    sizes = (train[0].shape[1], 100, 100, 100, 100, 10)
    trained = pn.supervised(pn.mlp(), sizes, optimizer, pn.softmax_cross_entropy, batch_size=128)
    return common.in_blocks(trained, steps=every, batch_size=128)


space = {"optimizer": sweep.choice(optimizers), "times": sweep.choice(TIMES)}
result = sweep.run(trial, space, (train, test), None, blocks, chosen.seed, search=sweep.grid())

shape = (len(optimizers), len(TIMES), blocks)
losses = result.curves["train"]["loss"].reshape(shape)
scores = result.curves["validation"]["accuracy"].reshape(shape)
final = np.where(np.isnan(losses[..., -1]), np.inf, losses[..., -1])
best, usual = final.argmin(axis=1), TIMES.index(1.0)
ranking = sorted(range(len(optimizers)), key=lambda i: final[i, best[i]])
steps = every * np.arange(1, blocks + 1)
rows, compared, panels = [], {}, []
for i in ranking:
    name, rate = optimizers[i].__name__, SUGGESTED[optimizers[i]]
    chosen_rates = [(f"{rate * TIMES[j]:.2g}", j) for j in (best[i], usual)]
    cells = ((text, f"{final[i, j]:.3g}", f"{scores[i, j, -1]:.1%}") for text, j in chosen_rates)
    rows.append([name, *sum(cells, ())])
    compared[f"{name} {rate * TIMES[best[i]]:.2g}"] = (steps, losses[i, best[i]])
    lines = {f"x{t:4.1f}": (steps, scores[i, j]) for j, t in enumerate(TIMES)}
    panels.append((f"{name}\nrate {rate:g}", lines))
common.table(["ranked", "best rate", "loss", "test", "suggested", "loss", "test"], rows)
print(f"{len(result.programs)} programs, {result.trials} networks, {result.seconds:.0f} s")
shown = np.log10(np.maximum([loss for _, loss in compared.values()], 1e-8))  # it can reach 0
pn.plots.curves(
    chosen.out / "e7_losses.png", compared, "Each optimizer at the best of five rates",
    x_label="step", y_label="loss on training images", y_scale="log",
    limits=(10 ** np.floor(shown.min()), 10 ** np.ceil(shown.max())),
)  # fmt: skip
pn.plots.curve_grid(
    chosen.out / "e7_rates.png", panels, x_label="step", y_label="test accuracy",
    title="Rates around the suggested one", limits=(0.6, 1),
)  # fmt: skip

at_usual = {optimizers[i].__name__: final[i, usual] for i in ranking}
assert all(at_usual[name] < at_usual["sgd"] for name in at_usual if name != "sgd"), "sgd first?"
assert all(scores[i, best[i], -1] > 0.85 for i in ranking), "an optimizer did not learn"
reached = [scores[i, best[i], -1] for i in ranking]
assert max(reached) - min(reached) < 0.05, "at their best rates the optimizers should be close"
assert final[0, 0] > 2 * final[0, best[0]], "SGD should need a good rate"
