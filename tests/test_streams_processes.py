"""Streamed data in two processes: what each reads, and that an error in one of them ends both."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from shared_sweep import digest
from test_streams_fit import SIZE, VALIDATION, N, T, X, memory_for
from two_processes import run_two

import purenet as pn
from purenet import sweep
from purenet.distributed import multihost


class Counted:
    """A data set that notes which examples are read, and may lose its disk."""

    def __init__(self, fails=0):
        self.rows, self.fails = [], fails

    def __len__(self):
        return N

    def __getitem__(self, i):
        self.rows.append(i)
        if len(self.rows) == self.fails:
            raise OSError("the disk is gone")
        return X[i], T[i]


class Minibatches:
    """Minibatches in an order of their own, which may end with an error."""

    def __init__(self, fails=0):
        self.fails = fails

    def __iter__(self):
        return Order(self.fails)


class Order:
    def __init__(self, fails):
        self.i, self.fails = 0, fails

    def __next__(self):
        self.i += 1
        if self.i == self.fails:
            raise OSError("the disk is gone")
        rows = np.random.default_rng(self.i).permutation(N)[:SIZE]
        return X[rows], T[rows]

    def get_state(self):
        return self.i

    def set_state(self, state):
        self.i = state


NET = pn.supervised(pn.mlp(), (4, 8, 3), pn.sgd(0.1), pn.softmax_cross_entropy, SIZE)
LOOKED = 2 * N  # examples that are read at first: for shapes, and to tell the data apart


def fit(source, mesh, **options):
    steps = None if isinstance(source, Counted) else 6
    train = pn.data.stream(source, memory=memory_for(2), steps_per_epoch=steps)
    validation = pn.data.stream(VALIDATION, memory=memory_for(2))
    return pn.fit(NET, (train, validation), 2, jax.random.key(0), mesh=mesh, **options)


def numbers(found):
    state = found.state._replace(key=jax.random.key_data(found.state.key))
    return [np.asarray(a).tolist() for a in jax.tree.leaves((state, found.history))]


def trains(path, make, after):
    """One network; then again, with a disk that the second process loses in the second epoch."""
    me, mesh = jax.process_index(), jax.make_mesh((4,), ("rows",))
    source = make()
    whole = fit(source, mesh)
    print(json.dumps([numbers(whole), getattr(source, "rows", [])[LOOKED:]]))
    try:
        fit(make(fails=after if me else 0), mesh, path=path)
    except (OSError, RuntimeError) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
    multihost.broadcast(0)
    at = pn.checkpoint.load_metadata(path)["fit"]["stream"]["at"]
    resumed = fit(make(), mesh, path=path)
    print(json.dumps([at, numbers(resumed) == numbers(whole)]))


def trial(hyper):
    rate = pn.sgd(hyper["rate"])
    return pn.supervised(pn.mlp(), (4, 8, 3), rate, pn.softmax_cross_entropy, SIZE)


def sweeps(folder):
    """A sweep; then again, with a disk that the second process loses in the second epoch."""
    me, path = jax.process_index(), Path(folder, "sweep")
    source = Counted()
    print(json.dumps([digest(run(source)), len(source.rows)]))
    try:
        run(Counted(fails=LOOKED + N + 9 * SIZE + 1 if me else 0), path=path)
    except (OSError, RuntimeError) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
    multihost.broadcast(0)
    known = int(sweep.load(path).epochs.sum())
    print(json.dumps([known, digest(run(Counted(), path=path))]))


def run(source, **options):
    parts = [pn.data.stream(part, memory=memory_for(2)) for part in (source, VALIDATION)]
    space = {"rate": sweep.loguniform(0.01, 1.0)}
    return sweep.run(trial, space, tuple(parts), 6, 3, keep=2, progress=False, **options)


def printed(end):
    return [
        json.loads(line)
        for line in end.out.splitlines()
        if line.startswith(("[", '"')) and "[Gloo]" not in line
    ]


def both(folder):
    trains(Path(folder, "rows.npz"), Counted, LOOKED + 8 * SIZE // 2 + 1)
    trains(Path(folder, "minibatches.npz"), Minibatches, 9)
    sweeps(folder)
    try:
        multihost.run_on_each(lambda: 1 // (1 - jax.process_index()))
    except (ZeroDivisionError, RuntimeError) as error:
        print(json.dumps(type(error).__name__))


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of two processes said of its network, and of its sweep."""
    ends = run_two(both, tmp_path_factory.mktemp("both"))
    assert [end.code for end in ends] == [0, 0], ends
    return [printed(end) for end in ends]


@pytest.mark.slow
def test_two_processes_read_their_rows_of_a_network_s_minibatches(said):
    (first, lost, after), (second, lost_there, after_there) = (lines[:3] for lines in said)
    assert first[0] == second[0]
    alone = Counted()
    expected = fit(alone, None)
    for a, b in zip(first[0], numbers(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    minibatches = np.reshape(alone.rows[N:], (-1, SIZE))
    np.testing.assert_array_equal(
        np.reshape(first[1], (-1, SIZE // 2)), minibatches[:, : SIZE // 2]
    )
    np.testing.assert_array_equal(
        np.reshape(second[1], (-1, SIZE // 2)), minibatches[:, SIZE // 2 :]
    )
    assert lost_there == "OSError: the disk is gone"
    assert lost == "PeerError: process 1 failed: OSError: the disk is gone"
    assert after == after_there == [2, True]


@pytest.mark.slow
def test_two_processes_take_their_rows_of_the_minibatches_of_an_iterable(said):
    (first, lost, after), (second, lost_there, after_there) = (lines[3:6] for lines in said)
    expected = numbers(fit(Minibatches(), None))
    assert first == second
    for a, b in zip(first[0], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert (lost, lost_there) == ("PeerError: process 1 failed: OSError: the disk is gone",
                                  "OSError: the disk is gone")  # fmt: skip
    assert after == after_there == [2, True]


@pytest.mark.slow
def test_two_processes_share_the_lanes_of_a_sweep_and_each_reads_all_of_its_data(said):
    (first, lost, after), (second, lost_there, after_there) = (lines[6:9] for lines in said)
    alone = Counted()
    expected = digest(run(alone))
    assert first == second == [expected, N + len(alone.rows)]  # and a look, to compare their data
    assert lost_there == "OSError: the disk is gone"
    assert lost == "PeerError: process 1 failed: OSError: the disk is gone"
    assert after == after_there and after[1] == expected
    assert 0 < after[0] < 6 * 3


@pytest.mark.slow
def test_an_error_in_one_process_is_raised_in_all(said):
    assert [lines[9] for lines in said] == ["PeerError", "ZeroDivisionError"]
