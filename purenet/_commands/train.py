"""`purenet train`: one network with given numbers, saved to a file."""

import argparse
import json
from pathlib import Path
from typing import Any

import jax

from purenet._commands import jobs
from purenet._commands.help import Help
from purenet.checkpoint.networks import save_network
from purenet.checkpoint.trees import checked_path
from purenet.core.validate import integer, require
from purenet.training.fit import Fit, fit


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "train",
        help="train one network with given hyperparameters and save it",
        description="Train one network, such as the best one of a sweep, and write it to a file, "
        "with what `purenet predict` needs: a network for a table (2 hidden layers of 100 relu "
        "units, Adam), or that of your own trial function. A fifth of the rows is for validation.",
        formatter_class=Help,
    )
    add = parser.add_argument
    add(
        "trial",
        nargs="?",
        metavar="MODULE:TRIAL",
        help="your own trial function, such as my_module:trial; needs --set and --data",
    )
    add("--set", nargs="+", default=[], metavar="NAME=VALUE",
        help="the hyperparameters of your trial function, such as rate=0.1; other values than "
        "numbers in JSON")  # fmt: skip
    add("--data", metavar="DATA",
        help="a CSV file, with --target; or my_module:data, a pair (train, validation) or a "
        "function that returns one")  # fmt: skip
    jobs.add_table_options(add)
    add("--rate", type=float, metavar="X", help="learning rate; 0.003 for a table")
    add("--weight-decay", type=float, metavar="X",
        help="factor of half the sum of squared weights in the loss; 1e-5 for a table")  # fmt: skip
    add("--epochs", type=int, default=50, metavar="N", help="passes over the training examples")
    add("--patience", type=int, metavar="N",
        help="stop when N epochs in a row have not improved the validation score, and save the "
        "best one")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="random seed")
    add("--out", default=jobs.MODEL, metavar="FILE",
        help="file for the network, .npz or .safetensors")  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> int:
    """Train and save. Raises ValueError for what cannot be trained or saved; OSError for a file
    that cannot be written."""
    epochs = integer("--epochs", options.epochs, least=1)
    patience = options.patience and integer("--patience", options.patience, least=1)
    seed = integer("--seed", options.seed, least=0)
    path, _ = checked_path("--out", options.out)
    job, hyper = _job(options)
    trainable = job.trial(hyper)
    network: Any = getattr(trainable, "network", None)
    text = f"{options.trial} returns a Trainable without `network()`, which a file cannot hold."
    require(network is not None, text)
    found = fit(trainable, job.data, epochs, jax.random.key(seed), patience=patience)
    net, sizes = network()
    save_network(path, net, sizes, found.state.params, metadata=job.metadata())
    _tell(found, path, job)
    return 0


def _job(options: argparse.Namespace) -> tuple[jobs.Job, dict[str, Any]]:
    """What is trained, and its hyperparameters."""
    if options.trial is not None:
        return jobs.own_job(options), dict(map(_pair, options.set))
    require(
        options.target is not None,
        "nothing to train on: pass --data FILE.csv --target COLUMN, or a trial function of yours, "
        "my_module:trial.",
    )
    flags = "--set is for a trial function of yours; pass --rate and --weight-decay."
    require(not options.set, flags)
    given = lambda value, otherwise: otherwise if value is None else value
    rate, decay = given(options.rate, 0.003), given(options.weight_decay, 1e-5)
    return jobs.table_job(options), {"rate": rate, "weight decay": decay}


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    require(bool(name and equals), f"--set: {text} is not NAME=VALUE, such as rate=0.1.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _tell(found: Fit, path: Path, job: jobs.Job) -> None:
    epoch = len(next(iter(next(iter(found.history.values())).values()), ()))
    last = [
        f"{part} {name} {float(curve[-1]):.4g}"
        for part, curves in found.history.items()
        for name, curve in curves.items()
    ]
    print(f"{epoch} epochs: {', '.join(last)}")
    how = "" if job.encoding is None else f"; purenet predict {path} --data FILE.csv"
    print(f"the network: {path}{how}")
