"""The check of one operation says whether it passed."""

import jax.numpy as jnp
import pytest

from purenet import gradcheck, hand_vjp, ops

X = jnp.array([0.5, -1.0])


def test_a_right_rule_has_passed():
    for dtype in ("float64", "float32"):
        found = gradcheck.check(ops.tanh, [X.astype(dtype)])
        assert found.dtype == dtype and found.passed, found
        assert found.tolerance == gradcheck.TOLERANCES[dtype]


def test_a_wrong_rule_has_not_passed_and_its_result_says_where():
    plain = lambda x: x * x
    op = hand_vjp(plain, lambda x: (plain(x), x), lambda x, g: (2.02 * x * g,))
    found = gradcheck.check(op, [X])
    assert not found.passed
    with pytest.raises(AssertionError, match=r"dtype=.float64.*argument=.x"):
        assert found.passed, found


@pytest.mark.parametrize("worse", ["automatic", "numerical"])
def test_either_error_above_its_tolerance_fails(worse):
    at = lambda error: gradcheck.Worst(error, "x", ())
    limits = gradcheck.TOLERANCES["float32"]._asdict()
    errors = {kind: at(limit) for kind, limit in limits.items()}
    assert gradcheck.Check("float32", **errors).passed
    errors[worse] = at(1.01 * limits[worse])
    assert not gradcheck.Check("float32", **errors).passed


def test_a_narrow_dtype_has_no_tolerance():
    found = gradcheck.check(ops.tanh, [X.astype(jnp.bfloat16)])
    with pytest.raises(ValueError, match="dtype is 'bfloat16', but float64 or float32"):
        _ = found.passed
