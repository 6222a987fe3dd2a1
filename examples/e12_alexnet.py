"""AlexNet: forward and backward at full size, and a small one trained on colour images.

The full network reads 227x227x3 and has 62,378,344 parameters (Krizhevsky, Sutskever & Hinton,
2012, in one piece). The small one has the same layers with fewer filters and a stem for 32x32. It
learns where in scikit-learn's two sample photographs, a temple and a flower, a patch was cut: which
photograph, and whether from its top, middle or bottom third, 6 classes. Test patches come from the
middle fifth of each photograph, training patches from either side of it.

    python examples/e12_alexnet.py
"""

import time

import common
import jax
import numpy as np

import purenet as pn


def patches(rng, count, middle, size=64):
    """`count` patches of the photographs at half their resolution, from their middle or not."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(p, np.float32) / 255 - 0.5 for p in load_sample_images().images]
    x, t = np.empty((count, size // 2, size // 2, 3), np.float32), rng.integers(0, 6, count)
    for i, label in enumerate(t):
        photograph = photographs[label // 3]
        height, width, _ = photograph.shape
        third, fifth = height // 3, width // 5
        top = label % 3 * third + rng.integers(0, third - size + 1)
        start = rng.integers(0, (1 if middle else 2) * fifth - size + 1)
        start += 2 * fifth if middle else rng.integers(0, 2) * 3 * fifth
        patch = photograph[top : top + size, start : start + size]
        x[i] = patch.reshape(size // 2, 2, size // 2, 2, 3).mean(axis=(1, 3))
    return x, t.astype(np.int32)


chosen = common.options(__doc__, epochs=10)
key = jax.random.key(chosen.seed)

# the full network, once there and back
full = pn.alexnet()
print(pn.summary(full, (227, 227, 3)))
if not chosen.quick:
    trainable = pn.supervised(full, (227, 227, 3), pn.sgd(1e-2), pn.softmax_cross_entropy, 2)
    rng = np.random.default_rng(chosen.seed)
    photographs = (rng.random((2, 227, 227, 3), np.float32), np.array([1, 999]))
    started = time.perf_counter()
    state, metrics = jax.jit(trainable.epoch)(trainable.init(key), photographs)
    loss = float(metrics["loss"])
    print(f"one step on 2 images: loss {loss:.2f}, {time.perf_counter() - started:.1f} s")

# the small one, trained
rng = np.random.default_rng(chosen.seed)
counts = (400, 100) if chosen.quick else (4000, 1000)
train, test = (patches(rng, n, middle) for n, middle in zip(counts, (False, True), strict=True))
divisor = 16 if chosen.quick else 4
filters = tuple(n // divisor for n in (96, 256, 384, 384, 256))
small = pn.alexnet(classes=6, stem=(3, 1, 1), filters=filters, hidden=2048 // divisor)
print(pn.summary(small, (32, 32, 3)).splitlines()[-1])
trainable = pn.supervised(
    small, (32, 32, 3), pn.adam(2e-3 if chosen.quick else 5e-4), pn.softmax_cross_entropy, 50
)
epochs = min(chosen.epochs, 8) if chosen.quick else chosen.epochs
started = time.perf_counter()
state, history = pn.fit(trainable, (train, test), epochs, key)
seconds = time.perf_counter() - started

accuracy = common.report(chosen, "e12", "AlexNet on patches", history, seconds)
where = ("top", "middle", "bottom")
names = [f"{('temple', 'flower')[t // 3]} {where[t % 3]}" for t in test[1][:20]]
pn.plots.images(chosen.out / "e12_patches.png", test[0][:20] + 0.5, names, title="test patches")
for name, params in (("before", trainable.init(key).params), ("after", state.params)):
    kernels = np.asarray(params.weights["0"]["w"])
    pn.plots.filters(chosen.out / f"e12_filters_{name}.png", kernels, title=f"{name} training")
assert accuracy > 0.3, "the network did not learn"
