"""What a command trains: networks for a table, or one's own trial function."""

import functools
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet._commands.modules import function, is_reference, value
from purenet._commands.standardised import standardised
from purenet.checkpoint.networks import save_network
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import require
from purenet.data.arrays import split
from purenet.data.tables import Encoding, Table, learn_encoding, read_table
from purenet.distributed import multihost
from purenet.nn.losses import l2, mean_squared_error, softmax_cross_entropy
from purenet.nn.models import mlp
from purenet.optim.optimizers import adam
from purenet.sweep.results.result import Result
from purenet.training.ensemble_file import save_ensemble
from purenet.training.supervised import supervised

MODEL = "model.npz"
TABLE = "table"  # the entry of a model's metadata that holds an Encoding
_HIDDEN = (100, 100)
_BATCH = 100


class Job(NamedTuple):
    """What is trained, on what, and how the rows of its table become numbers."""

    trial: Callable[[Any], Trainable]
    space: PyTree
    data: PyTree
    encoding: Encoding | None = None

    def metadata(self) -> dict[str, Any]:
        """What has to be known, besides the network, to predict with it."""
        return {} if self.encoding is None else {TABLE: self.encoding.as_json()}

    def save_best(self, result: Result, path: Path) -> None:
        """Write the best point's network, with several folds all of its networks.

        Raises ValueError if a file cannot describe it.
        """
        if result.runs > 1:
            save_ensemble(path, result.ensemble(1), metadata=self.metadata())
        else:
            save_network(path, *result.network(), metadata=self.metadata())


def own_job(options: Namespace) -> Job:
    """A trial function and a space of one's own.

    Raises ValueError for what cannot be imported, and for options of other jobs.
    """
    trial = function("the trial function", options.trial)
    for name in ("rate", "weight_decay"):
        flag = f"--{name.replace('_', '-')}"
        text = f"{flag} is for the networks of purenet; {options.trial} has its numbers from"
        require(getattr(options, name) is None, f"{text} --space.")
    require(
        options.data is not None,
        f"{options.trial} needs --data: my_module:data, a pair (train, validation) or a function "
        "that returns one, or a CSV file with --target.",
    )
    if options.target is not None:
        parts, encoding = _table_parts(options)
        return Job(trial, None, parts, encoding)
    check_no_table(options)
    require(
        is_reference(options.data),
        f"--data is {options.data}, but my_module:data, or a CSV file with --target, is expected.",
    )
    return Job(trial, None, value("--data", options.data))


def table_job(options: Namespace) -> Job:
    """Networks for a table: two hidden layers of 100 relu units, trained by Adam.

    Raises ValueError for a file that is no such table, and for options of other jobs.
    """
    require(
        options.data is not None and not is_reference(options.data),
        "--target names a column of a CSV file; pass the file as --data.",
    )
    parts, encoding = _table_parts(options)
    folds = getattr(options, "folds", None)
    examples = len(parts[0]) - -(-len(parts[0]) // folds) if folds else len(parts[0][0])
    sizes = (encoding.width, *_HIDDEN, len(encoding.classes) or 1)

    def trial(hyper):
        train = functools.partial(
            supervised,
            sizes=sizes,
            optimizer=adam(hyper["rate"]),
            penalty=l2(hyper["weight decay"]),
            loss=softmax_cross_entropy if encoding.classes else mean_squared_error,
            batch_size=max(1, min(_BATCH, examples)),
        )
        return standardised(train, mlp(), encoding.numeric) if folds else train(mlp())

    return Job(trial, None, parts, encoding)


def add_table_options(add: Callable[..., Any]) -> None:
    """The options that say how a table is read; `add` is `add_argument` of a parser."""
    add("--target", metavar="COLUMN", help="the column of the CSV file to predict")
    add("--task", choices=("classification", "regression"),
        help="what the target is; by default a classification if it holds words, or at most 20 "
        "different whole numbers")  # fmt: skip
    add("--categorical", nargs="+", metavar="COLUMN", help="columns of numbers that are categories")
    add("--ignore", nargs="+", metavar="COLUMN", help="columns to leave out")
    add("--missing", choices=("drop", "fill"),
        help="drop: leave out rows with missing cells; fill: a number becomes the mean of its "
        "column, a word no category. Without it, missing cells are an error")  # fmt: skip


def check_no_table(options: Namespace) -> None:
    """Raise ValueError for options that need a table.

    >>> check_no_table(Namespace(task=None, categorical=None, ignore=["id"], missing=None))
    Traceback (most recent call last):
    ValueError: --ignore needs a table: --data FILE.csv --target COLUMN.
    """
    for name in ("task", "categorical", "ignore", "missing"):
        given = getattr(options, name) is not None
        require(not given, f"--{name} needs a table: --data FILE.csv --target COLUMN.")


def _table_parts(options: Namespace) -> tuple[PyTree, Encoding]:
    """(train, validation), or all examples with folds, and their encoding."""
    table = read_table(options.data)
    encoding, used = learn_encoding(
        table, options.target, options.ignore or (), options.categorical or (), options.task,
        options.missing,
    )  # fmt: skip
    folds = getattr(options, "folds", None)
    if folds:
        training = used
    else:
        need = f"{table.path} has {len(used)} usable rows, but at least 5 are expected."
        require(len(used) >= 5, need)
        rows = np.arange(len(used))
        chosen = split(jax.random.key(options.seed), rows, validation=0.2)
        training, validation = map(used.rows, chosen)
    encoding = encoding.standardised_by(training)
    _say(table, used, encoding, len(training), options)
    pair = lambda part: (encoding.x(part), encoding.t(part))
    return pair(training) if folds else (pair(training), pair(validation)), encoding


def _say(table: Table, used: Table, encoding: Encoding, training: int, options: Namespace) -> None:
    if not multihost.first():
        return
    folds, own = getattr(options, "folds", None), options.trial is not None
    left = len(table) - len(used)
    rows = f"{len(used)} rows" + (f" ({left} with missing cells left out)" if left else "")
    by = f"the {training} training rows"
    if folds:  # what is behind a trial function of one's own is not known
        by = f"all {training} rows" if own else "the training rows of each fold"
    print(f"{table.path}: {rows}, standardised by {by}\n{encoding.described()}", file=sys.stderr)
