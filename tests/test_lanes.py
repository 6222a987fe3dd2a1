"""Who sits in which lane of a pool, and what a round of a search may ask for."""

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine import compile, layout
from purenet.sweep.engine.describe import describe
from purenet.sweep.engine.layout import Layout
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import LaneAssignment, Program
from purenet.sweep.engine.training import Training
from purenet.sweep.schedulers.base import checked_rounds
from purenet.sweep.space.structure import TRACED

DATA = (np.zeros(1), np.zeros(1))


@pytest.fixture(scope="module")
def compiled():
    """A training that counts its epochs, for two lanes of one device."""

    def trial(hyper):
        count = lambda state, data: (state + 1, {})
        return pn.Trainable(lambda key: hyper, count, lambda state, data: {"loss": state})

    where = Layout(tuple(jax.devices()[:1]), 2, 1)
    program = Program(Training(trial, jax.tree.structure(0.0), (TRACED,)), where)
    numbers = (np.float64(0.0),)
    program = describe(program, numbers, DATA)
    data = layout.place(where, DATA)
    return compile.Compilation(program, numbers, jax.random.key(0), data).result()


@pytest.fixture
def pool(compiled):
    """Three trials that begin at 0, 10 and 20."""
    pool = LanePool(compiled, jax.random.key(0), DATA)
    none = np.zeros(3, int)
    pool.add(LaneAssignment(np.arange(3), none, none, (np.array([0.0, 10.0, 20.0]),)))
    return pool


def train(pool, goals, keep):
    for _ in pool.train(np.array(goals), np.array(keep)):
        pass


@pytest.mark.parametrize("row", range(3))
def test_every_row_that_is_kept_waits_in_the_hosts_memory_when_the_lanes_are_freed(pool, row):
    goals, kept = np.zeros(3, int), np.zeros(3, bool)
    goals[row], kept[row] = 2, True
    train(pool, goals, kept)
    pool.release(kept)
    assert list(pool.waiting) == [row] and pool.waiting[row].epochs == 2
    assert pool.state(row) == [10.0 * row + 2]


@pytest.mark.parametrize("row", range(3))
def test_every_row_that_leaves_its_lane_for_others_keeps_its_state(pool, row):
    others = [other for other in range(3) if other != row]
    goals = np.zeros(3, int)
    goals[row] = 2
    train(pool, goals, np.ones(3, bool))
    goals[others] = 1
    train(pool, goals, np.ones(3, bool))
    assert row not in pool.lane_rows and pool.waiting[row].epochs == 2
    assert pool.state(row) == [10.0 * row + 2]
    train(pool, goals + 1, np.ones(3, bool))  # from where it stood
    assert pool.state(row) == [10.0 * row + 3] and pool.epochs.tolist() == (goals + 1).tolist()


@pytest.mark.parametrize("goals", [
    np.ones(2, int), np.ones((3, 1), int), np.ones(4, int), np.ones(3), np.ones(3, bool),
    np.array([1, 1, -1]), np.array([1, 1, 10]),
], ids=str)  # fmt: skip
def test_illegal_goals_are_refused_for_every_reason(goals):
    search = sweep.Scheduler(sweep.random, lambda points, epochs: iter([goals]))
    with pytest.raises(ValueError, match="but an array of 3 integers from 0 to 9 is expected"):
        next(checked_rounds(search, 3, 9))
