"""Versions and settings of JAX, which affect the exact results of a training."""

from typing import Any

import jax
import jaxlib
import numpy as np

from purenet._version import __version__
from purenet.core.tree import printable
from purenet.core.validate import require

# Settings of JAX that decide which random numbers are drawn, or how numbers are rounded.
_SETTINGS = (
    "jax_allow_f16_reductions",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_enable_x64",
    "jax_high_dynamic_range_gumbel",
    "jax_random_seed_offset",
    "jax_softmax_custom_jvp",
    "jax_threefry_partitionable",
)


def versions() -> dict[str, str]:
    """The version of each package that computes, by name.

    >>> sorted(versions())
    ['jax', 'jaxlib', 'numpy', 'purenet']
    """
    others = {module.__name__: module.__version__ for module in (jax, jaxlib, np)}
    return {"purenet": __version__} | others


def number_settings() -> dict[str, str]:
    """The settings of JAX that change numbers, as text, by name; None for those that JAX lacks.

    >>> number_settings()["jax_default_prng_impl"]
    'threefry2x32'
    """
    return {name: str(getattr(jax.config, name, None)) for name in _SETTINGS}


def differences(there: Any, here: dict[str, str]) -> list[str]:
    """Each of the settings or versions `here` that differs from `there`, as text.

    >>> differences({"jax": "0.9"}, {"jax": "0.10", "numpy": "2.0"})
    ['jax is 0.10, there 0.9', 'numpy is 2.0, there unknown']
    """
    known = there if isinstance(there, dict) else {}
    known = {name: value for name, value in known.items() if isinstance(value, str)}
    return [
        f"{name} is {value}, there {printable(known.get(name, 'unknown'))}"
        for name, value in here.items()
        if known.get(name) != value
    ]


def described() -> dict[str, dict[str, str]]:
    """The record in a file of the software that started it.

    >>> sorted(described())
    ['number settings', 'versions']
    """
    return {"versions": versions(), "number settings": number_settings()}


def check_resumable(what: str, there: dict[str, Any], finished: bool) -> None:
    """Refuse to resume `what` was started with other software: the result would be neither's.

    `there` is a result of `described`. If everything is finished, nothing is trained, and versions
    may differ. Raises ValueError with all differences.

    >>> check_resumable("run.npz", described(), finished=False)
    """
    others = differences(there.get("number settings"), number_settings())
    cure = "Use those settings"
    if not others and not finished:
        others, cure = differences(there.get("versions"), versions()), "Install those versions"
    require(
        not others,
        f"{what} was started with other software, so the results would not be the same: "
        f"{'; '.join(others)}. {cure}, or name another path.",
    )
