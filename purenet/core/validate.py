"""Checks of arguments, by types and shapes, before anything is computed.

A plain number may be inspected. An array never is, traced or not: no program depends on its
values.
"""

import contextlib
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
    """A value in a few words, for an error message.

    >>> describe_value("adam"), describe_value(print), describe_value(np.ones((2, 3)))
    ("'adam'", 'the function print', 'an array of float64 (2, 3)')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if _is_array(value):
        article = "a traced" if isinstance(value, jax.core.Tracer) else "an"
        return f"{article} array of {value.dtype} {value.shape}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = str(value) if isinstance(value, np.number) else repr(value)
    kind = type(value).__name__
    article = "an" if kind[0] in "AEIOaeio" else "a"
    return text if len(text) <= 60 and "<" not in text else f"{article} {kind}"


def _is_array(value) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def expect(
    legal: Any, name: str, value: Any, expected: str, error: type = TypeError, hint: str = ""
) -> None:
    """Raises `error` unless `legal`, with the wording that all checks share.

    >>> expect(False, "fit: x", "a", "an array")
    Traceback (most recent call last):
    TypeError: fit: x is 'a', but an array is expected.
    """
    if not legal:  # describing a large value takes time
        raise error(f"{name} is {describe_value(value)}, but {expected} is expected{hint}.")


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
    traced = isinstance(value, jax.core.Tracer)
    hint = "; it sets shapes or a program's length, so it must be known at compile time"
    expect(is_integer(value), name, value, "an integer", hint=hint if traced else "")
    number = operator.index(value)
    expect(number >= least, name, number, f"at least {least}", ValueError)
    return number


# settings: plain numbers in their range, or arrays of one number
def is_number(value: Any) -> bool:
    """Whether `value` is a plain number, which may be inspected before anything is traced.

    >>> is_number(0.5), is_number(np.float32(0.5)), is_number("0.5")
    (True, True, False)
    """
    return isinstance(value, (int, float, np.number))


# NaN fails every comparison, so it is in no interval.
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
    several = "; to try several, vmap over them or give them to a sweep"

    def check(caller: str, **options: Any) -> None:
        for name, value in options.items():
            what = f"{caller}: {name}"
            if is_number(value):
                expect(contains(value), what, value, expected, ValueError)
                continue
            numeric = _is_array(value) and jnp.issubdtype(value.dtype, np.number)
            expect(numeric, what, value, expected)
            expect(not one or value.shape == (), what, value, "one number", ValueError, several)

    return check


non_negative, positive = in_range(NON_NEGATIVE), in_range(POSITIVE)
fraction, finite = in_range(UNIT), in_range(FINITE)


def is_function(value: Any) -> bool:
    """Whether `value` is a function, and not a class.

    >>> is_function(print), is_function(dict)
    (True, False)
    """
    return callable(value) and not isinstance(value, type)


def every(legal: Callable[[Any], bool], expected: str) -> Callable[..., None]:
    """The check that all options, by name, are `expected`; it raises TypeError.

    >>> every(is_function, "a function")("jvp", f=abs)
    """

    def check(caller: str, **options: Any) -> None:
        for name, value in options.items():
            expect(legal(value), f"{caller}: {name}", value, expected)

    return check


boolean = every(lambda value: isinstance(value, (bool, np.bool_)), "True or False")
check_function = every(is_function, "a function")


def accepts(f: Callable, *args: Any, **kwargs: Any) -> bool:
    """Whether a function can be called with these arguments, according to its signature.

    >>> accepts(lambda x: x, 1), accepts(lambda x: x, 1, 2)
    (True, False)
    """
    try:
        inspect.signature(f).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # a callable without a signature
        return True
    return True


# arrays, keys and trees of arrays
def array(caller: str, name: str, value: Any) -> Any:
    """An array for JAX: NumPy arrays in the dtype that JAX gives them, plain numbers unchanged.

    Raises TypeError for anything else, such as lists, None, strings and functions.

    >>> array("affine", "x", np.ones(2)).dtype == jnp.zeros(()).dtype
    True
    """
    if isinstance(value, (jax.Array, bool, int, float, complex)):
        return value
    known = isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__jax_array__")
    hint = "; convert it with jnp.asarray" if isinstance(value, (list, tuple)) else ""
    expect(known, f"{caller}: {name}", value, "an array", hint=hint)
    found = None
    with contextlib.suppress(TypeError):  # of strings or of objects
        found = jnp.asarray(value)
    expect(found is not None, f"{caller}: {name}", value, "an array of numbers")
    return found


def random_key(caller: str, key: Any) -> None:
    """Check that `key` is one random key, of either style.

    Raises TypeError if it is not a key, and ValueError for several keys.

    >>> random_key("serial", jax.random.key(0))
    """
    typed, what = is_key(key), f"{caller}: the key"
    legal = typed or (_is_array(key) and key.dtype == np.uint32)
    expect(legal, what, key, "a random key such as jax.random.key(0)")
    one = key.ndim == (0 if typed else 1)
    expect(one, what, key, "one random key", ValueError, "; take one of them, or vmap over them")


def real_numbers(caller: str, name: str, values: Any) -> np.ndarray:
    """Real numbers as float64, None as NaN.

    Raises TypeError for strings, complex numbers, objects and rows of unequal length.

    >>> real_numbers("curves", "y", [1, None]).tolist()
    [1.0, nan]
    """
    real: Any = None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        given = np.asarray(values)
        real = None if given.dtype.kind in "SUcMm" else given.astype(np.float64)
    expect(real is not None, f"{caller}: {name}", values, "an array of real numbers")
    return real


def mapping(caller: str, name: str, value: Any) -> Mapping:
    """A dict. Raises TypeError for anything else.

    >>> mapping("curves", "series", {"sgd": [1.0]})
    {'sgd': [1.0]}
    """
    expect(isinstance(value, Mapping), f"{caller}: {name}", value, "a dict by name")
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
    """A requirement on an annotated argument: `apply(name, value)` returns the value, or raises.

    >>> Check(lambda name, value: integer(name, value, least=1), "an integer above 0").expected
    'an integer above 0'
    """

    apply: Callable[[str, Any], Any]
    expected: str  # as in "Raises ... unless x is `expected`"


def declared(f: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of `f` by their annotations, and document it in the docstring.

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
        except TypeError:  # let Python name the missing or unknown argument
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
    """The docstring with a sentence on the errors, before its source and its example."""
    names: dict[str, list[str]] = {}
    for name, (check, _) in checks.items():
        names.setdefault(check.expected, []).append(name)
    listed = lambda n: f"{', '.join(n[:-1])} and {n[-1]} are each" if n[1:] else f"{n[0]} is"
    unless = "; ".join(f"{listed(found)} {expected}" for expected, found in names.items())
    text = textwrap.fill(f"Raises TypeError or ValueError unless {unless}.", 96)
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


def satisfying(legal: Callable[[Any], Any], expected: str, error: type = TypeError) -> Check:
    """The check that `legal(value)` holds; it raises `error`.

    >>> satisfying(is_function, "a function").apply("jvp: f", abs)
    <built-in function abs>
    """

    def apply(name: str, value: Any) -> Any:
        expect(legal(value), name, value, expected, error)
        return value

    return Check(apply, expected)


def one_of(*words: str) -> Check:
    """One of several words; its check raises ValueError.

    >>> one_of("columns", "direct").expected
    "one of 'columns', 'direct'"
    """
    known = lambda value: isinstance(value, str) and value in words
    return satisfying(known, f"one of {', '.join(map(repr, words))}", ValueError)


PositiveInteger = Annotated[int, at_least(1)]
Count = Annotated[int, at_least(0)]
NonNegative = Annotated[Number, by_option(non_negative, NON_NEGATIVE[1])]
Positive = Annotated[Number, by_option(positive, POSITIVE[1])]
UnitInterval = Annotated[Number, by_option(fraction, UNIT[1])]
Finite = Annotated[Number, by_option(finite, FINITE[1])]
Boolean = Annotated[bool, by_option(boolean, "True or False")]
IS_FUNCTION = satisfying(is_function, "a function")
Function = Annotated[Callable, IS_FUNCTION]
