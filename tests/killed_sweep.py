"""Sweeps that are killed at random moments and started again, each in a process of its own.

    python killed_sweep.py FOLDER SEARCH KILLS SEED

prints as JSON how often a sweep was really cut short, and whether it ended with the very rows of
the uninterrupted one. Processes are forked from this one, which has imported everything but started
nothing, so that a start costs no import.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep
from purenet.sweep import store

SEARCHES = {
    "random": sweep.random,
    "halving": sweep.halving(),
    "hyperband": sweep.hyperband(),
    "pbt": sweep.pbt(every=4),
}


def learner(hyper):
    """Approaches its limit, slowly enough to be killed on the way."""

    def epoch(state, data):
        x = (
            state["x"]
            + 0.1 * (hyper["limit"] - state["x"])
            + 0.01 * jax.random.normal(state["key"])
        )
        busy = jax.lax.fori_loop(0, 100_000, lambda i, y: jnp.sin(y) + x, x)
        x = jnp.where(hyper["limit"] > 0.95, jnp.nan, x + 1e-9 * busy)
        key = jax.random.fold_in(state["key"], 1)
        return {"key": key, "x": x}, {}

    return pn.Trainable(
        init=lambda key: {"key": key, "x": jnp.zeros(())},
        epoch=epoch,
        evaluate=lambda state, data: {"loss": state["x"], "twice": 2 * state["x"] + data[0].sum()},
    )


def run(folder, search):
    jax.config.update("jax_num_cpu_devices", 2)
    data = ((np.ones(3),), (np.zeros(3),))
    space = {"limit": sweep.uniform(0, 1)}
    if search != "pbt":
        space["kind"] = sweep.choice(["a", "b"])
    sweep.run(learner, space, data, 12, 27, search=SEARCHES[search], path=folder, keep=2)


def start(folder, search):
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        run(folder, search)
        os._exit(0)
    return pid


def saved(folder):
    """When a sweep wrote its curves last."""
    path = folder / "curves.npz"
    return path.stat().st_mtime_ns if path.exists() else None


def runs(pid):
    """Whether the process has not ended yet; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    folder, search, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    began = time.perf_counter()
    assert ended(start(folder / "whole", search)) == 0
    lasted = time.perf_counter() - began
    cut = 0
    for turn in range(kills):
        before = saved(folder / "killed")
        pid = start(folder / "killed", search)
        if turn % 2:  # at any moment since it was started
            time.sleep(rng.uniform(0.2, 0.9) * lasted)
        else:  # soon after it has written something new
            while saved(folder / "killed") == before and runs(pid):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1) * lasted)
        os.kill(pid, signal.SIGKILL)
        if ended(pid) != 0:
            cut += 1
        elif turn + 1 < kills:  # it was faster: begin anew
            shutil.rmtree(folder / "killed")
    assert ended(start(folder / "killed", search)) == 0
    whole, killed = folder / "whole", folder / "killed"
    same_rows = (whole / "trials.jsonl").read_bytes() == (killed / "trials.jsonl").read_bytes()
    same = {}
    for name in ("curves", "states"):
        a, b = (store.arrays(folder / f"{name}.npz") for folder in (whole, killed))
        same[name] = set(a) == set(b) and all(np.array_equal(a[n], b[n], True) for n in a)
    print(json.dumps({"cut": cut, "rows": same_rows} | same))


if __name__ == "__main__":
    main()
