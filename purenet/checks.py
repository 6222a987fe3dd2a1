"""Checks of arguments, made from types and shapes before anything is computed.

A plain number may be looked at. An array never is, traced or not: no program depends on what it
holds.
"""

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def told(value) -> str:
    """What a value is, in a few words, for an error message.

    >>> told("adam"), told(print), told(dict), told(np.ones((2, 3)))
    ("'adam'", 'the function print', 'the class dict', 'an array of float64 (2, 3)')
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
def is_whole(value) -> bool:
    """Whether `value` is one whole number that is known now; True and False are none.

    >>> is_whole(3), is_whole(np.int8(3)), is_whole(3.0), is_whole(True)
    (True, True, False, False)
    """
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def whole(name: str, value, least: int) -> int:
    """A whole number of at least `least`.

    Raises TypeError for what is none, traced numbers among it, and ValueError for a smaller one.

    >>> whole("epochs", 3, least=1)
    3
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is {told(value)}, but it decides the shapes or the length of a program and "
            "has to be known when that is compiled: give a plain whole number."
        )
    if not is_whole(value):
        raise TypeError(f"{name} is {told(value)}, but a whole number is expected.")
    if operator.index(value) < least:
        raise ValueError(f"{name} is {value}, but at least {least} is expected.")
    return operator.index(value)


# settings: plain numbers in their range, or arrays of one number
def is_number(value) -> bool:
    """Whether `value` is a plain number, which may be looked at before anything is traced.

    >>> is_number(0.5), is_number(np.float32(0.5)), is_number("0.5")
    (True, True, False)
    """
    return isinstance(value, (int, float, np.number))


def _checker(legal, expected):
    def check(who, **options):
        for name, value in options.items():
            if is_number(value) and not legal(value):
                raise ValueError(f"{who}: {name} is {value}, but {expected} is expected.")

    return check


# check("adam", rate=rate, ...): ValueError naming the first number that is out of range.
# NaN fails every comparison, so it is refused too.
non_negative = _checker(lambda value: 0 <= value < math.inf, "a finite number from 0 on")
positive = _checker(lambda value: 0 < value < math.inf, "a finite number above 0")
fraction = _checker(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _called(value) -> bool:
    return callable(value) and not isinstance(value, type)


def flag(who, **options):
    """True or False, known when the program is compiled. Raises TypeError for anything else.

    >>> flag("conv", bias=True)
    """
    for name, value in options.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{who}: {name} is {told(value)}, but True or False is expected.")


# functions
def function(who, **options):
    """Functions, by the names of the arguments. Raises TypeError for what is none.

    >>> function("jvp", f=abs)
    """
    for name, value in options.items():
        if not _called(value):
            raise TypeError(f"{who}: {name} is {told(value)}, but a function is expected.")


def takes(f: Callable, *args, **kwargs) -> bool:
    """Whether a function may be called with such arguments, as far as its signature says.

    >>> takes(lambda x: x, 1), takes(lambda x: x, 1, 2)
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
def array(who: str, name: str, value) -> Any:
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
            value = told(value)
            raise TypeError(f"{who}: {name} is {value}, but numbers are expected.") from None
    hint = "; convert it with jnp.asarray" if isinstance(value, (list, tuple)) else ""
    raise TypeError(f"{who}: {name} is {told(value)}, but an array is expected{hint}.")


def random_key(who: str, key):
    """One random key, of either style.

    Raises TypeError for what is no key, and ValueError for several of them.

    >>> random_key("serial", jax.random.key(0))
    """
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and (dtype != np.uint32 or not isinstance(key, (jax.Array, np.ndarray))):
        raise TypeError(
            f"{who}: the key is {told(key)}, but a random key is expected, such as "
            "jax.random.key(0)."
        )
    if key.ndim != (0 if typed else 1):
        raise ValueError(
            f"{who}: the key is {told(key)}, but one random key is expected; take one of them, or "
            "vmap over them."
        )
