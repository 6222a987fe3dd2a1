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
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.dtypes import is_key

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
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of {value.dtype} {value.shape}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 and "<" not in text else f"a {type(value).__name__}"


# whole numbers
def is_integer(value: Any) -> bool:
    """Whether `value` is one whole number that is known now; True and False are none.

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
    """A whole number of at least `least`.

    Raises TypeError for what is none, traced numbers among it, and ValueError for a smaller one.

    >>> integer("epochs", 3, least=1)
    3
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is {describe_value(value)}, but it decides the shapes or the length of a "
            "program and "
            "has to be known when that is compiled: give a plain whole number."
        )
    if not is_integer(value):
        raise TypeError(f"{name} is {describe_value(value)}, but a whole number is expected.")
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


def _checker(legal, expected, shapes=lambda shape: shape == ()):
    def check(caller: str, **options: Any) -> None:
        """Numbers by their names, each in its range, or arrays, which are never looked at.

        Raises ValueError for the first plain number that is out of range and for an array of
        several where one is expected; TypeError for what is neither.

        >>> fraction("adam", b1=0.9, b2=0.999)
        """
        for name, value in options.items():
            if is_number(value):
                if not legal(value):
                    raise ValueError(f"{caller}: {name} is {value}, but {expected} is expected.")
            elif not _is_numeric_array(value):
                raise TypeError(
                    f"{caller}: {name} is {describe_value(value)}, but {expected} is expected."
                )
            elif not shapes(value.shape):
                raise ValueError(
                    f"{caller}: {name} is {describe_value(value)}, but one number is expected; to "
                    "try several, "
                    "vmap over them or give them to a sweep."
                )

    return check


def _is_numeric_array(value) -> bool:
    return isinstance(value, (jax.Array, np.ndarray)) and jnp.issubdtype(value.dtype, np.number)


# NaN fails every comparison, so it is refused too.
non_negative = _checker(lambda value: 0 <= value < math.inf, "a finite number from 0 on")
positive = _checker(lambda value: 0 < value < math.inf, "a finite number above 0")
fraction = _checker(lambda value: 0 <= value < 1, "a number from 0 to below 1")
finite = _checker(math.isfinite, "a finite number")
# the same where an array may have any shape, one number for each part of x
fractions = _checker(lambda value: 0 <= value < 1, "a number from 0 to below 1", lambda shape: True)
non_negatives = _checker(
    lambda value: 0 <= value < math.inf, "a finite number from 0 on", lambda shape: True
)
numbers = _checker(math.isfinite, "a finite number", lambda shape: True)


def non_negative_or_schedule(caller: str, **options: Any) -> None:
    """`non_negative`, with functions of the step let through.

    Raises what `non_negative` raises.

    >>> non_negative_or_schedule("sgd", rate=lambda step: 0.1)
    """
    non_negative(
        caller, **{name: value for name, value in options.items() if not is_function(value)}
    )


def is_function(value) -> bool:
    return callable(value) and not isinstance(value, type)


def boolean(caller: str, **options: Any) -> None:
    """True or False, known when the program is compiled. Raises TypeError for anything else.

    >>> boolean("conv", bias=True)
    """
    for name, value in options.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(
                f"{caller}: {name} is {describe_value(value)}, but True or False is expected."
            )


# functions
def check_function(caller: str, **options: Any) -> None:
    """Functions, by the names of the arguments. Raises TypeError for what is none.

    >>> check_function("jvp", f=abs)
    """
    for name, value in options.items():
        if not is_function(value):
            raise TypeError(
                f"{caller}: {name} is {describe_value(value)}, but a function is expected."
            )


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
    """An array for JAX: one of NumPy's in the dtype that JAX has it in, plain numbers as they are.

    Raises TypeError for what is neither: lists, None, strings, functions.

    >>> array("affine", "x", np.ones(2)).dtype == jnp.zeros(()).dtype
    True
    """
    if isinstance(value, (jax.Array, bool, int, float, complex)):
        return value
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__jax_array__"):
        try:
            return jnp.asarray(value)
        except TypeError:  # of strings or of objects
            value = describe_value(value)
            raise TypeError(f"{caller}: {name} is {value}, but numbers are expected.") from None
    hint = "; convert it with jnp.asarray" if isinstance(value, (list, tuple)) else ""
    raise TypeError(f"{caller}: {name} is {describe_value(value)}, but an array is expected{hint}.")


def random_key(caller: str, key: Any) -> None:
    """One random key, of either style.

    Raises TypeError for what is no key, and ValueError for several of them.

    >>> random_key("serial", jax.random.key(0))
    """
    typed, arrays = is_key(key), (jax.Array, np.ndarray)
    if not typed and not (isinstance(key, arrays) and key.dtype == np.uint32):
        raise TypeError(
            f"{caller}: the key is {describe_value(key)}, but a random key is expected, such as "
            "jax.random.key(0)."
        )
    if key.ndim != (0 if typed else 1):
        raise ValueError(
            f"{caller}: the key is {describe_value(key)}, but one random key is expected; take "
            "one of them, or "
            "vmap over them."
        )


def check_same_structure(caller: str, expected: str, like: Any, **trees: Any) -> None:
    """Trees of the structure and the shapes of `like`, which the message calls `expected`.

    Raises ValueError for the first that differs.

    >>> check_same_structure("sgd", "the weights", {"w": np.ones(2)}, grads={"w": np.zeros(2)})
    """
    for name, tree in trees.items():
        structures: Any = jax.tree.structure(tree), jax.tree.structure(like)
        got, wanted = structures
        if got != wanted:
            raise ValueError(
                f"{caller}: the {name} have the structure {got}, but {expected} have {wanted}."
            )
        for (path, a), b in zip(
            jax.tree.leaves_with_path(tree), jax.tree.leaves(like), strict=True
        ):
            if np.shape(a) != np.shape(b):
                raise ValueError(
                    f"{caller}: the {name}{jax.tree_util.keystr(path)} have shape {np.shape(a)}, "
                    "but "
                    f"{expected} there have {np.shape(b)}."
                )


def real_numbers(caller: str, name: str, values: Any) -> np.ndarray:
    """Real numbers as float64, None as NaN. Raises TypeError for texts, complex numbers, objects
    and rows of unequal length.

    >>> real_numbers("curves", "y", [1, None]).tolist()
    [1.0, nan]
    """
    try:
        found = np.asarray(values)
        if found.dtype.kind in "SUcMm":
            raise TypeError
        return found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{caller}: {name} is {describe_value(values)}, but an array of real numbers is "
            "expected."
        ) from None


def mapping(caller: str, name: str, value: Any) -> Mapping:
    """A dict. Raises TypeError for anything else.

    >>> mapping("curves", "series", {"sgd": [1.0]})
    {'sgd': [1.0]}
    """
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{caller}: {name} is {describe_value(value)}, but a dict by name is expected."
        )
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
    before `f` is called, under the name "f: argument". A default, and so None where that is the
    default, is let through.

    >>> @declared
    ... def half(n: PositiveInteger = 2):
    ...     return n / 2
    >>> half(0)
    Traceback (most recent call last):
    ValueError: half: n is 0, but at least 1 is expected.
    """
    signature = inspect.signature(f)
    checks = {
        name: check
        for name, parameter in signature.parameters.items()
        for check in _checks(parameter.annotation)
    }

    @functools.wraps(f)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name, check in checks.items():
            default = signature.parameters[name].default
            if name in given.arguments and given.arguments[name] is not default:
                value = check.apply(f"{f.__name__}: {name}", given.arguments[name])
                given.arguments[name] = value
        return f(*given.args, **given.kwargs)

    checked.__doc__ = _with_raises(f.__doc__ or "", checks)
    return checked


def _checks(annotation) -> list[Check]:
    """Those of an annotation, or of the parts of a union."""
    found = [c for c in getattr(annotation, "__metadata__", ()) if isinstance(c, Check)]
    return found + [check for part in get_args(annotation) for check in _checks(part)]


def _with_raises(doc: str, checks: dict[str, Check]) -> str:
    """The docstring with a sentence on what is raised, before its example."""
    if not checks:
        return doc
    unless = "; ".join(f"{name} is {check.expected}" for name, check in checks.items())
    text = textwrap.fill(
        f"Raises TypeError or ValueError unless {unless}.", 96,
        initial_indent="    ", subsequent_indent="    ",
    )  # fmt: skip
    head, mark, example = doc.partition("\n    >>> ")
    return head.rstrip() + "\n" + text + "\n" + (mark and "\n" + mark.lstrip("\n")) + example


def _option(check: Callable[..., None], expected: str) -> Check:
    """One of the checks of numbers above, for an argument named "caller: option"."""

    def apply(name: str, value: Any) -> Any:
        caller, _, option = name.partition(": ")
        check(caller, **{option: value})
        return value

    return Check(apply, expected)


def at_least(least: int) -> Check:
    """An integer of at least `least`, known when the program is compiled.

    >>> at_least(1).apply("dense: units", np.int8(3))
    3
    """
    return Check(lambda name, value: integer(name, value, least), f"an integer of at least {least}")


PositiveInteger = Annotated[int, at_least(1)]
Count = Annotated[int, at_least(0)]
NonNegative = Annotated[Any, _option(non_negative, "a finite number from 0 on")]
Positive = Annotated[Any, _option(positive, "a finite number above 0")]
UnitInterval = Annotated[Any, _option(fraction, "a number from 0 to below 1")]
Finite = Annotated[Any, _option(finite, "a finite number")]
Boolean = Annotated[bool, _option(boolean, "True or False")]
Function = Annotated[Callable, _option(check_function, "a function")]
