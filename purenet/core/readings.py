"""What a function reads from outside of itself, to tell whether it still computes the same."""

import functools
import itertools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOST = 100  # entries of a container that are compared one by one
_ALL = 10_000  # values that are looked at, one within the other


def readings(f: Callable) -> tuple:
    """A hashable key of what a function reads: its code, globals, closure, defaults, and the
    attributes of its object.

    Two keys of a function are equal as long as none of these was replaced. Plain values and small
    containers are compared by value; functions, and objects of classes, of the same module by what
    they hold in turn; all else by identity, kept alive only if it is a large container. So a change
    inside of an array, or of a function of another module, is not seen.

    >>> scale = 2.0
    >>> def scaled(x):
    ...     return scale * x
    >>> before = readings(scaled)
    >>> same, scale = readings(scaled), 3.0
    >>> before == same, before == readings(scaled)
    (True, False)
    """
    inner = f
    while isinstance(inner, functools.partial):
        inner = inner.func
    return _key(f, getattr(inner, "__module__", None), (), itertools.count())


def _key(value: Any, home: str | None, within: tuple, seen: Iterator[int]) -> tuple:
    """A hashable key of a value that a function of the module `home` reads, `within` others."""
    enough = next(seen) >= _ALL or len(within) >= _MOST
    if isinstance(value, _PLAIN):
        return type(value), value
    if id(value) in within:  # a function that calls itself
        return ("within", within.index(id(value)))
    if enough:
        return (_Same(value),)
    key = functools.partial(_key, home=home, within=(*within, id(value)), seen=seen)
    own = home is not None and getattr(value, "__module__", None) == home
    if isinstance(value, (list, tuple, dict)) and len(value) <= _MOST:
        entries = [*value, *value.values()] if isinstance(value, dict) else value
        return type(value).__name__, *map(key, entries)
    if isinstance(value, functools.partial):
        return key(value.func), key(value.args), key(value.keywords)
    if isinstance(value, types.MethodType):
        return key(value.__func__), key(value.__self__)
    if isinstance(value, types.FunctionType) and own:
        return value.__code__, *map(key, _read(value))
    if own and not isinstance(value, type) and hasattr(value, "__dict__"):
        call = type(value).__call__ if callable(value) else None
        return (_Same(type(value)), key(call), *vars(value), *map(key, vars(value).values()))
    return (_Same(value),)


def _read(f: types.FunctionType) -> Iterator[Any]:
    """The values that a function finds outside of itself, but for those of its arguments."""
    yield from (f.__defaults__, f.__kwdefaults__)
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield None
    found = f.__globals__
    yield from (found[name] for name in _names(f.__code__) if name in found)


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that some code, or a function defined in it, may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class _Same:
    """Equal to another of the same object, while that lives."""

    def __init__(self, value: Any):
        self._hash = id(value)
        self._value: Callable[[], Any]
        try:
            self._value = weakref.ref(value)
        except TypeError:  # such as a large tuple
            self._value = lambda: value

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        mine = self._value()
        return isinstance(other, _Same) and mine is not None and mine is other._value()
