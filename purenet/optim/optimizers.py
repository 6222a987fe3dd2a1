"""Optimizers: pairs of pure functions that turn gradients into updates.

`init(weights) -> state` and `update(grads, state, weights) -> (updates, state)`; then
`apply_updates(weights, updates)` adds. This is the protocol of gradient transformations that the
JAX ecosystem shares, so these pairs and those of other libraries chain with one another.

    optimizer = chain(clip_by_global_norm(1.0), adamw(warmup(cosine(1e-3, 900), 100)))

In the formulas g is the gradient, u the update (w ← w + u), t the number of this update, from 1.
Three rules hold throughout:

- A rate is a number, an array or a schedule (step -> rate, the step counted from 0). Every numeric
  hyperparameter may be a traced array: build the optimizer inside the function that is vmapped.
- Accumulated values have the dtype of the weight they belong to, and so has the update. The
  arithmetic is done in at least float32.
- In divisors, `eps_root` is added inside the root and `eps` outside: √(v + eps_root) + eps. Set one
  of them to 0 for either variant.

Plain Python or NumPy numbers out of range (a negative rate, a decay of 1) raise ValueError when the
optimizer is built, and anything but a number raises TypeError; arrays are never inspected. `init`
takes the trained weights alone: a network's whole `Params`, or integers among the weights, raise
TypeError. `update` raises ValueError for gradients that do not have the structure and the shapes of
the weights, and TypeError for the state of another optimizer.

Weights are real. For a complex weight, `jax.grad` returns the conjugate of the direction in which
the loss rises, so even `sgd` would climb along its imaginary part, and g² is not a squared
magnitude. Every optimizer and transformation raises TypeError for complex weights, except `chain`,
`apply_updates` and `exponential_moving_average`, which only add numbers or pass them on. Train the
real and the imaginary part as two real weights.

`update(grads, state, weights, **extra)` accepts any further keyword arguments, such as the `value=`
of the loss; these optimizers ignore them, and `chain` passes them on to those that take them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Optimizer, PyTree
from purenet.core.validate import NonNegative, UnitInterval, declared
from purenet.optim.base import Count, average, root, weightwise
from purenet.optim.schedules import LearningRate

# plain gradient descent and momentum


class SgdState(NamedTuple):
    count: Count


@declared
def sgd(rate: LearningRate) -> Optimizer:
    """Stochastic gradient descent.

        u = -rate · g

    Source: Robbins & Monro (1951).

    >>> optimizer = sgd(0.5)
    >>> updates, state = optimizer.update({"w": jnp.ones(2)}, optimizer.init({"w": jnp.ones(2)}))
    >>> updates["w"].tolist(), int(state.count)
    ([-0.5, -0.5], 1)
    """
    # the minus last: XLA for GPUs then computes the new weights inside the product that makes g
    rule = lambda rate, g: (-(rate * g),)
    return weightwise("sgd", SgdState, rate, lambda rate, t: (rate,), rule)


class MomentumState(NamedTuple):
    count: Count
    velocity: PyTree  # like the weights


@declared
def momentum(rate: LearningRate, momentum: UnitInterval = 0.9) -> Optimizer:
    """Gradient descent with momentum (the heavy-ball method).

        v ← momentum · v - rate · g          u = v

    Source: Polyak (1964).

    >>> optimizer = momentum(0.5, momentum=0.5)
    >>> updates, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)))
    >>> updates.tolist(), optimizer.update(jnp.zeros(2), state)[0].tolist()
    ([-0.5, -0.5], [-0.25, -0.25])
    """
    return _with_velocity("momentum", rate, momentum, lambda m, v, descent: v)


@declared
def nesterov(rate: LearningRate, momentum: UnitInterval = 0.9) -> Optimizer:
    """Nesterov's accelerated gradient, in the form that needs no gradient at a second point.

        v ← momentum · v - rate · g          u = momentum · v - rate · g

    Source: Nesterov (1983), simplified by Bengio, Boulanger-Lewandowski & Pascanu (2013).

    >>> optimizer = nesterov(0.5, momentum=0.5)
    >>> optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)))[0].tolist()
    [-0.75, -0.75]
    """
    return _with_velocity("nesterov", rate, momentum, lambda m, v, descent: m * v + descent)


def _with_velocity(caller, rate, momentum, move):

    def rule(rate, m, g, v):
        descent = -rate * g
        v = m * v + descent
        return move(m, v, descent), v

    return weightwise(caller, MomentumState, rate, lambda rate, t: (rate, momentum), rule)


# a separate rate for each weight, from the size of its gradients


class AdagradState(NamedTuple):
    count: Count
    total: PyTree  # like the weights: the sum of the squared gradients


@declared
def adagrad(
    rate: LearningRate,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    initial_accumulator: NonNegative = 0.0,
) -> Optimizer:
    """AdaGrad: the rate of each weight falls with every gradient it has received.

        h ← h + g²,   h₀ = initial_accumulator          u = -rate · g / (√(h + eps_root) + eps)

    Source: Duchi, Hazan & Singer (2011), the diagonal form.

    >>> optimizer = adagrad(0.5)
    >>> print(optimizer.update(jnp.array([3.0, -0.1]), optimizer.init(jnp.zeros(2)))[0].round(4))
    [-0.5  0.5]
    """

    def rule(rate, eps, eps_root, g, h):
        h = h + g * g
        return -rate * g / (root(h + eps_root) + eps), h

    numbers = lambda rate, t: (rate, eps, eps_root)
    return weightwise("adagrad", AdagradState, rate, numbers, rule, fill=initial_accumulator)


class RmspropState(NamedTuple):
    count: Count
    square: PyTree  # like the weights: moving average of the squared gradient


@declared
def rmsprop(
    rate: LearningRate,
    decay: UnitInterval = 0.9,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Optimizer:
    """RMSProp: AdaGrad with a moving average in place of the sum.

        h ← decay · h + (1 - decay) g²          u = -rate · g / (√(h + eps_root) + eps)

    Source: Hinton, Neural networks for machine learning, lecture 6e (2012).

    >>> optimizer = rmsprop(0.5, decay=0.75)
    >>> print(optimizer.update(jnp.array([3.0, -0.1]), optimizer.init(jnp.zeros(2)))[0].round(4))
    [-1.  1.]
    """

    def rule(rate, new, eps, eps_root, g, h):
        h = average(h, g * g, new)
        return -rate * g / (root(h + eps_root) + eps), h

    numbers = lambda rate, t: (rate, 1 - floating(decay), eps, eps_root)
    return weightwise("rmsprop", RmspropState, rate, numbers, rule)


class AdadeltaState(NamedTuple):
    count: Count
    square: PyTree  # like the weights: moving average of the squared gradient
    square_step: PyTree  # like the weights: moving average of the squared step


@declared
def adadelta(
    rate: LearningRate = 1.0, decay: UnitInterval = 0.95, eps: NonNegative = 1e-6
) -> Optimizer:
    """AdaDelta: steps in the units of the weights, so a rate of 1 usually works.

        h ← decay · h + (1 - decay) g²          d = √(s + eps) / √(h + eps) · g
        s ← decay · s + (1 - decay) d²          u = -rate · d

    Source: Zeiler (2012), algorithm 1, where the rate is 1.

    >>> optimizer = adadelta(decay=0.75)
    >>> print(optimizer.update(jnp.array([2.0, -2.0]), optimizer.init(jnp.zeros(2)))[0].round(4))
    [-0.002  0.002]
    """

    def rule(rate, new, eps, g, h, s):
        h = average(h, g * g, new)
        d = jnp.sqrt((s + eps) / (h + eps)) * g
        return -rate * d, h, average(s, d * d, new)

    numbers = lambda rate, t: (rate, 1 - floating(decay), eps)
    return weightwise("adadelta", AdadeltaState, rate, numbers, rule)


class AdamState(NamedTuple):
    count: Count
    mean: PyTree  # like the weights: moving average of the gradient
    square: PyTree  # like the weights: moving average of the squared gradient


@declared
def adam(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Optimizer:
    """Adam.

        m ← b1 m + (1 - b1) g          v ← b2 v + (1 - b2) g²
        m̂ = m / (1 - b1ᵗ)              v̂ = v / (1 - b2ᵗ)
        u = -rate · m̂ / (√(v̂ + eps_root) + eps)

    Source: Kingma & Ba (2015), algorithm 1.

    >>> optimizer = adam(0.5)
    >>> print(optimizer.update(jnp.array([3.0, -0.1]), optimizer.init(jnp.zeros(2)))[0].round(4))
    [-0.5  0.5]
    """
    return _adam("adam", rate, b1, b2, eps, eps_root, _corrected)


@declared
def adamw(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.01,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay, which does not pass through the moving averages.

        u = -rate · (m̂ / (√(v̂ + eps_root) + eps) + weight_decay · w),    m̂ and v̂ as in `adam`

    The decay applies to matrices and kernels only (two or more axes), unless `mask` says otherwise:
    a pytree of bools like the weights, or a function of the weights that returns one.

    `update` raises ValueError for a mask that does not match the weights, and if they are missing.
    Source: Loshchilov & Hutter (2019), algorithm 2, the decay multiplied by the rate and its
    schedule.

    >>> optimizer = adamw(0.5, weight_decay=0.5)
    >>> weights = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    >>> updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
    >>> print(updates["w"].round(4), updates["b"].round(4))
    [[-0.75]] [-0.5]
    """
    return _adam("adamw", rate, b1, b2, eps, eps_root, _corrected, weight_decay, mask)


@declared
def nadam(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Optimizer:
    """Adam with Nesterov momentum.

        m̂ = b1 m / (1 - b1ᵗ⁺¹) + (1 - b1) g / (1 - b1ᵗ),    the rest as in `adam`

    Source: Dozat (2016), algorithm 2, simplified to a constant b1: without the schedule that warms
    b1 up, every product of b1 is a power. As in the paper, the mean is corrected by b1ᵗ⁺¹.

    >>> optimizer = nadam(0.5)
    >>> update, _ = optimizer.update(jnp.array(3.0), optimizer.init(jnp.array(0.0)))
    >>> f"{update:.4f}"
    '-0.7368'
    """
    return _adam("nadam", rate, b1, b2, eps, eps_root, _looking_ahead)


def _corrected(b1, t):
    return (1 / (1 - b1**t),)  # for the mean


def _looking_ahead(b1, t):
    return b1 / (1 - b1 ** (t + 1)), (1 - b1) / (1 - b1**t)  # for the mean, for the gradient


def _adam(caller, rate, b1, b2, eps, eps_root, factors, weight_decay=0.0, mask=None):

    def numbers(rate, t):
        first, second = floating(b1), floating(b2)
        scales = tuple(-rate * factor for factor in factors(first, t))
        return 1 - first, 1 - second, 1 / (1 - second**t), eps, eps_root, *scales

    def rule(new1, new2, correction, eps, eps_root, *rest):
        *scales, g, m, v = rest
        m = average(m, g, new1)
        v = average(v, g * g, new2)
        step = sum(scale * x for scale, x in zip(scales, (m, g), strict=False))
        return step / (root(correction * v + eps_root) + eps), m, v

    return weightwise(caller, AdamState, rate, numbers, rule, weight_decay=weight_decay, mask=mask)


class LionState(NamedTuple):
    count: Count
    mean: PyTree  # like the weights: moving average of the gradient


@declared
def lion(
    rate: LearningRate,
    b1: UnitInterval = 0.9,
    b2: UnitInterval = 0.99,
    weight_decay: NonNegative = 0.0,
    mask: PyTree | Callable | None = None,
) -> Optimizer:
    """Lion: every weight moves by the same amount, in the direction of a sign.

        u = -rate · (sign(b1 m + (1 - b1) g) + weight_decay · w)          m ← b2 m + (1 - b2) g

    The decay applies to the same weights as in `adamw`.

    `update` raises ValueError for a mask that does not match the weights, and, with a decay, if the
    weights are missing.
    Source: Chen et al., Symbolic discovery of optimization algorithms (2023), algorithm 2.

    >>> optimizer = lion(0.5)
    >>> optimizer.update(jnp.array([3.0, -0.1]), optimizer.init(jnp.zeros(2)))[0].tolist()
    [-0.5, 0.5]
    """

    def rule(rate, new1, new2, g, m):
        return -rate * jnp.sign(average(m, g, new1)), average(m, g, new2)

    numbers = lambda rate, t: (rate, 1 - floating(b1), 1 - floating(b2))
    return weightwise("lion", LionState, rate, numbers, rule, weight_decay=weight_decay, mask=mask)
