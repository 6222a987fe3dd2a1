"""Sweeps on streamed data: by the workers of an executor, and planned."""

import concurrent.futures
import pickle
import time

import numpy as np
import pytest
from test_streams_sweep import (
    LOOKED,
    SPACE,
    VALIDATION,
    Broken,
    Counted,
    T,
    X,
    no_thread_is_left,
    run,
    same,
    stream,
    trial,
    whole,
)

from purenet import sweep
from purenet.sweep import _plan

__all__ = ["no_thread_is_left", "whole"]  # fixtures


def opened():
    return Counted()


class Elsewhere(concurrent.futures.Executor):
    """Runs a block at once; all that travels are bytes."""

    def submit(self, f, task):
        future = concurrent.futures.Future()
        try:
            f, task = pickle.loads(pickle.dumps((f, task)))
            future.set_result(pickle.loads(pickle.dumps(f(task))))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("search", [sweep.random, sweep.halving(eta=2)], ids=["random", "halving"])
def test_the_workers_of_an_executor_open_the_source_themselves(whole, search):
    found = run(stream(opened), search=search, executor=Elsewhere(), trials_per_block=6, keep=6)
    same(found, whole if search is sweep.random else run(search=search))


def test_a_memory_map_is_not_sent_and_an_error_in_a_worker_is_told(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = stream((np.load(tmp_path / "x.npy", mmap_mode="r"), T))
    with pytest.raises(TypeError, match=r"cannot be sent.*memory map would be sent whole; give"):
        run(mapped, executor=Elsewhere())

    def lose(read):
        raise Broken("the disk is gone")

    data = stream(Counted())
    data.source.dataset.fault = lambda read: lose(read) if read > LOOKED else None
    with pytest.raises(RuntimeError, match="failed in its worker with Broken: the disk is gone"):
        run(data, executor=concurrent.futures.ThreadPoolExecutor)


@pytest.mark.parametrize("folds", [None, 3])
def test_a_plan_is_measured_on_the_first_examples_and_followed(monkeypatch, whole, folds):
    monkeypatch.setattr(_plan, "_SECONDS", 0.0)
    monkeypatch.setattr(_plan, "_BLOCKS", {"cpu": (1,)})
    monkeypatch.setattr(_plan, "_EXAMPLES", 9)
    data = (stream((X, T)), stream(VALIDATION)) if folds is None else stream((X, T))
    made = sweep.plan(trial, SPACE, data, 6, 4, folds=folds)
    assert made.groups[0].trials == made.groups[0].layout.width == 6 * (folds or 1)
    assert made.seconds > 0
    if folds is None:
        same(run(plan=made), whole)


def test_a_plan_takes_as_long_as_reading(monkeypatch):
    class Slow(Counted):
        def __getitem__(self, i):
            time.sleep(0.002)
            return super().__getitem__(i)

    monkeypatch.setattr(_plan, "_SECONDS", 0.0)
    monkeypatch.setattr(_plan, "_BLOCKS", {"cpu": (1,)})
    found = sweep.plan(trial, SPACE, (stream(Slow()), VALIDATION), 2, 1000)
    assert found.groups[0].seconds >= 1000 * len(X) * 0.002
