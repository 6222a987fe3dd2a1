"""Rounds of searches at their edges: legal goals, rungs, brackets and medians."""

import numpy as np
import pytest

from purenet import sweep
from purenet.sweep.schedulers import base, halving
from purenet.sweep.schedulers.base import Scheduler, checked_rounds


def asks(*goals):
    """A search whose rounds have these goals."""

    def rounds(points, epochs):
        for goal in goals:
            _ = yield goal

    return Scheduler(sweep.random, rounds, name="mine")


def test_goals_from_nothing_to_every_epoch_are_accepted():
    rounds = checked_rounds(asks([0, 3, 1], [0, 0, 0], [3, 3, 3]), 3, 3)
    scores = np.zeros((3, 3))
    assert next(rounds).tolist() == [0, 3, 1]
    assert [rounds.send(scores).tolist() for _ in range(2)] == [[0, 0, 0], [3, 3, 3]]
    with pytest.raises(StopIteration):
        rounds.send(scores)


@pytest.mark.parametrize("goals", [
    [1, -1, 1], [1, 4, 1], [1, 1], [1, 1, 1, 1], [1.0, 1.0, 1.0], [[1, 1, 1]], None,
    [True, True, True],
])  # fmt: skip
def test_other_goals_are_refused_in_the_first_round_and_in_a_later_one(goals):
    with pytest.raises(ValueError, match="a round of mine returned"):
        next(checked_rounds(asks(goals), 3, 3))
    later = checked_rounds(asks([1, 1, 1], goals), 3, 3)
    next(later)
    with pytest.raises(ValueError, match="a round of mine returned"):
        later.send(np.zeros((3, 3)))


def test_a_search_has_a_round():
    with pytest.raises(ValueError, match="the scheduler mine has no rounds"):
        next(checked_rounds(asks(), 3, 3))
    with pytest.raises(TypeError, match="rounds of mine is 3"):
        next(checked_rounds(Scheduler(sweep.random, 3, name="mine"), 3, 3))


def test_names_say_the_defaults():
    assert sweep.halving().name == "halving(eta=3, first=1, random)"
    assert sweep.hyperband().name == "hyperband(eta=3, first=1, random)"
    assert sweep.median_stopping().name == "median(grace=5, every=1, random)"


@pytest.mark.parametrize("make, option", [
    (sweep.halving, "eta"), (sweep.halving, "first"), (sweep.hyperband, "eta"),
    (sweep.hyperband, "first"), (sweep.median_stopping, "grace"), (sweep.median_stopping, "every"),
])  # fmt: skip
def test_the_least_numbers_are_two_for_eta_and_one_for_the_others(make, option):
    least = 2 if option == "eta" else 1
    make(**{option: least})
    with pytest.raises(ValueError, match=f"{option} is {least - 1}"):
        make(**{option: least - 1})


def constant(points, epochs):
    """Point i scores i."""
    return np.repeat(np.arange(points, dtype=float)[:, None], epochs, axis=1)


@pytest.mark.parametrize("make", [sweep.halving, sweep.hyperband])
def test_the_first_rung_may_be_the_last_epoch_and_no_later(make):
    rounds = make(first=4).rounds(3, 4)
    assert next(rounds).tolist() == [4, 4, 4]
    with pytest.raises(StopIteration):
        rounds.send(constant(3, 4))
    with pytest.raises(ValueError, match="first rung is at 5 epochs, but a trial has 4"):
        next(make(first=5).rounds(3, 4))


@pytest.mark.parametrize("epochs, points", [(1, 1), (2, 1), (3, 5), (8, 5), (9, 17), (27, 49)])
def test_hyperband_has_a_bracket_more_at_every_power_of_eta(epochs, points):
    assert sweep.hyperband().points(epochs) == points


def test_rungs_of_a_bracket_are_at_the_epochs_divided_by_powers_of_eta():
    search = sweep.hyperband()
    rounds = search.rounds(search.points(11), 11)
    reached = [next(rounds)]
    for _ in range(2):
        reached.append(rounds.send(constant(17, 11)))
    # 11 / 9 and 11 / 3, rounded; brackets of 9, 5 and 3 points
    assert [sorted(set(goals[:9])) for goals in reached] == [[1], [1, 4], [1, 4, 11]]
    assert [sorted(set(goals[9:14])) for goals in reached] == [[4], [4, 11], [4, 11]]
    assert [set(goals[14:]) for goals in reached] == [{11}] * 3


@pytest.mark.parametrize("total, sizes, shares", [
    (49, [27, 12, 6, 4], [27, 12, 6, 4]),
    (10, [5, 3, 2], [5, 3, 2]),
    (7, [5, 3, 2], [4, 2, 1]),  # 3.5, 2.1, 1.4: the one left goes to the largest remainder
    (8, [5, 3, 2], [4, 2, 2]),  # 4, 2.4, 1.6
    (1, [1, 1], [1, 0]),  # a tie goes to the first
    (0, [1, 1], [0, 0]),
])  # fmt: skip
def test_points_are_shared_in_proportion(total, sizes, shares):
    assert halving._shares(total, sizes) == shares


def test_a_bracket_without_points_has_no_race():
    rounds = sweep.hyperband().rounds(1, 27)
    goals = next(rounds)
    assert goals.tolist() == [1]  # the largest bracket has the one point
    for level in (3, 9, 27):
        assert rounds.send(constant(1, 27)).tolist() == [level]


def test_a_point_at_the_median_goes_on_and_one_that_is_lost_does_not_count():
    rounds = sweep.median_stopping(grace=2).rounds(4, 3)
    assert next(rounds).tolist() == [2] * 4
    nan = np.nan
    scores = np.array([[0.5, 0.5, nan], [0.4, 0.4, nan], [0.6, 0.6, nan], [0.9, nan, nan]])
    assert rounds.send(scores).tolist() == [3, 2, 3, 2]  # the median of 0.4, 0.5, 0.6
    with pytest.raises(StopIteration):
        rounds.send(scores)


def test_median_stopping_looks_at_the_best_score_so_far():
    rounds = sweep.median_stopping(grace=2).rounds(3, 3)
    next(rounds)
    falling = np.array([[0.6, 0.1, np.nan], [0.5, 0.5, np.nan], [0.5, 0.5, np.nan]])
    assert rounds.send(falling).tolist() == [3, 3, 3]


def test_grace_beyond_the_last_epoch_trains_all_to_the_end():
    rounds = sweep.median_stopping(grace=9).rounds(2, 4)
    assert next(rounds).tolist() == [4, 4]
    with pytest.raises(StopIteration):
        rounds.send(constant(2, 4))


def test_every_search_ends_when_all_are_lost():
    for made in (sweep.halving(), sweep.hyperband(), sweep.median_stopping(grace=1)):
        rounds = made.rounds(9, 9)
        next(rounds)
        with pytest.raises(StopIteration):
            while True:
                rounds.send(np.full((9, 9), np.nan))


def test_a_budget_counts_every_point_as_far_as_it_gets():
    assert base.everything(sweep.random).budget(4, 5) == 20
    assert asks([1, 0, 2], [0, 3, 0]).budget(3, 3) == 6  # a lower goal takes nothing back
    assert sweep.median_stopping(grace=1).budget(4, 3) == 4 + 2 + 2
