"""Networks for a table in folds: each standardises its inputs by the rows that it is trained on."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.subset import Subset
from purenet.core.types import Array, Layer, Params, PyTree, Trainable, TrainState


class State(NamedTuple):
    """The state of a training run. `params` are those of the plain network on the inputs as they
    are: the standardisation of `inner` is part of the weights of its first layer."""

    params: Params
    inner: TrainState  # of the network that takes standardised inputs


def standardised(train: Callable[[Layer], Trainable], net: Layer, numeric: Array) -> Trainable:
    """`train(net)`, but on inputs that are standardised by the rows of each training set.

        z = (x - mean) / scale,  mean and scale of the training rows;  scale 1 of a constant column

    `net` begins with a dense layer and has no statistics of its own; `numeric` (width,) says which
    inputs are standardised. Mean and scale are computed where the network is trained, so one
    program serves all folds. What is evaluated, saved and used for predictions is the plain network
    on x, with the weights w / scale and the biases b - (mean / scale) w in its first layer.

    >>> from purenet import mean_squared_error, mlp, sgd, supervised
    >>> train = lambda net: supervised(net, (1, 3, 1), sgd(0.1), mean_squared_error, 2)
    >>> trainable = standardised(train, mlp(), jnp.array([True]))
    >>> rows = Subset((jnp.array([[2.0], [6.0]]),) * 2, jnp.array([0, 1]), jnp.array(0), (2,))
    >>> state, _ = trainable.epoch(trainable.init(jax.random.key(0)), rows)
    >>> [number.tolist() for number in state.inner.params.stats]
    [[4.0], [2.0]]
    """
    plain, behind = train(net), train(_behind(net, numeric))

    def init(key: jax.Array) -> State:
        inner = behind.init(key)
        return State(_folded(inner.params), inner)

    def epoch(state: State, data: PyTree) -> tuple[State, dict[str, jax.Array]]:
        params, found = state.inner.params, _moments(data, numeric)
        stats = tuple(a.astype(old.dtype) for a, old in zip(found, params.stats, strict=True))
        params = params._replace(stats=stats)
        inner, metrics = behind.epoch(state.inner._replace(params=params), data)
        return State(_folded(inner.params), inner), metrics

    return plain._replace(init=init, epoch=epoch, steps=None, batch_size=None)


def _behind(net: Layer, numeric: Array) -> Layer:
    """The network of standardised inputs; mean and scale are its statistics."""

    def init(key, sizes):
        return Params(
            net.init(key, sizes).weights, (jnp.zeros(numeric.shape), jnp.ones(numeric.shape))
        )

    def apply(params, x, train, key):
        mean, scale = params.stats
        y, _ = net.apply(Params(params.weights), (x - mean) / scale, train, key)
        return y, params.stats

    return Layer(init, apply)


def _moments(data: PyTree, numeric: Array) -> tuple[jax.Array, jax.Array]:
    """Mean and scale of the inputs: (width,) each; 0 and 1 where they are not numbers."""

    def of(examples):
        x, _ = examples
        varies = numeric & (x.max(axis=0) > x.min(axis=0))
        mean = jnp.where(numeric, x.mean(axis=0), 0)
        return mean, jnp.where(varies, x.std(axis=0), 1)

    data = jax.tree.map(jnp.asarray, data)
    return data.examples(of) if isinstance(data, Subset) else of(data)


def _folded(params: Params) -> Params:
    """The parameters of the plain network that gives the same outputs for inputs as they are."""
    mean, scale = params.stats
    first = params.weights["0"]
    w = first["w"] / scale[:, None]  # (inputs, units)
    return Params(params.weights | {"0": {"w": w, "b": first["b"] - mean @ w}})
