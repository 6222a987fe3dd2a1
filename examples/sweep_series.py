"""Recurrent networks that forecast sunspots, each with its own numbers, trained in one program.

The series is the yearly mean number of sunspots from 1700 to 2008, in `sunspots.csv`: data of the
National Geophysical Data Center (NOAA), in the public domain, as statsmodels distributes it. A GRU
sees some years and predicts those that follow. Early years train the networks, later ones choose
among them, and the last, which nothing has seen, compare the choice with forecasts that need no
network.

    python examples/sweep_series.py --trials 64 --epochs 60
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()

FILE = Path(__file__).with_name("sunspots.csv")
PARTS = {"train": (1700, 1900), "validation": (1900, 1955), "test": (1955, 2009)}


def windows(series, first, seen, ahead, years):
    """(what is known, what follows it) for all forecasts of years between the two `years`."""
    starts = np.arange(max(years[0] - first, seen), years[1] - first - ahead + 1)
    x = series[starts[:, None] + np.arange(-seen, 0)]
    return x[:, :, None], series[starts[:, None] + np.arange(ahead)]


def without_a_network(train, x, ahead):
    """Forecasts by name, each (n, ahead)."""
    rows = lambda x: np.concatenate([x[:, :, 0], np.ones_like(x[:, :1, 0])], axis=1)
    fitted = np.linalg.lstsq(rows(train[0]), train[1], rcond=None)[0]
    cycle = 11  # years, roughly
    return {
        "the last value": np.repeat(x[:, -1], ahead, axis=1),
        f"the value {cycle} years before": x[:, -cycle : x.shape[1] - cycle + ahead, 0],
        "linear regression": rows(x) @ fitted,
    }


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=16, help="of the GRU")
    parser.add_argument("--seen", type=int, default=22, help="years that a forecast knows")
    parser.add_argument("--ahead", type=int, default=3, help="years that it predicts, at most 11")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for pictures")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.trials, chosen.epochs, chosen.units = 4, 20, 8
    return chosen


def main():
    chosen = options()
    years, series = np.loadtxt(FILE, np.float32, delimiter=",", skiprows=1, unpack=True)
    learnt = series[years < PARTS["train"][1]]
    mean, scale = learnt.mean(), learnt.std()
    cut = (int(years[0]), chosen.seen, chosen.ahead)
    parts = {name: windows((series - mean) / scale, *cut, part) for name, part in PARTS.items()}

    def jitter(strength):
        return lambda key, x: x + strength * jax.random.normal(key, x.shape, x.dtype)

    def trial(hyper):
        net = pn.serial(
            pn.gru(chosen.units, last=True), pn.dropout(hyper["dropout"]), pn.dense(chosen.ahead)
        )
        return pn.supervised(
            net, (chosen.seen, 1), pn.adamw(hyper["rate"], weight_decay=hyper["decay"]),
            pn.mean_squared_error, batch_size=25, augment=jitter(hyper["jitter"]),
        )  # fmt: skip

    space = {
        "rate": sweep.loguniform(1e-3, 1e-1),
        "decay": sweep.loguniform(1e-4, 1.0),
        "dropout": sweep.uniform(0.0, 0.5),
        "jitter": sweep.uniform(0.0, 0.5),  # standard deviation of noise on what is known
    }
    size = min(10, chosen.trials)
    result = sweep.run(
        trial, space, (parts["train"], parts["validation"]), chosen.trials, chosen.epochs,
        chosen.seed, metric="loss", mode="min", select="best", keep=size,
    )  # fmt: skip
    print(result.table(10))
    chosen.out.mkdir(parents=True, exist_ok=True)
    result.plot_slices(chosen.out / "series_slices.png")

    x, t = parts["test"]
    forecasts = without_a_network(parts["train"], x, chosen.ahead) | {
        "the best network": result.predict(x),
        f"the mean of the best {size}": result.ensemble(size).predict(x),
    }
    errors = {
        name: scale * np.sqrt(np.square(np.asarray(y) - t).mean()) for name, y in forecasts.items()
    }
    print(f"\n{len(result.programs)} program, {result.seconds:.1f} s")
    print(f"root mean squared error of {len(t)} forecasts of {chosen.ahead} years, in sunspots:")
    for name, error in errors.items():
        print(f"  {name:32}{error:6.1f}")
    assert errors["the best network"] < errors["the last value"]


if __name__ == "__main__":
    main()
