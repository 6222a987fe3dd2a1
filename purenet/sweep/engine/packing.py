"""How a lane holds the leaves of a state."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Packing(NamedTuple):
    """The leaves of a state as one array of each dtype, if they are `joined`; else as they are.

    A compiled program takes, checks and puts back a lane with a kernel for each of its arrays, and
    each kernel costs milliseconds of compiling.

    >>> pair = jax.ShapeDtypeStruct((2,), "float32"), jax.ShapeDtypeStruct((3, 1), "float32")
    >>> packing = Packing(pair, joined=True)
    >>> [held] = packing.join([jnp.zeros(2), jnp.ones((3, 1))])
    >>> held.tolist(), packing.split([held])[1].shape
    ([0.0, 0.0, 1.0, 1.0, 1.0], (3, 1))
    """

    leaves: tuple[jax.ShapeDtypeStruct, ...]
    joined: bool

    @property
    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Of the arrays that a lane holds."""
        if not self.joined:
            return list(self.leaves)
        sizes: dict[Any, int] = {}
        for kind, _, end in self._places():
            sizes[kind] = end
        return [jax.ShapeDtypeStruct((size,), kind) for kind, size in sizes.items()]

    def join(self, leaves: Sequence, concatenate: Callable = jnp.concatenate) -> list:
        """Leaves as a lane holds them; of NumPy arrays by `np.concatenate`."""
        if not self.joined:
            return list(leaves)
        of: dict[Any, list] = {}
        for like, leaf in zip(self.leaves, leaves, strict=True):
            of.setdefault(like.dtype, []).append(leaf.reshape(-1))
        return [concatenate(flat) for flat in of.values()]

    def split(self, held: Sequence) -> list:
        """The leaves that `join` put together."""
        if not self.joined:
            return list(held)
        of = self._by_dtype(held)
        return [
            of[kind][start:end].reshape(like.shape)
            for like, (kind, start, end) in zip(self.leaves, self._places(), strict=True)
        ]

    def some(self, held: Sequence, wanted: Sequence[bool]) -> list:
        """The numbers of the wanted leaves, which are joined: in one array where they are together.

        >>> leaves = tuple(jax.ShapeDtypeStruct((n,), "float32") for n in (1, 2, 3))
        >>> [a.tolist() for a in Packing(leaves, True).some([jnp.arange(6.0)], [True, True, False])]
        [[0.0, 1.0, 2.0]]
        """
        runs: list[tuple] = []
        for (kind, start, end), one in zip(self._places(), wanted, strict=True):
            if one and runs and runs[-1][0] == kind and runs[-1][2] == start:
                runs[-1] = (kind, runs[-1][1], end)
            elif one:
                runs.append((kind, start, end))
        of = self._by_dtype(held)
        return [of[kind][start:end] for kind, start, end in runs]

    def _places(self) -> Iterator[tuple[Any, int, int]]:
        """Where each leaf is: the dtype of the array that it is in, its first place and its end."""
        ends: dict[Any, int] = {}
        for leaf in self.leaves:
            start = ends.get(leaf.dtype, 0)
            ends[leaf.dtype] = start + math.prod(leaf.shape)
            yield leaf.dtype, start, ends[leaf.dtype]

    def _by_dtype(self, held):
        kinds = dict.fromkeys(leaf.dtype for leaf in self.leaves)
        return dict(zip(kinds, held, strict=True))
