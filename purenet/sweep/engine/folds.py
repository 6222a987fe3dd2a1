"""A data set and its folds: the rows that each fold trains and validates on."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

from purenet.core.subset import Subset
from purenet.core.types import Array, PyTree


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["rows", "which"], meta_fields=["sizes"]
)
@dataclasses.dataclass(frozen=True)
class FoldRows:
    """The rows of one part of every fold; short ones are padded."""

    rows: Array  # (folds, max(sizes)) integers
    which: Array  # (folds,) integers: the index of each fold's size
    sizes: tuple[int, ...]  # ascending

    def of(self, data: PyTree, fold: Array | int) -> Subset:
        return Subset(data, self.rows[fold], self.which[fold], self.sizes)


class Folds(NamedTuple):
    """A data set, which lies on each device once, and the rows of its folds.

    >>> import jax.numpy as jnp
    >>> rows = FoldRows(jnp.array([[0, 1], [1, 2]]), jnp.array([0, 0]), (2,))
    >>> folds = Folds(jnp.array([5.0, 6.0, 7.0]), rows, rows)
    >>> folds.parts(1)[0].examples(sum).item()
    13.0
    """

    data: PyTree
    train: FoldRows
    validation: FoldRows

    @property
    def number(self) -> int:
        """The number of folds."""
        return len(self.train.rows)

    def parts(self, fold: Array | int) -> tuple[Subset, Subset]:
        """(train, validation) of a fold."""
        return self.train.of(self.data, fold), self.validation.of(self.data, fold)


def rows_of(part: FoldRows) -> list[np.ndarray]:
    """The rows of each fold, without padding.

    >>> part = FoldRows(np.array([[0, 1], [2, 2]]), np.array([1, 0]), (1, 2))
    >>> [rows.tolist() for rows in rows_of(part)]
    [[0, 1], [2]]
    """
    pairs = zip(np.asarray(part.rows), np.asarray(part.which), strict=True)
    return [rows[: part.sizes[which]] for rows, which in pairs]


def all_rows(part: FoldRows) -> np.ndarray:
    """The rows that any fold has, ascending.

    >>> all_rows(FoldRows(np.array([[0, 4], [2, 2]]), np.array([0, 0]), (2,))).tolist()
    [0, 2, 4]
    """
    return np.unique(np.concatenate(rows_of(part)))


def parts_of(data: PyTree, fold: Array | int) -> tuple[PyTree, PyTree]:
    """(train, validation) of a fold, or of a pair of data sets, which is a single fold.

    >>> parts_of(("train", "validation"), 0)
    ('train', 'validation')
    """
    return data.parts(fold) if isinstance(data, Folds) else data


def first_examples(data: PyTree, most: int) -> tuple[PyTree, float]:
    """At most `most` examples of each part of the data, and the factor by which there are more.

    >>> import numpy as np
    >>> few, scale = first_examples((np.ones(8), np.ones(4)), 2)
    >>> [part.shape for part in few], scale
    ([(2,), (2,)], 3.0)
    """
    if not isinstance(data, Folds):
        few = tuple(jax.tree.map(lambda a: a[:most], part) for part in data)
        examples = lambda data: sum(jax.tree.leaves(part)[0].shape[0] for part in data)
        return few, examples(data) / examples(few)
    short = lambda part: FoldRows(
        part.rows[:, :most],
        jax.numpy.zeros_like(part.which),
        (min(part.sizes[0], most),),
    )
    few = Folds(data.data, short(data.train), short(data.validation))
    examples = lambda folds: folds.train.sizes[0] + folds.validation.sizes[0]
    return few, examples(data) / examples(few)
