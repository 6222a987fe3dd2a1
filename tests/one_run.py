"""Trainings and sweeps that another process is to repeat to the last bit.

    python one_run.py FOLDER

prints as JSON a digest of everything that each of them leaves behind: weights, optimizer states,
histories, curves, tables, files. Sweeps write their files into FOLDER.
"""

import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np

import purenet as pn
from purenet import sweep
from purenet.sweep.storage.reading import arrays

SEARCHES = {"random": sweep.random, "halving": sweep.halving(eta=2)}


def digest(tree) -> str:
    """Of the names, shapes, dtypes and bytes of all leaves."""
    seen = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.numpy.issubdtype(jax.numpy.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        a = np.asarray(leaf)
        seen.update(f"{jax.tree_util.keystr(path)} {a.dtype} {a.shape}".encode() + a.tobytes())
    return seen.hexdigest()


def examples(*sizes, n=40, classes=3):
    rng = np.random.default_rng(0)
    part = lambda: (rng.normal(size=(n, *sizes)).astype(np.float32), rng.integers(0, classes, n))
    return part(), part()


def perceptron():
    net = pn.mlp(batch_norm=True, dropout=0.3)
    one = pn.supervised(net, (6, 16, 8, 3), pn.adam(0.01), pn.softmax_cross_entropy, 8)
    return one, examples(6)


def convnet():
    net = pn.simple_convnet(filters=3, kernel=3, hidden=8, classes=3)
    return pn.supervised(net, (6, 6, 1), pn.adam(0.01), pn.softmax_cross_entropy, 8), examples(
        6, 6, 1
    )


def trial(hyper):
    net = pn.mlp(batch_norm=True, dropout=hyper["dropout"])
    return pn.supervised(
        net, (6, 16, 8, 3), pn.adam(hyper["rate"]), pn.softmax_cross_entropy, batch_size=8
    )


SPACE = {"rate": sweep.loguniform(1e-4, 1e-1), "dropout": sweep.uniform(0.0, 0.5)}


def fits() -> dict[str, str]:
    found = {}
    for name, make in {"perceptron": perceptron, "convnet": convnet}.items():
        trainable, data = make()
        for block in (None, 2):
            fit = pn.fit(trainable, data, 5, jax.random.key(0), block=block)
            found[f"fit of a {name}, block={block}"] = digest(fit)
    return found


def sweeps(folder: Path) -> dict[str, str]:
    found = {}
    for name, search in SEARCHES.items():
        path = folder / name
        result = sweep.run(trial, SPACE, examples(6), 8, 4, seed=1, search=search, path=path)
        best = result.best().number
        left = {
            "curves": digest((result.hyper, result.curves)),
            "weights": digest(result.weights(best)),
            "replayed": digest(result.replay(best)),
            "table": result.table(8),
            "trials.jsonl": (path / "trials.jsonl").read_text(),
            "states.npz": digest(arrays(path / "states.npz")),
        }
        found |= {f"{name}: {what}": value for what, value in left.items()}
    return found


if __name__ == "__main__":
    print(json.dumps(fits() | sweeps(Path(sys.argv[1]))))
