"""A network for your own table: five folds, patience, out-of-fold predictions and an ensemble.

Forty points, each on five folds, are two hundred networks in one program. Every one stops by its
own patience and keeps its best epoch. What is left out of everything, the test rows, says at the
end how good the chosen networks are.

    python examples/tabular.py --table breast_cancer
    python examples/tabular.py --csv houses.csv --target price
"""

import argparse
import csv
from pathlib import Path

import jax
import numpy as np

import purenet as pn
from purenet import sweep

pn.use_cpu_cores()


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=("breast_cancer", "diabetes"), default="breast_cancer",
                        help="a table that comes with scikit-learn")  # fmt: skip
    parser.add_argument("--csv", type=Path, help="a file of your own: a header and numbers")
    parser.add_argument("--target", help="the column to predict; whole numbers are classes")
    parser.add_argument("--trials", type=int, default=40, help="points of the space")
    parser.add_argument("--epochs", type=int, default=200, help="epochs at most")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--path", type=Path, help="folder for the results so far")
    parser.add_argument("--save", type=Path, help="a file (.npz) for the greedy ensemble")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that it works")
    return parser.parse_args()


def table(chosen):
    """(x, t): float32 columns, and labels (integers) or numbers (float32)."""
    if chosen.csv is None:
        from sklearn import datasets

        x, t = getattr(datasets, f"load_{chosen.table}")(return_X_y=True)
    else:
        with chosen.csv.open(newline="") as file:
            rows = list(csv.DictReader(file))
        t = np.array([float(row.pop(chosen.target)) for row in rows])
        x = np.array([list(map(float, row.values())) for row in rows])
    classes = (t == np.round(t)).all() and len(np.unique(t)) <= 20
    return x.astype(np.float32), t.astype(np.int32 if classes else np.float32)


def main():
    chosen = options()
    if chosen.quick:
        chosen.trials, chosen.epochs = 6, 30
    x, t = table(chosen)
    (x, t), (test_x, test_t) = pn.data.split(jax.random.key(chosen.seed), (x, t), validation=0.2)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-9  # of the training rows alone
    x, test_x = (x - mean) / std, (test_x - mean) / std
    classify = t.dtype == np.int32
    if classify:
        outputs, loss = int(t.max()) + 1, pn.softmax_cross_entropy
    else:
        centre, scale = t.mean(), t.std()
        t, test_t = ((part[:, None] - centre) / scale for part in (t, test_t))
        outputs, loss = 1, pn.mean_squared_error

    def trial(hyper):
        return pn.supervised(
            net=pn.mlp(dropout=hyper["dropout"]), sizes=(x.shape[1], hyper["width"], outputs),
            optimizer=pn.adamw(hyper["rate"], hyper["decay"]), loss=loss, batch_size=32,
        )  # fmt: skip

    space = {
        "rate": sweep.loguniform(1e-4, 1e-1),
        "decay": sweep.loguniform(1e-6, 1e-1),
        "dropout": sweep.uniform(0.0, 0.5),
        "width": sweep.padded(sweep.lograndint(8, 65), to=(64,)),
    }
    result = sweep.run(
        trial, space, (x, t), chosen.trials, chosen.epochs, chosen.seed, search=sweep.sobol,
        folds=5, metric="loss", mode="min", patience=16, keep=10, path=chosen.path,
    )  # fmt: skip
    print(result.table(10))

    held_out = result.out_of_fold(result.best())
    print(f"\nout of fold: {len(held_out)} predictions of the best point, each by a network that")
    if classify:
        print(f"did not see the example: {(held_out.argmax(axis=1) == t).mean():.2%} are right")
    else:
        print(f"did not see the example: R² {1 - ((held_out - t) ** 2).mean():.3f}")
    print("\non the test rows, which nothing has seen:")
    size = min(10, chosen.trials)
    for name, ensemble in (("the best point", result.ensemble(1)),
                           (f"mean of the best {size}", result.ensemble(size)),
                           ("greedy ensemble", result.ensemble("greedy", size=10))):  # fmt: skip
        score = ensemble.score((test_x, test_t))
        words = ", ".join(f"{metric} {value:.4f}" for metric, value in score.items())
        print(f"  {name}, {len(ensemble)} networks: {words}")
        assert np.isfinite(list(score.values())).all()
    if chosen.save:  # it predicts from columns that are standardised in the same way
        pn.save_ensemble(chosen.save, ensemble, metadata={"mean": mean, "std": std})
        again = pn.load_ensemble(chosen.save)  # in another process, too
        assert (again.predict(test_x) == ensemble.predict(test_x)).all()


if __name__ == "__main__":
    main()
