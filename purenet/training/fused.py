"""Training of a multi-layer perceptron whose every step is one kernel."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.types import Params, Trainable, TrainState
from purenet.core.validate import (
    NonNegative,
    PositiveInteger,
    declared,
    describe_value,
    integer,
    require,
)
from purenet.nn.activations import relu, tanh
from purenet.nn.losses import l2, softmax_cross_entropy
from purenet.nn.models import mlp
from purenet.optim.optimizers import sgd
from purenet.training.fused_step import fused_step
from purenet.training.settings import Settings, loss_of, measure
from purenet.training.supervised import hooked, trainable_of


@declared
def fused_mlp(
    sizes: Sequence[int],
    rate: NonNegative,
    batch_size: PositiveInteger,
    penalty: NonNegative = 0.0,
    activation: Callable = relu,
) -> Trainable:
    """Training of `mlp` by gradient descent, each step one Pallas kernel on a GPU or a TPU.

        W ← W - rate · (∂L/∂W + penalty · W)    b ← b - rate · ∂L/∂b

    It is `supervised(mlp(activation), sizes, sgd(rate), softmax_cross_entropy, batch_size,
    l2(penalty))`, with the same states, minibatches and metrics, and on a CPU with the same
    program. On an NVIDIA GPU or a TPU the kernel computes the forward pass, the backward pass and
    the new weights of one network; under `vmap`, as in a sweep, the trials are its grid. No device
    has run it: it has only been compiled, and interpreted on a CPU.

    `sizes` are the widths from input to output, `rate` and `penalty` may be traced, `activation` is
    `relu` or `tanh`. The weights are float32 (on a CPU also float64), x (n, sizes[0]) and t (n,)
    class numbers. Matrix products have JAX's own precision, `jax.default_matmul_precision`. On a
    TPU the network, the minibatch and the hidden layers have to fit in VMEM. The step has no
    derivative, so it cannot be used for hypergradients.
    Raises ValueError for fewer than two sizes and sizes below 1; TypeError for sizes that are not
    integers, and for another activation. `check(data)`, and `epoch` when it is traced, raise
    ValueError for other shapes of x and t and for class numbers that are floats, `epoch` TypeError
    for weights of another dtype.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), algorithms 6.3 and 6.4.

    >>> trainable = fused_mlp((4, 8, 3), rate=0.1, batch_size=5)
    >>> digits = (jnp.ones((20, 4)), jnp.zeros(20, int))
    >>> state, metrics = trainable.epoch(trainable.init(jax.random.key(0)), digits)
    >>> int(state.step), sorted(metrics)
    (4, ['accuracy', 'loss'])
    """
    name = "relu" if activation is relu else "tanh"
    require(
        activation is relu or activation is tanh,
        f"fused_mlp: activation is {describe_value(activation)}, but the kernel knows only relu "
        "and tanh; supervised(mlp(activation), ...) trains with any.",
        TypeError,
    )
    require(
        isinstance(sizes, (tuple, list)),
        f"fused_mlp: sizes is {describe_value(sizes)}, but widths from input to output such as "
        "(784, 100, 10) are expected.",
        TypeError,
    )
    sizes = tuple(integer("fused_mlp: a size", size, least=1) for size in sizes)
    require(
        len(sizes) >= 2,
        f"fused_mlp: sizes is {sizes}, but at least two widths, of the input and the output, are "
        "expected.",
    )
    settings = Settings(
        mlp(activation), sizes, hooked(sgd(rate)), softmax_cross_entropy, batch_size, l2(penalty),
        "shuffled", None, 1,
    )  # fmt: skip
    kernel = functools.partial(_kernel_step, settings, name, rate, penalty)
    trainable = trainable_of(settings._replace(step=functools.partial(_step, sizes, kernel)))

    def check(data):
        trainable.check(data)
        _expect_examples(sizes, *data)

    return trainable._replace(check=check)


def _expect_examples(sizes: tuple[int, ...], x, t):
    legal = x.shape[1:] == sizes[:1] and t.ndim == 1 and jnp.issubdtype(t.dtype, jnp.integer)
    require(
        legal,
        f"fused_mlp: x is {x.dtype} {x.shape} and t {t.dtype} {t.shape}, but rows of {sizes[0]} "
        "numbers and one class number, an integer, for each are expected.",
    )


def _step(sizes, kernel: Callable, plain: Callable, state: TrainState, minibatch: Any):
    """The step in the form of the platform that runs it."""
    _expect_examples(sizes, *minibatch)
    for w in jax.tree.leaves(state.params.weights):
        require(
            w.dtype in (jnp.float32, jnp.float64),
            f"fused_mlp: a weight is {w.dtype}, but float32 (or, on a CPU, float64) is expected; "
            "supervised trains any.",
            TypeError,
        )
    forms = {platform: functools.partial(kernel, platform) for platform in ("cuda", "tpu")}
    return lax.platform_dependent(state, minibatch, **forms, default=plain)


def _kernel_step(settings: Settings, activation: str, rate, penalty, platform: str, state, pair):
    x, t = pair
    weights = state.params.weights
    places = sorted(weights, key=int)
    layers = [(weights[i]["w"], weights[i]["b"]) for i in places]
    layers, y = fused_step(platform, activation, layers, x, t, rate, penalty)
    weights = {i: {"w": w, "b": b} for i, (w, b) in zip(places, layers, strict=True)}
    opt_state = state.opt_state._replace(count=state.opt_state.count + 1)
    values = measure(settings, y, t, loss_of(settings, y, t))
    params = Params(weights, state.params.stats)
    return TrainState(params, opt_state, state.key, state.step + 1), values
