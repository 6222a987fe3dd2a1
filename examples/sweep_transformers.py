"""Small transformers that write Python, each with its own numbers, trained in one program.

The text is Python's standard library, character by character, so it is on every machine. Each
network has its own rate, warm-up, decay and dropout; the score is the loss of the next character,
in bits, on files that no network was trained on.

    python examples/sweep_transformers.py --trials 64 --epochs 20
"""

import argparse
import sysconfig
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # anything else is a "?"


def windows(files, length, count):
    """`count` pieces of the text: (inputs, the same moved by one character), integers."""
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    place = np.full(128, CHARACTERS.index("?"), np.int32)
    place[[ord(c) for c in CHARACTERS]] = np.arange(len(CHARACTERS))
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    starts = np.linspace(0, len(codes) - length - 1, count).astype(int)
    pieces = place[codes[starts[:, None] + np.arange(length + 1)]]
    return pieces[:, :-1], pieces[:, 1:]


def loss(y, t):
    """The mean cross-entropy of all characters, in bits."""
    flat = y.reshape(-1, len(CHARACTERS)), t.reshape(-1)
    return pn.softmax_cross_entropy(*flat) / jnp.log(2.0).astype(y.dtype)


def entropy(t):
    """Bits per character without a network: every one by its frequency alone."""
    shares = np.bincount(t.ravel()) / t.size
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--length", type=int, default=64, help="characters that a network sees")
    parser.add_argument("--pieces", type=int, default=8192, help="pieces of text to train on")
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for pictures")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.trials, chosen.epochs, chosen.length, chosen.pieces = 4, 12, 16, 512
        chosen.features, chosen.layers = 16, 1
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    held_out = files[::10]
    train = windows(sorted(set(files) - set(held_out)), chosen.length, chosen.pieces)
    validation = windows(held_out, chosen.length, max(64, chosen.pieces // 8))
    batch_size = 32
    steps = chosen.epochs * (chosen.pieces // batch_size)

    def trial(hyper):
        net = pn.transformer(
            len(CHARACTERS), chosen.features, chosen.layers, dropout=hyper["dropout"]
        )
        warmup = hyper["warmup"] * steps
        falling = pn.schedules.cosine(hyper["rate"], steps - warmup)
        rate = pn.schedules.warmup(falling, warmup)
        optimizer = pn.adamw(rate, weight_decay=hyper["decay"])
        return pn.supervised(net, chosen.length, optimizer, loss, batch_size, metrics={})

    space = {
        "rate": sweep.loguniform(3e-4, 3e-2),
        "warmup": sweep.uniform(0.01, 0.3),  # the share of all steps
        "decay": sweep.loguniform(1e-4, 1.0),
        "dropout": sweep.uniform(0.0, 0.3),
    }
    result = sweep.run(
        trial, space, (train, validation), chosen.trials, chosen.epochs, chosen.seed,
        metric="loss", mode="min",
    )  # fmt: skip
    print(result.table(10))
    chosen.out.mkdir(parents=True, exist_ok=True)
    result.plot_slices(chosen.out / "transformers_slices.png")
    best, without = result.best().score, entropy(validation[1])
    print(f"\n{len(result.programs)} program, {result.seconds:.1f} s")
    print(f"the best network: {best:.3f} bits per character; by frequencies alone {without:.3f}")
    assert best < without


if __name__ == "__main__":
    main()
