"""Checks of arguments, made from types and shapes before anything is computed.

A plain number may be looked at. An array never is, traced or not: no program depends on what it
holds.
"""

import functools
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import is_key
from purenet.core.types import Number

P = ParamSpec("P")
R = TypeVar("R")


def describe_value(value: Any) -> str:
    """What a value is, in a few words, for an error message.

    >>> describe_value("adam"), describe_value(print), describe_value(np.ones((2, 3)))
    ("'adam'", 'the function print', 'an array of float64 (2, 3)')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, jax.core.Tracer):
        return f"a traced array of {value.dtype} {value.shape}"
    if _is_array(value):
        return f"an array of {value.dtype} {value.shape}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 and "<" not in text else f"a {type(value).__name__}"


def _is_array(value) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def _unexpected(caller, name, value, expected, describe=describe_value, hint="") -> str:
    return f"{caller}: {name} is {describe(value)}, but {expected} is expected{hint}."


# integers
def is_integer(value: Any) -> bool:
    """Whether `value` is one concrete integer; True and False are not.

    >>> is_integer(3), is_integer(np.int8(3)), is_integer(3.0), is_integer(True)
    (True, True, False, False)
    """
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def integer(name: str, value: Any, least: int) -> int:
    """An integer of at least `least`.

    Raises TypeError if `value` is not a concrete integer, and ValueError if it is smaller.

    >>> integer("epochs", 3, least=1)
    3
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is {describe_value(value)}, but it determines shapes or the length of a "
            "program and has to be known at compile time: pass a plain integer."
        )
    if not is_integer(value):
        raise TypeError(f"{name} is {describe_value(value)}, but an integer is expected.")
    if operator.index(value) < least:
        raise ValueError(f"{name} is {value}, but at least {least} is expected.")
    return operator.index(value)


# settings: plain numbers in their range, or arrays of one number
def is_number(value: Any) -> bool:
    """Whether `value` is a plain number, which may be looked at before anything is traced.

    >>> is_number(0.5), is_number(np.float32(0.5)), is_number("0.5")
    (True, True, False)
    """
    return isinstance(value, (int, float, np.number))


# NaN fails every comparison, so it is in none of them.
NON_NEGATIVE = (lambda value: 0 <= value < math.inf, "a finite number of at least 0")
POSITIVE = (lambda value: 0 < value < math.inf, "a finite number above 0")
UNIT = (lambda value: 0 <= value < 1, "a number from 0 to below 1")
FINITE = (math.isfinite, "a finite number")


def in_range(interval: tuple[Callable, str], one: bool = True) -> Callable[..., None]:
    """The check of numbers, by their names, in an interval; arrays, of one number or of any shape,
    are never inspected.

    It raises ValueError for the first plain number that is out of range and for an array of several
    where one is expected; TypeError for anything but a number or a numeric array.

    >>> in_range(UNIT)("adam", b1=0.9, b2=0.999)
    """
    contains, expected = interval

    def check(caller: str, **options: Any) -> None:
        for name, value in options.items():
            if is_number(value):
                if not contains(value):
                    raise ValueError(_unexpected(caller, name, value, expected, str))
            elif not (_is_array(value) and jnp.issubdtype(value.dtype, np.number)):
                raise TypeError(_unexpected(caller, name, value, expected))
            elif one and value.shape != ():
                several = "; to try several, vmap over them or give them to a sweep"
                raise ValueError(_unexpected(caller, name, value, "one number", hint=several))

    return check


non_negative, positive = in_range(NON_NEGATIVE), in_range(POSITIVE)
fraction, finite = in_range(UNIT), in_range(FINITE)


def is_function(value: Any) -> bool:
    """Whether `value` is a function, and not a class.

    >>> is_function(print), is_function(dict)
    (True, False)
    """
    return callable(value) and not isinstance(value, type)


def boolean(caller: str, **options: Any) -> None:
    """True or False, known when the program is compiled. Raises TypeError for anything else.

    >>> boolean("conv", bias=True)
    """
    for name, value in options.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(_unexpected(caller, name, value, "True or False"))


# functions
def check_function(caller: str, **options: Any) -> None:
    """Check functions, by their names. Raises TypeError for anything else.

    >>> check_function("jvp", f=abs)
    """
    for name, value in options.items():
        if not is_function(value):
            raise TypeError(_unexpected(caller, name, value, "a function"))


def accepts(f: Callable, *args: Any, **kwargs: Any) -> bool:
    """Whether a function may be called with such arguments, as far as its signature says.

    >>> accepts(lambda x: x, 1), accepts(lambda x: x, 1, 2)
    (True, False)
    """
    try:
        inspect.signature(f).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no signature to ask
        return True
    return True


# arrays, keys and trees of arrays
def array(caller: str, name: str, value: Any) -> Any:
    """An array for JAX: NumPy arrays in the dtype that JAX gives them, plain numbers as they are.

    Raises TypeError for anything else, such as lists, None, strings and functions.

    >>> array("affine", "x", np.ones(2)).dtype == jnp.zeros(()).dtype
    True
    """
    if isinstance(value, (jax.Array, bool, int, float, complex)):
        return value
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__jax_array__"):
        try:
            return jnp.asarray(value)
        except TypeError:  # of strings or of objects
            shown = describe_value(value)
            raise TypeError(f"{caller}: {name} is {shown}, but numbers are expected.") from None
    hint = "; convert it with jnp.asarray" if isinstance(value, (list, tuple)) else ""
    raise TypeError(_unexpected(caller, name, value, "an array", hint=hint))


def random_key(caller: str, key: Any) -> None:
    """Check that `key` is one random key, of either style.

    Raises TypeError if it is not a key, and ValueError for several keys.

    >>> random_key("serial", jax.random.key(0))
    """
    typed = is_key(key)
    if not typed and not (_is_array(key) and key.dtype == np.uint32):
        expected = "a random key such as jax.random.key(0)"
        raise TypeError(_unexpected(caller, "the key", key, expected))
    if key.ndim != (0 if typed else 1):
        hint = "; take one of them, or vmap over them"
        raise ValueError(_unexpected(caller, "the key", key, "one random key", hint=hint))


def real_numbers(caller: str, name: str, values: Any) -> np.ndarray:
    """Real numbers as float64, None as NaN.

    Raises TypeError for strings, complex numbers, objects and rows of unequal length.

    >>> real_numbers("curves", "y", [1, None]).tolist()
    [1.0, nan]
    """
    try:
        found = np.asarray(values)
        if found.dtype.kind in "SUcMm":
            raise TypeError
        return found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(_unexpected(caller, name, values, "an array of real numbers")) from None


def mapping(caller: str, name: str, value: Any) -> Mapping:
    """A dict. Raises TypeError for anything else.

    >>> mapping("curves", "series", {"sgd": [1.0]})
    {'sgd': [1.0]}
    """
    if not isinstance(value, Mapping):
        raise TypeError(_unexpected(caller, name, value, "a dict by name"))
    return value


def require(legal: bool, problem: str, error: type[Exception] = ValueError) -> None:
    """Raises `error` with the text `problem` unless `legal`.

    >>> require(2 < 1, "idx: a, byte 2: the element type is 0x0A.")
    Traceback (most recent call last):
    ValueError: idx: a, byte 2: the element type is 0x0A.
    """
    if not legal:
        raise error(problem)


# checks that are declared in a signature
class Check(NamedTuple):
    """What an annotated argument has to be: `apply(name, value)` gives the value, or raises.

    >>> Check(lambda name, value: integer(name, value, least=1), "an integer above 0").expected
    'an integer above 0'
    """

    apply: Callable[[str, Any], Any]
    expected: str  # as in "Raises ... unless x is `expected`"


def declared(f: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of `f` by their annotations, and say so in its docstring.

    An argument annotated with `Annotated[type, Check(...)]`, such as `NonNegative`, is checked
    before `f` is called, under the name "f: argument". The default of an argument passes, and so
    does None where the annotation is a union with None.

    >>> @declared
    ... def half(n: PositiveInteger = 2):
    ...     return n / 2
    >>> half(0)
    Traceback (most recent call last):
    ValueError: half: n is 0, but at least 1 is expected.
    """
    signature = inspect.signature(f)
    checks = {
        name: (check, parameter.default)
        for name, parameter in signature.parameters.items()
        for check in _checks(parameter.annotation)
    }

    @functools.wraps(f)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:  # Python says best which argument is missing or unknown
            return f(*args, **kwargs)
        for name, (check, default) in checks.items():
            value = given.arguments.get(name, default)
            if value is not default:
                given.arguments[name] = check.apply(f"{f.__name__}: {name}", value)
        return f(*given.args, **given.kwargs)

    checked.__doc__ = _with_raises(inspect.getdoc(f) or "", checks)
    plain = [p.replace(annotation=_plain(p.annotation)) for p in signature.parameters.values()]
    checked.__signature__ = signature.replace(parameters=plain)  # type: ignore[attr-defined]
    return checked


def _is_union(annotation) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _checks(annotation) -> list[Check]:
    """The check of an annotation; in a union with None, None passes."""
    found = [c for c in getattr(annotation, "__metadata__", ()) if isinstance(c, Check)]
    parts = get_args(annotation) if _is_union(annotation) else ()
    return found + [_or_none(check) for part in parts for check in _checks(part)]


def _or_none(check: Check) -> Check:
    apply = lambda name, value: None if value is None else check.apply(name, value)
    return Check(apply, f"{check.expected}, or None")


def _plain(annotation):
    """An annotation without its checks, as `help` shows it."""
    if not _checks(annotation):
        return annotation
    if _is_union(annotation):
        return functools.reduce(operator.or_, map(_plain, get_args(annotation)))
    return annotation.__origin__


def _with_raises(doc: str, checks: dict[str, tuple[Check, Any]]) -> str:
    """The docstring with a sentence on what is raised, before its source and its example."""
    names: dict[str, list[str]] = {}
    for name, (check, _) in checks.items():
        names.setdefault(check.expected, []).append(name)
    listed = lambda n: f"{', '.join(n[:-1])} and {n[-1]} are each" if n[1:] else f"{n[0]} is"
    unless = "; ".join(f"{listed(found)} {expected}" for expected, found in names.items())
    text = textwrap.fill(f"Raises TypeError or ValueError unless {unless}.", 96) if names else ""
    ends = [doc.find(mark) for mark in ("\nSource:", "\n\n>>> ") if mark in doc]
    end = min(ends, default=len(doc))
    return f"{doc[:end]}\n{text}{doc[end:]}" if names else doc


def by_option(check: Callable[..., None], expected: str) -> Check:
    """The check of an argument from one such as `non_negative`, which takes options by name.

    >>> by_option(boolean, "True or False").apply("conv: bias", True)
    True
    """

    def apply(name: str, value: Any) -> Any:
        caller, _, option = name.partition(": ")
        check(caller, **{option: value})
        return value

    return Check(apply, expected)


def at_least(least: int) -> Check:
    """An integer of at least `least`, known at compile time.

    >>> at_least(1).apply("dense: units", np.int8(3))
    3
    """
    return Check(lambda name, value: integer(name, value, least), f"an integer of at least {least}")


def one_of(*words: str) -> Check:
    """One of several words; its check raises ValueError.

    >>> one_of("columns", "direct").expected
    "one of 'columns', 'direct'"
    """
    expected = f"one of {', '.join(map(repr, words))}"

    def apply(name: str, value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(f"{name} is {describe_value(value)}, but {expected} is expected.")

    return Check(apply, expected)


PositiveInteger = Annotated[int, at_least(1)]
Count = Annotated[int, at_least(0)]
NonNegative = Annotated[Number, by_option(non_negative, NON_NEGATIVE[1])]
Positive = Annotated[Number, by_option(positive, POSITIVE[1])]
UnitInterval = Annotated[Number, by_option(fraction, UNIT[1])]
Finite = Annotated[Number, by_option(finite, FINITE[1])]
Boolean = Annotated[bool, by_option(boolean, "True or False")]
IS_FUNCTION = by_option(check_function, "a function")
Function = Annotated[Callable, IS_FUNCTION]
