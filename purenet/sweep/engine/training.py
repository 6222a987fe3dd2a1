"""The training of a trial, by its hyperparameters: what all programs of a group call."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from purenet.core.contracts import (
    checked_epoch,
    checked_metrics,
    checked_trainable,
    traced_code,
)
from purenet.core.jit_cache import jit_for_each
from purenet.core.readings import readings
from purenet.core.subset import Subset
from purenet.core.types import PyTree, Trainable
from purenet.sweep.space.structure import Traced, Untaken

# The names of the two parts of the data.
PARTS = ("train", "validation")


class Training(NamedTuple):
    """What a group's trials train, but for their traced hyperparameters; hashable.

    >>> from purenet.sweep.space.structure import TRACED
    >>> still = lambda s, data: (s, {})
    >>> trial = lambda size: Trainable(lambda key: size, still, lambda s, data: {})
    >>> Training(trial, jax.tree.structure(0), (TRACED,)).trainable([3]).init(None)
    3
    """

    trial: Callable
    treedef: Any
    static: tuple
    read: tuple = ()  # what else the trial function depends on

    def __reduce__(self) -> tuple:
        return Training, self[:3]  # objects are told apart within one process

    def trainable(self, numbers: Iterable) -> Trainable:
        """That of the trial with these traced hyperparameters."""
        remaining = iter(numbers)
        taken = [value for value in self.static if value is not Untaken.UNTAKEN]
        leaves = [next(remaining) if isinstance(v, Traced) else v for v in taken]
        trainable = self.trial(jax.tree.unflatten(self.treedef, leaves))
        if not isinstance(trainable, Trainable):
            raise TypeError(
                f"sweep: the trial function returned {type(trainable).__name__}, but a "
                "Trainable(init, epoch, evaluate) such as supervised(...) is expected."
            )
        return checked_trainable("sweep", trainable)


def training_of(trial: Callable, treedef: Any, static: tuple) -> Training:
    """What the trials of a group train now: something else once what `trial` reads was replaced.

    >>> training_of(abs, jax.tree.structure(0), ()) == training_of(abs, jax.tree.structure(0), ())
    True
    """
    return Training(trial, treedef, static, readings(trial))


def _traced_once(f: Callable) -> Callable:
    """f(training, *arrays), traced once for all the programs that call it, if it is `shared`:
    if no static part of its state, such as an optimizer, holds the numbers of a trial."""
    compiled = jit_for_each(inline=True)(f)

    @functools.wraps(f)
    def called(training: Training, shared: bool, *arrays: Any) -> Any:
        return compiled(training)(*arrays) if shared else f(training, *arrays)

    return called


@_traced_once
def begun(training: Training, numbers: tuple, key: Any) -> PyTree:
    """The state before the first epoch."""
    with traced_code("sweep: `init`"):
        return training.trainable(numbers).init(key)


@_traced_once
def after_epoch(training: Training, numbers: tuple, state: PyTree, parts: tuple) -> PyTree:
    """The state after one more epoch."""
    return trained(training.trainable(numbers), state, parts)


@_traced_once
def measured(training: Training, numbers: tuple, state: PyTree, parts: tuple) -> dict:
    """The metrics on both parts of the data."""
    trainable = training.trainable(numbers)
    look = lambda data: checked_evaluation(trainable.evaluate(state, data))
    with traced_code("sweep: `evaluate`"):
        return {name: given(trainable, look, part) for name, part in zip(PARTS, parts, strict=True)}


def checked_evaluation(metrics: Any) -> dict:
    """What `evaluate` returned. Raises TypeError or ValueError for what are no metrics."""
    if not checked_metrics("sweep: `evaluate`", metrics):
        raise TypeError("sweep: `evaluate` returned {}, but a dict of scalars is expected.")
    return metrics


def trained(trainable: Trainable, state: PyTree, parts: tuple) -> PyTree:
    """The state after one epoch."""
    with traced_code("sweep: `epoch`"):
        one = lambda data: checked_epoch("sweep", trainable.epoch(state, data))[0]
        return given(trainable, one, parts[0])


def given(trainable: Trainable, f: Callable, part: PyTree) -> Any:
    """f of the data, in the form that the Trainable takes."""
    gathered = isinstance(part, Subset) and not trainable.subsets
    return part.examples(f) if gathered else f(part)
