"""Suite of the benchmark about more devices, more processes and workers of a Dask cluster.

Each row runs in processes of its own, which stay and wait their turn, since the number of devices
is fixed once JAX has started:

    python benchmark_scaling.py KIND COUNT [NUMBER PORT]    (waits for lines, answers with seconds)
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = {"device": (1, 2), "process": (1, 2), "Dask worker": (1, 2)}


def scaling(reps, trials=40, epochs=50):
    """E9 with 40 trials on 1 and 2 devices of one process, 1 and 2 processes of one device, 1 and 2
    Dask workers: the whole job, warm."""
    from benchmark_timing import measure, show

    with contextlib.ExitStack() as stack:
        programs = {}
        for kind, counts in KINDS.items():
            if kind == "Dask worker" and not _has_dask():
                print("  (pip install 'dask[distributed]' to see its workers)")
                continue
            for count in counts:
                children = stack.enter_context(_children(kind, count, trials, epochs))
                name = f"{count} {kind}" + (
                    "" if count == 1 else "es" if kind == "process" else "s"
                )
                programs[name] = lambda children=children: _turn(children)
        samples = measure(programs, reps, least=0)
        note = lambda name, seconds: f"{trials / seconds:.2f} trials/s"
        show(f"E9, {trials} trials x {epochs} epochs, whole job", samples, 1, "s", note)


def _has_dask() -> bool:
    import importlib.util

    return importlib.util.find_spec("distributed") is not None


@contextlib.contextmanager
def _children(kind, count, trials, epochs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    numbers = range(count if kind == "process" else 1)
    children = [
        subprocess.Popen(
            [sys.executable, __file__, kind, str(count), str(n), port, str(trials), str(epochs)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for n in numbers
    ]  # fmt: skip
    try:
        yield children
    finally:
        for child in children:
            child.stdin.close()
        for child in children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


def _turn(children):
    """Let the children run the job once, at the same time; until the last has it."""
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        for line in child.stdout:
            if line.startswith("done"):
                break
        else:
            raise RuntimeError(f"{child.args} ended with {child.wait()}")
    return 0


def _child(kind, count, number, port, trials, epochs):
    import jax

    devices = count if kind == "device" else 1
    jax.config.update("jax_num_cpu_devices", devices)
    if kind == "process" and count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, number)
    from benchmark import e9, e9_data

    from purenet import sweep

    space = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
    data = e9_data()
    with contextlib.ExitStack() as stack:
        options = {}
        if kind == "Dask worker":
            from distributed import Client, LocalCluster

            cluster = stack.enter_context(
                LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0")
            )
            options["executor"] = stack.enter_context(Client(cluster)).get_executor()
        for _ in sys.stdin:
            began = time.perf_counter()
            sweep.run(e9, space, data, trials, epochs, progress=False, **options)
            print("done", time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    _child(what, *map(int, given))
