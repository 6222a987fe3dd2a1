"""hypergradient: the derivative of a whole training with respect to its hyperparameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purenet.core.contracts import check_data
from purenet.core.jit_cache import jit_for_each
from purenet.core.tree import named_leaves
from purenet.core.types import Number, PyTree
from purenet.core.validate import expect, is_integer, require
from purenet.sweep.config import check_trial, checked_seed
from purenet.sweep.engine.describe import check
from purenet.sweep.engine.layout import layout, random_key
from purenet.sweep.engine.program import Program
from purenet.sweep.engine.tangents import slopes
from purenet.sweep.engine.training import training_of
from purenet.sweep.objective import checked_epochs
from purenet.sweep.space.distributions import check_hashable
from purenet.sweep.space.structure import TRACED


class Hypergradient(NamedTuple):
    """What `hypergradient` returns.

    >>> Hypergradient(0.5, {"rate": -1.0}, {"loss": 0.5}).gradient["rate"]
    -1.0
    """

    value: Any  # of the metric on the validation data, after the last epoch
    gradient: PyTree  # its derivative with respect to each float of `hyper`, None at other leaves
    metrics: dict[str, Any]  # all of them, on the validation data after the last epoch


class _Question(NamedTuple):
    """What a compiled program depends on besides numbers."""

    program: Program
    differentiated: tuple[int, ...]  # among the traced leaves
    epochs: int
    metric: str


def hypergradient(
    trial: Callable,
    hyper: PyTree,
    data: PyTree,
    epochs: int,
    *,
    metric: str = "loss",
    seed: int = 0,
    number: Number = 0,
) -> Hypergradient:
    """The derivative of the validation loss after a whole training with respect to its
    hyperparameters.

        s₀ = init(key; λ)    sᵢ₊₁ = epoch(sᵢ; λ)    dL/dλ = d evaluate(s_epochs; λ) / dλ

    `trial(hyper)` returns a Trainable and `data` is (train, validation), as in `run`. Every float
    of `hyper`, a plain number or an array of any shape, is differentiated, wherever it acts: in the
    initial weights, in every step, in the evaluation. Integers, strings and functions stay as they
    are. The training is that of trial `number` of a sweep with this seed, so `value` is its score.

    In forward mode, dsᵢ/dλ is carried along with the state: a tangent of the size of the state for
    each number, whatever the number of steps. The time is about 1 + 2 k times that of the training
    for k numbers, less where the first layer dominates. Rounding to whole numbers, such as
    `accuracy` or a random choice, has the derivative 0; that of dropout with respect to its rate is
    through the scale 1 / (1 - rate) of what is kept. A training that diverges gives NaN. It works
    under `jit` and `vmap`: for many points at once, vmap over their numbers.

    Raises TypeError or ValueError for arguments that a sweep would not take either, for a `hyper`
    without a float, and for a metric that `evaluate` does not return or that is not a float.
    Source: Franceschi, Donini, Frasconi & Pontil (2017), Forward and reverse gradient-based
    hyperparameter optimization.

    >>> import jax, numpy as np, purenet as pn
    >>> from purenet import sweep
    >>> def trial(hyper):
    ...     return pn.supervised(net=pn.mlp(), sizes=(4, 8, 2), optimizer=pn.sgd(hyper["rate"]),
    ...                          loss=pn.softmax_cross_entropy, batch_size=2)
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> data = ((x, t), (x, t))
    >>> bool(sweep.hypergradient(trial, {"rate": 0.1}, data, epochs=3).gradient["rate"] < 0)
    True
    >>> of = lambda rate: sweep.hypergradient(trial, {"rate": rate}, data, epochs=3)
    >>> jax.vmap(of)(np.array([0.1, 0.2])).value.shape
    (2,)
    """
    caller = "hypergradient"
    check_trial(trial)
    epochs, seed = checked_epochs(epochs), checked_seed(f"{caller}: seed", seed)
    expect(isinstance(metric, str), f"{caller}: metric", metric, 'a name such as "loss"')
    expect(_is_whole(number), f"{caller}: number", number, "the number of a trial")
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    expect(pair, f"{caller}: data", data, "a pair (train, validation)", ValueError)
    check_data(caller, {"train": data[0], "validation": data[1]})
    leaves, floats, program = _taken_apart(trial, hyper)
    arrays = tuple(jnp.asarray(a) for a in leaves if _is_array(a) or _is_float(a))
    if not any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(data)):
        jax.eval_shape(lambda arrays: check(program, arrays, data), arrays)
    question = _Question(program, floats, epochs, metric)
    key, data = random_key(seed), jax.tree.map(jnp.asarray, tuple(data))
    value, found, metrics = _answered(question)(arrays, key, jnp.asarray(number), data)
    remaining = iter(found)
    slots = [next(remaining) if _is_float(leaf) else None for leaf in leaves]
    gradient = jax.tree.unflatten(jax.tree.structure(hyper), slots)
    return Hypergradient(value, gradient, metrics)


@jit_for_each()
def _answered(question: _Question, arrays: tuple, key, number, data) -> tuple:
    """(the value, the derivatives, the metrics)."""
    program, which, epochs, metric = question

    def trainable(numbers):
        whole = list(arrays)
        for i, value in zip(which, numbers, strict=True):
            whole[i] = value
        return program.trainable(whole)

    begin = lambda trainable: trainable.init(jax.random.fold_in(key, number))
    floats = tuple(arrays[i] for i in which)
    found, metrics = slopes(trainable, begin, data, epochs, metric, floats)
    return metrics[metric], found, metrics


def _taken_apart(trial: Callable, hyper: PyTree) -> tuple[list, tuple[int, ...], Program]:
    """The leaves, which of the arrays among them are floats, and the program."""
    named = named_leaves("hypergradient: hyper", hyper)
    leaves, static = list(named.values()), []
    for name, leaf in named.items():
        such = "a number such as those of result.best().hyper"
        expect(not hasattr(leaf, "ppf"), f"hypergradient: {name!r}", leaf, such)
        traced = _is_array(leaf) or _is_float(leaf)
        if not traced:
            check_hashable(f"hypergradient: {name!r}", leaf)
        static.append(TRACED if traced else leaf)
    arrays = [a for a in leaves if _is_array(a) or _is_float(a)]
    floats = tuple(i for i, a in enumerate(arrays) if _is_float(a))
    require(
        bool(floats),
        "hypergradient: hyper holds no float to differentiate with respect to; integers are "
        "constants, so write 1.0 for a number that may vary.",
    )
    here = layout(1, jax.local_devices()[:1])
    training = training_of(trial, jax.tree.structure(hyper), tuple(static))
    return leaves, floats, Program(training, here)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype")


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.floating)


def _is_whole(number: Any) -> bool:
    array = _is_array(number) and jnp.issubdtype(number.dtype, jnp.integer) and not number.ndim
    return array or (is_integer(number) and number >= 0)
