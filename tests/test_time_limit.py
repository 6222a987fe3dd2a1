"""seconds=: a sweep that is out of time ends with what it knows, and the same call resumes."""

import concurrent.futures
import re
import threading

import pytest
from crash_points import DATA, MEMBERS, differing, held, learner, outcome

from purenet import sweep
from purenet.sweep import journal
from purenet.sweep.backends.task import TaskResult
from purenet.sweep.engine import pool

ADVANCE = pool.LanePool._advance
CHOICES = MEMBERS | {"kind": sweep.choice(["a", "b"])}
SIZE = (6, 6)
SEARCHES = {
    "random": lambda: sweep.random, "halving": lambda: sweep.halving(2),
    "median": lambda: sweep.median_stopping(1), "pbt": lambda: sweep.pbt(every=2),
}  # fmt: skip


def run(path=None, space=MEMBERS, **options):
    options = {"devices": 1, "progress": False, "seed": 1} | options
    return sweep.run(learner, space, DATA, *SIZE, path=path, **options)


@pytest.fixture
def clock(monkeypatch):
    """A clock of our own: every block takes a second, and nothing else takes any."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    found = Clock()

    def counted(self, remaining):
        found.now += 1.0
        return ADVANCE(self, remaining)

    monkeypatch.setattr(pool, "_REPORT", 1e-9)
    monkeypatch.setattr(pool.LanePool, "_advance", counted)
    monkeypatch.setattr(journal, "time", found)
    monkeypatch.setattr("purenet.sweep._run.time", found)
    return found


@pytest.mark.parametrize("search, space", [
    *((search, MEMBERS) for search in SEARCHES), ("random", CHOICES), ("halving", CHOICES)
])  # fmt: skip
def test_stopped_again_and_again_it_ends_the_same(tmp_path, clock, search, space):
    search = SEARCHES[search]()
    expected, blocks = run(tmp_path / "whole", space, search=search), clock.now
    calls, last = 0, 0
    while True:
        began = clock.now
        result = run(tmp_path / "often", space, search=search, seconds=2)
        calls += 1
        assert clock.now - began <= 2
        if not differing(outcome(result), outcome(expected)):
            break
        trained = int(result.epochs.sum())
        assert (result.status != "done").any() or not result.kept
        assert trained >= last
        last = trained
        assert calls < blocks
    assert calls >= blocks / 2
    assert not differing(held(tmp_path / "often"), held(tmp_path / "whole"))
    before = clock.now
    run(tmp_path / "often", space, search=search)
    assert clock.now == before


def test_what_is_known_is_returned_and_the_folder_is_not_finished(tmp_path, clock, capsys):
    result = run(tmp_path, CHOICES, seconds=3)
    assert set(result.epochs[result.status != "diverged"]) == {0, 3}
    assert (result.status[result.epochs == 0] == "stopped").all()
    assert result.best().epochs == 3
    text = capsys.readouterr().err
    of = f"{result.epochs.sum()} of about 36 trial-epochs"
    assert re.search(f"stopped after 3 s; {of} are in {tmp_path}, and the same call resu", text)
    loaded = sweep.load(tmp_path)
    assert loaded.epochs.tolist() == result.epochs.tolist()
    assert "seconds" not in loaded.settings


def test_without_a_folder_it_stops_all_the_same_and_says_nothing(clock, capsys):
    result = run(seconds=2)
    assert set(result.epochs[result.status == "stopped"]) == {2}
    assert not capsys.readouterr().err


def test_time_that_is_up_at_the_end_is_not_missed(tmp_path, clock, capsys):
    expected = run(tmp_path / "whole")
    result = run(tmp_path / "limited", seconds=clock.now)
    assert not differing(outcome(result), outcome(expected))
    assert not differing(held(tmp_path / "limited"), held(tmp_path / "whole"))
    assert not capsys.readouterr().err


class Counted(concurrent.futures.ThreadPoolExecutor):
    """One worker, whose every task takes a second; the third ends when the time is up."""

    def __init__(self, clock, late):
        super().__init__(1)
        self.clock, self.late = clock, late

    def submit(self, function, task):
        def counted():
            result = function(task)
            if isinstance(result, TaskResult):
                self.clock.now += 1
                assert self.clock.now < 3 or self.late.wait(60)
            return result

        return super().submit(counted)


def test_blocks_that_workers_have_begun_are_finished_and_no_others_start(
    tmp_path, clock, monkeypatch
):
    late, is_late = threading.Event(), journal.Journal.is_late

    def told(self):
        if is_late(self):
            late.set()
        return late.is_set()

    monkeypatch.setattr(pool.LanePool, "_advance", ADVANCE)
    monkeypatch.setattr(journal.Journal, "is_late", told)
    options = {"devices": None, "trials_per_block": 1, "space": CHOICES}
    with Counted(clock, late) as executor:
        result = run(tmp_path, executor=executor, seconds=3, **options)
    assert clock.now == 3
    assert sorted(result.epochs)[:3] == [0, 0, 0] and (result.epochs > 0).sum() == 3
    assert sweep.load(tmp_path).epochs.tolist() == result.epochs.tolist()
    monkeypatch.setattr(journal.Journal, "is_late", is_late)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        ended = run(tmp_path, executor=executor, seconds=60, **options)
    assert not differing(outcome(ended), outcome(run(space=CHOICES)))


def test_no_time_at_all_trains_nothing_and_can_be_shown(tmp_path):
    result = run(tmp_path, seconds=1e-9)
    assert result.epochs.tolist() == [0] * 6 and set(result.status) == {"stopped"}
    assert not result.kept and "6 stopped" in repr(result)
    assert result.table() and result.rows() and result._repr_html_()
    with pytest.raises(ValueError, match="no trial has been trained yet"):
        result.best()
    assert sweep.load(tmp_path).epochs.sum() == 0
    assert not differing(outcome(run(tmp_path)), outcome(run()))


@pytest.mark.parametrize("seconds, error, message", [
    (0, ValueError, "sweep: seconds is 0, but a finite number above 0 is expected"),
    (float("nan"), ValueError, "sweep: seconds is nan"),
    ("10", TypeError, "sweep: seconds is '10'"),
])  # fmt: skip
def test_other_limits_are_refused(seconds, error, message):
    with pytest.raises(error, match=message):
        run(seconds=seconds)
