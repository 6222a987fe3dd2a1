"""Signals that arrive while `fit` trains: the run is saved, then they do what they do."""

import signal

import numpy as np
import pytest

import purenet as pn
from purenet.core import autosave
from purenet.training import fit as training_fit

DATA = (np.zeros(1), np.zeros(1))
HALVING = pn.Trainable(
    lambda key: np.float64(1.0), lambda state, data: (state / 2, {"loss": state}), lambda s, d: {}
)


class Ended(BaseException):
    """How a handler of the user ends the program."""


@pytest.fixture
def fit(monkeypatch, key):
    """Train 4 epochs, with a signal during the block of epoch 2."""

    def train(number, handler, path=None):
        def advance(self, n, values):
            real(self, n, values)
            if n and self.done == 2:
                signal.raise_signal(number)

        real, before = training_fit.Progress.advance, signal.signal(number, handler)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(training_fit.Progress, "advance", advance)
                return pn.fit(HALVING, DATA, 4, key, block=1, path=path)
        finally:
            assert signal.getsignal(number) is handler
            signal.signal(number, before)

    return train


def ends(number, frame):
    raise Ended(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_then_acts(fit, key, tmp_path, capsys, number):
    path = tmp_path / "run.npz"
    with pytest.raises(Ended, match=str(int(number))):
        fit(number, ends, path)
    said = f"fit: interrupted; 2 of 4 epochs are in {path}, and the same call resumes from there."
    assert said in capsys.readouterr().err
    assert pn.checkpoint.load_metadata(path)["fit"]["epochs"] == 2
    assert pn.fit(HALVING, DATA, 4, key, path=path).state == 1 / 16


def test_a_run_continues_where_the_handler_of_a_signal_returns(fit, tmp_path):
    seen = []
    state, _ = fit(signal.SIGHUP, lambda number, frame: seen.append(number), tmp_path / "run.npz")
    assert state == 1 / 16 and seen == [signal.SIGHUP]


def test_without_a_path_a_signal_acts_at_once(fit, capsys):
    with pytest.raises(Ended):
        fit(signal.SIGTERM, ends)
    assert "interrupted" not in capsys.readouterr().err


def test_saves_take_a_share_of_the_time_and_are_some_seconds_apart(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(autosave.time, "perf_counter", lambda: now[0])
    saves = autosave.Autosave(every=1.0)
    for began, ended, due in [(11.0, 11.0, 12.0), (12.0, 15.0, 75.0)]:  # 3 s are 5% of a minute
        now[0] = began - 0.5
        assert not saves.is_due()
        now[0] = began
        assert saves.is_due()
        now[0] = ended
        saves.saved(began)
        assert saves.due == due
