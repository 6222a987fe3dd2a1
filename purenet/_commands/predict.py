"""`purenet predict`: what a saved network says about the rows of a table."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet._commands import jobs
from purenet._commands.help import Help
from purenet.checkpoint.networks import load_network
from purenet.checkpoint.trees import load_metadata, opened
from purenet.core.files import writable, write_bytes
from purenet.core.validate import require
from purenet.data.tables import Encoding, Table, encoding_of, is_missing, read_table
from purenet.training.ensemble_file import load_ensemble
from purenet.training.predict import predict


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "predict",
        help="predict the target of every row of a table, by a saved network",
        description="Predict by a network that `purenet sweep` or `purenet train` saved for a "
        "table. Every row of the output has the prediction and, for a classification, the "
        "probability of each class. If the table has the target too, the score is shown.",
        formatter_class=Help,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="the file of the network, such as sweep-results/model.npz")
    add("--data", required=True, metavar="FILE.csv", help="table with the columns of the training")
    add("--out", metavar="FILE.csv", help="file for the predictions; standard output without it")
    return parser


def run(options: argparse.Namespace) -> int:
    """Predict. Raises ValueError for a model without columns, and for a table unlike that of the
    training; OSError for files that cannot be read or written."""
    path = None if options.out is None else writable("--out", options.out)
    encoding = _encoding(options.model)
    table = read_table(options.data)
    y = _outputs(options.model, encoding, encoding.x(table))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(_rows(encoding, y))
    if path is None:
        print(text.getvalue(), end="")
    else:
        write_bytes(path, text.getvalue().encode())
        print(f"{len(table)} predictions: {path}")
    if encoding.target.name in table.columns:
        _say_score(encoding, table, y)
    return 0


def _encoding(model: str) -> Encoding:
    metadata: Any = load_metadata(model)
    known = isinstance(metadata, dict) and jobs.TABLE in metadata
    require(
        known,
        f"{model} does not say which columns it takes; it was not written by `purenet sweep` or "
        "`purenet train` for a table. Load it in Python: purenet.load_network.",
    )
    try:
        return encoding_of(metadata[jobs.TABLE])
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error


def _outputs(model: str, encoding: Encoding, x: np.ndarray) -> np.ndarray:
    """Class probabilities (n, classes), or the target (n,)."""
    with opened("load_network", model) as (_, document):
        several = "ensemble" in document
    if several:
        y = load_ensemble(model).predict(x)
    else:
        net, _, params = load_network(model)
        y = predict(net, params, x)
        y = jax.nn.softmax(y) if encoding.classes else y
    found = np.asarray(y, float)
    columns = len(encoding.classes) or 1
    legal = found.shape == (len(x), columns)
    text = f"{model} predicts shape {found.shape}, but {(len(x), columns)} is expected."
    require(legal, text)
    target = encoding.target
    return found if encoding.classes else found[:, 0] * target.scale + target.mean


def _rows(encoding: Encoding, y: np.ndarray) -> Iterator[list[str]]:
    name, classes = encoding.target.name, encoding.classes
    yield [name, *(f"P({label})" for label in classes)]
    for row in y:
        if classes:
            yield [classes[row.argmax()], *(f"{p:.6g}" for p in row)]
        else:
            yield [f"{row:.6g}"]


def _say_score(encoding: Encoding, table: Table, y: np.ndarray) -> None:
    """Say how good the predictions are, on the rows whose target is known."""
    cells = table.columns[encoding.target.name]
    known = np.array([not is_missing(cell) for cell in cells])
    if not known.any():
        return
    t = encoding.t(table.rows(np.flatnonzero(known)))
    if encoding.classes:
        score = f"accuracy {(y[known].argmax(axis=1) == t).mean():.4g}"
    else:
        error = y[known] - (t[:, 0] * encoding.target.scale + encoding.target.mean)
        score = f"root mean squared error {np.sqrt((error**2).mean()):.4g}"
    print(f"{score} on {known.sum()} rows with a known {encoding.target.name}", file=sys.stderr)
