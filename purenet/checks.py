"""Checks of plain numbers, made before anything is traced. Arrays are never looked at: no program
depends on what they hold."""

import math

import numpy as np


def whole(name: str, value, least: int) -> int:
    """A whole number of at least `least`; TypeError or ValueError naming it otherwise.

    >>> whole("epochs", 3, least=1)
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r}, but a whole number is expected.")
    if value.__index__() < least:
        raise ValueError(f"{name} is {value}, but at least {least} is expected.")
    return value.__index__()


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
