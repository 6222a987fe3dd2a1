"""The compiled programs of a group, called by hand: what a lane becomes, and what it costs."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.sweep.engine.compile import Compilation
from purenet.sweep.engine.layout import Layout, place
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, Program, describe
from purenet.sweep.space.structure import TRACED

DATA = ((np.full(3, 2.0),), (np.full(3, 5.0),))
KEY = jax.random.key(3)
TREE = jax.tree.structure({"kind": 0, "lost": 0})


def learner(hyper):
    """Counts epochs in x from a random start; x and the metrics become NaN as x exceeds `lost`."""
    scale = {"plain": 1.0, "double": 2.0}[hyper["kind"]]

    def epoch(state, data):
        x = state["x"] + 1
        return {**state, "x": jnp.where(x > hyper["lost"], jnp.nan, x)}, {}

    return pn.Trainable(
        init=lambda key: {"key": key, "x": jax.random.uniform(key)},
        epoch=epoch,
        evaluate=lambda state, data: {"b": scale * state["x"], "a": state["x"] * data[0].sum()},
    )


def program(layout, trial=learner, kind="plain"):
    bare = Program(trial, TREE, (kind, TRACED), layout)
    return describe(bare, (np.float64(0),), DATA)


@functools.cache
def compiled(devices=1, lanes=4, block=1, trial=learner):
    layout = Layout(tuple(jax.local_devices()[:devices]), lanes, block)
    key, data = place(layout, KEY), place(layout, DATA)
    made = Compilation(program(layout, trial), (np.float64(0),), key, data).result()
    return made, key, data


def begin(made, key, lost, points=None, seeds=None, fresh=None, lanes=None):
    layout = made.program.layout
    width, split = layout.width, functools.partial(place, layout, split=True)
    if lanes is None:
        lanes = split(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), made.shapes))
    points = np.arange(width, dtype=np.int32) if points is None else np.array(points, np.int32)
    seeds = np.zeros(width, np.int32) if seeds is None else np.array(seeds, np.int32)
    fresh = np.ones(width, bool) if fresh is None else np.array(fresh)
    numbers = (np.broadcast_to(np.float64(lost), width).copy(),)
    seats = LaneAssignment(points, seeds, np.zeros(width, np.int32), numbers)
    return made.start(lanes, key, split(seats), split(fresh))


def absent():
    """No trainable is needed to unpack a state whose structure all trials share."""
    raise AssertionError


def x_of(made, lanes):
    return np.array([float(made.program.unpack([a[i] for a in lanes.state], absent)["x"])
                     for i in range(made.program.layout.width)])  # fmt: skip


def first(point, seed=0):
    key = jax.random.fold_in(KEY, point)
    return float(jax.random.uniform(jax.random.fold_in(key, seed) if seed else key))


LAYOUTS = [(1, 4, 1), (2, 2, 1), (1, 4, 4), (1, 6, 2), (2, 4, 2)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lanes_train_as_long_as_they_are_told_and_measure_after_each_epoch(layout):
    made, key, data = compiled(*layout)
    width = made.program.layout.width
    lanes = begin(made, key, lost=1e9)
    starts = [first(i) for i in range(width)]
    np.testing.assert_allclose(x_of(made, lanes), starts)
    assert lanes.alive.all() and not lanes.epochs.any()
    goals = np.array([3, 0, 1, 2, 0, 5, 0, 0], np.int32)[:width]
    lanes, curves = made.advance(lanes, data, place(made.program.layout, goals, split=True))
    assert lanes.epochs.tolist() == goals.tolist() and lanes.alive.all()
    np.testing.assert_allclose(x_of(made, lanes), starts + goals)
    assert set(curves) == {"train", "validation"} and set(curves["train"]) == {"a", "b"}
    for part, total in (("train", 6.0), ("validation", 15.0)):
        assert curves[part]["a"].shape == (width, BLOCK)
        for lane, goal in enumerate(goals):
            expected = starts[lane] + 1 + np.arange(goal)
            np.testing.assert_allclose(curves[part]["b"][lane, :goal], expected)
            np.testing.assert_allclose(curves[part]["a"][lane, :goal], total * expected)


@pytest.mark.parametrize("lane", [0, 1, 2, 5])
@pytest.mark.parametrize("layout", [(1, 6, 2), (2, 4, 2)])
def test_any_lane_may_be_trained_alone_for_one_epoch(layout, lane):
    made, key, data = compiled(*layout)
    goals = (np.arange(made.program.layout.width) == lane).astype(np.int32)
    lanes = begin(made, key, lost=1e9)
    lanes, _ = made.advance(lanes, data, place(made.program.layout, goals, split=True))
    assert lanes.epochs.tolist() == goals.tolist()


@pytest.mark.parametrize("layout", [(1, 4, 1), (1, 4, 4)])
def test_a_lane_that_diverges_keeps_its_last_finite_state_and_holds_up_nobody(layout):
    made, key, data = compiled(*layout)
    lanes = begin(made, key, lost=[1e9, 2.999, 1e9, 0.5])
    goals = place(made.program.layout, np.array([4, 4, 4, 4], np.int32), split=True)
    lanes, _ = made.advance(lanes, data, goals)
    assert lanes.alive.tolist() == [True, False, True, False]
    assert lanes.epochs.tolist() == [4, 2, 4, 0]
    np.testing.assert_allclose(
        x_of(made, lanes), [first(i) + n for i, n in enumerate([4, 2, 4, 0])]
    )
    lanes, _ = made.advance(
        lanes, data, place(made.program.layout, np.int32([1, 1, 0, 0]), split=True)
    )
    assert lanes.alive.tolist() == [True, False, True, False]  # what is lost stays lost
    assert lanes.epochs.tolist() == [5, 2, 4, 0]


@pytest.mark.parametrize("layout", [(1, 4, 1), (2, 4, 2)])
def test_a_new_trial_begins_in_its_lane_alone(layout):
    made, key, data = compiled(*layout)
    width = made.program.layout.width
    lanes = begin(made, key, lost=1e9)
    lanes, _ = made.advance(
        lanes, data, place(made.program.layout, np.full(width, 2, np.int32), split=True)
    )
    fresh = np.arange(width) == 2
    lanes = begin(made, key, 7.0, points=[50] * width, fresh=fresh, lanes=lanes)
    assert lanes.epochs.tolist() == [2, 2, 0, *[2] * (width - 3)]
    assert lanes.numbers[0].tolist() == [1e9, 1e9, 7.0, *[1e9] * (width - 3)]
    expected = [first(50) if i == 2 else first(i) + 2 for i in range(width)]
    np.testing.assert_allclose(x_of(made, lanes), expected)


def test_a_trial_depends_on_its_point_and_seed_and_the_first_seed_is_that_of_one_alone():
    made, key, _ = compiled()
    lanes = begin(made, key, 1e9, points=[5, 5, 5, 0], seeds=[0, 1, 2, 1])
    np.testing.assert_allclose(x_of(made, lanes), [first(5), first(5, 1), first(5, 2), first(0, 1)])


def test_keys_are_kept_as_numbers_and_come_back_as_keys_of_their_kind():
    def keyed(hyper):
        made = learner(hyper)
        return made._replace(init=lambda key: {
            "key": jax.random.key(1, impl="rbg"), "x": jax.random.uniform(key)})  # fmt: skip

    described = program(Layout(tuple(jax.local_devices()[:1]), 2, 1), keyed)
    assert described.keys == ("rbg", None) and described.metrics == ("a", "b")
    state = {"key": jax.random.key(7, impl="rbg"), "x": jnp.float64(2)}
    packed = described.pack(state)
    assert packed[0].dtype == np.uint32 and [leaf.shape for leaf in described.leaves] == [(4,), ()]
    assert jax.random.key_impl(described.unpack(packed, absent)["key"]) == "rbg"


def test_static_values_are_known_and_traced_numbers_fill_their_places():
    made = program(Layout(tuple(jax.local_devices()[:1]), 2, 1), kind="double")
    trainable = made.trainable([jnp.float64(9)])
    assert float(trainable.evaluate({"x": 3.0}, DATA[0])["b"]) == 6.0


def test_one_number_that_is_not_finite_among_the_weights_is_a_divergence_whatever_the_metrics_say():
    class State(NamedTuple):
        params: jax.Array
        other: jax.Array

    def hidden(hyper):
        bad = lambda state: jnp.where(state.params > hyper["lost"], jnp.inf, state.params + 1)
        return pn.Trainable(
            init=lambda key: State(jnp.array([0.0, -99.0]), jnp.full((), jnp.nan)),
            epoch=lambda state, data: (state._replace(params=bad(state)), {}),
            evaluate=lambda state, data: {"loss": jnp.zeros(())},
        )

    made, key, data = compiled(1, 2, 1, hidden)
    lanes = begin(made, key, lost=[1.0, 9.0])
    lanes, _ = made.advance(lanes, data, place(made.program.layout, np.int32([5, 5]), split=True))
    assert lanes.alive.tolist() == [False, True]  # `other` may be what it likes
    assert lanes.epochs.tolist() == [2, 5]


def test_the_seconds_of_a_program_are_a_part_of_those_that_pass():
    layout = Layout(tuple(jax.local_devices()[:1]), 3, 1)
    began = time.perf_counter()
    made = Compilation(program(layout), (np.float64(0),), KEY, DATA).result()
    assert 0 < made.seconds < time.perf_counter() - began


class Memory:
    """What the compiler says that a program needs."""

    argument_size_in_bytes, temp_size_in_bytes = 100, 60


@pytest.fixture
def building(monkeypatch):
    """A group's programs without a compilation: layout, memory -> what `result` gives."""

    def make(layout, room, analysis=Memory):
        monkeypatch.setattr("purenet.sweep.engine.compile.memory", lambda device: room)
        compiler = type("Compiler", (), {"memory_analysis": lambda self: analysis})()
        done = type("Done", (), {"result": lambda self: (compiler, 0.5)})()
        one = Compilation.__new__(Compilation)
        width = lambda dtype: jax.ShapeDtypeStruct((layout.width,), dtype)
        one._advance = one._start = done
        one._tracing, one._eager = 0.25, False
        one._program = Program(learner, TREE, ("plain", TRACED), layout)
        integer, flag = width(np.int32), width(bool)
        numbers, state = (width(np.float64),), [width(np.float32)]
        one._lanes = Lanes(numbers, integer, flag, flag, integer, state)
        one._again = lambda smaller: make(smaller.layout, room, analysis)
        return one

    return make


def test_memory_is_that_of_the_lanes_twice_and_of_the_program(building):
    lane = 8 + 4 + 1 + 1 + 4 + 4
    device = tuple(jax.local_devices()[:1])
    found = building(Layout(device, 6, 1), 1e9).result()
    assert (found.bytes, found.bytes_per_trial) == (6 * lane + 160, 2 * lane)
    assert found.seconds == 0.75
    vmapped = building(Layout(device, 6, 3), 1e9).result()
    assert (vmapped.bytes, vmapped.bytes_per_trial) == (6 * lane + 160, 2 * lane + 20)
    silent = building(Layout(device, 6, 3), 1e9, None).result()  # a platform that says nothing
    assert (silent.bytes, silent.bytes_per_trial) == (6 * lane, 2 * lane)


def test_lanes_are_halved_until_they_fit_and_two_are_tried_whatever_they_need(building):
    lane = 22
    device = tuple(jax.local_devices()[:1])
    lanes = lambda room: building(Layout(device, 8, 1), room).result().program.layout.lanes
    assert [lanes(8 * lane + 160), lanes(8 * lane + 159), lanes(4 * lane + 159), lanes(0)] == [
        8,
        4,
        2,
        2,
    ]


def test_metrics_of_both_parts_have_to_be_the_same_and_a_trainable_is_one():
    layout = Layout(tuple(jax.local_devices()[:1]), 2, 1)
    with pytest.raises(TypeError, match="the trial function returned int"):
        program(layout, lambda hyper: 3)
    none = lambda hyper: learner(hyper)._replace(evaluate=lambda s, d: {})
    with pytest.raises(TypeError, match="a dict of scalars is expected"):
        program(layout, none)
