"""One device for each core of a CPU."""

import os

import jax

from purenet.core.validate import integer


def use_cpu_cores(count: int | None = None) -> int:
    """Give this process one JAX device for each CPU core, so that a sweep uses them all.

    Call it before anything is computed: JAX counts its devices once. `count` is the number of
    devices and defaults to the number of cores that this process may use; it is returned.
    Has no effect on accelerators. Raises RuntimeError if JAX has started with a different number.

    >>> use_cpu_cores() >= 1  # doctest: +SKIP
    True
    """
    if count is None:
        affinity = getattr(os, "sched_getaffinity", None)
        count = len(affinity(0)) if affinity else os.cpu_count() or 1
    count = integer("use_cpu_cores: count", count, least=1)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        if len(jax.devices("cpu")) == count:
            return count
        raise RuntimeError(
            f"use_cpu_cores: it is too late for {count} devices: JAX has already started with "
            f"{len(jax.devices('cpu'))}. Call it first, before anything is computed."
        ) from None
    return count
