"""A network is saved, loaded in a new process, and trained on as if nothing had happened.

784-100-100-10 (64 inputs for the digits) with relu, batchnorm and dropout 0.2, Adam at 0.001,
batches of 100. Many courses save such a network by pickling it and load it by evaluating class
names; here a file contains arrays and plain values, and names are looked up. This process trains
half of the epochs and saves. A new process, which knows nothing about the network, loads it,
predicts, and resumes from the saved weights, statistics, optimizer state, step and random key. Both
are compared bit for bit with an uninterrupted run.

    python examples/e13_save_load.py
"""

import subprocess
import sys

import common
import jax
import numpy as np

import purenet as pn


def train(net, sizes, data, epochs, path=None):
    trainable = pn.supervised(net, sizes, pn.adam(1e-3), pn.softmax_cross_entropy, batch_size=100)
    return pn.fit(trainable, data, epochs, jax.random.key(chosen.seed), path=path)


def same(a, b):
    """How many of the leaves of two trees agree in every bit, and how many there are."""
    numbers = lambda leaf: np.asarray(
        jax.random.key_data(leaf)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
    )
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    equal = [numbers(x).tobytes() == numbers(y).tobytes() for x, y in pairs]
    return sum(equal), len(equal)


chosen = common.options(__doc__, epochs=20, resume=False)
if chosen.quick:
    chosen.epochs = min(chosen.epochs, 6)
data = common.images(chosen, flatten=True)
network, run, found = (chosen.out / f"e13_{name}.npz" for name in ("network", "run", "found"))

if chosen.resume:  # the new process
    net, sizes, params = pn.load_network(network)
    predicted = common.predictions(net, params, data[1][0])
    state, history = train(net, sizes, data, chosen.epochs, run)
    pn.save(found, {"predicted": predicted, "state": state, "history": history})
    sys.exit()

sizes = (data[0][0].shape[1], 100, 100, 10)
net = pn.mlp(batch_norm=True, dropout=0.2)
print(pn.summary(net, sizes))
whole = train(net, sizes, data, chosen.epochs)

# half of it, saved
run.unlink(missing_ok=True)
half = chosen.epochs // 2
state, history = train(net, sizes, data, half, run)
pn.save_network(network, net, sizes, state.params, metadata={"epochs": half})
predicted = common.predictions(net, state.params, data[1][0])
for path in (network, run):
    print(f"{path}: {path.stat().st_size:,} bytes, {pn.checkpoint.load_metadata(path)}")

# the other half, in a new process
subprocess.run([sys.executable, __file__, *sys.argv[1:], "--resume"], check=True)
expected = {"predicted": predicted, "state": whole.state, "history": whole.history}
after = pn.load(found, like=expected)

rows = [
    ("predictions of the loaded network", *same(after["predicted"], predicted)),
    ("weights and statistics", *same(after["state"].params, whole.state.params)),
    ("optimizer state", *same(after["state"].opt_state, whole.state.opt_state)),
    ("random key and step", *same(after["state"][2:], whole.state[2:])),
    ("curves", *same(after["history"], whole.history)),
]
print(f"{'against a run in one piece':<34}  same bits")
for name, equal, count in rows:
    print(f"{name:<34}  {equal} of {count} arrays")

accuracy = whole.history["validation"]["accuracy"]
print(f"test accuracy {accuracy[half - 1]:.2%} when saved, {accuracy[-1]:.2%} at the end")
epoch = np.arange(1, chosen.epochs + 1)
series = {
    "in one piece": (epoch, accuracy),
    "before saving": (epoch[:half], history["validation"]["accuracy"]),
    "in the new process": (epoch[half:], after["history"]["validation"]["accuracy"][half:]),
}
title = "training in one piece, and in two processes"
pn.plots.curves(chosen.out / "e13_curves.png", series, title, y_label="test accuracy")
assert all(equal == count for _, equal, count in rows), "the runs differ"
assert accuracy[-1] > 0.85, "the network did not learn"
