"""The tables that the tests of operations and of layers walk."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One op at one set of arguments: each a shape (filled with normal numbers) or an array.

    Integer arrays and keys are passed on and not differentiated. `static` are the op's trailing
    plain Python arguments. `differences` is False at a kink, where finite differences cannot tell
    the convention.
    """

    op: Callable
    args: tuple[Any, ...]
    static: tuple = ()
    differences: bool = True


class LayerCase(NamedTuple):
    """One layer, the shape of one example, and the shapes of its float32 parameters by name."""

    layer: Any
    sizes: tuple[int, ...]
    params: dict[str, tuple[int, ...]]
