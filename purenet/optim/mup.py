"""Learning rates of their own for the weights of a network of any width."""

import jax

from purenet.core.padded import PaddedSizes
from purenet.core.tree import check_same_structure
from purenet.core.types import Layer, Optimizer
from purenet.core.validate import expect
from purenet.nn.mup import scaled, width_ratios
from purenet.optim.base import stateless_pair


def mup_rates(net: Layer, sizes: PaddedSizes, optimizer: str = "adam") -> Optimizer:
    """Multiply the updates of a network made by `mup` by the rate of each array of weights.

    With a and b, the numbers of its inputs and outputs relative to those of the base network:

        "adam":    u = g / a                    output layers: u = g       vectors: u = g
        "sgd":     u = g · b / a                output layers: u = g · a   vectors: u = g · b

    Chain it after an optimizer. "adam" is for those whose steps do not become larger with the
    gradients: `adam`, `adamw`, `nadam`, `lion`, `rmsprop`, `adagrad`; "sgd" is for `sgd`,
    `momentum` and `nesterov`. The decoupled decay of an optimizer before it is multiplied
    too. `sizes` is what `net.init` takes; padded sizes may be traced.

    Raises TypeError for a network that `mup` has not made, ValueError for any other word, and what
    `net.init` raises for the sizes. `update` raises ValueError for updates of another network.
    Source: Yang et al. (2022), Tensor Programs V, table 8.

    >>> from purenet.nn.models import mlp
    >>> from purenet.nn.mup import mup
    >>> net, sizes = mup(mlp(), base=(4, 8, 8, 2)), (4, 16, 16, 2)
    >>> ones = jax.tree.map(jax.numpy.ones_like, net.init(jax.random.key(0), sizes).weights)
    >>> updates, _ = mup_rates(net, sizes).update(ones, ())
    >>> [updates[place]["w"].max().item() for place in updates]
    [1.0, 0.5, 1.0]
    """
    legal = isinstance(net, Layer) and net.spec[:1] == ("mup",)
    expect(legal, "mup_rates: net", net, "a network made by mup, such as mup(mlp(), base=sizes),")
    words = '"adam" or "sgd"'
    expect(optimizer in ("adam", "sgd"), "mup_rates: optimizer", optimizer, words, ValueError)
    key = jax.random.key(0)
    params = jax.eval_shape(lambda key: net.init(key, sizes), key)
    shapes = params.weights
    if jax.tree.leaves(params.stats):  # which may hold the numbers of units without padding
        params = net.init(key, sizes)
    rates = jax.tree.map(lambda r: r.rate(optimizer), width_ratios(net, params))

    def multiply(updates, weights):
        check_same_structure("mup_rates", f"the weights of sizes {sizes}", shapes, updates=updates)
        return jax.tree.map(scaled, updates, rates)

    return stateless_pair("mup_rates", multiply)
