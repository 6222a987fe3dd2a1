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
from purenet.sweep.engine.describe import describe
from purenet.sweep.engine.layout import Layout, place
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, Program
from purenet.sweep.engine.training import Training
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
    bare = Program(Training(trial, TREE, (kind, TRACED)), layout)
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
    lane = lambda i: lanes._replace(state=[a[i] for a in lanes.state])
    every = range(made.program.layout.width)
    return np.array([float(made.program.held(lane(i), absent)["x"]) for i in every])


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


class Scaled(NamedTuple):
    """The same for programs of other layouts."""

    layout: Layout

    argument_size_in_bytes = property(lambda self: 100 + 22 * self.layout.lanes)
    temp_size_in_bytes = property(lambda self: 60 + 10 * self.layout.block)


@pytest.fixture
def building(monkeypatch):
    """A group's programs without a compilation: layout, memory -> what `result` gives.

    `analysis(layout)` is what the compiler says; it raises what it raises. The layouts that were
    compiled are in `building.tried`.
    """

    def make(layout, room, analysis=lambda layout: Memory):
        make.tried.append(layout[1:])
        monkeypatch.setattr("purenet.sweep.engine.compile.memory", lambda device: room)
        said = analysis(layout) if callable(analysis) else analysis

        def measured(self):
            if isinstance(said, Exception):
                raise said
            return object(), said, 1.0  # when it was done

        one = Compilation.__new__(Compilation)
        width = lambda dtype: jax.ShapeDtypeStruct((layout.width,), dtype)
        one._advance = type("Measured", (), {"result": measured})()
        one._start = type("Done", (), {"result": lambda self: object()})()
        one._began, one._eager, one._estimated = 0.25, False, False

        def again(smaller, estimated=True):
            made = make(smaller, room, analysis)
            made._estimated = estimated
            return made

        one._again = again
        one._program = Program(Training(learner, TREE, ("plain", TRACED)), layout)
        integer, flag = width(np.int32), width(bool)
        numbers, state = (width(np.float64),), [width(np.float32)]
        one._lanes = Lanes(numbers, integer, flag, flag, integer, state)
        return one

    make.tried = []
    return make


DEVICE = tuple(jax.local_devices()[:1])


def test_memory_is_that_of_the_lanes_twice_and_of_the_program(building):
    lane = 8 + 4 + 1 + 1 + 4 + 4
    found = building(Layout(DEVICE, 6, 1), 1e9).result()
    assert (found.bytes, found.bytes_per_trial) == (6 * lane + 160, 2 * lane)
    assert found.seconds == 0.75
    vmapped = building(Layout(DEVICE, 6, 3), 1e9).result()
    assert (vmapped.bytes, vmapped.bytes_per_trial) == (6 * lane + 160, 2 * lane + 20)
    silent = building(Layout(DEVICE, 6, 3), 1e9, None).result()  # a platform that says nothing
    assert (silent.bytes, silent.bytes_per_trial) == (6 * lane, 2 * lane)


def refusing(most):
    """A compiler that finds more than `most` lanes to be too many."""

    def analysis(layout):
        if layout.lanes > most:
            return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in vmem.")
        return Scaled(layout)

    return analysis


# bytes: 160 + 44 a lane + 10 a lane of a block
@pytest.mark.parametrize("lanes, block, room, analysis, expected, tried", [
    (100, 1, 170 + 44 * 37, Scaled, (37, 1), [(100, 1), (2, 1), (4, 1), (37, 1)]),
    (100, 1, 170 + 44 * 38 - 1, Scaled, (37, 1), [(100, 1), (2, 1), (4, 1), (37, 1)]),
    (100, 1, 0, Scaled, (2, 1), [(100, 1), (2, 1), (4, 1), (2, 1)]),
    (64, 16, 320 + 44 * 40, Scaled, (32, 16), [(64, 16), (2, 2), (4, 4), (32, 16)]),
    (64, 16, 160 + 54 * 11, Scaled, (11, 11), [(64, 16), (2, 2), (4, 4), (11, 11)]),
    (4, 1, 0, Scaled, (2, 1), [(4, 1), (2, 1)]),
    (64, 16, 320 + 44 * 40, refusing(32), (32, 16), [(64, 16), (2, 2), (4, 4), (32, 16)]),
    # the compiler refuses what should fit: then half as many
    (64, 16, 1e9, refusing(20), (16, 16), [(64, 16), (2, 2), (4, 4), (32, 16), (16, 16)]),
    (64, 16, 1e9, refusing(3), (2, 2), [(64, 16), (2, 2), (4, 4), (2, 2)]),
])  # fmt: skip
def test_lanes_that_do_not_fit_are_computed_from_two_small_programs(
    building, lanes, block, room, analysis, expected, tried
):
    found = building(Layout(DEVICE, lanes, block), room, analysis).result()
    assert found.program.layout[1:] == expected
    assert building.tried == tried


def test_a_device_without_room_for_a_few_lanes_is_told_with_what_helps(building):
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED") as caught:
        building(Layout(DEVICE, 64, 1), 1e9, refusing(0)).result()
    assert "not even a few lanes fit" in caught.value.__notes__[0]
    other = lambda layout: jax.errors.JaxRuntimeError("INTERNAL: no such thing")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        building(Layout(DEVICE, 64, 1), 1e9, other).result()


def test_metrics_of_both_parts_have_to_be_the_same_and_a_trainable_is_one():
    layout = Layout(tuple(jax.local_devices()[:1]), 2, 1)
    with pytest.raises(TypeError, match="the trial function returned int"):
        program(layout, lambda hyper: 3)
    none = lambda hyper: learner(hyper)._replace(evaluate=lambda s, d: {})
    with pytest.raises(TypeError, match="a dict of scalars is expected"):
        program(layout, none)
