"""Whenever a sweep is killed, the same call ends as if it had not been."""

import crash_points
import pytest
from crash_points import differing, held, moments, outcome, put, run

from purenet import sweep


def tpe():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return sweep.from_optuna(optuna.samplers.TPESampler, batch=3)


SEARCHES = {
    "random": lambda: sweep.random,
    "halving": sweep.halving,
    "hyperband": sweep.hyperband,
    "median": sweep.median,
    "pbt": lambda: sweep.pbt(every=2),
    "optuna": tpe,
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
