"""Whenever a sweep is killed, the same call ends as if it had not been."""

import crash_points
import numpy as np
import pytest
from crash_points import differing, held, moments, outcome, put, run

from purenet import sweep


def tpe():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return sweep.from_optuna(optuna.samplers.TPESampler, batch=3)


def of_my_own():
    """A search that looks at all the scores there are, not only at those it asked for."""

    def rounds(points, epochs):
        scores = yield np.full(points, 2)
        goals = np.zeros(points, int)
        goals[np.argsort(-np.nansum(scores, axis=1))[:3]] = epochs
        yield goals

    return sweep.Scheduler(sweep.random, rounds, name="of my own")


SEARCHES = {
    "random": lambda: sweep.random,
    "halving": sweep.halving,
    "hyperband": sweep.hyperband,
    "median": lambda: sweep.median_stopping(grace=2),
    "pbt": lambda: sweep.pbt(every=2),
    "optuna": tpe,
    "own": of_my_own,
}
ALL = crash_points.TRIALS


@pytest.mark.parametrize("keep", [0, 2, ALL])
@pytest.mark.parametrize("search", SEARCHES)
def test_killed_before_any_write_a_sweep_ends_the_same(tmp_path, monkeypatch, search, keep):
    search = SEARCHES[search]()
    whole = tmp_path / "whole"
    expected, states = moments(monkeypatch, whole, lambda: run(search, keep, whole))
    expected, files = outcome(expected), held(whole)
    assert len(states) > 4 * crash_points.EPOCHS
    wrong = {}
    monkeypatch.setattr("os.fsync", lambda file: None)
    for k, state in enumerate(states):
        put(tmp_path / "killed", state)
        again = run(search, keep, tmp_path / "killed")
        names = differing(outcome(again), expected) + differing(held(tmp_path / "killed"), files)
        if names:
            wrong[k] = names
    assert not wrong


@pytest.mark.parametrize("search, writes", [("halving", 7), ("pbt", 5)])
def test_killed_again_and_again_it_ends_the_same(tmp_path, monkeypatch, search, writes):
    search, folder = SEARCHES[search](), tmp_path / "killed"
    expected = run(search, 2, tmp_path / "whole")
    kills, attempt = 0, lambda: moments(monkeypatch, folder, lambda: run(search, 2, folder))
    result, states = attempt()
    while len(states) > writes:
        put(folder, states[writes])
        kills += 1
        result, states = attempt()
    assert kills > 2
    assert not differing(outcome(result), outcome(expected))
    assert not differing(held(folder), held(tmp_path / "whole"))
