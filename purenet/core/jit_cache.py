"""jax.jit for many short-lived programs, such as one for each trial function.

Static arguments are part of a program, and JAX keeps a program as long as its function. A function
in a module lives for ever, so a loop over a thousand trainings would keep a thousand programs of
about 10 MiB each.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

_PROGRAMS = 64  # of each kind: those used last are kept
_LEVEL = "xla_backend_optimization_level"


def compiler_options(platform: str) -> dict[str, int]:
    """The options with which whole trainings are compiled for "cpu", "gpu" or "tpu".

    On a CPU, that is LLVM's first level of optimization: programs compile in 0.5 to 0.65 of the
    time of the third, and train as fast, within 2%. A level in XLA_FLAGS is the user's choice.
    """
    chosen = _LEVEL in os.environ.get("XLA_FLAGS", "")
    return {_LEVEL: 1} if platform == "cpu" and not chosen else {}


def jit_for_each(outermost: bool = False, **options: Any) -> Callable:
    """Turn `f(what, *arrays)` into `of(what)`, compiled separately and dropped when unused.

    `what` is hashable; `options` are those of `jax.jit`, which sees the arguments after `what`.
    `outermost`: it is called by no other compiled function, and compiled with `compiler_options`.

    >>> @jit_for_each()
    ... def power(n, x):
    ...     return x**n
    >>> float(power(3)(2.0)), power(3) is power(3)
    (8.0, True)
    """

    def decorate(f):
        @functools.lru_cache(_PROGRAMS)
        def of(what):
            own = compiler_options(jax.default_backend()) if outermost else None
            return jax.jit(functools.partial(f, what), compiler_options=own, **options)

        return of

    return decorate
