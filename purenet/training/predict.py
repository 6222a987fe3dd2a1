"""The outputs of a network for any number of examples."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.jit_cache import jit_for_each
from purenet.core.types import Array, Layer, Params
from purenet.core.validate import PositiveInteger, array, declared, describe_value, require


@declared
def predict(net: Layer, params: Params, x: Array, batch_size: PositiveInteger = 1000) -> jax.Array:
    """The outputs of a network in inference, `batch_size` examples at a time.

    Shapes: x (n, ...) -> (n, ...). The network is compiled once per `batch_size`: the last
    batch is padded, so that one program serves any n. Fewer examples than `batch_size` are padded
    to a power of two. Data larger than memory, such as a NumPy memmap, is read batch by batch.
    Works under `jit` and `vmap` too.
    Raises TypeError if `net` is not a Layer, `params` not its Params or x not an array; ValueError
    if x holds no examples.

    >>> from purenet.nn.dense import dense
    >>> net = dense(3)
    >>> predict(net, net.init(jax.random.key(0), 4), np.ones((5, 4)), batch_size=2).shape
    (5, 3)
    """
    for name, value, kind in (("net", net, Layer), ("params", params, Params)):
        hint = "; of the state of a training, pass state.params" if kind is Params else ""
        text = f"predict: {name} is {describe_value(value)}, but {kind.__name__} is expected{hint}."
        require(isinstance(value, kind), text, TypeError)
    x = x if isinstance(x, np.ndarray) else array("predict", "x", x)
    n = np.shape(x)[0] if np.ndim(x) else 0
    text = f"predict: x has shape {np.shape(x)}, but at least one example on the leading axis is"
    require(n > 0, f"{text} expected.")
    size = batch_size if n >= batch_size else min(batch_size, 1 << (n - 1).bit_length())
    part = lambda i: _padded(x[i * size : (i + 1) * size], size)
    count = math.ceil(n / size)
    run = _outputs(net.apply)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x))):
        parts = _padded(jnp.asarray(x), count * size).reshape(count, size, *x.shape[1:])
        y = jax.lax.map(lambda part: run(params, part), parts)
        return y.reshape(-1, *y.shape[2:])[:n]
    return jnp.concatenate([run(params, part(i)) for i in range(count)])[:n]


def _padded(x, size: int):
    """The examples, padded to `size` by repeating the last one."""
    missing = size - len(x)
    if not missing:
        return x
    like = np if isinstance(x, np.ndarray) else jnp
    return like.concatenate([x, like.broadcast_to(x[-1:], (missing, *x.shape[1:]))])


@jit_for_each()
def _outputs(apply, params, x):
    return apply(params, x, False, None)[0]
