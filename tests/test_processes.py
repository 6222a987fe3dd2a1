"""Programs in several processes: what they tell each other, and how they end."""

import json

import jax
import numpy as np
import pytest
from two_processes import run_two

from purenet import processes


def tell():
    """Both processes say what they were told."""
    me = jax.process_index()
    held = {"n": 3 + me, "on": me == 0, "s": 0.1 + me, "big": np.int64(2**60 + me), "w": np.eye(2)}
    told = processes.agreed(held)
    payloads = [processes.exchanged(text) for text in (b"", b"ab"[me:] * 3000, b"one", b"two\0")]
    told = {k: (type(v).__name__, np.asarray(v).tolist()) for k, v in told.items()}
    payloads = [[b.decode() for b in each] for each in payloads]
    jax.config.update("jax_enable_x64", False)  # 64 bits arrive all the same
    narrow = processes.agreed(0.1 + me)
    print(json.dumps([processes.count(), processes.first(), told, payloads, narrow]))


@pytest.mark.slow
def test_two_processes_tell_each_other_what_they_hold():
    ends = run_two(tell)
    assert [end.code for end in ends] == [0, 0], ends
    for me, end in enumerate(ends):
        count, first, told, payloads, narrow = json.loads(end.out.splitlines()[-1])
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
    monkeypatch.setattr(processes, "multihost_utils", None)
    tree = {"w": np.ones(2), "n": 3}
    assert processes.agreed(tree) is tree
    assert processes.exchanged(b"mine") == [b"mine"]
    assert (processes.count(), processes.first()) == (1, True)
