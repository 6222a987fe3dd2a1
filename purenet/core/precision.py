"""The precision of matrix products, while a function is traced."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax

from purenet.core.validate import one_of

MatmulPrecision = Annotated[str, one_of("default", "high", "highest")]


def at_precision(precision: str | None, f: Callable) -> Callable:
    """f with matrix products and convolutions of this precision, those of its gradients too; f
    itself without one.

    >>> import jax.numpy as jnp
    >>> product = at_precision("highest", jnp.dot)
    >>> "HIGHEST" in str(jax.make_jaxpr(product)(jnp.ones(2), jnp.ones(2)))
    True
    """
    return f if precision is None else functools.partial(_at, precision, f)


def _at(precision: str, f: Callable, *args: Any) -> Any:
    with jax.default_matmul_precision(precision):
        return f(*args)
