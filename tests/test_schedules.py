"""Schedules against their formulas, at steps and with numbers that are traced."""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purenet.optim.schedules import constant, cosine, exponential, piecewise, step, warmup

TRIALS = 40


class Case(NamedTuple):
    make: Callable  # (*numbers) -> schedule
    numbers: tuple
    reference: Callable  # (t, *numbers) -> rate, in Python


def cosine_reference(t, rate, steps, final):
    return final + (rate - final) * (1 + math.cos(math.pi * min(t / steps, 1))) / 2


def warm_up_reference(t, rate, factor, steps):
    return rate * t / steps if t < steps else rate * factor ** ((t - steps) / 10)


def piecewise_reference(t, a, b, c, first, second):
    return a if t < first else b if t < second else c


CASES = {
    "constant": Case(constant, (0.3,), lambda t, rate: rate),
    "step": Case(step, (0.3, 7, 0.5), lambda t, rate, every, factor: rate * factor ** (t // every)),
    "exponential": Case(
        exponential,
        (0.3, 10, 0.5),
        lambda t, rate, steps, factor: rate * factor ** (t / steps),
    ),
    "cosine": Case(cosine, (0.3, 50, 0.01), cosine_reference),
    "warmup": Case(
        lambda rate, factor, steps: warmup(exponential(rate, 10, factor), steps),
        (0.3, 0.5, 8),
        warm_up_reference,
    ),
    "piecewise": Case(
        lambda a, b, c, *boundaries: piecewise([a, b, c], boundaries),
        (0.3, 0.2, 0.1, 10, 20),
        piecewise_reference,
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def expected(case, steps, numbers=None):
    return [case.reference(t, *(case.numbers if numbers is None else numbers)) for t in steps]


def test_equals_its_formula_at_numbers_traced_steps_and_arrays(case):
    schedule, steps = case.make(*case.numbers), range(60)
    want = expected(case, steps)
    np.testing.assert_allclose([float(schedule(t)) for t in steps], want, rtol=1e-13, atol=1e-16)
    array = schedule(jnp.arange(60))
    assert array.shape == (60,)
    np.testing.assert_allclose(array, want, rtol=1e-13, atol=1e-16)
    vmapped = jax.vmap(schedule)(jnp.arange(60, dtype=jnp.int32))
    np.testing.assert_allclose(vmapped, want, rtol=1e-13, atol=1e-16)


def test_forty_values_of_each_number_trace_once_and_equal_a_loop(case):
    steps = jnp.array([0, 1, 7, 9, 15, 25, 1000])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(*numbers):
        return jax.vmap(lambda *numbers: case.make(*numbers)(steps))(*numbers)

    chex.clear_trace_counter()
    for i, number in enumerate(case.numbers):
        columns = [np.full(TRIALS, float(n)) for n in case.numbers]
        columns[i] = np.linspace(0.7 * number, number, TRIALS)
        got = sweep(*columns)
        assert np.ptp(got, axis=0).max() > 0, "this number changes nothing"
        for trial in range(TRIALS):
            want = expected(case, steps.tolist(), [column[trial] for column in columns])
            np.testing.assert_allclose(got[trial], want, rtol=1e-12, atol=1e-16)


def test_whole_number_options_may_be_traced(case):
    as_array = [jnp.asarray(n) for n in case.numbers]  # steps arrive as int64
    got = jax.jit(lambda numbers: case.make(*numbers)(jnp.int32(9)))(as_array)
    np.testing.assert_allclose(got, case.reference(9, *case.numbers), rtol=1e-13)


def test_finite_past_the_end_and_floating(case):
    schedule = case.make(*case.numbers)
    for t in (2**31 - 1, jnp.int32(2**31 - 1), jnp.float32(1e9)):
        rate = schedule(t)
        assert rate.dtype == jnp.float64
        assert np.isfinite(rate) and rate >= 0
    with jax.enable_x64(False):
        rate = jax.jit(schedule)(jnp.int32(2**31 - 1))
        assert rate.dtype == jnp.float32
        assert np.isfinite(rate) and rate >= 0


def test_cosine_stays_at_its_end():
    assert float(cosine(0.3, 50, final=0.01)(50)) == 0.01
    assert float(cosine(0.3, 50, final=0.01)(51)) == 0.01
    assert float(cosine(0.3, 50)(10**6)) == 0.0


def test_warm_up_shifts_the_inner_schedule():
    schedule = warmup(cosine(0.4, 50), 8)
    assert float(schedule(0)) == 0.0
    np.testing.assert_allclose(schedule(6), 0.4 * 6 / 8)  # a straight line, whatever follows
    assert float(schedule(8)) == float(cosine(0.4, 50)(0))
    assert float(schedule(8 + 20)) == float(cosine(0.4, 50)(20))
    np.testing.assert_allclose(warmup(0.4, 8)(jnp.array([4, 8, 100])), [0.2, 0.4, 0.4])


def test_traced_length_of_zero_is_already_over():
    for t in (0, 1, 1000):
        assert float(jax.jit(lambda n, t=t: warmup(0.4, n)(t))(0)) == 0.4
        assert float(jax.jit(lambda n, t=t: cosine(0.4, n, 0.1)(t))(0)) == 0.1
    with jax.enable_x64(False):
        assert jax.jit(lambda n: warmup(0.5, n)(jnp.arange(3)))(0).tolist() == [0.5] * 3


def test_piecewise_takes_arrays_and_no_boundary():
    schedule = piecewise(jnp.array([3.0, 2.0, 1.0]), np.array([10, 20]))
    assert schedule(jnp.array([9, 10, 19, 20])).tolist() == [3.0, 2.0, 2.0, 1.0]
    assert float(piecewise([0.3], [])(5)) == 0.3


ERRORS = {
    "constant": (lambda: constant(-1), "constant: rate is -1.*of at least 0"),
    "step rate": (lambda: step(-0.1, 10, 0.5), r"step: rate is -0\.1"),
    "step every": (lambda: step(0.1, 0, 0.5), "step: every is 0.*above 0"),
    "step factor": (lambda: step(0.1, 1, -0.5), r"step: factor is -0\.5"),
    "exponential": (lambda: exponential(0.1, -5, 0.5), "exponential: steps is -5"),
    "exponential rate": (lambda: exponential(math.nan, 5, 0.5), "exponential: rate is nan"),
    "exponential factor": (lambda: exponential(0.1, 5, -1), "exponential: factor is -1"),
    "cosine steps": (lambda: cosine(0.1, 0), "cosine: steps is 0"),
    "cosine final": (lambda: cosine(0.1, 10, final=-1), "cosine: final is -1"),
    "cosine NumPy": (lambda: cosine(0.1, np.int32(-3)), "cosine: steps is -3"),
    "warmup steps": (lambda: warmup(constant(0.1), 0), "warmup: steps is 0"),
    "warmup number": (lambda: warmup(-0.1, 10), r"warmup: schedule is -0\.1"),
    "piecewise counts": (
        lambda: piecewise([1, 2], [10, 20]),
        "piecewise: 2 rates and 2 boundaries; one more rate",
    ),
    "piecewise order": (
        lambda: piecewise([1, 2, 3], [20, 20]),
        r"piecewise: the boundaries \[20, 20\] must be strictly",
    ),
    "piecewise rate": (lambda: piecewise([1, -2], [20]), r"piecewise: rates\[1\] is -2"),
}


@pytest.mark.parametrize("call, message", ERRORS.values(), ids=ERRORS.keys())
def test_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
