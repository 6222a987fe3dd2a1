"""Samplers: functions (distributions, trials, seed) -> points of the unit cube."""

from collections.abc import Callable
from typing import Any

from purenet.core.validate import accepts, describe_value, integer
from purenet.sweep.space.distributions import is_leaf

_MAKERS: list[Callable] = []


def maker(function: Callable) -> Callable:
    """Mark a function that makes a sampler or a search, and is none itself.

    >>> from purenet.sweep.samplers.designs import random
    >>> maker(lambda: random).__name__
    '<lambda>'
    """
    _MAKERS.append(function)
    return function


def checked_sampler(caller: str, sampler: Any) -> Callable:
    """A function (distributions, trials, seed) -> points. Raises TypeError for anything else.

    >>> from purenet.sweep.samplers.designs import grid
    >>> checked_sampler("halving", grid)
    Traceback (most recent call last):
    TypeError: halving: the sampler is the function grid; call it: sweep.grid().
    """
    if any(sampler is function for function in _MAKERS):
        name = sampler.__name__
        raise TypeError(f"{caller}: the sampler is the function {name}; call it: sweep.{name}().")
    if not (callable(sampler) and accepts(sampler, [], 1, 0)):
        raise TypeError(
            f"{caller}: the sampler is {describe_value(sampler)}, but a function (distributions, "
            "trials, seed) "
            "-> points is expected, such as sweep.random."
        )
    return sampler


def checked_design(caller, distributions, trials, seed) -> tuple[int, int]:
    if not (isinstance(distributions, (list, tuple)) and all(map(is_leaf, distributions))):
        raise TypeError(
            f"{caller}: distributions is {describe_value(distributions)}, but a list of "
            "distributions is "
            "expected."
        )
    return integer(f"{caller}: trials", trials, least=0), integer(f"{caller}: seed", seed, least=0)
