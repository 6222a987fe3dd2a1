"""jax.jit for many short-lived programs, such as one for each trial function.

Static arguments are part of a program, and JAX keeps a program as long as its function. A function
in a module lives for ever, so a loop over a thousand trainings would keep a thousand programs of
about 10 MiB each. On a CPU each also has hundreds of memory maps, of which Linux allows a process
65,530 unless told otherwise: beyond that XLA ends the process.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

PROGRAMS = 64  # of each kind: those used last are kept
_SHARE = 0.5  # of the memory maps that a process may have, above which none is kept


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
        @functools.lru_cache(PROGRAMS)
        def of(what):
            if crowded():
                of.cache_clear()
            return jax.jit(functools.partial(f, what), **options)

        return of

    return decorate


def crowded(
    maps: Path = Path("/proc/self/maps"), most: Path = Path("/proc/sys/vm/max_map_count")
) -> bool:
    """Whether this process has half the memory maps that it may have; False where none are counted.

    Source: the Linux kernel's documentation of vm.max_map_count.

    >>> crowded(Path("no such file"))
    False
    """
    try:
        with maps.open("rb") as lines:
            return sum(1 for _ in lines) > _SHARE * int(most.read_text())
    except OSError:
        return False
