"""Every layer, ready-made network and loss, small: promises about all are kept for this table."""

import jax
import jax.numpy as jnp
from cases.layers import LAYERS, examples

import purenet as pn
from purenet.checkpoint import spec
from purenet.nn import models

ROW, IMAGE = (6,), (8, 8, 2)
FUNCTIONS = (
    "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax",
)  # fmt: skip
# name -> (the layer, the shape of one example or the widths)
NETWORKS = {
    **{name: (pn.serial(getattr(pn, name)), ROW) for name in FUNCTIONS},
    "flatten": (pn.serial(pn.flatten), IMAGE),
    "global_avg_pool": (pn.serial(pn.global_avg_pool), IMAGE),
    **{name: case[:2] for name, case in LAYERS.items()},
    "conv, strides": (pn.conv(3, 3, 2, 1, method="direct"), IMAGE),
    "conv, columns": (pn.conv(3, (2, 3), 1, "same", bias=False, method="columns"), IMAGE),
    "serial": (pn.serial(pn.dense(4), pn.relu, pn.dense(2)), ROW),
    "residual": (pn.residual(pn.dense(3), pn.dense(3)), ROW),
    "concatenate": (pn.concatenate(pn.dense(2), pn.tanh), ROW),
    "per_position": (pn.per_position(pn.serial(pn.dense(2), pn.batch_norm())), (3, 2)),
    "remat": (pn.remat(pn.serial(pn.dense(4), pn.tanh)), ROW),
    "mlp": (pn.mlp(batch_norm=True, dropout=0.1), (6, 5, 3)),
    "mlp, padded": (
        pn.mlp(batch_norm=True, dropout=0.1, depth=pn.PaddedSize(1, 2)),
        (6, pn.PaddedSize(3, 5), 5, 3),
    ),
    "transformer": (pn.transformer(5, 4, 1, 2, dropout=0.1, recompute=True), (3,)),
    "simple_convnet": (pn.simple_convnet(3, 3, 5, 4), IMAGE),
    "deep_convnet": (pn.deep_convnet(classes=4), IMAGE),
    "alexnet": (pn.alexnet(4, 0.5, (3, 1, 1), (3, 4, 5, 4, 3), 6), (32, 32, 1)),
}
# name -> (the loss, whether its targets are class numbers, rows or like the outputs)
LOSSES = {
    "softmax_cross_entropy": lambda y: pn.softmax_cross_entropy(y, jnp.argmin(y, 1)),
    "softmax_cross_entropy, smoothed": lambda y: pn.softmax_cross_entropy(
        y, jax.nn.softmax(2 * y), 0.1
    ),
    "sigmoid_binary_cross_entropy": lambda y: pn.sigmoid_binary_cross_entropy(
        y, jax.nn.sigmoid(jnp.cos(y)), 0.1
    ),
    "huber": lambda y: pn.huber(y, jnp.cos(y), 0.3),
    "mean_squared_error": lambda y: pn.mean_squared_error(y, jnp.cos(y)),
    "accuracy": lambda y: pn.accuracy(y, jnp.argmin(y, 1)),
}


def covered():
    """What the package makes of layers, networks and losses, and the table lacks."""
    # a ready-made network is a function of this module that gives a Layer
    ready = {
        name
        for name, value in vars(models).items()
        if getattr(value, "__annotations__", {}).get("return") is pn.Layer
        and value.__module__ == models.__name__
        and not name.startswith("_")
    }
    layers = set(spec._LAYERS) | {name for name in spec._FUNCTIONS if name in dir(pn)}
    losses = {
        "softmax_cross_entropy", "sigmoid_binary_cross_entropy", "mean_squared_error", "huber",
        "accuracy",
    }  # fmt: skip
    first = lambda table: {name.partition(",")[0] for name in table}
    return (ready | layers | losses) - first(NETWORKS) - first(LOSSES)


def inputs(name, n, dtype=float):
    sizes = NETWORKS[name][1]
    if name in LAYERS and NETWORKS[name][0].spec[0] == "embedding":
        return examples(name, n)
    if name == "transformer":
        return jnp.arange(3 * n).reshape(n, 3) % 5
    shape = (n, *(sizes[:1] if name.startswith("mlp") else sizes))
    return jnp.sin(jnp.arange(float(jnp.prod(jnp.array(shape))))).reshape(shape).astype(dtype)
