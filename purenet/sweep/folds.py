"""Make folds from their number, or from the rows that a splitter returns."""

from collections.abc import Iterable

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import describe_value, integer, is_integer, require
from purenet.data.sources import Columns
from purenet.data.streams import Stream
from purenet.sweep.engine.folds import FoldRows, Folds

_STREAM = 0xF01D  # so that folds and points use different random numbers


def make_folds(folds: object, data: PyTree, seed: int) -> Folds:
    """The folds of a data set, whose arrays have the examples on the leading axis.

    An integer k makes k folds of nearly equal size, with each example in the validation rows of one
    of them: shuffled by the seed, and stratified if `data` is (x, t) with integer labels that each
    occur at least k times. Otherwise `folds` is a sequence of (training rows, validation rows).
    Raises TypeError or ValueError for anything else, and for rows that do not exist.

    >>> made = make_folds(2, np.arange(5), seed=0)
    >>> made.validation.sizes, len(made.train.rows)
    ((2, 3), 2)
    """
    counts = {np.shape(leaf)[0] for leaf in jax.tree.leaves(data)}
    require(
        len(counts) == 1,
        f"sweep: with folds=, data is one data set, but its arrays have {sorted(counts)} examples "
        "on the leading axis.",
    )
    (n,) = counts
    return _folds(data, _pairs(folds, _labels(data), n, seed))


def make_streamed_folds(folds: object, data: Stream, seed: int) -> Folds:
    """The rows of the folds of a stream, which are those of its arrays in memory.

    The labels of a data set that is read example by example are not known, so its folds are not
    stratified. Raises what `make_folds` raises; ValueError for an iterable, and for a training row
    that a fold has twice.

    >>> from purenet.data.streams import stream
    >>> make_streamed_folds(2, stream(np.arange(5)), seed=0).validation.sizes
    (2, 3)
    """
    n = data.examples
    require(
        n is not None,
        "sweep: folds are of examples with a number, but the stream is an iterable of minibatches; "
        "stream a data set with __len__ and __getitem__.",
    )
    assert n is not None
    source = data.source
    pairs = _pairs(folds, _labels(source.tree) if isinstance(source, Columns) else None, n, seed)
    for i, (rows, _) in enumerate(pairs):
        found, times = np.unique(rows, return_counts=True)
        require(
            times.max() == 1,
            f"sweep: the training rows of fold {i} hold row {found[times.argmax()]} more than once,"
            " but a pass over streamed data reads an example once; give distinct rows, or data in "
            "memory.",
        )
    return _folds((), pairs)


def _folds(data: PyTree, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Folds:
    train, validation = zip(*pairs, strict=True)
    return Folds(data, _stacked(train), _stacked(validation))


def _pairs(folds: object, labels: np.ndarray | None, n: int, seed: int) -> list:
    return _drawn(folds, labels, n, seed) if is_integer(folds) else _given(folds, n)


def _drawn(
    folds: object, labels: np.ndarray | None, n: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    k = integer("sweep: folds", folds, least=2)
    require(k <= n, f"sweep: folds is {k}, but there are {n} examples; make at most {n} folds.")
    order = np.random.default_rng([seed, _STREAM]).permutation(n)
    if labels is not None and np.unique(labels, return_counts=True)[1].min() >= k:
        order = order[np.argsort(labels[order], kind="stable")]  # class after class: dealt evenly
    fold = np.empty(n, int)
    fold[order] = np.arange(n) % k
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _labels(data: PyTree) -> np.ndarray | None:
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    single = pair and jax.tree_util.all_leaves([data[1]]) and len(np.shape(data[1])) == 1
    t = np.asarray(data[1]) if single else None
    return t if t is not None and t.ndim == 1 and t.dtype.kind in "iub" else None


def _given(folds: object, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    expected = (
        "an integer, or pairs (training rows, validation rows) as from KFold(5).split(x), are "
        "expected."
    )
    iterable = isinstance(folds, Iterable) and not isinstance(folds, (str, bytes, dict))
    require(iterable, f"sweep: folds is {describe_value(folds)}, but {expected}", TypeError)
    folds = list(folds) if isinstance(folds, Iterable) else []
    pairs = [tuple(pair) if isinstance(pair, (tuple, list)) else (pair,) for pair in folds]
    require(len(pairs) > 0, f"sweep: folds is empty, but {expected}")
    for i, pair in enumerate(pairs):
        such = f"sweep: fold {i} is {describe_value(folds[i])}"
        require(len(pair) == 2, f"{such}, but {expected}", TypeError)
    return [(_rows(i, "training", a, n), _rows(i, "validation", b, n)) for i, (a, b) in
            enumerate(pairs)]  # fmt: skip


def _rows(fold: int, part: str, rows: object, n: int) -> np.ndarray:
    rows = np.asarray(rows)
    what = f"sweep: the {part} rows of fold {fold}"
    require(
        rows.ndim == 1 and rows.dtype.kind in "iu",
        f"{what} are {describe_value(rows)}, but a list of row numbers is expected; for a "
        "mask, use numpy.flatnonzero(mask).",
        TypeError,
    )
    require(len(rows) > 0, f"{what} are empty, but at least one row is expected.")
    outside = rows[(rows < 0) | (rows >= n)]
    require(
        not len(outside), f"{what} hold {outside[:1]}, but the rows of the data are 0 to {n - 1}."
    )
    return rows.astype(np.int32)


def _stacked(parts: tuple[np.ndarray, ...]) -> FoldRows:
    """Rows of equal length: short ones are padded with their last row."""
    sizes = tuple(sorted({len(rows) for rows in parts}))
    filled = [np.pad(rows, (0, sizes[-1] - len(rows)), mode="edge") for rows in parts]
    which = np.array([sizes.index(len(rows)) for rows in parts], np.int32)
    return FoldRows(np.stack(filled).astype(np.int32), which, sizes)
