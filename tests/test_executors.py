"""Blocks of trials by an executor: the very table of a sweep without one, whatever happens."""

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import signal
import types

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.backends import task

RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, 60)
X = (RNG.normal(size=(60, 6)) + 2 * np.eye(3, 6)[T]).astype(np.float32)
DATA = ((X[:40], T[:40]), (X[40:], T[40:]))
SPACE = {"rate": sweep.loguniform(1e-2, 1e15)}  # the largest diverge


def trial(hyper):
    return pn.supervised(net=pn.mlp(), sizes=(6, 8, 3), optimizer=pn.sgd(hyper["rate"]),
                         loss=pn.softmax_cross_entropy, batch_size=10)  # fmt: skip


def run(trials=24, epochs=9, space=SPACE, **options):
    if "executor" in options:  # a program as wide as that without blocks: compiled once for both
        options.setdefault("trials_per_block", trials)
    return sweep.run(trial, space, DATA, trials, epochs, keep=2, **options)


class Inline(concurrent.futures.Executor):
    """Runs a block at once, as another process would: everything travels as bytes.

    `lost` are the calls whose worker dies, `each` is called before every block.
    """

    def __init__(self, lost=(), each=lambda number: None):
        self.calls, self.with_data, self.lost, self.each = 0, 0, lost, each

    def submit(self, f, block):
        self.calls += 1
        future = concurrent.futures.Future()
        try:
            self.each(self.calls)
            if self.calls in self.lost:
                raise OSError("the worker is gone")
            self.with_data += block.data.parts is not None
            f, block = pickle.loads(pickle.dumps((f, block)))
            future.set_result(pickle.loads(pickle.dumps(f(block))))
        except Exception as error:
            future.set_exception(error)
        return future


@functools.cache
def undisturbed(search):
    return run(search=search)


def same(result, expected):
    assert result.table() == expected.table()
    np.testing.assert_array_equal(result.status, expected.status)
    np.testing.assert_array_equal(result.epochs, expected.epochs)
    for part, metrics in expected.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_array_equal(result.curves[part][name], curve)
    best = [int(point) * expected.seeds for point in expected.ranked()[:2]]
    for number in (n for n in best if expected.status[n] == "done"):
        a, b = (jax.tree.leaves(r.weights(number)) for r in (result, expected))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


SEARCHES = {
    "random": sweep.random, "halving": sweep.halving(), "hyperband": sweep.hyperband(),
    "median": sweep.median_stopping(grace=2),
}  # fmt: skip


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_blocks_give_the_table_of_the_whole(search):
    expected = undisturbed(search)
    same(run(search=search, executor=Inline()), expected)


def test_trials_diverge_and_are_stopped_among_those_compared():
    assert set(undisturbed(sweep.random).status) == {"done", "diverged"}
    assert "stopped" in undisturbed(SEARCHES["halving"]).status


def test_a_block_whose_worker_dies_is_trained_again():
    executor = Inline(lost={1, 2, 4, 5, 9, 14, 17})
    same(run(search=SEARCHES["halving"], executor=executor), undisturbed(SEARCHES["halving"]))
    assert executor.calls > 17  # so all of these were lost


def test_data_and_programs_are_sent_and_built_once_a_process():
    task._held.cache_clear(), task._built.cache_clear()
    executor = Inline()
    same(run(search=SEARCHES["halving"], executor=executor), undisturbed(SEARCHES["halving"]))
    assert executor.with_data == 1 and executor.calls > 20
    assert task._built.cache_info().currsize == 1


def test_threads_share_their_process():
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        result = run(search=sweep.random, executor=executor, trials_per_block=5, devices=1)
        same(result, undisturbed(sweep.random))
    assert "1 cpu device(s) x 5 lane(s)" in result.programs[0].layout


def test_groups_and_seeds():
    space = {"rate": sweep.loguniform(1e-2, 1.0), "group": sweep.choice(["a", "b"])}
    options = {"space": space, "trials": None, "seeds": 2, "search": sweep.grid(3)}
    expected = run(**options)
    result = run(**options, executor=Inline(lost={3}), trials_per_block=6)
    same(result, expected)
    assert [p.static for p in result.programs] == [p.static for p in expected.programs]


def test_an_interrupted_sweep_goes_on_without_its_executor_and_the_other_way_round(tmp_path):
    def interrupt(number):
        if number == 20:
            os.kill(os.getpid(), signal.SIGINT)

    halving = SEARCHES["halving"]
    with pytest.raises(KeyboardInterrupt):
        run(search=halving, path=tmp_path / "a", executor=Inline(each=interrupt))
    before = int(sweep.load(tmp_path / "a").epochs.sum())
    assert 0 < before < undisturbed(halving).epochs.sum()
    same(run(search=halving, path=tmp_path / "a"), undisturbed(halving))

    def nothing_new(number):
        raise AssertionError("what is finished is not trained again")

    same(run(search=halving, path=tmp_path / "a", executor=Inline(each=nothing_new)),
         undisturbed(halving))  # fmt: skip


class Breaks(Inline):
    """Takes so many blocks, then none."""

    def __init__(self, taken):
        super().__init__()
        self.taken = taken

    def submit(self, f, block):
        if self.calls == self.taken:
            raise concurrent.futures.BrokenExecutor("a child process terminated abruptly")
        return super().submit(f, block)


def test_what_is_done_is_saved_when_the_executor_breaks(tmp_path):
    halving = SEARCHES["halving"]
    with pytest.raises(RuntimeError, match=r"accepts no more blocks.*abruptly.*same call resumes"):
        run(search=halving, path=tmp_path, executor=Breaks(16))
    assert 0 < sweep.load(tmp_path).epochs.sum() < undisturbed(halving).epochs.sum()
    same(run(search=halving, path=tmp_path, executor=Inline()), undisturbed(halving))


def test_replay_trains_here():
    result = run(search=sweep.random, executor=Inline())
    number = result.best().number
    np.testing.assert_array_equal(
        result.replay(number).curves["validation"]["loss"],
        result.curves["validation"]["loss"][number],
    )


class Fails(concurrent.futures.Executor):
    def __init__(self, error):
        self.error = error

    def submit(self, f, block):
        future = concurrent.futures.Future()
        future.set_exception(self.error)
        return future


PLAN = types.SimpleNamespace(layout=None)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"executor": 3}, TypeError, r"executor is 3.*ProcessPoolExecutor"),
        ({"executor": Inline(), "search": sweep.pbt(every=2)}, ValueError, "copy each other"),
        ({"executor": Inline(), "trials_per_block": 0}, ValueError, "trials_per_block is 0"),
        ({"trials_per_block": 3}, ValueError, "trials_per_block needs executor="),
        ({"executor": Inline(), "plan": PLAN}, ValueError, "leave out plan= or executor="),
        ({"executor": Inline(), "devices": 0}, ValueError, "devices of each worker is 0"),
        ({"executor": Inline(), "devices": 9}, RuntimeError, "devices is 9, but there are 2"),
        ({"executor": Fails(OSError("gone"))}, RuntimeError, "lost its worker 4 times"),
        ({"executor": Fails(pickle.PicklingError("lambda"))}, TypeError, "top of a module"),
    ],
)  # fmt: skip
def test_mistakes(options, kind, message):
    with pytest.raises(kind, match=message):
        run(**options)


def test_an_executor_that_forks_is_refused():
    with (
        concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor,
        pytest.raises(ValueError, match=r'forks this process.*get_context\("spawn"\)'),
    ):
        run(executor=executor)


def test_a_worker_with_other_software_is_refused(monkeypatch):
    task._built.cache_clear()
    asked = task.software() | {"jax": "0.1"}
    state = lambda self: self.__dict__ | {"software": asked}
    monkeypatch.setattr("purenet.sweep.backends.task.GroupSpec.__getstate__", state, raising=False)
    with pytest.raises(RuntimeError, match=r"differs.*jax is 0[\d.]+, there 0\.1"):
        run(executor=Inline())


def local(t):
    """A trial function that no other process can import, so that it must be sent by value."""

    def trial(hyper):
        return pn.supervised(net=pn.mlp(), sizes=(6, 8, 3), optimizer=pn.sgd(hyper["rate"]),
                             loss=pn.softmax_cross_entropy, batch_size=t)  # fmt: skip

    return trial


class Killing(concurrent.futures.Executor):
    """Kills a worker of a cluster once some blocks are back."""

    def __init__(self, executor, cluster, after):
        self.executor, self.cluster, self.after = executor, cluster, after
        self.back, self.killed = 0, None

    def submit(self, f, block):
        future = self.executor.submit(f, block)
        future.add_done_callback(self._count)
        return future

    def _count(self, future):
        self.back += 1
        if self.back == self.after:
            self.killed = next(iter(self.cluster.workers.values())).pid
            os.kill(self.killed, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the cluster, about a process that dies
def test_a_cluster_loses_a_worker_in_the_middle(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    options = {"search": SEARCHES["halving"], "keep": 2}
    arguments = (local(10), SPACE, DATA, 24, 9)
    with (
        jax.enable_x64(False),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        expected = sweep.run(*arguments, **options)
        executor = Killing(client.get_executor(), cluster, after=12)
        same(sweep.run(*arguments, **options, executor=executor), expected)
        assert executor.killed is not None
        assert executor.killed not in [worker.pid for worker in cluster.workers.values()]
