"""Nothing is left over from a run, however long: no array, no open file, no thread, no program."""

import gc
import os
import threading
import weakref

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core import jit_cache

pytestmark = [
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc"),
    pytest.mark.usefixtures("little_garbage"),
]
DATA = ((np.ones(3),), (np.zeros(3),))


def learner(hyper):
    return pn.Trainable(
        init=lambda key: {"x": jax.random.uniform(key)},
        epoch=lambda state, data: ({"x": 0.7 * state["x"] + 0.3 * hyper["limit"]}, {}),
        evaluate=lambda state, data: {"loss": state["x"] + 0 * data[0].sum()},
    )


LEARNER = learner({"limit": 1.0})
SPACE = {"limit": sweep.uniform(0.0, 1.0)}


def held():
    gc.collect()
    files = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}"))  # fmt: skip
    return len(jax.live_arrays()), files, threading.active_count()


RUNS = {
    "fit": lambda folder, n: pn.fit(LEARNER, DATA, 100 * n, jax.random.key(n)),
    "fit with a file": lambda folder, n: pn.fit(
        LEARNER, DATA, 100 * n, jax.random.key(n), path=folder / f"{n}.npz"
    ),
    "sweep": lambda folder, n: sweep.run(learner, SPACE, DATA, 100, 2 * n),
    "sweep with a folder": lambda folder, n: sweep.run(
        learner, SPACE, DATA, 100, 2 * n, path=folder / str(n)
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_nothing_is_left_over(run, tmp_path):
    run(tmp_path, 1)
    before = held()
    run(tmp_path, 3)
    assert held() == before


def kept_of_five():
    """Which of five programs, each of a function that nothing else holds, are still there."""

    @jit_cache.jit_for_each()
    def called(what, x):
        return what() + x

    functions = []
    for n in range(5):
        what = lambda n=n: n
        functions.append(weakref.ref(what))
        assert called(what)(1) == n + 1
    del what
    gc.collect()
    return [f() is not None for f in functions]


def test_programs_of_what_is_gone_are_forgotten(monkeypatch):
    monkeypatch.setattr(jit_cache, "PROGRAMS", 2)
    assert kept_of_five() == [False, False, False, True, True]


def test_programs_are_forgotten_before_a_process_runs_out_of_memory_maps(monkeypatch, tmp_path):
    before_each, crowded = iter([False, False, False, True, False]), jit_cache.crowded
    monkeypatch.setattr(jit_cache, "crowded", lambda: next(before_each))
    assert kept_of_five() == [False, False, False, True, True]
    maps, most = tmp_path / "maps", tmp_path / "max_map_count"
    maps.write_text("a map\n" * 6)
    most.write_text("11\n")
    assert crowded(maps, most)
    most.write_text("12\n")
    assert not crowded(maps, most)
