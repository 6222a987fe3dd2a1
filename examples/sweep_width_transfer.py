"""The best rate of a narrow network is that of a wide one, if its parametrisation allows.

Networks of eight widths are trained for a few steps in one program, to see how far the outputs of
each layer move. Then a grid of learning rates is tried on a narrow and on a wide network, as people
usually build them and in the maximal update parametrisation (muP).

    python examples/sweep_width_transfer.py --narrow 64 --wide 1024
    python examples/sweep_width_transfer.py --sgd --data mnist --data-dir DIR
"""

import functools
import math

import common
import numpy as np

import purenet as pn
from purenet import sweep

BATCH = 100
HIGHEST = {"adam": 0.25, "momentum": 0.25, "sgd": 4.0}  # of the rates that are tried
FOR_COORDINATES = {"adam": 0.01, "momentum": 0.1, "sgd": 0.3}


def trial(hyper, mup, narrow, optimizer, updates):
    """Two hidden layers, and a rate that falls to 0 within `updates`; with `mup`, relative to a
    network of width `narrow`."""
    width, inputs = hyper["width"], hyper["inputs"]
    sizes = (inputs, width, width, 10)
    net = pn.mlp()
    steps = getattr(pn, optimizer)(pn.schedules.cosine(hyper["rate"], updates))
    if mup:
        net = pn.mup(net, base=(inputs, narrow, narrow, 10))
        kind = "adam" if optimizer == "adam" else "sgd"
        steps = pn.chain(steps, pn.mup_rates(net, sizes, kind))
    return pn.supervised(net, sizes, steps, pn.softmax_cross_entropy, BATCH)


def best_rates(result, widths, rates):
    """The place in `rates` of the best rate of each width, by the median training loss."""
    losses = result.curves["train"]["loss"][:, -1].reshape(-1, result.runs)
    losses = np.median(losses, axis=1)
    width, rate = (result.hyper[name][:: result.runs] for name in ("width", "rate"))
    found = []
    for one in widths:
        curve = [losses[(width == one) & np.isclose(rate, r)][0] for r in rates]
        print(f"{one:>6}", *(f"{loss:7.3f}" for loss in curve))
        found.append(int(np.nanargmin(curve)))
    return found


def main():
    chosen = common.options(
        __doc__, narrow=64, wide=1024, updates=60, rates=10, factor=2, seeds=9, momentum=False,
        sgd=False,
    )  # fmt: skip
    if chosen.quick:
        chosen.narrow, chosen.wide, chosen.updates, chosen.seeds = 32, 256, 40, 2
        chosen.rates, chosen.factor = 5, 4
    train, test = common.images(chosen, flatten=True)
    # where there are enough images, none is seen twice: what is remembered would blur the best rate
    train, test = common.first(train, chosen.updates * BATCH), common.first(test, 2000)
    inputs, each = train[0].shape[1], len(train[0]) // BATCH
    epochs = max(1, round(chosen.updates / each))
    updates = epochs * each
    optimizers = ["adam", *(name for name in ("momentum", "sgd") if getattr(chosen, name))]
    powers = np.linspace(math.log2(chosen.narrow), math.log2(chosen.wide), 8)
    widths = [round(2**p) for p in powers]
    shifts = {}
    for name, mup in (("standard", False), ("muP", True)):
        for optimizer in optimizers:
            one = functools.partial(
                trial, mup=mup, narrow=chosen.narrow, optimizer=optimizer, updates=updates
            )
            print(f"\n{name}, {optimizer}")
            checked = sweep.coordinate_check(
                one,
                {
                    "width": sweep.padded(sweep.choice(widths), to=(chosen.wide,)),
                    "rate": FOR_COORDINATES[optimizer],
                    "inputs": inputs,
                },
                common.first(train, BATCH), seed=chosen.seed, seeds=chosen.seeds,
            )  # fmt: skip
            checked.plot(chosen.out / f"width_{name}_{optimizer}.png")
            for layer, slope in checked.slopes().items():
                print(f"{layer}: change ~ width^{slope:+.2f}")
            highest = HIGHEST[optimizer]
            rates = [highest / chosen.factor**i for i in reversed(range(chosen.rates))]
            both = [chosen.narrow, chosen.wide]
            space = {"width": sweep.choice(both), "rate": sweep.choice(rates), "inputs": inputs}
            result = sweep.run(
                one, space, (train, test), epochs=epochs, seed=chosen.seed,
                seeds=chosen.seeds, search=sweep.grid(1), metric="loss", mode="min",
            )  # fmt: skip
            print(" width", *(f"{rate:7.4f}" for rate in rates))
            narrow, wide = best_rates(result, both, rates)
            shifts[name, optimizer] = narrow - wide
            print(f"the best rate is {narrow - wide} steps higher for the narrow network")
            if mup:
                best = result.outcomes.point(both.index(chosen.narrow) * len(rates) + narrow)
                moved = result.transfer(best, width=chosen.wide)
                print(f"the narrow network's best point at width {chosen.wide}: {moved.best()}")
                assert abs(narrow - wide) <= 1
    print()
    for (name, optimizer), shift in shifts.items():
        print(f"{name:>8}, {optimizer:>8}: {shift:+d} steps of a factor of {chosen.factor}")


if __name__ == "__main__":
    main()
