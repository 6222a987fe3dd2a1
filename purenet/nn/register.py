"""The definitions in the files of `purenet.nn`, found by walking them.

A new operation or layer is one file. Its definitions provide the names for rebuilding a saved
network and the arguments of `purenet check`. `purenet.nn.ops` imports the operations by name, so
that type checkers see them; a test checks that none is missing.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax

from purenet import nn
from purenet.core.types import Layer
from purenet.core.vjp import Op, ops_in
from purenet.nn import losses, metrics

_DERIVED = ("ops", "register")  # made of the others
_WITHOUT_LAYERS = ("base", "models")  # helpers, and networks that are made of layers


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(nn.__path__):
        if info.name not in _DERIVED:
            yield importlib.import_module(f"{nn.__name__}.{info.name}")


def operations() -> dict[str, Op]:
    """Every operation with a hand-written rule, by file and name.

    >>> operations()["affine"].__name__
    'affine'
    """
    found: dict[str, Op] = {}
    for module in _modules():
        ops = ops_in(module).items()
        here = {name: op for name, op in ops if op.plain.__module__ == module.__name__}
        found |= {name: here[name] for name in sorted(here) if not name.startswith("_")}
    return found


def layers() -> dict[str, Callable[..., Layer]]:
    """Every function that returns a layer, by name.

    >>> sorted(layers())[:3]
    ['attention', 'avg_pool', 'batch_norm']
    """
    return {
        name: f
        for module in _modules()
        if module.__name__.rpartition(".")[2] not in _WITHOUT_LAYERS
        for name, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and not name.startswith("_")
        and f.__annotations__.get("return") is Layer
    }


def functions() -> dict[str, Op]:
    """Every operation that is a layer directly: all its arguments but x have defaults.

    >>> "relu" in functions(), "affine" in functions()
    (True, False)
    """

    def required(op):
        parameters = inspect.signature(op).parameters.values()
        return [p.name for p in parameters if p.default is p.empty]

    return {name: op for name, op in operations().items() if required(op) == ["x"]}


def measures() -> dict[str, Callable[..., jax.Array]]:
    """Every loss and every metric that is a function of outputs and targets, by name.

    >>> sorted(measures())[:3]
    ['accuracy', 'auroc', 'average_precision']
    """
    return {
        name: f
        for module in (losses, metrics)
        for name, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and list(inspect.signature(f).parameters)[:2] in (["y", "t"], ["logits", "labels"])
        and not name.startswith("_")
    }


def examples() -> dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """The arguments to check an operation with: its arrays, numbers or shapes of arrays, then the
    plain values after them. A file declares them as `EXAMPLES`, by the names of its operations.

    >>> examples()["rms_normalise"]
    (((2, 3, 4), (4,), 0.3), ())
    """
    found: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
    for module in _modules():
        found |= getattr(module, "EXAMPLES", {})
    return found
