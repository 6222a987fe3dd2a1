"""Checks that a signature declares: made before the call, and told in the docstring."""

import contextlib
import importlib
import inspect
import pkgutil

import pytest

import purenet as pn
from purenet.core import validate
from purenet.core.validate import declared
from purenet.nn.base import WeightInit
from purenet.optim.schedules import LearningRate


def checks(f):
    """The checks that the annotations of a function declare, by argument."""
    if not hasattr(f, "__wrapped__"):
        return {}
    parameters = inspect.signature(f.__wrapped__).parameters.values()
    return {p.name: c for p in parameters for c in validate._checks(p.annotation)}


def passing(check):
    """A value that the check accepts."""
    for value in (1, 0.5, [0], lambda key, shape: None, lambda seed: None):
        with contextlib.suppress(TypeError, ValueError):
            check.apply("f: x", value)
            return value
    raise AssertionError(f"nothing is {check.expected}")


DECLARED = {
    f"{f.__module__}.{name}": f
    for info in pkgutil.walk_packages(pn.__path__, "purenet.")
    if not info.name.endswith("__main__")
    for name, f in vars(importlib.import_module(info.name)).items()
    if inspect.isfunction(f) and f.__module__ == info.name and checks(f)
}


@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_argument_is_checked_before_the_call(name):
    f = DECLARED[name]
    needed = [p.name for p in inspect.signature(f).parameters.values() if p.default is p.empty]
    for argument in checks(f):
        others = {n: passing(checks(f)[n]) if n in checks(f) else None for n in needed}
        with pytest.raises((TypeError, ValueError), match=f"{f.__name__}: {argument} is "):
            f(**{**others, argument: object()})
        assert argument in f.__doc__


@declared
def shrink(
    n: validate.PositiveInteger,
    rate: LearningRate = 0.1,
    width: validate.PositiveInteger | None = None,
    weight_init: WeightInit | None = None,
) -> tuple:
    """Nothing but its arguments.

    Source: none.

    >>> shrink(1)[0]
    1
    """
    return n, rate, width, weight_init


def test_none_passes_where_a_union_has_it_and_a_schedule_where_a_rate_is():
    schedule = lambda step: 0.1
    assert shrink(2, schedule) == (2, schedule, None, None)
    assert shrink(2, width=None, rate=0.5) == (2, 0.5, None, None)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"n": 0}, ValueError, "shrink: n is 0, but at least 1"),
        ({"n": 1.5}, TypeError, "shrink: n is 1.5, but an integer"),
        ({"n": 1, "width": "2"}, TypeError, "shrink: width is '2', but an integer"),
        ({"n": 1, "rate": -1}, ValueError, "shrink: rate is -1, but a finite number of at least 0"),
        ({"n": 1, "weight_init": 3}, TypeError, r"shrink: weight_init is 3, but a function \(key"),
        ({}, TypeError, "missing 1 required positional argument: 'n'"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        shrink(**arguments)


def test_the_signature_is_that_of_the_function_without_its_checks():
    parameters = inspect.signature(shrink).parameters
    assert list(parameters) == ["n", "rate", "width", "weight_init"]
    assert parameters["n"].annotation is int and parameters["width"].annotation == int | None
    assert inspect.signature(shrink).return_annotation is tuple
    assert shrink.__wrapped__.__name__ == shrink.__name__ == "shrink"


def test_the_docstring_says_what_is_raised_before_source_and_example():
    told = "n is an integer of at least 1; rate is a finite number of at least 0, or a schedule"
    head, _, rest = " ".join(shrink.__doc__.split()).partition(told)
    assert head.endswith("Raises TypeError or ValueError unless ") and "Source: none." in rest
    assert "width is an integer of at least 1, or None" in rest
