"""Learnt positions: y = x + a vector for each place of a sequence."""

import jax.numpy as jnp

from purenet.core.types import Layer
from purenet.core.validate import declared, require
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.initializers import normal


@declared
def positions(weight_init: WeightInit = normal(0.02)) -> Layer:
    """A learnt vector for each time, added to x: y[n, t] = x[n, t] + w[t].

    (n, time, features) -> the same shape; sequences may be shorter than that of `init`.
    Weights {"w": (time, features)}.
    Raises ValueError unless an example is (time, features), for longer sequences, and for params of
    another network.
    Source: Gehring et al. (2017), section 3.1.

    >>> import jax
    >>> net = positions()
    >>> params = net.init(jax.random.key(0), (7, 3))
    >>> net.apply(params, jnp.ones((5, 7, 3)), True, None)[0].shape
    (5, 7, 3)
    """

    def init(key, sizes):
        sizes = shape(sizes)
        require(
            len(sizes) == 2,
            f"positions: one example has shape {sizes}, but (time, features) is expected.",
        )
        return {"w": init_weights("positions", weight_init, key, sizes)}

    def apply(weights, x, train, key):
        del train, key
        (w,) = named("positions", "weights", weights, "w")
        length, features = w.shape
        expect_shape(
            jnp.ndim(x) == 3 and x.shape[1] <= length and x.shape[2] == features,
            "positions: x", x, f"(batch, at most {length}, {features})",
        )  # fmt: skip
        return x + w[None, : x.shape[1]]

    return stateless(init, apply, spec=("positions", {"weight_init": weight_init}))
