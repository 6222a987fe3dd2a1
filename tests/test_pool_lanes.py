"""Trials taking turns in lanes: who sits where, what is reported, recorded and forgotten.

The compiled program is a stand-in that counts in NumPy, so that nothing is compiled.
"""

import jax
import numpy as np
import pytest

from purenet.sweep.engine import pool
from purenet.sweep.engine import records as pool_records
from purenet.sweep.engine.compile import Compiled
from purenet.sweep.engine.layout import Layout, place, sharding
from purenet.sweep.engine.program import BLOCK, LaneAssignment, Lanes, Program
from purenet.sweep.engine.scores import best_of
from purenet.sweep.engine.turns import balanced, dealt, epochs_of, epochs_of_call, turns

BEGIN = 1000  # the number of a trial is BEGIN * its point + its seed + its epochs


def leaves(number):
    """The state of a trial: its number, and a pair."""
    number = np.asarray(number)
    return [number, np.stack([number, -number], axis=-1)]


def number_in(state):
    """The number that a state says, in both of its leaves."""
    number, pair = state
    np.testing.assert_array_equal(pair, [number, -number])
    return number


class Stand:
    """What a compiled group is to a pool. A trial is lost in the epoch that its number says."""

    def __init__(self, devices=1, lanes=3, block=1):
        self.layout = Layout(tuple(jax.local_devices()[:devices]), lanes, block)
        self.begun, self.trained = [], []

    def compiled(self) -> Compiled:
        width = self.layout.width
        row = lambda dtype: jax.ShapeDtypeStruct((width,), dtype)
        one = [jax.ShapeDtypeStruct(shape, np.int64) for shape in ((), (2,))]
        integer, flag = row(np.int32), row(bool)
        program = Program(None, self.layout, leaves=tuple(one))
        held = [jax.ShapeDtypeStruct((width, *a.shape), a.dtype) for a in program.packing.shapes]
        shapes = Lanes((integer,), integer, flag, flag, integer, held)
        return Compiled(program, shapes, self.start, self.advance, 0.5, 7, 1)

    def held(self, numbers):
        """The states of all lanes, as they hold them: joined where none has a neighbour."""
        number, pair = leaves(numbers)
        return [number, pair] if self.layout.block > 1 else [np.c_[number, pair]]

    def numbers_in(self, lanes):
        """The numbers of all lanes."""
        (number, *_) = jax.tree.map(np.asarray, lanes.state)
        return number if self.layout.block > 1 else number[:, 0]

    def check_placed(self, *arrays):
        """A lane's rows are where the lane is, as a compiled program of several devices needs."""
        for a in jax.tree.leaves(arrays):
            assert a.sharding.is_equivalent_to(sharding(self.layout, split=True), a.ndim)

    def start(self, lanes, key, seats, fresh):
        self.check_placed(lanes, seats, fresh)
        fresh = np.asarray(fresh)
        self.begun.append(np.asarray(seats.point)[fresh].tolist())
        new = BEGIN * np.asarray(seats.point, int) + np.asarray(seats.seed)
        numbers, state = np.asarray(lanes.numbers[0]), self.numbers_in(lanes)
        return place(self.layout, Lanes(
            (np.where(fresh, np.asarray(seats.numbers[0]), numbers),),
            np.asarray(lanes.fold),
            np.where(fresh, True, np.asarray(lanes.alive)),
            np.where(fresh, False, np.asarray(lanes.ended)),
            np.where(fresh, 0, np.asarray(lanes.epochs)).astype(np.int32),
            self.held(np.where(fresh, new, state)),
        ), split=True)  # fmt: skip

    def advance(self, lanes, data, epochs):
        self.check_placed(lanes, epochs)
        numbers, state = np.asarray(lanes.numbers[0]), self.numbers_in(lanes)
        had, wanted, alive = np.asarray(lanes.epochs), np.asarray(epochs), np.asarray(lanes.alive)
        self.trained.append(wanted.tolist())
        ends = np.where(numbers > 0, numbers - 1, 10**6)  # epochs with finite numbers
        done = np.where(alive, np.clip(wanted, 0, np.maximum(ends - had, 0)), 0)
        curve = np.full((len(had), BLOCK), np.nan)
        for lane, count in enumerate(done):
            curve[lane, :count] = state[lane] + 1 + np.arange(count)
        after = lanes._replace(numbers=(numbers,), alive=alive & (done == wanted),
                               epochs=(had + done).astype(np.int32),
                               state=self.held(state + done))  # fmt: skip
        curves = {"train": {"loss": -curve}, "validation": {"loss": curve}}
        return place(self.layout, after, split=True), curves

    def pool(self, trials, lost=()) -> pool.LanePool:
        made = pool.LanePool(self.compiled(), jax.random.key(0), np.zeros(2))
        numbers = np.array([dict(lost).get(i, 0) for i in range(trials)], np.int32)
        made.add(LaneAssignment(np.arange(trials), np.full(trials, 5), 0 * numbers, (numbers,)))
        return made


def finish(made, goals, keep=None):
    """Train to the end: the reports."""
    goals = np.broadcast_to(goals, len(made.epochs))
    keep = np.zeros(len(made.epochs), bool) if keep is None else np.asarray(keep, bool)
    return list(made.train(np.array(goals), keep))


def expected(row, epochs):
    return BEGIN * row + 5 + epochs


@pytest.mark.parametrize("devices, lanes", [(1, 2), (2, 2), (1, 9)])
def test_every_trial_reaches_its_goal_whatever_the_lanes(devices, lanes):
    goals = np.array([3, 1, 4, 1, 5, 9, 2, 6, 0])
    made = Stand(devices, lanes).pool(9)
    curves = {part: {"loss": np.full((9, 9), np.nan)} for part in ("train", "validation")}
    rows = np.arange(9)
    for report in made.train(goals, np.ones(9, bool)):
        report.write(curves, rows[report.rows])
        most = (report.after - report.before).max()
        assert report.curves["train"]["loss"].shape == (len(report.rows), most)
    assert made.epochs.tolist() == goals.tolist() and made.alive.all()
    for row, goal in enumerate(goals):
        if goal:
            assert number_in(made.state(row)) == expected(row, goal)
        whole = np.where(np.arange(9) < goal, expected(row, 1 + np.arange(9)), np.nan)
        np.testing.assert_array_equal(curves["validation"]["loss"][row], whole)
        np.testing.assert_array_equal(curves["train"]["loss"][row], -whole)


def test_trials_are_dealt_to_and_fro_so_that_no_device_gets_all_the_long_ones():
    made = Stand(devices=2, lanes=3).pool(5)
    next(made.train(np.array([5, 4, 3, 2, 1]), np.zeros(5, bool)))
    assert made.lane_rows.tolist() == [0, 3, 4, 1, 2, -1]


def test_those_with_most_to_do_sit_down_first_and_ties_go_to_the_lower_row():
    made = Stand(lanes=2).pool(4)
    next(made.train(np.array([1, 7, 7, 7]), np.zeros(4, bool)))
    assert made.lane_rows.tolist() == [1, 2]


def test_a_trial_that_stays_is_not_begun_again_when_another_takes_the_free_lane():
    stand = Stand(lanes=2)
    made = stand.pool(3)
    reports = finish(made, np.array([2, 5, 3]))
    assert stand.begun == [[1, 2], [0]]
    assert made.epochs.tolist() == [2, 5, 3]
    assert sorted(np.concatenate([r.rows for r in reports[:1]])) == [1, 2]


def test_a_lost_trial_makes_room_and_is_not_trained_again():
    stand = Stand(lanes=2)
    made = stand.pool(3, lost={0: 3})
    finish(made, 4)
    assert made.alive.tolist() == [False, True, True] and made.epochs.tolist() == [2, 4, 4]
    assert finish(made, 9) and made.epochs.tolist() == [2, 9, 9]
    assert [row for begun in stand.begun for row in begun].count(0) == 1


def test_a_state_is_forgotten_once_its_lane_is_needed_unless_it_is_to_be_kept():
    made = Stand(lanes=2).pool(4)
    finish(made, np.array([2, 2, 0, 0]), keep=[True, False, False, False])
    assert sorted(made.records([0, 1, 2])) == [0, 1]  # their lanes are still theirs
    finish(made, np.array([2, 2, 3, 3]), keep=[True, False, False, False])
    assert sorted(made.records(range(4))) == [0, 2, 3]
    assert (
        number_in(made.records([0])[0].state) == expected(0, 2) and made.records([0])[0].epochs == 2
    )
    finish(made, np.array([2, 2, 3, 3]))  # nothing to train, and nobody to keep
    assert 0 not in made.waiting


@pytest.mark.parametrize("devices", [1, 2])
def test_a_trial_goes_on_from_its_record_with_its_own_numbers(devices):
    made = Stand(devices, lanes=2).pool(3, lost={1: 9})
    made.put(1, pool_records.TrialCheckpoint((np.int32(6),), 4, leaves(77)))
    assert made.epochs.tolist() == [0, 4, 0]
    finish(made, 8, keep=[True] * 3)
    assert made.alive.tolist() == [True, False, True]  # the number of the record counts: 6
    assert made.epochs.tolist() == [8, 5, 8]
    assert number_in(made.state(0)) == expected(0, 8)


def test_a_record_is_used_though_it_need_not_be_kept_and_kept_though_it_is_not_used():
    made = Stand(lanes=2).pool(2)
    made.put(0, pool_records.TrialCheckpoint((np.int32(0),), 4, leaves(77)))
    made.put(1, pool_records.TrialCheckpoint((np.int32(0),), 4, leaves(88)))
    finish(made, np.array([6, 4]), keep=[False, True])
    assert number_in(made.state(0)) == 79 and number_in(made.state(1)) == 88
    assert finish(made, np.array([3, 3])) == []  # both have more epochs than that
    assert 1 not in made.waiting and number_in(made.state(0)) == 79


def test_a_trial_keeps_its_lane_when_others_leave(monkeypatch):
    monkeypatch.setattr(pool, "_REPORT", 1e-9)  # a report an epoch
    stand = Stand(lanes=2)
    made, seats = stand.pool(3), []
    for _ in made.train(np.array([5, 4, 4]), np.zeros(3, bool)):
        seats.append(made.lane_rows.tolist())
    assert seats[:5] == [[0, 1]] * 4 + [[0, 2]]
    assert number_in(made.records([0, 2])[0].state) == expected(0, 5)
    assert number_in(made.records([0, 2])[2].state) == expected(2, 4)


def test_a_record_is_what_is_in_the_lane_and_stays_when_the_lane_goes_on():
    made = Stand(devices=2, lanes=2).pool(4, lost={2: 50})
    finish(made, 3)
    records = made.records(range(4))
    for row, record in records.items():
        assert record.epochs == 3 and number_in(record.state) == expected(row, 3)
        assert record.numbers == ((50 if row == 2 else 0),)
        assert number_in(made.state(row)) == number_in(record.state)
    finish(made, 6)
    found = [number_in(record.state) for record in records.values()]
    assert found == [expected(row, 3) for row in range(4)]


def test_what_is_released_waits_if_it_is_to_be_kept_and_is_alive():
    made = Stand(lanes=5).pool(5, lost={1: 2})
    finish(made, np.array([3, 3, 3, 3, 0]), keep=[True] * 5)
    made.release(np.array([True, True, False, True, True]))
    assert sorted(made.waiting) == [0, 3] and made.lanes is None and set(made.lane_rows) == {-1}
    assert number_in(made.state(3)) == expected(3, 3)
    finish(made, np.array([5, 5, 5, 5, 1]))
    assert made.epochs.tolist() == [5, 1, 5, 5, 1]


def test_all_are_seated_and_one_without_a_state_gets_an_empty_lane():
    stand = Stand(lanes=5)
    made = stand.pool(4, lost={2: 1})
    finish(made, np.array([3, 3, 3, 3]))
    made.release(np.ones(4, bool))
    lanes = made.lanes_of_all()
    assert len(lanes) == 4 and made.lane_rows[lanes].tolist() == [0, 1, 2, 3]
    state = stand.numbers_in(made.lanes)
    assert [state[lanes[row]] for row in (0, 1, 3)] == [expected(row, 3) for row in (0, 1, 3)]


def test_a_report_takes_as_many_epochs_as_its_time_allows(monkeypatch):
    clock = iter(np.arange(0.0, 10**4))  # every call of the program takes a second
    monkeypatch.setattr(pool.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(pool, "_REPORT", 10.5)
    layout = {"lanes": 4, "block": 2}
    reports = finish(Stand(**layout).pool(3), np.array([300, 300, 1]))
    # one epoch of two blocks in a second; then 10.5 seconds are 21 of one block; BLOCK at the most
    assert [r.after.max() for r in reports[:4]] == [1, 22, 22 + BLOCK, 22 + 2 * BLOCK]
    assert [r.after.max() for r in finish(Stand(**layout).pool(3), 300)][:2] == [1, 11]


def test_lanes_are_dealt_anew_when_one_device_is_left_with_more_to_do(monkeypatch):
    monkeypatch.setattr(pool, "_REPORT", 1e-9)  # a report an epoch
    monkeypatch.setattr(pool, "_WORTH", 0.0)
    made, seats = Stand(devices=2, lanes=2).pool(4, lost={1: 1, 2: 1}), []
    for _ in made.train(np.array([9, 8, 8, 8]), np.zeros(4, bool)):
        seats.append(made.lane_rows.tolist())
    assert seats == [[0, 3, 1, 2]] + [[-1, 3, 0, -1]] * 8  # 0 goes to the other device
    assert [number_in(made.state(row)) for row in (0, 3)] == [expected(0, 9), expected(3, 8)]


@pytest.mark.parametrize("trials, goal, turned", [(3, 18, 27), (5, 6, 15), (9, 6, 27), (1, 5, 5)])
def test_an_odd_trial_is_trained_by_both_devices_in_turn(trials, goal, turned, monkeypatch):
    monkeypatch.setattr(pool, "_WORTH", 0.0)
    stand = Stand(devices=2, lanes=5)
    made = stand.pool(trials)
    for _ in made.train(np.full(trials, goal), np.ones(trials, bool)):
        pass
    assert sum(turns(np.array(call), stand.layout).max() for call in stand.trained) == turned
    assert [number_in(made.state(row)) for row in range(trials)] == [
        expected(row, goal) for row in range(trials)
    ]


def test_trials_that_move_between_blocks_take_their_states_along(monkeypatch):
    monkeypatch.setattr(pool, "_REPORT", 1e-9)  # a report an epoch
    monkeypatch.setattr(pool, "_WORTH", 0.0)
    made, seats = Stand(lanes=4, block=2).pool(4, lost={1: 1, 2: 1}), []
    for _ in made.train(np.array([5, 4, 3, 4]), np.zeros(4, bool)):
        seats.append(made.lane_rows.tolist())
    assert seats[0] == [0, 1, 3, 2] and seats[1:] == [[0, 3, -1, -1]] * 4
    assert [number_in(made.state(row)) for row in (0, 3)] == [expected(0, 5), expected(3, 4)]


def test_trials_stay_where_they_are_if_little_is_saved(monkeypatch):
    monkeypatch.setattr(pool, "_WORTH", 1e9)
    made = Stand(devices=2, lanes=2).pool(3)
    seats = {tuple(made.lane_rows.tolist()) for _ in made.train(np.full(3, 18), np.zeros(3, bool))}
    assert seats == {(0, 2, 1, -1)}


TWO = Layout(("a", "b"), lanes=3, block=1)
EMPTY = [-1] * 6


@pytest.mark.parametrize("seats, left, expected", [
    (EMPTY, [1] * 6, [0, 2, 4, 1, 3, 5]),
    (EMPTY, [1, 1], [0, -1, -1, 1, -1, -1]),
    (EMPTY, [5, 4, 3, 3, 3], [0, 3, -1, 1, 2, 4]),
    (EMPTY, [9, 1, 1, 1, 1], [0, 4, -1, 1, 2, 3]),  # the second device is full
    ([0, -1, 1, -1, -1, -1], [2, 2, 3, 3, 3], [0, 4, 1, 2, 3, -1]),
    ([-1, 0, -1, -1, -1, 1], [7, 1, 2, 2], [-1, 0, -1, 2, 3, 1]),
    (EMPTY, [], EMPTY),
])  # fmt: skip
def test_the_longest_go_to_the_device_with_least_to_do(seats, left, expected):
    rows = np.setdiff1d(np.arange(len(left)), seats)
    assert dealt(np.array(seats), rows, np.array(left, int), TWO).tolist() == expected


@pytest.mark.parametrize("seats, left, expected", [
    ([0, 1, 2, -1, -1, -1], [5, 5, 5], [-1, 1, 2, 0, -1, -1]),  # one way to have 10 and 5
    ([0, 1, 2, -1, -1, -1], [2, 1, 1], [-1, 1, 2, 0, -1, -1]),
    ([0, 1, 2, -1, -1, -1], [1, 7, 5], [0, -1, 2, 1, -1, -1]),
    ([0, 1, 2, 3, -1, -1], [5, 9, 5, 2], [0, 1, 2, 3, -1, -1]),  # none has nothing to do
    ([0, -1, -1, -1, -1, -1], [7], [0, -1, -1, -1, -1, -1]),
    (EMPTY, [], EMPTY),
])  # fmt: skip
def test_few_trials_move_to_let_the_devices_end_together(seats, left, expected):
    assert balanced(np.array(seats), np.array(left, int), TWO).tolist() == expected


def test_lanes_of_blocks_are_dealt_anew_into_few_blocks():
    layout = Layout(("a", "b"), lanes=4, block=2)
    seats, left = np.array([0, -1, 1, -1, 2, -1, 3, -1]), np.array([4, 4, 4, 4])
    assert turns(epochs_of(seats, left), layout).tolist() == [8, 8]
    after = balanced(seats, left, layout)
    assert after.tolist() == [0, 2, -1, -1, 1, 3, -1, -1]
    assert turns(epochs_of(after, left), layout).tolist() == [4, 4]


@pytest.mark.parametrize("left, most, worth, epochs", [
    ([4, 4, 0, 4, 4, 0], 9, 1, [4, 4, 0, 4, 4, 0]),
    ([4, 4, 4, 4, 4, 0], 9, 1, [3, 3, 2, 4, 4, 0]),  # ends when the second device does
    ([4, 4, 4, 4, 4, 0], 9, 3, [4, 4, 4, 4, 4, 0]),  # two turns would be saved
    ([4, 4, 4, 4, 4, 0], 9, 2, [3, 3, 2, 4, 4, 0]),
    ([9, 9, 9, 9, 9, 0], 2, 1, [2, 2, 2, 3, 3, 0]),
    ([9, 9, 9, 9, 1, 0], 2, 1, [2, 2, 2, 5, 1, 0]),
    ([9, 0, 0, 0, 0, 0], 5, 1, [5, 0, 0, 0, 0, 0]),
    ([90, 90, 0, 90, 0, 0], 50, 1, [32, 32, 0, 64, 0, 0]),
])  # fmt: skip
def test_devices_have_as_much_to_do_in_a_call(left, most, worth, epochs):
    assert epochs_of_call(np.array(left), TWO, most, BLOCK, worth).tolist() == epochs


def test_lanes_of_a_block_go_on_together():
    layout = Layout(("a", "b"), lanes=4, block=2)
    left = np.array([5, 1, 5, 5, 5, 0, 0, 0])
    assert epochs_of_call(left, layout, 3, BLOCK, 0).tolist() == [3, 1, 3, 3, 3, 0, 0, 0]
    assert turns(left, layout).tolist() == [10, 5]


def test_curves_are_written_where_their_rows_and_epochs_are():
    latest = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    report = pool_records.Report(np.array([7, 8]), np.array([2, 4]), np.array([5, 5]), np.ones(2,
    bool), np.zeros(2, bool), {"train": {"loss": latest}})  # fmt: skip
    curves = {"train": {"loss": np.zeros((3, 6))}}
    report.write(curves, np.array([2, 0]))
    assert curves["train"]["loss"].tolist() == [
        [0, 0, 0, 0, 4, 0], [0] * 6, [0, 0, 1, 2, 3, 0],
    ]  # fmt: skip
    later = {"train": {"loss": np.zeros((2, 4))}}
    report.write(later, np.array([0, 1]), first=np.array([2, 1]))
    assert later["train"]["loss"].tolist() == [[1, 2, 3, 0], [0, 0, 0, 4]]
    none = report._replace(rows=np.array([], int), before=np.array([], int),
                           after=np.array([], int))  # fmt: skip
    none.write(later, np.array([], int))  # nobody was in a lane


@pytest.mark.parametrize("maximize, best", [(True, [3, 1]), (False, [0, 4])])
def test_the_best_rows_are_those_marked_and_ties_go_to_the_lower(maximize, best):
    scores = np.array([1.0, 5.0, 9.0, 7.0, 1.0]) * (1 if maximize else -1)
    among = np.array([True, True, False, True, True])
    assert best_of(scores, among, 2).tolist() == best
    assert best_of(scores, among, 9).tolist()[:2] == best


def test_a_pool_says_what_its_program_costs():
    made = Stand(lanes=2).pool(1)
    assert made.cost == (str(made.layout), 0.5, 7)
    assert finish(made, 0) == [] and made.lanes is None  # nobody to train, no memory taken
