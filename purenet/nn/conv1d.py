"""Convolution along time: that of images of width 1."""

from typing import Annotated

import jax.numpy as jnp

from purenet.core.types import Layer, Params
from purenet.core.validate import Boolean, PositiveInteger, declared, integer, require
from purenet.nn.base import WeightInit, expect_shape, shape, stateless
from purenet.nn.conv import METHOD, conv
from purenet.nn.initializers import he_normal


@declared
def conv1d(
    filters: PositiveInteger,
    kernel: PositiveInteger,
    stride: PositiveInteger = 1,
    padding: int | str = 0,
    bias: Boolean = True,
    weight_init: WeightInit = he_normal,
    method: Annotated[str, METHOD] | None = None,
    groups: PositiveInteger = 1,
    dilation: PositiveInteger = 1,
) -> Layer:
    """Convolution of sequences with `filters` kernels: (n, time, c) -> (n, times, filters).

    `padding` is a number of zeros at either end, "same" (⌈time/stride⌉ outputs) or "valid" (0).
    Weights {"w": (kernel, 1, c/groups, filters), "b": (filters,)}, as those of `conv` for a kernel
    of width 1; without "b" when `bias` is False. `method`, `groups` and `dilation`: as in `conv`.
    Raises ValueError unless an example is (time, features), and what `conv` raises.
    Source: LeCun, Bottou, Bengio & Haffner (1998), section II.A.

    >>> import jax
    >>> net = conv1d(6, 3, padding="same")
    >>> params = net.init(jax.random.key(0), (7, 2))
    >>> net.apply(params, jnp.ones((5, 7, 2)), True, None)[0].shape
    (5, 7, 6)
    """
    if isinstance(padding, str):
        pads: tuple[int, int] | str = padding
    else:
        pads = integer("conv1d: padding", padding, least=0), 0
    tall = conv(
        filters, (kernel, 1), (stride, 1), pads, bias, weight_init, method, groups, (dilation, 1)
    )

    def init(key, sizes):
        sizes = shape(sizes)
        require(
            len(sizes) == 2,
            f"conv1d: one example has shape {sizes}, but (time, features) is expected.",
        )
        return tall.init(key, (sizes[0], 1, sizes[1])).weights

    def apply(weights, x, train, key):
        expect_shape(jnp.ndim(x) == 3, "conv1d: x", x, "(batch, time, features)")
        return tall.apply(Params(weights), x[:, :, None], train, key)[0][:, :, 0]

    arguments = {
        "filters": filters,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "bias": bias,
        "weight_init": weight_init,
        "method": method,
        "groups": groups,
        "dilation": dilation,
    }
    return stateless(init, apply, spec=("conv1d", arguments))
