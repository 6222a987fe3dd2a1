"""Which candidates make the best ensemble, chosen one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.types import Array, PyTree


def greedy(
    predictions: Array, targets: PyTree, score: Callable[[Any, Any], Any], size: int
) -> np.ndarray:
    """How often each candidate is in a greedily chosen ensemble: (candidates,) integers.

    `predictions` (candidates, n, ...); `score(y, t)`, larger is better. Each of `size` steps adds
    the candidate, possibly one chosen before, that makes the mean of those chosen best; the best
    ensemble along the way is returned. Ties go to the first candidate.
    Source: Caruana, Niculescu-Mizil, Crew & Ksikes (2004), section 2.1.

    >>> y, t = jnp.array([[0.0, 4.0], [4.0, 0.0], [9.0, 9.0]]), jnp.array([2.0, 2.0])
    >>> greedy(y, t, lambda y, t: -jnp.abs(y - t).mean(), size=4).tolist()
    [1, 1, 0]
    """

    @jax.jit
    def scores(total, count):
        return jax.vmap(lambda y: score((total + y) / (count + 1), targets))(predictions)

    total, chosen, best = jnp.zeros_like(predictions[0]), [], (-np.inf, 1)
    for count in range(size):
        found = np.nan_to_num(np.asarray(scores(total, count)), nan=-np.inf)
        chosen.append(int(found.argmax()))
        total = total + predictions[chosen[-1]]
        if found.max() > best[0]:
            best = found.max(), count + 1
    return np.bincount(chosen[: best[1]], minlength=len(predictions))
