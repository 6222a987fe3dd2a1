"""jax.jit for many short-lived programs, such as one for each trial function.

Static arguments are part of a program, and JAX keeps a program as long as its function. A function
in a module lives for ever, so a loop over a thousand trainings would keep a thousand programs of
about 10 MiB each.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

_PROGRAMS = 64  # of each kind: those used last are kept


def jit_for_each(**options: Any) -> Callable:
    """Turn `f(what, *arrays)` into `of(what)`, compiled separately and dropped when unused.

    `what` is hashable; `options` are those of `jax.jit`, which sees the arguments after `what`.

    >>> @jit_for_each()
    ... def power(n, x):
    ...     return x**n
    >>> float(power(3)(2.0)), power(3) is power(3)
    (8.0, True)
    """

    def decorate(f):
        @functools.lru_cache(_PROGRAMS)
        def of(what):
            return jax.jit(functools.partial(f, what), **options)

        return of

    return decorate
