"""What two processes run together; see test_together."""

import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

import purenet as pn
from purenet import sweep
from purenet.distributed import multihost
from purenet.sweep._run import SweepRun

RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, 60)
X = (RNG.normal(size=(60, 6)) + 2 * np.eye(3, 6)[T]).astype(np.float32)
DATA = ((X[:40], T[:40]), (X[40:], T[40:]))
SPACE = {"rate": sweep.loguniform(1e-2, 1e15)}  # the largest diverge
SEARCHES = {
    "random": sweep.random, "halving": sweep.halving(), "hyperband": sweep.hyperband(),
}  # fmt: skip


def trial(hyper):
    return pn.supervised(net=pn.mlp(), sizes=(6, 8, 3), optimizer=pn.sgd(hyper["rate"]),
                         loss=pn.softmax_cross_entropy, batch_size=10)  # fmt: skip


def run(search, **options):
    return sweep.run(trial, SPACE, DATA, 15, 9, search=SEARCHES[search], keep=2, **options)


def folded():
    """Folds and patience: which lanes end when depends on the scores of each."""
    return sweep.run(trial, SPACE, (X, T), 6, 9, folds=3, patience=2, keep=2)


def digest(result) -> str:
    """Of everything that two sweeps have in common if they are the same."""
    found = hashlib.blake2b(result.table().encode(), digest_size=8)
    for leaf in jax.tree.leaves((result.curves, list(result.status), result.epochs.tolist())):
        found.update(leaf.tobytes() if hasattr(leaf, "tobytes") else str(leaf).encode())
    for number in (int(n) for n in result.ranked()[:2]):
        if result.status[number] == "done":
            for leaf in jax.tree.leaves(result.weights(number)):
                found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def all_searches(folder):
    """Prints a digest of every search, and of one that goes on from a folder."""
    for name in SEARCHES:
        print(name, digest(run(name)))
    print("folds", digest(folded()))
    print("folder", digest(run("halving", path=folder)))
    print("again", digest(run("halving", path=folder)))
    refused = [
        lambda: sweep.run(trial, SPACE, DATA, 4, 9, search=sweep.pbt(every=2)),
        lambda: run("random", executor=ThreadPoolExecutor(1)),
        lambda: sweep.run(trial, SPACE, DATA, 4, 9, seed=jax.process_index()),
        lambda: run("random", path=folder),
    ]
    for mistake in refused:
        try:
            mistake()
        except (ValueError, RuntimeError) as error:  # of the first process, told to the second
            text = str(error).removeprefix("the first process failed: ValueError: ")
            print("refused:", " ".join(text.split())[:110])


def goes_on(folder):
    """A small sweep is extended, is out of time at once and later, and is resumed."""
    whole = lambda **options: sweep.run(trial, SPACE, DATA, 15, 9, path=folder, **options)
    sweep.run(trial, SPACE, DATA, 8, 5, path=folder)
    print(whole(seconds=1e-6).epochs.tolist())
    print("done in time" if (whole(seconds=0.3).status != "stopped").all() else "out of time")
    print(digest(whole(keep=2)))
    try:
        whole(seconds=1 + jax.process_index())
    except ValueError as error:
        print("refused:", str(error)[:99])


def dies(folder):
    """The second process is killed when some trials are known; the first has saved them."""
    record = SweepRun.record
    seen = []

    def recorded(self, group, report):
        record(self, group, report)
        seen.append(report)
        if len(seen) == 3:
            self.save(finished=False)
        if len(seen) == 4 and not multihost.first():
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    SweepRun.record = recorded
    run("halving", path=folder)
    print("it ended all the same")


def interrupted(folder):
    """Ctrl-C reaches the second process alone."""
    record, seen = SweepRun.record, []

    def recorded(self, group, report):
        seen.append(report)
        if len(seen) == 1 and not multihost.first():
            os.kill(os.getpid(), signal.SIGINT)
        record(self, group, report)

    SweepRun.record = recorded
    try:
        run("halving", path=folder)
    except KeyboardInterrupt:
        print("interrupted")
