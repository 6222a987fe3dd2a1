"""What a function reads from outside of itself: when two readings of it are equal."""

import contextlib
import functools
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.readings import readings
from purenet.sweep.engine.training import training_of

SOURCE = """
def helper(x):
    return x * factor

def recursive(x):
    return x if x < 0 else recursive(x - step)

def f(x, more=(1, 2)):
    inner = lambda y: y + added
    return inner(helper(x)) * config["width"] + widths[0] + settings.rate + array[0] + number

class Settings:
    def __init__(self, rate):
        self.rate = rate
    def trial(self, x):
        return x * self.rate
    def __call__(self, x):
        return x * other
"""


@pytest.fixture
def module():
    names = {"__name__": "a_module", "factor": 2, "added": 1.0, "step": 1, "other": 7}
    names |= {"config": {"width": 3}, "widths": [4, 5], "array": np.ones(2), "number": np.int8(2)}
    exec(SOURCE, names)
    names["settings"] = names["Settings"](0.5)
    return names


CHANGES = {
    "a number that a helper reads": lambda m: m.update(factor=3),
    "a helper": lambda m: exec("def helper(x):\n    return x", m),
    "a number that a lambda reads": lambda m: m.update(added=2.0),
    "the type of a number": lambda m: m.update(factor=2.0),
    "an entry of a dict": lambda m: m["config"].update(width=5),
    "a dict": lambda m: m.update(config={"width": 4}),
    "an entry of a list": lambda m: m["widths"].append(6),
    "an attribute": lambda m: setattr(m["settings"], "rate", 0.7),
    "the name of an attribute": lambda m: vars(m["settings"]).update(
        pace=vars(m["settings"]).pop("rate")
    ),
    "an array": lambda m: m.update(array=np.ones(2)),
    "a default": lambda m: setattr(m["f"], "__defaults__", ((1, 3),)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_replaced_is_seen(module, change):
    before = readings(module["f"])
    assert before == readings(module["f"]) and hash(before) == hash(readings(module["f"]))
    module.update(unread=8, config=dict(module["config"]))  # the same by value
    assert before == readings(module["f"])
    change(module)
    assert before != readings(module["f"])


def test_partial_functions_methods_and_objects_are_seen_through(module):
    settings = module["settings"]
    forms = [settings, settings.trial, functools.partial(settings.trial, x=1)]
    forms.append(functools.partial(module["helper"], 3))
    before = [readings(form) for form in forms]
    assert before == [readings(form) for form in forms]
    assert readings(functools.partial(module["helper"], 4)) != before[3]
    settings.rate, module["factor"] = 0.9, 5
    assert all(one != readings(form) for one, form in zip(before, forms, strict=True))
    before = readings(settings)
    module["other"] = 8  # which only its __call__ reads
    assert before != readings(settings)


def test_a_closure_is_seen_and_an_empty_one_is_no_error():
    def outer(late):
        value = 1

        def inner():
            return value, missing

        first = readings(inner)
        value = 2
        second = readings(inner)
        if late:
            missing = 3
        return first, second, readings(inner)

    one, two, three = outer(late=True)
    assert len({one, two, three}) == 3


def test_a_function_may_call_itself_and_containers_may_hold_themselves(module):
    before = readings(module["recursive"])
    assert before == readings(module["recursive"])
    module["step"] = 2
    assert before != readings(module["recursive"])
    module["widths"].append(module["widths"])
    assert readings(module["f"]) == readings(module["f"])


def test_functions_of_other_modules_and_large_containers_are_the_same_by_identity(module):
    module["helper"] = np.sum
    module["widths"] = list(range(1000))
    before = readings(module["f"])
    module["widths"].append(0)
    assert before == readings(module["f"])
    module["helper"] = np.prod
    assert before != readings(module["f"])


def test_deep_and_wide_values_take_no_time_and_no_stack(module):
    nested = []
    for _ in range(10_000):
        nested = [nested]
    module["widths"], node = nested, module["settings"]
    for _ in range(10_000):
        node.rate = node = module["Settings"](1.0)
    assert readings(module["f"]) == readings(module["f"])
    module["widths"] = [[list(range(50))] * 99] * 99
    assert readings(module["f"]) == readings(module["f"])
    assert len(jax.tree.leaves(readings(module["f"]))) < 100_000  # of 490,000
    with contextlib.suppress(AttributeError):  # taken apart one by one: freeing it takes the stack
        node = module["settings"]
        while True:
            node.rate, node = None, node.rate


def test_what_is_read_is_not_kept_alive_and_what_is_gone_equals_nothing(module):
    module["array"] = np.zeros(3)
    gone = weakref.ref(module["array"])
    before, again = readings(module["f"]), readings(module["f"])
    assert before == again
    del module["array"]
    gc.collect()
    assert gone() is None and before != again
    module["array"] = np.zeros(3)  # perhaps in the same place
    assert before != readings(module["f"])


# sweeps
def test_a_sweep_trains_what_its_trial_function_reads_now():
    data, space = ((jnp.ones(3),), (jnp.ones(3),)), sweep.uniform(1.0, 2.0)
    step, calls = 1.0, []

    def trial(hyper):
        calls.append(hyper)
        return pn.Trainable(
            lambda key: jnp.zeros(()),
            lambda state, data: (state + step, {}),
            lambda state, data: {"loss": state},
        )

    def losses():
        calls.clear()
        found = sweep.run(trial, space, data, 2, 3, progress=False)
        return found.curves["validation"]["loss"][:, -1].tolist(), len(calls)

    first, traced = losses()
    assert first == [3.0, 3.0]
    again, checked = losses()
    assert again == first and checked < traced  # only to check the data
    step = 5.0
    assert losses() == ([15.0, 15.0], traced)


def test_a_training_is_pickled_without_what_it_reads():
    one = training_of(np.sum, jax.tree.structure(0), ())
    assert one.read and pickle.loads(pickle.dumps(one)) == one._replace(read=())
