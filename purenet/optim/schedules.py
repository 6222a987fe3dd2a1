"""Schedules: step -> rate, where `step` counts from 0.

A schedule is a pure function; `step` and every number that it was built from may be traced, so
`warmup(cosine(rate, steps), 100)` works with a `rate` and a `steps` that differ in every trial of
one compiled program. `step` may be a number or an array of steps; the result is floating and has
the shape of `step`. After its last step, a schedule keeps its final value.

Plain Python or NumPy numbers are checked when the schedule is built; arrays, traced or not, are
never inspected. Anything but a number raises TypeError, there and in place of a step.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from purenet.core.dtypes import floating
from purenet.core.types import Array, Number, Rate
from purenet.core.validate import (
    Check,
    Finite,
    NonNegative,
    Positive,
    array,
    declared,
    expect,
    finite,
    is_function,
    is_number,
    non_negative,
    require,
)

Schedule = Callable[[Any], jax.Array]  # of a step: a number or an array of steps


def _or_schedule(annotation: Any) -> Check:
    """The check of an annotated number that also accepts functions of the step.

    >>> _or_schedule(NonNegative).expected
    'a finite number of at least 0, or a schedule'
    """
    (check,) = annotation.__metadata__
    apply = lambda name, value: value if is_function(value) else check.apply(name, value)
    return Check(apply, f"{check.expected}, or a schedule")


LearningRate = Annotated[Rate, _or_schedule(NonNegative)]
FiniteRate = Annotated[Rate, _or_schedule(Finite)]


@declared
def constant(rate: NonNegative) -> Schedule:
    """The same rate at every step: r(t) = rate.

    Source: Robbins & Monro (1951) with a step that does not shrink.

    >>> float(constant(0.5)(1000))
    0.5
    """
    return _of_step("constant", lambda step: floating(rate) + jnp.zeros_like(floating(step)))


@declared
def step(rate: NonNegative, every: Positive, factor: NonNegative) -> Schedule:
    """A staircase: r(t) = rate · factor^⌊t / every⌋.

    Source: Krizhevsky, Sutskever & Hinton (2012), section 5.

    >>> [float(step(1.0, every=10, factor=0.5)(t)) for t in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """
    fall = lambda step: floating(factor) ** jnp.floor_divide(step, every)
    return _of_step("step", lambda step: floating(rate) * fall(step))


@declared
def exponential(rate: NonNegative, steps: Positive, factor: NonNegative) -> Schedule:
    """Smooth decay by `factor` every `steps` steps: r(t) = rate · factor^(t / steps).

    Source: Bottou, Stochastic gradient descent tricks (2012), for schedules that only decrease.

    >>> float(exponential(8.0, steps=10, factor=0.25)(5))
    4.0
    """
    fall = lambda step: floating(factor) ** (floating(step) / floating(steps))
    return _of_step("exponential", lambda step: floating(rate) * fall(step))


@declared
def cosine(rate: NonNegative, steps: Positive, final: NonNegative = 0.0) -> Schedule:
    """Half a cosine from `rate` down to `final`, where it stays after `steps` steps.

        r(t) = final + (rate - final) · (1 + cos(π p)) / 2,    p = min(t / steps, 1)

    Source: Loshchilov & Hutter, SGDR (2017), equation 5, without restarts.

    >>> [round(float(cosine(1.0, steps=100)(t)), 6) for t in (0, 50, 100, 1000)]
    [1.0, 0.5, 0.0, 0.0]
    """

    def schedule(step):
        fall = (1 + jnp.cos(jnp.pi * _progress(step, steps))) / 2
        return floating(final) + (floating(rate) - floating(final)) * fall

    return _of_step("cosine", schedule)


@declared
def warmup(schedule: LearningRate, steps: Positive) -> Schedule:
    """A straight line from 0 to the start of `schedule`, reached after `steps` steps.

        r(t) = (t / steps) · schedule(0)   for t < steps,    schedule(t - steps)   afterwards

    The inner schedule is shifted: it starts, at its own step 0, when the warm-up is over, so
    `warmup(cosine(rate, 900), 100)` is 1000 steps long. `schedule` may also be a number.

    A traced `steps` may be 0: then there is no warm-up.
    Source: Goyal et al., Accurate, large minibatch SGD (2017), section 2.2, from 0.

    >>> [float(warmup(constant(2.0), steps=4)(t)) for t in (0, 1, 4, 9)]
    [0.0, 0.5, 2.0, 2.0]
    """
    later = lambda step: at(schedule, jnp.maximum(step - steps, 0))
    return _of_step("warmup", lambda step: _progress(step, steps) * later(step))


def piecewise(rates: Sequence[Number] | Array, boundaries: Sequence[Number] | Array) -> Schedule:
    """A constant rate between each two boundaries: r(t) = rates[number of boundaries <= t].

    So `rates[0]` holds below `boundaries[0]`, and the step `boundaries[i]` is the first one with
    `rates[i + 1]`. Raises ValueError for negative numbers, for boundaries that do not increase,
    and unless there is one more rate than boundaries; TypeError unless both are lists of numbers.
    Source: He, Zhang, Ren & Sun, Deep residual learning (2016), section 3.4.

    >>> [float(piecewise([1.0, 0.5, 0.25], [10, 20])(t)) for t in (0, 9, 10, 20, 99)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    rates, boundaries = _several("rates", rates), _several("boundaries", boundaries)
    require(
        len(rates) == len(boundaries) + 1,
        f"piecewise: {len(rates)} rates and {len(boundaries)} boundaries; one more rate than "
        "boundaries is expected, because the first rate holds before the first boundary.",
    )
    for i, rate in enumerate(rates):
        non_negative("piecewise", **{f"rates[{i}]": rate})
    for i, boundary in enumerate(boundaries):
        finite("piecewise", **{f"boundaries[{i}]": boundary})
    known = [boundary for boundary in boundaries if is_number(boundary)]
    rising = all(low < high for low, high in itertools.pairwise(known))
    require(rising, f"piecewise: the boundaries {known} must be strictly increasing.")

    def schedule(step):
        now = constant(rates[0])(step)
        for boundary, rate in zip(boundaries, rates[1:], strict=True):
            now = jnp.where(step >= boundary, floating(rate), now)
        return now

    return _of_step("piecewise", schedule)


def _several(name, values) -> list:
    several = isinstance(values, (tuple, list)) or jnp.ndim(array("piecewise", name, values)) == 1
    expect(several, f"piecewise: {name}", values, "a list of numbers")
    return list(values)


def _of_step(caller, schedule) -> Schedule:
    """The schedule, with its step checked: a number or an array of numbers."""
    return lambda step: schedule(array(caller, "step", step))


def at(rate: Rate, step: Number) -> jax.Array:
    """The rate at a step, floating, whether `rate` is a number, an array or a schedule.

    Raises TypeError for anything else, and for a schedule that does not return a number.
    Source: the convention of this module.

    >>> float(at(0.5, 3)), float(at(lambda step: 2.0 * step, 3))
    (0.5, 6.0)
    """
    if callable(rate):
        return floating(array("a schedule", "its rate", rate(step)))
    return floating(array("at", "rate", rate))


def _progress(step, steps):
    # counted from the end, so that a traced `steps` of 0 is "already over" and not 0 / 0
    steps = floating(steps)
    left = (steps - floating(step)) / jnp.maximum(steps, jnp.finfo(steps.dtype).tiny)
    return 1 - jnp.clip(left, 0, 1)
