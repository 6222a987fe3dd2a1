"""How lanes hold states, and what is traced for their programs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine.describe import describe
from purenet.sweep.engine.layout import Layout
from purenet.sweep.engine.layout import layout as laid_out
from purenet.sweep.engine.packing import Packing
from purenet.sweep.engine.program import Program
from purenet.sweep.engine.training import Training
from purenet.sweep.space.structure import TRACED

LEAVES = [
    np.arange(6, dtype=np.float32).reshape(2, 3), np.uint32(7), np.zeros((0, 2), np.float32),
    np.array([True, False]), np.float32(8), np.arange(2, dtype=np.uint32),
]  # fmt: skip
LIKES = tuple(jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in LEAVES)
DATA = (np.ones(3), np.full(3, 2.0))


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("on", [np, jnp])
def test_leaves_are_split_as_they_were_joined(on, joined):
    packing = Packing(LIKES, joined)
    held = packing.join([on.asarray(a) for a in LEAVES], on.concatenate)
    assert [(a.shape, a.dtype) for a in held] == [(a.shape, a.dtype) for a in packing.shapes]
    for leaf, back in zip(LEAVES, packing.split(held), strict=True):
        assert back.shape == leaf.shape and back.dtype == leaf.dtype
        np.testing.assert_array_equal(back, leaf)


def test_there_is_one_array_of_each_dtype():
    shapes = [(a.shape, a.dtype.name) for a in Packing(LIKES, True).shapes]
    assert shapes == [((7,), "float32"), ((3,), "uint32"), ((2,), "bool")]


def test_some_leaves_are_as_few_arrays_as_they_are_apart():
    packing = Packing(LIKES, True)
    held = packing.join(LEAVES, np.concatenate)
    some = lambda *wanted: [a.tolist() for a in packing.some(held, [i in wanted for i in range(6)])]
    assert some(0, 2, 4) == [[0, 1, 2, 3, 4, 5, 8]]
    assert some(1, 4) == [[7], [8]]
    assert some() == []


class Growing(NamedTuple):
    """A state whose weights are not its first leaves."""

    best: Any
    params: Any
    spare: Any


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("lost", ["params", "best", "spare"])
def test_only_weights_that_are_not_finite_end_a_trial(lost, block, monkeypatch):
    def trial(hyper):
        def epoch(state, data):
            grown = jnp.where(state.params[0] > hyper, jnp.inf, 0.0)
            params = (state.params[0] + 1, jnp.zeros(2) + (grown if lost == "params" else 0))
            other = {name: getattr(state, name) + (grown if lost == name else 0)
                     for name in ("best", "spare")}  # fmt: skip
            return Growing(params=params, **other), {}

        init = lambda key: Growing(jnp.zeros(3), (jnp.zeros(()), jnp.zeros(2)), jnp.zeros(1))
        return pn.Trainable(init, epoch, lambda state, data: {"loss": state.params[0]})

    wide = lambda trials, devices: laid_out(trials, devices, block)
    monkeypatch.setattr("purenet.sweep.config.layout", wide)
    space, points = sweep.uniform(0.0, 10.0), [1.5, 9.5]
    result = sweep.run(trial, space, DATA, 2, 4, points=points, devices=1, progress=False)
    assert result.status.tolist() == ["diverged" if lost == "params" else "done", "done"]


def test_a_training_is_traced_once_for_all_its_programs():
    calls = []

    def trial(hyper):
        def epoch(state, data):
            calls.append("epoch")
            return state + hyper, {}

        def evaluate(state, data):
            calls.append("evaluate")
            return {"loss": state}

        return pn.Trainable(lambda key: calls.append("init") or jnp.zeros(()), epoch, evaluate)

    sweep.run(trial, sweep.uniform(0.0, 1.0), DATA, 3, 2, progress=False)
    assert sorted(calls) == ["epoch", "evaluate", "evaluate", "init", "init", "init"]
    calls.clear()
    other = tuple(a + 1 for a in DATA)
    sweep.run(trial, sweep.uniform(1.0, 2.0), other, 3, 1, seed=1, progress=False)
    assert not calls  # nor is it for the next sweep


def test_each_sweep_checks_its_own_data():
    def check(data):
        if not isinstance(data, jax.core.Tracer) and data.max() > 4:
            raise ValueError(f"{data.max()} is too large")

    def trial(hyper):
        still, loss = lambda state, data: (state, {}), lambda state, data: {"loss": state}
        return pn.Trainable(lambda key: jnp.zeros(()), still, loss, check=check)

    run = lambda data: sweep.run(trial, sweep.uniform(0.0, 1.0), data, 2, 1, progress=False)
    run(DATA)
    with pytest.raises(ValueError, match=r"9.0 is too large"):
        run((DATA[0], np.full(3, 9.0)))


def test_what_is_known_of_a_program_depends_on_the_data_and_on_the_precision():
    trial = lambda hyper: pn.Trainable(
        lambda key: jnp.zeros((), float),
        lambda state, data: (state, {}),
        lambda state, data: {"loss": state, **({"wide": state} if len(data) > 3 else {})},
    )
    layout = Layout(tuple(jax.devices()[:1]), 2, 1)
    bare = Program(Training(trial, jax.tree.structure(0.0), (TRACED,)), layout)
    number, data = (np.float32(0.0),), tuple(a.astype(np.float32) for a in DATA)
    for wide in (True, False, True):
        with jax.enable_x64(wide):
            found = describe(bare, number, data)
        assert [str(a.dtype) for a in found.leaves] == ["float64" if wide else "float32"]
        assert found.metrics == ("loss",)
    more = tuple(np.concatenate([a, a]) for a in data)
    assert describe(bare, number, more).metrics == ("loss", "wide")


def test_a_state_that_holds_a_trial_s_numbers_is_traced_for_each_program():
    @jax.tree_util.register_pytree_node_class
    class Rated:
        def __init__(self, x, rate):
            self.x, self.rate = x, rate

        def tree_flatten(self):
            return (self.x,), self.rate

        @classmethod
        def tree_unflatten(cls, rate, children):
            return cls(*children, rate)

    trial = lambda hyper: pn.Trainable(
        lambda key: Rated(jnp.zeros(()), hyper),
        lambda state, data: (Rated(state.x + state.rate, state.rate), {}),
        lambda state, data: {"loss": state.x},
    )
    layout = Layout(tuple(jax.devices()[:1]), 2, 1)
    bare = Program(Training(trial, jax.tree.structure(0.0), (TRACED,)), layout)
    assert not describe(bare, (np.float64(0.0),), DATA).shared
    space = sweep.uniform(0.0, 10.0)
    for rates in ([1.0, 3.0], [0.5, 2.0]):
        result = sweep.run(trial, space, DATA, 2, 4, points=rates, progress=False)
        assert sorted(result.curves["validation"]["loss"][:, -1]) == [4 * rate for rate in rates]
