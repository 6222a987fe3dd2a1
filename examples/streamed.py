"""A sweep of convnets on images that stay on disk, each shifted at random every time it is seen.

A thread reads the images from a memory map while the networks train on the ones before. One chunk
serves all of them: twenty networks read as much as one.

    python examples/streamed.py
    MNIST_DIR=mnist python examples/streamed.py
"""

import argparse
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="networks")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--path", type=Path, help="folder for the results so far")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that it works")
    return parser.parse_args()


def images():
    """(training, validation) images and labels: MNIST where MNIST_DIR has it, else digits."""
    if folder := os.environ.get("MNIST_DIR"):
        return pn.data.mnist(folder)
    return pn.data.split(jax.random.key(0), pn.data.digits(flatten=False), validation=297)


def on_disk(folder, data):
    """The images as bytes in a file, as a memory map; labels are small and stay here."""
    x, t = (np.asarray(a) for a in data)
    np.save(folder / "images.npy", np.round(255 * x / x.max()).astype(np.uint8))
    return np.load(folder / "images.npy", mmap_mode="r"), t


def prepare(minibatch):
    x, t = minibatch
    return np.float32(x) / 255, t


def shifted(key, x, most=1):
    """Each image moved by up to `most` pixels, up or down and to either side."""

    def one(x, by):
        padded = jnp.pad(x, ((most, most), (most, most), (0, 0)))
        return jax.lax.dynamic_slice(padded, (by[0], by[1], 0), x.shape)

    return jax.vmap(one)(x, jax.random.randint(key, (len(x), 2), 0, 2 * most + 1))


def main():
    chosen = options()
    train, validation = images()
    if chosen.quick:
        chosen.trials, chosen.epochs = 4, 3
        train = jax.tree.map(lambda a: a[:1500], train)
    net = pn.serial(
        pn.conv(8, 3), pn.relu, pn.max_pool(2), pn.conv(16, 3), pn.relu,
        pn.flatten, pn.dense(10),
    )  # fmt: skip

    def trial(hyper):
        return pn.supervised(
            net, train[0].shape[1:], pn.adamw(hyper["rate"], hyper["decay"]),
            pn.softmax_cross_entropy, batch_size=50, augment=shifted,
        )  # fmt: skip

    space = {"rate": sweep.loguniform(1e-4, 1e-1), "decay": sweep.loguniform(1e-6, 1e-1)}
    with tempfile.TemporaryDirectory() as folder:
        data = pn.data.stream(on_disk(Path(folder), train), prepare=prepare)
        print(data)
        result = sweep.run(
            trial, space, (data, validation), chosen.trials, chosen.epochs, chosen.seed,
            search=sweep.sobol, path=chosen.path,
        )  # fmt: skip
    print(result.table(5))
    accuracy = result.curves["validation"]["accuracy"][:, -1].max()
    print(
        f"{chosen.trials} networks read the images {chosen.epochs} times; the best: {accuracy:.2%}"
    )
    assert accuracy > 0.5


if __name__ == "__main__":
    main()
