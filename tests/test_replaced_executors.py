"""Executors that break when a worker dies, and the functions that make new ones."""

import concurrent.futures
import multiprocessing
import os
import pickle
import signal

import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

DATA = (np.ones((4, 1), np.float32), np.ones((2, 1), np.float32))
SPACE = {"rate": sweep.uniform(0.1, 1.0)}


def trial(hyper):
    """A number that decays, at the top of a module that workers can import."""

    def epoch(state, data):
        return state * (1 - hyper["rate"] * data[0].mean()), {}

    return pn.Trainable(lambda key: jnp.ones(()), epoch, lambda state, data: {"loss": state})


def run(executor=None, **options):
    if executor is not None:
        options["trials_per_block"] = 2
    options = {"search": sweep.halving(), **options}
    return sweep.run(trial, SPACE, DATA, 8, 6, executor=executor, **options)


@pytest.fixture(scope="module")
def expected():
    run(Breaking(100))  # from here on this process has the data, as a worker
    return run()


def same(result, expected):
    assert result.table() == expected.table()
    np.testing.assert_array_equal(
        result.curves["validation"]["loss"], expected.curves["validation"]["loss"]
    )


class Breaking(concurrent.futures.Executor):
    """A process pool's behaviour: once it breaks, so does everything that it holds and is given.

    It does the first `good` blocks, one after the other; the one after them breaks it. With
    `at_submit`, that shows where the next one is given to it, else in the futures.
    """

    def __init__(self, good, at_submit=False):
        self.good, self.at_submit, self.shut = good, at_submit, False

    def submit(self, f, block):
        assert not self.shut
        future = concurrent.futures.Future()
        if self.good > 0:
            self.good -= 1
            future.set_result(pickle.loads(pickle.dumps(f(block))))
        else:
            error = concurrent.futures.BrokenExecutor("a child process terminated abruptly")
            if self.at_submit:
                raise error
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.shut = True


class Maker:
    """Makes executors that do so many blocks each, the last one for ever."""

    def __init__(self, *good, at_submit=False):
        self.good, self.at_submit, self.made = list(good), at_submit, []

    def __call__(self):
        good = self.good[min(len(self.made), len(self.good) - 1)]
        self.made.append(Breaking(good, self.at_submit))
        return self.made[-1]


@pytest.mark.parametrize("at_submit", [False, True])
def test_a_broken_executor_is_replaced_by_a_new_one(at_submit, expected):
    make = Maker(2, 0, 0, 8, 0, 0, 100, at_submit=at_submit)
    same(run(make), expected)
    assert len(make.made) == 7
    assert all(executor.shut for executor in make.made)


def test_executors_that_break_at_once_are_given_up_after_four(tmp_path, expected):
    make = Maker(2, 0)
    with pytest.raises(RuntimeError, match=r"broke 4 times with no block finished.*abruptly"):
        run(make, path=tmp_path)
    assert len(make.made) == 4 and all(executor.shut for executor in make.made)
    assert 0 < sweep.load(tmp_path).epochs.sum() < expected.epochs.sum()
    same(run(Maker(100), path=tmp_path), expected)


def test_an_executor_of_the_users_own_is_neither_replaced_nor_shut_down(expected):
    executor = Breaking(3)
    with pytest.raises(RuntimeError, match="lost its worker 4 times"):
        run(executor)
    with pytest.raises(RuntimeError, match=r"accepts no more blocks.*function that returns an ex"):
        run(Breaking(3, at_submit=True))
    assert not executor.shut
    same(run(enough := Breaking(100)), expected)
    assert not enough.shut


def test_one_executor_serves_all_rounds_and_groups(expected):
    make = Maker(100)
    same(run(make), expected)
    assert len(make.made) == 1 and make.made[0].shut


def test_an_interrupted_sweep_does_not_wait_for_its_executor():
    waited = []

    class Interrupted(Breaking):
        def submit(self, f, block):
            raise KeyboardInterrupt

        def shutdown(self, wait=True, *, cancel_futures=False):
            waited.append(wait)

    with pytest.raises(KeyboardInterrupt):
        run(lambda: Interrupted(1))
    assert waited == [False]


MISTAKES = {
    "no executor": (lambda: 3, TypeError, r"return value of executor\(\) is 3, but a concurrent"),
    "a class": (
        type("Other", (), {}),
        TypeError,
        r"the return value of executor\(\) is an? Other, but a concurrent",
    ),
    "one that forks": (
        lambda: concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")),
        ValueError,
        "forks this process",
    ),
}


@pytest.mark.parametrize("make, kind, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_what_a_function_makes_is_checked(make, kind, message):
    with pytest.raises(kind, match=message):
        run(make)


def test_a_killed_worker_of_a_process_pool(monkeypatch, expected):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")  # as here
    made = []

    class Pool(concurrent.futures.ProcessPoolExecutor):
        """Its only worker is killed once it has done two blocks."""

        def submit(self, *arguments):
            future = super().submit(*arguments)
            future.add_done_callback(self.count)
            return future

        def count(self, future):
            self.done = getattr(self, "done", 0) + 1
            if self is made[0] and self.done == 2:
                os.kill(next(iter(self._processes)), signal.SIGKILL)

    def make():
        made.append(Pool(1, multiprocessing.get_context("spawn")))
        return made[-1]

    same(run(make), expected)
    assert len(made) == 2
