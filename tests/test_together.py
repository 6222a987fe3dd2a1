"""Several processes, one sweep: the very results of one process, whatever happens to the other."""

import numpy as np
import pytest
from shared_sweep import (
    DATA,
    SEARCHES,
    SPACE,
    all_searches,
    dies,
    digest,
    folded,
    goes_on,
    interrupted,
    run,
    trial,
)  # fmt: skip
from two_processes import run_two

from purenet import sweep
from purenet.sweep.backends.multihost import dealt


def said(end):
    """Its own lines: Gloo writes to the same stream, in pieces."""
    lines = end.out.splitlines()
    return [line for line in lines if "[Gloo]" not in line and "peer ranks" not in line]


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(tmp_path):
    first, second = run_two(all_searches, tmp_path / "folder")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert said(first) == said(second)
    expected = {name: digest(run(name)) for name in SEARCHES}
    expected |= {"folds": digest(folded())}
    expected |= {"folder": expected["halving"], "again": expected["halving"]}
    lines = said(first)
    assert dict(line.split() for line in lines[:6]) == expected
    refused = ["copy each other", "executor has workers of its own", "seed is 1 there, but 0 here",
               "holds another sweep"]  # fmt: skip
    assert len(lines) == 6 + len(refused)
    assert all(words in line for words, line in zip(refused, lines[6:], strict=True)), lines


@pytest.mark.slow
def test_a_peer_is_killed_and_the_same_call_goes_on(tmp_path):
    first, second = run_two(dies, tmp_path, heartbeat=5)
    assert second.code == -9
    assert first.code != 0 and "all the same" not in first.out, first.err
    known = int(sweep.load(tmp_path).epochs.sum())
    expected = run("halving")
    assert 0 < known < expected.epochs.sum()
    assert digest(run("halving", path=tmp_path)) == digest(expected)


@pytest.mark.slow
def test_two_processes_extend_a_sweep_and_stop_in_time(tmp_path):
    first, second = run_two(goes_on, tmp_path)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert said(first) == said(second)
    epochs, _, found, refused = said(first)
    before = sweep.run(trial, SPACE, DATA, 8, 5).epochs.tolist()
    assert epochs == str(before + [0] * 7)
    assert found == digest(run("random"))
    assert "seconds is 2 there, but 1 here" in refused
    assert "stopped after 1e-06 s" in first.err and "stopped after" not in second.err


@pytest.mark.slow
def test_an_interrupt_in_one_process_ends_both(tmp_path):
    ends = run_two(interrupted, tmp_path)
    assert [end.code for end in ends] == [0, 0]
    assert [said(end) for end in ends] == [["interrupted"]] * 2
    assert "the same call resumes from there" in ends[0].err
    assert 0 < sweep.load(tmp_path).epochs.sum() < run("halving").epochs.sum()


def test_work_is_dealt_fairly_and_states_stay_where_they_are():
    remaining, nobody = np.array([5, 5, 5, 5, 0, 5]), np.full(6, -1)
    first = dealt(remaining, nobody, 2)
    assert first.tolist() == [0, 1, 0, 1, -1, 0]
    assert dealt(remaining, first, 2).tolist() == first.tolist()
    # the survivors of process 0 are shared, one of them moves
    assert dealt(np.array([9, 0, 9, 0, 0, 0]), first, 2).tolist() == [0, 1, 1, 1, -1, 0]
    assert (dealt(remaining, nobody, 1)[remaining > 0] == 0).all()
