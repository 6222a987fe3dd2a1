"""What the examples share: their options, their data, and where they write."""

import argparse
from pathlib import Path

import jax
import numpy as np

import purenet as pn


def options(description, **defaults):
    """The options of every example; `defaults` adds integers (epochs=20) and switches (False)."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits", help="images")
    parser.add_argument("--data-dir", help="folder of the four MNIST IDX files")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for pictures")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    for name, value in defaults.items():
        if value is False:
            parser.add_argument(f"--{name}", action="store_true", help=f"do the {name} part")
        else:
            parser.add_argument(f"--{name}", type=int, default=value, help=f"number of {name}")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def images(chosen, flatten=False, test=297):
    """(train, test), each (x, t): MNIST as it is divided, the 1,797 digits with `test` of them."""
    if chosen.data == "mnist":
        return pn.data.mnist(chosen.data_dir, flatten=flatten)
    digits = pn.data.digits(flatten=flatten)
    return pn.data.split(jax.random.key(chosen.seed), digits, validation=test)


def first(data, count):
    """The first examples of a data set."""
    return jax.tree.map(lambda a: a[:count], data)


def in_blocks(trainable, steps, batch_size, measured=10_000):
    """The same training with epochs of `steps` minibatches, drawn at random from all the data.

    Courses count steps and look every hundred of them, however large the data: so does this, at the
    first `measured` examples of each part.
    """

    def epoch(state, data):
        # the keys of the training itself are folded from the step, which is never negative
        key = jax.random.fold_in(state.key, -1 - state.step)
        rows = jax.random.randint(key, (steps * batch_size,), 0, len(data[1]))
        return trainable.epoch(state, jax.tree.map(lambda a: a[rows], data))

    evaluate = lambda state, data: trainable.evaluate(state, first(data, measured))
    return trainable._replace(epoch=epoch, evaluate=evaluate)


def table(header, rows):
    """Print rows of text under a header: the first column to the left, the others to the right."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((name.ljust(widths[0]), *numbers)))


def report(chosen, name, title, history, seconds):
    """Print the accuracies of some epochs, draw all of them, and give the last on test data."""
    train, test = history["train"]["accuracy"], history["validation"]["accuracy"]
    print(f"{'epoch':>5}  {'train':>7}  {'test':>7}")
    for epoch in np.unique(np.linspace(0, len(test) - 1, 10).astype(int)):
        print(f"{epoch + 1:>5}  {train[epoch]:>7.2%}  {test[epoch]:>7.2%}")
    print(f"test accuracy {test[-1]:.2%}; {seconds:.0f} s")
    series = {"train": train, "test": test}
    pn.plots.curves(chosen.out / f"{name}_curves.png", series, title, y_label="accuracy")
    return test[-1]


def predictions(net, params, x, chunk=500):
    """The class that a network gives each image."""
    classify = jax.jit(lambda part: net.apply(params, part, False, None)[0].argmax(axis=1))
    return np.concatenate([classify(x[i : i + chunk]) for i in range(0, len(x), chunk)])


def mistakes(path, net, params, data, count=20):
    """Draw the first images that a network takes for something else, with both names."""
    x, t = data
    given = predictions(net, params, x)
    wrong = np.flatnonzero(given != t)[:count]
    if len(wrong):
        titles = [f"{t[i]} as {given[i]}" for i in wrong]
        pn.plots.images(path, x[wrong], titles, title="misclassified")
    return int((given != t).sum())
