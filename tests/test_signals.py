"""Signals that come while a sweep trains: what is known is saved, then they do what they do."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.interrupts import until_interrupted
from purenet.sweep.engine import pool
from purenet.sweep.storage import resume

DATA = (np.zeros(1), np.zeros(1))
SPACE = {"start": sweep.uniform(1, 2)}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def trial(hyper):
    halve = lambda state, data: (state / 2, {})
    return pn.Trainable(lambda key: hyper["start"], halve, lambda state, data: {"loss": state})


def run(path=None, **options):
    return sweep.run(trial, SPACE, DATA, 4, 3, path=path, devices=1, progress=False, **options)


@pytest.fixture(autouse=True)
def handlers():
    """None is left behind by a sweep, and none by a test."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    found = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    assert found == before


class Ended(BaseException):
    """How a handler of the user ends the program."""


def ends(number, frame):
    raise Ended(number)


@pytest.fixture
def during(monkeypatch):
    """Have a signal come with the report of an epoch, or where a finished sweep was saved."""
    plain, saved = pool.LanePool._advance, resume.save

    def send(number, epoch=1):
        def advance(self, remaining):
            report = plain(self, np.minimum(remaining, 1))
            if epoch in report.after:
                signal.raise_signal(number)
            return report

        def save(store, state, groups, summary):
            saved(store, state, groups, summary)
            if summary.finished and epoch is None:
                signal.raise_signal(number)

        monkeypatch.setattr(pool.LanePool, "_advance", advance)
        monkeypatch.setattr(resume, "save", save)

    yield send


@pytest.mark.parametrize("epoch", [1, None], ids=["on its way", "after the last report"])
def test_ctrl_c_saves_and_interrupts(during, tmp_path, capsys, epoch):
    during(signal.SIGINT, epoch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    error = capsys.readouterr().err
    assert f"{4 if epoch else 12} of about 12 trial-epochs are in {tmp_path}" in error
    assert "the same call resumes from there" in error
    np.testing.assert_array_equal(sweep.load(tmp_path).epochs, 1 if epoch else 3)
    assert run(tmp_path).epochs.tolist() == [3] * 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("epoch", [1, None], ids=["on its way", "after the last report"])
def test_what_schedulers_send_saves_and_goes_to_who_handles_it(
    during, tmp_path, capsys, number, epoch
):
    signal.signal(number, ends)
    during(number, epoch)
    with pytest.raises(Ended, match=str(int(number))):
        run(tmp_path)
    signal.signal(number, signal.SIG_DFL)
    assert "the same call resumes from there" in capsys.readouterr().err
    np.testing.assert_array_equal(sweep.load(tmp_path).epochs, 1 if epoch else 3)
    assert run(tmp_path).epochs.tolist() == [3] * 4


def test_a_sweep_goes_on_where_the_handler_of_a_signal_returns(during, tmp_path):
    seen = []
    signal.signal(signal.SIGHUP, lambda number, frame: seen.append(number))
    during(signal.SIGHUP)
    assert run(tmp_path).epochs.tolist() == [3] * 4 and seen == [signal.SIGHUP]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_handler_of_ctrl_c_is_called_and_the_sweep_ends_all_the_same(during):
    seen, before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    during(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [signal.SIGINT]
    signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_ignored(during):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    during(signal.SIGHUP)
    assert run().epochs.tolist() == [3] * 4
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_the_second_signal_acts_at_once():
    with pytest.raises(KeyboardInterrupt), until_interrupted() as flag:
        signal.raise_signal(signal.SIGINT)
        assert flag
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one was kept back")


def test_an_error_does_not_swallow_the_signal_before_it():
    with pytest.raises(KeyboardInterrupt) as end, until_interrupted():
        signal.raise_signal(signal.SIGINT)
        raise OSError("the disk is full")
    assert isinstance(end.value.__context__, OSError)


def test_one_sweep_inside_another_gives_the_signals_back_to_it():
    with pytest.raises(KeyboardInterrupt), until_interrupted() as outer:
        with pytest.raises(KeyboardInterrupt), until_interrupted() as inner:
            signal.raise_signal(signal.SIGINT)
            assert inner and not outer
        assert outer  # which the inner one handed the signal to


def test_other_threads_leave_signals_alone():
    def watch():
        with until_interrupted() as flag:
            found.append((bool(flag), [signal.getsignal(number) for number in SIGNALS]))

    found, before = [], [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(False, before)]


PROGRAM = """
import os, signal
from purenet.core.interrupts import until_interrupted

with until_interrupted() as flag:
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag
    print("saved", flush=True)
print("not reached")
"""


def test_the_exit_status_says_which_signal_it_was():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True,
                          env=environment, timeout=120)  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "saved\n"), done.stderr
