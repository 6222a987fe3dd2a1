"""The types of the library: parameters, layers, optimizers, states, Trainables."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any  # dicts, tuples and lists of arrays, and arrays alone
Sizes = int | tuple[int, ...] | list[int]  # the shape of one example, or of an array
Array = jax.Array | np.ndarray  # what an operation takes; it returns a jax.Array
Number = float | np.number | Array  # a setting: plain, or an array of one, traced or not
Rate = Number | Callable[[Any], Number]  # a number, or a schedule: step -> number
Key = Array  # one random key, of either style
Initializer = Callable[..., jax.Array]  # (key, shape) -> array; some take dtype= and fans= too


class Params(NamedTuple):
    """The numbers of a network: those that are trained, and running statistics.

    >>> Params({"w": 1.0}).stats
    ()
    """

    weights: PyTree  # differentiated and optimised
    stats: PyTree = ()  # running statistics, never differentiated; () if there are none


class Layer(NamedTuple):
    """A network, or a part of one: a pair of pure functions and a description.

    `init(key, sizes) -> Params`, where `sizes` is the shape of one example (an int or a tuple).
    `apply(params, x, train, key) -> (y, stats)`: always a pair, whatever `train` is. `train` is a
    Python bool, or a `PaddedSize`, which is true: training on a batch of which only the first
    examples are real. `key` may be None if nothing is random.
    `spec` is `(name, arguments)`: enough to print, summarise and rebuild the layer.

    >>> double = Layer(lambda key, sizes: Params(()), lambda params, x, train, key: (2 * x, ()))
    >>> double.apply(double.init(None, 3), 1.5, True, None)
    (3.0, ())
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[Any, PyTree]]
    spec: tuple = ()

    def __repr__(self):
        """The call that made it: dense(units=10, weight_init=he_normal)."""
        if not self.spec:
            return f"Layer(init={_brief(self.init)}, apply={_brief(self.apply)})"
        name, arguments, *_ = (*self.spec, {})
        if not isinstance(arguments, dict):
            return f"Layer(spec={self.spec!r})"
        if [*arguments] == ["function"]:  # an activation, or a function lifted to a layer
            return str(name)
        return f"{name}({_arguments(arguments)})"


class Optimizer(NamedTuple):
    """`init(weights) -> state`; `update(grads, state, weights, **extra) -> (updates, state)`.

    `extra` are keyword arguments that transformations in a chain may need, such as `value=`.

    >>> down = Optimizer(lambda weights: (), lambda grads, state, weights: (-grads, state))
    >>> down.update(0.5, down.init(1.0), 1.0)
    (-0.5, ())
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]


class HookedOptimizer(Optimizer):
    """An Optimizer, still a pair, with what else it asks of a training; each may be None.

    `gradient_at(state, weights)` are the weights at which the gradient is taken, where these are
    not the `weights` that `update` moves and that the training evaluates.
    `observe(state, metrics) -> state` is called with the validation metrics of an epoch.

    >>> none = Optimizer(lambda weights: (), lambda grads, state, weights: (grads, state))
    >>> init, update = HookedOptimizer(*none, gradient_at=lambda state, weights: 2 * weights)
    >>> init(1.0)
    ()
    """

    gradient_at: Callable[[PyTree, PyTree], PyTree] | None
    observe: Callable[[PyTree, dict[str, Any]], PyTree] | None

    def __new__(cls, init, update, gradient_at=None, observe=None):
        self = super().__new__(cls, init, update)
        self.gradient_at, self.observe = gradient_at, observe
        return self


class TrainState(NamedTuple):
    """The complete state of a training run between two steps.

    >>> TrainState(Params({"w": 1.0}), opt_state=(), key=jax.random.key(0), step=0).params.weights
    {'w': 1.0}
    """

    params: Params
    opt_state: PyTree
    key: jax.Array  # the run's own random key: constant, later keys are derived from it and `step`
    step: jax.Array  # () int32, optimizer steps taken so far


class Trainable(NamedTuple):
    """Any training code, as three pure, traceable functions (and a check of its data).

    `init(key) -> state`, `epoch(state, data) -> (state, metrics)`,
    `evaluate(state, data) -> metrics`; `metrics` is a dict of scalars, `data` a pytree of arrays
    with the examples on the leading axis. `check(data)` inspects concrete arrays before
    anything is compiled and raises ValueError or TypeError for data that cannot be trained on.

    Five more are optional. `predict(state, x)` returns one prediction for each example of x: class
    probabilities if there are classes. `score(y, t)` returns the metrics of such predictions.
    `subsets` says that `epoch` and `evaluate` take a `Subset` as data, rows of a larger set;
    otherwise they get the rows, gathered. `network()` returns the pair (net, sizes) whose
    parameters are `state.params`.

    `activations(state, x)` returns the outputs of each layer by name, arrays with the examples
    first. `observe(state, metrics) -> state` is called after each epoch that was evaluated, with
    the validation metrics.

    Two are for data that is streamed: `steps(state, chunk) -> (state, metrics)` trains on a `Chunk`
    of minibatches, metrics being a value for each of them; `batch_size` is the number of examples
    in a minibatch.

    >>> idle = Trainable(lambda key: 0, lambda n, data: (n + 1, {}), lambda n, data: {"epochs": n})
    >>> idle.evaluate(idle.epoch(idle.init(None), None)[0], None)
    {'epochs': 1}
    """

    init: Callable[[jax.Array], PyTree]
    epoch: Callable[[PyTree, PyTree], tuple[PyTree, dict[str, jax.Array]]]
    evaluate: Callable[[PyTree, PyTree], dict[str, jax.Array]]
    check: Callable[[PyTree], None] = lambda data: None
    predict: Callable[[PyTree, PyTree], Any] | None = None
    score: Callable[[Any, Any], dict[str, jax.Array]] | None = None
    subsets: bool = False
    network: Callable[[], tuple[Layer, Any]] | None = None
    steps: Callable[[PyTree, Any], tuple[PyTree, dict[str, jax.Array]]] | None = None
    batch_size: int | None = None
    activations: Callable[[PyTree, PyTree], dict[str, Any]] | None = None
    observe: Callable[[PyTree, dict[str, Any]], PyTree] | None = None

    def __repr__(self):
        parts = {name: part for name, part in self._asdict().items() if part is not False}
        return f"Trainable({_arguments(parts)})"


def _arguments(arguments: dict[str, Any]) -> str:
    shown = {name: value for name, value in arguments.items() if value is not None}
    if "layers" in shown:  # by position, as `serial` takes them
        layers = shown.pop("layers")
        return ", ".join([*map(_brief, layers), *filter(None, [_arguments(shown)])])
    return ", ".join(f"{name}={_brief(value)}" for name, value in shown.items())


def _brief(value: Any) -> str:
    """A function by its name, anything else on one line."""
    if not isinstance(value, Layer) and callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__.replace("<locals>.", "")
    return " ".join(repr(value).split())


def only_weights(caller: str, weights: PyTree) -> PyTree:
    """The weights, unchanged. Raises TypeError for a network's Params, in whole or in part.

    >>> only_weights("sgd", {"w": 1.0})
    {'w': 1.0}
    """
    is_params = lambda node: isinstance(node, Params)
    if any(map(is_params, jax.tree.leaves(weights, is_leaf=is_params))):
        raise TypeError(
            f"{caller}: got a network's Params (weights and stats), but an optimizer takes only "
            "the weights; pass params.weights."
        )
    return weights
