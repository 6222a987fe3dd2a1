"""One row for each layer: golden parameters, export, strict settings and errors follow from it.

What a new layer takes is its file in `purenet/nn`, with `EXAMPLES` for its operations, and a row
here. (The face of the package, `purenet/__init__.py`, names it too: type checkers need the line.)
"""

import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from cases import Case, LayerCase
from purenet import ops
from purenet.nn import register

ROW, IMAGE = (4,), (6, 6, 3)


def weights(**shapes):
    return {f".weights['{name}']": shape for name, shape in shapes.items()}


def stats(**shapes):
    return {f".stats['{name}']": shape for name, shape in shapes.items()}


def batch_norm(c):
    return weights(gamma=c, beta=c) | stats(mean=c, variance=c)


LAYERS = {
    "dense": LayerCase(pn.dense(3), ROW, weights(w=(4, 3), b=(3,))),
    "batch_norm": LayerCase(pn.batch_norm(), ROW, batch_norm((4,))),
    "batch_norm, images": LayerCase(pn.batch_norm(), IMAGE, batch_norm((3,))),
    "layer_norm": LayerCase(pn.layer_norm(), ROW, weights(gamma=(4,), beta=(4,))),
    "layer_norm, images": LayerCase(pn.layer_norm(), IMAGE, weights(gamma=(3,), beta=(3,))),
    "group_norm": LayerCase(pn.group_norm(2), (2, 6), weights(gamma=(6,), beta=(6,))),
    "rms_norm": LayerCase(pn.rms_norm(), ROW, weights(gamma=(4,))),
    "periodic": LayerCase(pn.periodic(2), ROW, weights(c=(4, 2))),
    "gru": LayerCase(pn.gru(2), (3, 4), weights(w=(4, 6), u=(2, 6), b=(6,), c=(2,))),
    "lstm": LayerCase(pn.lstm(2), (3, 4), weights(w=(4, 8), u=(2, 8), b=(8,))),
    "lstm, last": LayerCase(pn.lstm(2, last=True), (1, 4), weights(w=(4, 8), u=(2, 8), b=(8,))),
    "attention": LayerCase(
        pn.attention(2, causal=True), (3, 4), weights(w=(4, 12), b=(12,), v=(4, 4), c=(4,))
    ),
    "positions": LayerCase(pn.positions(), (3, 4), weights(w=(3, 4))),
    "local_response_norm": LayerCase(pn.local_response_norm(), IMAGE, {}),
    "dropout": LayerCase(pn.dropout(0.5), ROW, {}),
    "conv": LayerCase(pn.conv(5, (3, 2)), IMAGE, weights(w=(3, 2, 3, 5), b=(5,))),
    "conv, without bias": LayerCase(
        pn.conv(5, 3, bias=False), IMAGE, weights(w=(3, 3, 3, 5))
    ),
    "conv, groups": LayerCase(
        pn.conv(6, (3, 2), groups=3, dilation=(1, 2)), IMAGE, weights(w=(3, 2, 1, 6), b=(6,))
    ),
    "conv_transpose": LayerCase(
        pn.conv_transpose(2, (3, 2), 2, "same"), (3, 2, 4), weights(w=(3, 2, 4, 2), b=(2,))
    ),
    "conv1d": LayerCase(pn.conv1d(3, 2, 2, 1), (4, 2), weights(w=(2, 1, 2, 3), b=(3,))),
    "max_pool": LayerCase(pn.max_pool(2), IMAGE, {}),
    "avg_pool": LayerCase(pn.avg_pool(2), IMAGE, {}),
    "mup": LayerCase(pn.mup(pn.dense(3), base=2), ROW, weights(w=(4, 3), b=(3,))),
    "embedding": LayerCase(pn.embedding(5, 3), (2,), weights(w=(5, 3))),
}  # fmt: skip


def examples(name, n):
    """A batch of n inputs for one of the layers."""
    case = LAYERS[name]
    if case.layer.spec[0] == "embedding":
        return jnp.arange(n * case.sizes[0]).reshape(n, -1) % case.layer.spec[1]["count"]
    return jax.random.normal(jax.random.key(0), (n, *case.sizes))


def array(of):
    return of if isinstance(of, tuple) else np.array(of)


CASES = {
    f"{name}, as its file says": Case(getattr(ops, name), tuple(map(array, args)), static)
    for name, (args, static) in register.examples().items()
}
