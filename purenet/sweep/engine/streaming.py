"""Streamed data in a sweep: its parts, and where in an epoch a lane is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.tree import fingerprint
from purenet.core.types import Array, PyTree
from purenet.core.validate import require
from purenet.data.streams import Stream, first_examples

NEED_MEMORY = "need data in memory, but some of it is streamed; give arrays of a part of it."


class StreamedParts:
    """Training data that is a stream, and validation data that is one too or lies in memory.

    >>> from purenet.data.streams import stream
    >>> StreamedParts(stream(np.ones(3)), np.ones(2)).examples[0].shape
    (3,)
    """

    def __init__(self, train: Stream, validation: PyTree):
        self.train, self.validation = train, validation
        if not isinstance(validation, Stream):
            self.validation = jax.tree.map(np.asarray, validation)

    @property
    def examples(self) -> tuple[PyTree, PyTree]:
        """A few examples of each part that is streamed, and all of one in memory."""
        found = first_examples({"train": self.train, "validation": self.validation})
        return found["train"], found["validation"]

    @property
    def held(self) -> PyTree:
        """What lies on the devices."""
        return () if isinstance(self.validation, Stream) else self.validation

    @property
    def fingerprint(self) -> str:
        """What tells the data apart, as well as some of the examples do."""
        of = lambda part: part.fingerprint if isinstance(part, Stream) else fingerprint(part)
        return f"{of(self.train)} {of(self.validation)}"

    def in_memory(self, caller: str) -> PyTree:
        """The validation data. Raises ValueError if it is streamed."""
        text = f"{caller}: the validation data is streamed, but it has to be in memory here."
        require(not isinstance(self.validation, Stream), text)
        return self.validation


class InEpoch(NamedTuple):
    """A training in the midst of an epoch.

    >>> InEpoch((), 3, {}).at
    3
    """

    state: PyTree
    at: Any  # () int32, the minibatches of this epoch that are done
    sums: dict[str, Any]  # of their metrics


class StreamShape(NamedTuple):
    """How the lanes of a program take their minibatches.

    >>> StreamShape(8, 100, ("loss",), 5).begin(()).sums["loss"].item()
    0.0
    """

    size: int  # examples in a minibatch
    steps: int  # minibatches in an epoch
    names: tuple[str, ...]  # what is measured on each of them
    leaf: int  # the place of `at` among the leaves of a packed state

    def begin(self, state: PyTree) -> InEpoch:
        """Before the first minibatch of an epoch."""
        zero = lambda: jnp.zeros((), jnp.result_type(float))
        return InEpoch(state, jnp.zeros((), jnp.int32), {name: zero() for name in self.names})

    def means(self, sums: dict[str, Array]) -> dict[str, jax.Array]:
        """The metrics of a whole epoch."""
        return {name: jnp.asarray(value) / self.steps for name, value in sums.items()}
