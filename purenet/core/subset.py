"""Some rows of a data set, in a program that is the same for any rows and any number of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax

from purenet.core.types import Array, PyTree

T = TypeVar("T")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["data", "rows", "which"],
    meta_fields=["sizes"],
)
@dataclasses.dataclass(frozen=True)
class Subset:
    """A subset of the examples in `data`: the first `sizes[which]` of `rows`.

    `rows` and `which` may be traced, so one program serves all folds of a data set, which lies on
    the device once. The remaining rows are padding, and must be valid row numbers too.

    >>> import jax.numpy as jnp
    >>> part = Subset(jnp.arange(5) * 10, jnp.array([4, 1, 0]), jnp.array(0), sizes=(2, 3))
    >>> part.each(lambda rows, data: data[rows].sum()).item()
    50
    """

    data: PyTree  # arrays with the examples on the leading axis
    rows: Array  # (max(sizes),) integers
    which: Array  # () integer: the index of its own size
    sizes: tuple[int, ...]  # all possible numbers of rows, ascending

    @property
    def count(self) -> int | jax.Array:
        """The number of its own rows: a plain integer if there is only one size."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        return jax.numpy.asarray(self.sizes)[self.which]

    def each(self, f: Callable[[Array, PyTree], T]) -> T:
        """f(rows, data) of its own rows only: one branch of the program for each size."""
        if len(self.sizes) == 1:
            return f(self.rows, self.data)
        of = lambda size: lambda rows, data: f(rows[:size], data)
        return jax.lax.switch(self.which, list(map(of, self.sizes)), self.rows, self.data)

    def examples(self, f: Callable[[PyTree], T]) -> T:
        """f of its own examples, gathered: one branch of the program for each size.

        >>> import jax.numpy as jnp
        >>> Subset(jnp.arange(5), jnp.array([4, 1]), jnp.array(0), (2,)).examples(sum).item()
        5
        """
        return self.each(lambda rows, data: f(take(data, rows)))


def take(data: PyTree, rows: Array) -> PyTree:
    """These rows of every array.

    >>> import jax.numpy as jnp
    >>> take({"x": jnp.arange(5) * 10}, jnp.array([2, 0]))["x"].tolist()
    [20, 0]
    """
    return jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
