"""Linear regression by gradient descent finds the plane that made the data.

100 points x ~ U(-5, 5) in 10 dimensions with t = x w + 3 and w ~ U(-5, 5); one dense layer, mean
squared error, every step on all the points, 10,000 steps at a rate of 0.001. It is the first
exercise of courses that build networks from scratch; for the method see Bishop, "Pattern
Recognition and Machine Learning" (2006), section 3.1. Four other rates train beside it in the same
program: with rates that are too small the error is still falling at the end, and 0.1 exceeds
2 / (the largest curvature), so every step makes the error larger. No images are needed, so
`--data` changes nothing. `--quick` takes 1,000 steps, which are enough for a rate of 0.01.

    python examples/e1_linear_regression.py
"""

import common
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()
chosen = common.options(__doc__)
steps, well = (1_000, 3) if chosen.quick else (10_000, 2)  # the rate that has arrived by then
rng = np.random.default_rng(chosen.seed)
w, b = rng.uniform(-5, 5, (10, 1)), 3.0


def points(count):
    x = rng.uniform(-5, 5, (count, 10)).astype(np.float32)
    return x, (x @ w + b).astype(np.float32)


def trial(hyper):
    return pn.supervised(
        pn.dense(1), 10, pn.sgd(hyper["rate"]), pn.mean_squared_error, batch_size=100
    )


train, fresh = points(100), points(1000)
space = {"rate": sweep.choice([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])}
result = sweep.run(trial, space, (train, fresh), None, steps, chosen.seed, search=sweep.grid())

rows, error = [], {}
for i, rate in enumerate(result.hyper["rate"]):
    if result.status[i] == "diverged":
        rows.append([f"{rate:g}", *"---", f"diverged at {result.epochs[i] + 1}"])
        continue
    found = result.replay(i).state.params.weights
    error[i] = max(np.abs(found["w"] - w).max(), abs(found["b"][0] - b))
    losses = (result.curves[part]["loss"][i, -1] for part in ("train", "validation"))
    rows.append([f"{rate:g}", *(f"{x:.1e}" for x in (*losses, error[i])), f"{steps:,}"])
common.table(["rate", "error", "on fresh points", "off in w or b", "steps"], rows)
print(f"{result.trials} rates in {result.seconds:.1f} s")

series = {f"rate {result.hyper['rate'][i]:g}": result.curves["train"]["loss"][i] for i in error}
pn.plots.curves(
    chosen.out / "e1_error.png", series, "Linear regression by gradient descent",
    x_label="step", y_label="mean squared error", y_scale="log",
)  # fmt: skip

assert result.curves["train"]["loss"][well, -1] < 1e-6, "the error did not fall to nothing"
assert error[well] < 1e-3, "w and b were not found"
assert result.curves["train"]["loss"][0, -1] > 1e-3, "a tiny rate should not be done yet"
assert result.status[4] == "diverged", "a rate beyond the limit should diverge"
