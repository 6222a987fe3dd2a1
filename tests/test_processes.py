"""Programs in several processes: what they tell each other, and how they end."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from two_processes import run_two

import purenet as pn
from purenet.distributed import multihost
from purenet.training import fit as training
from purenet.training.run_file import RunFile


def tell():
    """Both processes say what they were told."""
    me = jax.process_index()
    held = {"n": 3 + me, "on": me == 0, "s": 0.1 + me, "big": np.int64(2**60 + me), "w": np.eye(2)}
    told = multihost.broadcast(held)
    payloads = [
        multihost.all_gather_bytes(text) for text in (b"", b"ab"[me:] * 3000, b"one", b"two\0")
    ]
    told = {k: (type(v).__name__, np.asarray(v).tolist()) for k, v in told.items()}
    payloads = [[b.decode() for b in each] for each in payloads]
    jax.config.update("jax_enable_x64", False)  # 64 bits arrive all the same
    narrow = multihost.broadcast(0.1 + me)
    print(json.dumps([multihost.count(), multihost.first(), told, payloads, narrow]))


@pytest.mark.slow
def test_two_processes_tell_each_other_what_they_hold():
    ends = run_two(tell)
    assert [end.code for end in ends] == [0, 0], ends
    for me, end in enumerate(ends):
        count, first, told, payloads, narrow = printed(end)
        assert (count, first) == (2, me == 0)
        assert told == {
            "n": ["int", 3],
            "on": ["bool", True],
            "s": ["float", 0.1],
            "big": ["ndarray", 2**60],
            "w": ["ndarray", [[1, 0], [0, 1]]],
        }
        assert payloads == [["", ""], ["ab" * 3000, "b" * 3000], ["one"] * 2, ["two\0"] * 2]
        assert narrow == 0.1


def test_one_process_returns_at_once(monkeypatch):
    monkeypatch.setattr(multihost, "multihost_utils", None)
    tree = {"w": np.ones(2), "n": 3}
    assert multihost.broadcast(tree) is tree
    assert multihost.all_gather_bytes(b"mine") == [b"mine"]
    assert (multihost.count(), multihost.first()) == (1, True)


def small():
    net = pn.mlp(batch_norm=True)
    return pn.supervised(net, (4, 8, 3), pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=6)


def some_data():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    return (x, t), (x[:7], t[:7])


def last_matrix(name, leaf):
    return P("rows") if leaf.shape == (8, 3) else P()


def numbers(fit):
    """As lists, from whose text they come back to the bit."""
    state = multihost.to_local(fit.state, gather=True)
    leaves = jax.tree.leaves((state._replace(key=jax.random.key_data(state.key)), fit.history))
    return [np.asarray(a).tolist() for a in leaves]


def printed(end):
    return json.loads(end.out.splitlines()[-1])


@pytest.fixture(scope="module")
def alone():
    """The numbers of one process on one device, without interruption."""
    return numbers(pn.fit(small(), some_data(), 9, jax.random.key(0)))


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)  # accuracy is a mean in float32


def train(folder):
    """A run that is saved and gone on with, one part of it with a matrix of which each process
    holds only a share; then calls that are mistakes."""
    folder, me = Path(folder), jax.process_index()
    mesh, key, mine = jax.make_mesh((4,), ("rows",)), jax.random.key(0), folder / f"{me}"
    mine.mkdir()
    os.chdir(mine)  # a folder of its own, as on another machine
    options = {"mesh": mesh, "path": "run.npz", "progress": True}
    pn.fit(small(), some_data(), 3, key, **options)
    parted = pn.fit(small(), some_data(), 6, key, **options | {"shard": last_matrix})
    assert not parted.state.params.weights["3"]["w"].is_fully_addressable
    fit = pn.fit(small(), some_data(), 9, key, **options)
    files = sorted(path.name for path in mine.iterdir())
    said = []
    for change in ({"key": jax.random.key(me)}, {"path": "no/run.npz"}, {"epochs": 2}):
        call = {"trainable": small(), "data": some_data(), "epochs": 9, "key": key} | options
        try:
            pn.fit(**call | change)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    print(json.dumps([numbers(fit), numbers(parted), files, said]))


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path, alone):
    ends = run_two(train, tmp_path)
    assert [end.code for end in ends] == [0, 0], ends
    (fit, parted, files, said), (fit1, parted1, files1, said1) = map(printed, ends)
    assert fit == fit1 and parted == parted1
    assert_close(fit, alone)
    assert (files, files1) == (["run.npz"], [])
    assert "epoch 9/9" in ends[0].err and "epoch" not in ends[1].err
    different = "ValueError: fit: process 1 has other data, another key or other numbers"
    assert said[0].startswith(different) and said1[0].startswith(different)
    for i, text in (
        (1, "FileNotFoundError: fit: no/run.npz"),
        (2, "ValueError: fit: run.npz holds"),
    ):
        assert said[i].startswith(text)
        assert said1[i].startswith(f"RuntimeError: the first process failed: {text}")


def train_and_die(path, caller):
    """The process `who` kills itself in the middle of the run, soon after something was saved."""
    path, first = Path(path), not Path(path).exists()
    real = training.Progress.advance

    def advance(self, n, values):
        real(self, n, values)
        if self.done == 5 and first and jax.process_index() == int(caller):
            os.kill(os.getpid(), signal.SIGKILL)

    training.Progress.advance = advance
    RunFile.is_due = lambda self: True
    mesh = jax.make_mesh((4,), ("rows",))
    fit = pn.fit(small(), some_data(), 9, jax.random.key(0), mesh=mesh, path=path, block=1)
    print(json.dumps(numbers(fit)))


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_run_goes_on_from_its_file(tmp_path, alone):
    path = tmp_path / "run.npz"
    ends = run_two(train_and_die, path, 1, heartbeat=5)
    assert ends[1].code == -signal.SIGKILL and ends[0].code != 0, ends
    assert pn.checkpoint.load_metadata(path)["fit"]["epochs"] == 5
    ends = run_two(train_and_die, path, 1)
    assert [end.code for end in ends] == [0, 0], ends
    assert printed(ends[0]) == printed(ends[1])
    assert_close(printed(ends[0]), alone)
