"""The maximal update parametrisation: networks whose best rates do not depend on their width.

Every array of weights has two ratios to that of the base network: a, of the inputs that one output
reads, and b, of the outputs. A vector (a bias, a scale) has a = 1. What follows for each array:

    |            | input and vectors | hidden | output  |
    | multiplier | 1                 | 1      | 1 / a   |
    | deviation  | 1                 | 1      | √a      |
    | SGD        | b                 | b / a  | a       |
    | Adam       | 1                 | 1 / a  | 1       |

The deviation is relative to one scaled by fan-in, the rates relative to those of the base network.
An output layer is one whose inputs become more with the width, and whose outputs do not.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from purenet.core.dtypes import widen
from purenet.core.padded import PaddedSize, PaddedSizes
from purenet.core.types import Layer, Number, Params, PyTree
from purenet.core.validate import describe_value, expect, is_number, require
from purenet.nn import initializers
from purenet.nn.base import only_params

Base = PaddedSizes | tuple[Layer, Any]


@dataclasses.dataclass(frozen=True)
class Ratios:
    """The size of an array of weights relative to that of the base network.

    >>> Ratios(4.0, 1.0).is_output
    True
    """

    inputs: Number
    outputs: Number

    @property
    def is_output(self) -> bool:
        """Whether only the inputs grow with the width. A number of outputs that is traced grows."""
        fixed = lambda ratio: isinstance(ratio, float) and ratio == 1
        return fixed(self.outputs) and not fixed(self.inputs)

    def rate(self, kind: str) -> Number:
        """The learning rate relative to that of the base network, for "sgd" or "adam"."""
        if kind == "sgd":
            return self.inputs if self.is_output else self.outputs / self.inputs
        return 1.0 if self.is_output else 1 / self.inputs


def mup(layer: Layer, base: Base) -> Layer:
    """A network in the maximal update parametrisation (muP): its best learning rate and its best
    other hyperparameters stay where they are when it becomes wider.

    With a, the number of inputs of an array of weights relative to the `base` network:

        output layers:   y = x W / a + b,   W drawn √a times as large
        all others:      unchanged, drawn as the network draws them

    `base` are the sizes at which this network and `layer` are the same: those of `init` if they
    hold the widths, as in `mlp`; the pair (network, sizes) if the network does. Train it with
    `chain(adam(rate), mup_rates(net, sizes))`, which gives each array of weights its own rate.

    The weights are those of `layer`, so it is stored and summarised like that one. Initial weights
    have to be scaled by fan-in, as by `he_normal` or `lecun_normal`. Widths may be padded and
    traced, as in `mlp`. `layer` is one whose width is that of its dense layers and convolutions:
    attention has other exponents, which are not applied.
    Raises TypeError if `layer` is not a Layer; ValueError for a base that is padded or whose
    weights are not those of the same layers, and for a `weight_init` that is not scaled by fan-in.
    Source: Yang et al. (2022), Tensor Programs V, table 8.

    >>> from purenet.nn.models import mlp
    >>> net = mup(mlp(), base=(64, 32, 32, 10))
    >>> params = net.init(jax.random.key(0), (64, 128, 128, 10))
    >>> net.apply(params, jnp.ones((5, 64)), train=False, key=None)[0].shape
    (5, 10)
    """
    expect(isinstance(layer, Layer), "mup: the network", layer, "a network such as mlp()")
    for weight_init in _initializers(layer):
        require(
            not _is_unscaled(weight_init),
            f"mup: weight_init is {describe_value(weight_init)}, but one scaled by fan-in, such as "
            "he_normal or lecun_normal, is expected: its scale must follow the width.",
        )
    known = _shapes(layer, base)

    def ratios(params):
        return _compare(known, only_params("mup", params))

    def init(key, sizes):
        params = layer.init(key, sizes)
        drawn = lambda w, r: scaled(w, r.inputs**0.5) if r.is_output else w
        return params._replace(weights=jax.tree.map(drawn, params.weights, ratios(params)))

    def apply(params, x, train, key):
        return layer.apply(_multiplied(params, ratios(params)), x, train, key)

    return Layer(init, apply, spec=("mup", {"layer": layer, "base": base}))


def without_mup(net: Layer, params: Params) -> tuple[Layer, Params]:
    """The network inside a `mup`, and the parameters with which it gives the same outputs.

    >>> from purenet.nn.dense import dense
    >>> net = mup(dense(1), base=2)
    >>> params = Params({"w": jnp.ones((4, 1)), "b": jnp.ones(1)})
    >>> without_mup(net, params)[1].weights["w"].tolist()
    [[0.5], [0.5], [0.5], [0.5]]
    """
    return net.spec[1]["layer"], _multiplied(params, width_ratios(net, params))


def width_ratios(net: Layer, params: Params) -> PyTree:
    """The `Ratios` of each array of weights of a `mup`. Raises ValueError for another network's.

    >>> from purenet.nn.dense import dense
    >>> width_ratios(mup(dense(1), base=2), dense(1).init(jax.random.key(0), 4))["w"]
    Ratios(inputs=2.0, outputs=1.0)
    """
    return _compare(_shapes(**net.spec[1]), params)


def scaled(w: Any, factor: Number) -> Any:
    """w · factor in the dtype of w; w itself for a factor of plain 1.

    >>> scaled(jnp.ones(2), 0.5).tolist()
    [0.5, 0.5]
    """
    if isinstance(factor, float) and factor == 1:
        return w
    return (widen(w) * widen(factor, w)).astype(jnp.result_type(w))


# pieces
def _initializers(layer: Layer) -> Iterator[Callable]:
    """The `weight_init` of all layers but those of embeddings, whose inputs are no fan-in."""
    name, arguments = layer.spec or ("", {})
    for argument, value in arguments.items():
        if argument == "weight_init" and name != "embedding":
            yield value
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Layer):
                yield from _initializers(part)


def _is_unscaled(weight_init: Callable) -> bool:
    """Whether it is one of ours whose scale is not that of fan-in alone."""
    others = (initializers.glorot_normal, initializers.glorot_uniform)
    fixed = (initializers.normal(1.0).func, initializers.uniform().func)  # type: ignore[attr-defined]
    return weight_init in others or getattr(weight_init, "func", None) in fixed


def _shapes(layer: Layer, base: Base) -> PyTree:
    """The shapes of the weights of the base network."""
    small, sizes = layer, base
    if isinstance(base, (tuple, list)) and len(base) == 2 and isinstance(base[0], Layer):
        small, sizes = base[0], base[1]
    is_padded = lambda size: isinstance(size, PaddedSize)
    padded = any(map(is_padded, jax.tree.leaves(sizes, is_leaf=is_padded)))
    require(not padded, f"mup: base is {sizes}, but plain sizes without padding are expected.")
    return jax.eval_shape(lambda key: small.init(key, sizes).weights, jax.random.key(0))


def _multiplied(params: Params, ratios: PyTree) -> Params:
    times = lambda w, r: scaled(w, 1 / r.inputs) if r.is_output else w
    return params._replace(weights=jax.tree.map(times, params.weights, ratios))


def _compare(known: PyTree, params: Params) -> PyTree:
    """The ratios of all weights. Numbers of units without padding are in the statistics."""
    layers = lambda weights: jax.tree.map(jnp.ndim, weights)
    got, expected = layers(only_params("mup", params).weights), layers(known)
    require(
        got == expected,
        f"mup: the weights are of {got} axes, but those of the base network of {expected}: "
        "these params were made by another network, or `base` is of other layers.",
    )

    def ratios(path, old, w):
        counts = params.stats
        for key in path[:-1]:
            counts = counts.get(getattr(key, "key", None)) if isinstance(counts, dict) else None
        counts = counts if isinstance(counts, dict) else {}
        inner, outer = w.shape[:-1], w.shape[-1:]
        inputs = counts.get("inputs", math.prod(inner)) if inner else 1
        outputs = counts.get("units", math.prod(outer))
        old_inputs, old_outputs = math.prod(old.shape[:-1]), math.prod(old.shape[-1:])
        return Ratios(_ratio(inputs, old_inputs), _ratio(outputs, old_outputs))

    return jax.tree_util.tree_map_with_path(ratios, known, params.weights)


def _ratio(count: Number, old: int) -> Number:
    return count / old if is_number(count) else jnp.asarray(count, float) / old
