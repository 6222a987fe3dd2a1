"""The options that run and plan share are declared once, and help spells them out."""

import inspect

import numpy as np
import pytest

from purenet import sweep
from purenet.sweep.config import SweepConfig
from purenet.sweep.options import SweepOptions

SHARED = [
    "search", "seeds", "folds", "metric", "mode", "objectives", "patience", "select",
    "evaluate_every", "devices", "points",
]  # fmt: skip
DATA = (np.zeros(1), np.zeros(1))


@pytest.mark.parametrize("function", [sweep.run, sweep.plan])
def test_help_spells_the_options_out(function):
    parameters = inspect.signature(function).parameters
    named = [p for p in parameters.values() if p.name in SHARED]
    assert [p.name for p in named] == SHARED == list(SweepOptions.__annotations__)
    assert all(p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in named)
    assert [p.default for p in named] == [
        sweep.random, 1, None, None, None, None, None, None, 1, None, None,
    ]  # fmt: skip
    assert list(parameters)[:6] == ["trial", "space", "data", "trials", "epochs", "seed"]


@pytest.mark.parametrize("function", [sweep.run, sweep.plan, SweepConfig])
def test_an_option_that_does_not_exist_is_refused_by_its_name(function):
    with pytest.raises(TypeError, match="unexpected keyword argument 'seek'; the options are sea"):
        function(lambda hyper: None, {"rate": 0.1}, DATA, 3, 1, seek=sweep.random)


def test_options_are_by_name_alone():
    with pytest.raises(TypeError, match="positional arguments"):
        sweep.plan(lambda hyper: None, {"rate": 0.1}, DATA, 3, 1, 0, sweep.random)
