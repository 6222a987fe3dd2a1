"""Streamed data against the same in memory: speed, calls of the loader, memory, waiting."""

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from benchmark_timing import BATCH, measure, show

import purenet as pn
from purenet import sweep
from purenet.data.feed import Feed

BYTES = 4 * 2**30  # of the memory map
SPACE = {"rate": sweep.loguniform(1e-3, 1e-1)}
LIMIT = 1.2  # GiB that a process may hold while it trains on it


class Counted:
    """A data set of (x, t) that counts its examples as they are read."""

    def __init__(self, x, t):
        self.x, self.t, self.reads = x, t, 0

    def __len__(self):
        return len(self.x)

    def __getitems__(self, rows):
        self.reads += len(rows)
        return [(self.x[i], self.t[i]) for i in rows]

    def __getitem__(self, i):
        return self.__getitems__([i])[0]


def streams(train, validation, reps):
    """All of it, on images of MNIST's shape."""
    _speed(train, validation, reps)
    _convnet_speed(train, validation, reps)
    _sweep_speed(train, validation, reps)
    _calls(train, validation)
    _peak_memory()


def _trial(hyper):
    return pn.supervised(
        pn.mlp(), (784, 100, 100, 10), pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, BATCH
    )


def _network():
    return pn.supervised(
        pn.mlp(), (784, 300, 300, 10), pn.adam(1e-3), pn.softmax_cross_entropy, BATCH
    )


def _speed(train, validation, reps):
    waited, shares, feeds, real = [], [], [], Feed.__init__

    def noted(self, *arguments, **options):
        real(self, *arguments, **options)
        feeds.append(self)

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), train[0])
        on_disk = np.load(Path(folder, "x.npy"), mmap_mode="r"), train[1]
        one, key = _network(), jax.random.key(0)
        fit = lambda data: pn.fit(one, (data, validation), 3, key, progress=False).state

        def streamed(data):
            feeds.clear()
            found = fit(pn.data.stream(data))
            waited.append(sum(feed.waited for feed in feeds))
            return found

        def streamed_on_disk():
            began = time.perf_counter()
            found = jax.block_until_ready(streamed(on_disk))
            shares.append(waited[-1] / (time.perf_counter() - began))
            return found

        programs = {
            "fit, 3 epochs in memory": lambda: fit(train),
            "streamed from memory": lambda: streamed(train),
            "streamed from a memory map": streamed_on_disk,
        }
        if importlib.util.find_spec("torch") is None:
            print("streams: without PyTorch (pip install torch) there is no DataLoader to compare")
        else:
            programs["PyTorch, a DataLoader over the same map"] = _torch_loop(on_disk)
        Feed.__init__ = noted
        try:
            samples = measure(programs, reps)
        finally:
            Feed.__init__ = real
    show("streams: one network", samples)
    print(f"  of a run from a memory map, {np.median(shares):.1%} is spent waiting for data")


def _convnet_speed(train, validation, reps):
    """Where a step takes much longer than to read its examples."""
    images = lambda part: (part[0].reshape(-1, 28, 28, 1), part[1])
    train, validation, key = images(train), images(validation), jax.random.key(0)
    one = pn.supervised(
        pn.simple_convnet(), (28, 28, 1), pn.adam(1e-3), pn.softmax_cross_entropy, BATCH
    )
    fit = lambda data: pn.fit(one, (data, validation), 1, key, progress=False).state
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), train[0])
        on_disk = np.load(Path(folder, "x.npy"), mmap_mode="r"), train[1]
        programs = {
            "fit, an epoch in memory": lambda: fit(train),
            "streamed from a memory map": lambda: fit(pn.data.stream(on_disk)),
        }
        show("streams: SimpleConvNet", measure(programs, reps))


def _torch_loop(data):
    """Three epochs of the same network in PyTorch, with its DataLoader."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(data[0])

        def __getitems__(self, rows):
            return np.array(data[0][rows]), np.asarray(data[1])[rows].astype(np.int64)

    arrays = lambda batch: tuple(map(torch.from_numpy, batch))

    def run():
        net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(),
                            nn.Linear(300, 10))  # fmt: skip
        adam = torch.optim.Adam(net.parameters(), 1e-3)
        loader = DataLoader(Rows(), BATCH, shuffle=True, drop_last=True, collate_fn=arrays)
        for _ in range(3):
            for x, t in loader:
                adam.zero_grad()
                nn.functional.cross_entropy(net(x), t).backward()
                adam.step()
        return ()

    return run


def _sweep_speed(train, validation, reps):
    run = lambda data: sweep.run(_trial, SPACE, (data, validation), 16, 3, progress=False).seconds
    programs = {
        "16 trials, 3 epochs in memory": lambda: run(train),
        "streamed": lambda: run(pn.data.stream(train)),
    }
    show("streams: a sweep", measure(programs, reps))


def _calls(train, validation):
    print("\nstreams: examples that the loader reads in 2 epochs")
    for trials in (1, 100):
        data = Counted(*train)
        sweep.run(_trial, SPACE, (pn.data.stream(data), validation), trials, 2, progress=False)
        print(f"  {trials:>3} trials: {data.reads}")


def _peak_memory():
    """A process of its own trains on a sparse file, of which the system keeps no block."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(Path(folder, "x.raw"))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = float(done.stdout)
    print(f"\nstreams: peak memory of an epoch on {BYTES >> 30} GiB: {peak:.2f} GiB")
    assert peak < LIMIT, f"more than {LIMIT} GiB"


def _train_on(path):
    numbers = 3072  # as images of CIFAR
    n = BYTES // 4 // numbers
    with open(path, "wb") as file:
        file.truncate(4 * n * numbers)
    x = np.memmap(path, np.float32, "r", shape=(n, numbers))
    data = pn.data.stream((x, np.zeros(n, np.int32)))
    one = pn.supervised(
        pn.dense(10), (numbers,), pn.sgd(0.1), pn.softmax_cross_entropy, batch_size=1000
    )
    pn.fit(one, data, 1, jax.random.key(0), progress=False)
    # not getrusage, whose maximum counts what the process was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(peak / 2**20)


if __name__ == "__main__":
    _train_on(sys.argv[1])
