"""The first weights decide what reaches the last layer: activations under four initialisers.

1,000 inputs N(0, 1) of 100 numbers go through 5 hidden layers of 100 units, without training, for
sigmoid, tanh and relu and for weights of deviation 1, 0.01, sqrt(1/n) (Xavier) and sqrt(2/n) (He).
Too large, and the activations sit where the function is flat (or explode, with relu); too small,
and they hardly differ from one input to the next. Xavier keeps tanh alive, He keeps relu. Settings:
Saito, "Deep Learning from Scratch" (2016), section 6.2, after Glorot & Bengio (2010) and He et al.
(2015). The input is random: `--data` changes nothing, and neither does `--quick`.

A value counts as flat where the slope is less than a twentieth of the steepest (for relu: 0), and a
unit as dead where it is flat for every input. The four deviations are one vmapped program.

    python examples/e4_activations.py
"""

import common
import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn

SAMPLES, WIDTH, LAYERS = 1000, 100, 5
DEVIATIONS = {"std 1": 1, "std 0.01": 0.01, "Xavier": WIDTH**-0.5, "He": (2 / WIDTH) ** 0.5}

chosen = common.options(__doc__)
key = jax.random.key(chosen.seed)
x = jax.random.normal(jax.random.fold_in(key, LAYERS), (SAMPLES, WIDTH))


def layers(activation, std):
    """What every layer puts out, and where it is flat: (layers, samples, units) each."""
    slope = jax.vmap(jax.vmap(jax.grad(activation)))
    steepest = jax.grad(activation)(1e-6)
    y, values, flat = x, [], []
    for i in range(LAYERS):
        z = y @ pn.initializers.normal(std)(jax.random.fold_in(key, i), (WIDTH, WIDTH))
        y = activation(z)
        values.append(y)
        flat.append(slope(z) < steepest / 20)
    return jnp.stack(values), jnp.stack(flat)


rows, spread, flatness = [], {}, {}
for activation in (pn.sigmoid, pn.tanh, pn.relu):
    name = activation.__name__
    stds = jnp.array(list(DEVIATIONS.values()))
    values, flat = map(np.asarray, jax.vmap(lambda std, f=activation: layers(f, std))(stds))
    panels = []
    for i, init in enumerate(DEVIATIONS):
        spread[name, init] = values[i].std(axis=(1, 2))
        flatness[name, init] = flat[i].mean(axis=(1, 2))
        dead = flat[i].all(axis=1).mean(axis=1)
        rows.append([
            f"{name}, {init}", *(f"{s:.2g}" for s in spread[name, init]),
            f"{values[i, -1].mean():.2g}", f"{flatness[name, init][-1]:.1%}", f"{dead[-1]:.1%}",
        ])  # fmt: skip
        shown = [v[v > 0] if activation is pn.relu else v for v in values[i]]
        titles = [
            f"layer {j + 1}\nstd {s:.2g}  flat {share:.0%}"
            for j, (s, share) in enumerate(
                zip(spread[name, init], flatness[name, init], strict=True)
            )
        ]
        panels.append((init, list(zip(titles, shown, strict=True))))
    note = ", values above 0" if activation is pn.relu else ""
    pn.plots.histograms(chosen.out / f"e4_{name}.png", panels, bins=30, title=f"{name}{note}")
header = ["deviation in layer", *map(str, range(1, LAYERS + 1)), "mean of 5", "flat", "dead"]
common.table(header, rows)

last = {setting: s[-1] for setting, s in spread.items()}
assert flatness["sigmoid", "std 1"][-1] > 0.4 and flatness["tanh", "std 1"][-1] > 0.7, (
    "not saturated"
)
assert last["relu", "std 1"] > 1e3, "relu did not explode"
assert last["tanh", "std 0.01"] < 1e-3 and last["relu", "std 0.01"] < 1e-3, (
    "small weights did not vanish"
)
assert last["sigmoid", "std 0.01"] < 0.05, "small weights did not make all alike"
assert last["tanh", "Xavier"] > 0.2 and flatness["tanh", "Xavier"][-1] < 0.2, "Xavier lost tanh"
assert 0.4 < last["relu", "He"] / spread["relu", "He"][0] < 2.5, "He did not keep relu's size"
assert last["relu", "Xavier"] < last["relu", "He"] / 2, "Xavier should be too small for relu"
