"""jax.jit for programs that come and go: one for each trial function or training, not one for all.

What is static is a part of the program, and JAX keeps a program as long as the function it belongs
to. A function of a module lives for ever, so that a loop over a thousand trainings would hold a
thousand programs of some 10 MiB each.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

_PROGRAMS = 64  # of each kind: those used last are held


def jit_for_each(**options: Any) -> Callable:
    """Make `f(what, *arrays)` into `of(what)`, compiled on its own and forgotten in its turn.

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
