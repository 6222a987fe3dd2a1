"""Two processes that compute together, for tests of `jax.distributed`.

`run_two(function, *arguments)` runs a module's function in two new processes, each with two CPU
devices, and gives back what each printed and how it ended. Both are killed at a hard time-out.
What they compile is kept in one folder for all runs of a session.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

_CACHE = tempfile.TemporaryDirectory(prefix="compiled-")

_PROGRAM = """
import importlib, sys
import jax
port, me, heartbeat, module, name, *arguments = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.distributed.initialize(
    f"127.0.0.1:{port}", 2, int(me), initialization_timeout=60,
    heartbeat_timeout_seconds=int(heartbeat),
)
getattr(importlib.import_module(module), name)(*arguments)
"""


class Ended(NamedTuple):
    """How one of the two ended: its exit code (minus a signal), what it printed, its errors."""

    code: int
    out: str
    err: str


def run_two(function, *arguments, seconds: float = 90, heartbeat: int = 60) -> list[Ended]:
    """Both processes' ends; `arguments` reach the function as text.

    A process that dies takes the other along within `heartbeat` seconds. Raises TimeoutError, with
    both outputs, where the two have not ended after `seconds`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)]),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": _CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        processes, outputs = [], []
        try:
            for me in "01":
                command = [sys.executable, "-c", _PROGRAM, str(port), me, str(heartbeat)]
                command += [function.__module__, function.__name__, *map(str, arguments)]
                out, err = (Path(folder, f"{kind}{me}") for kind in ("out", "err"))
                outputs.append((out, err))
                with out.open("w") as stdout, err.open("w") as stderr:
                    processes.append(
                        subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment)
                    )
            deadline = time.monotonic() + seconds
            for process in processes:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            texts = "\n".join(path.read_text()[-2000:] for pair in outputs for path in pair)
            raise TimeoutError(f"the two processes did not end in {seconds} s:\n{texts}") from None
        finally:
            for process in processes:
                process.kill()  # SIGKILL ends stopped ones too
                process.wait()
        return [
            Ended(process.returncode, out.read_text(), err.read_text())
            for process, (out, err) in zip(processes, outputs, strict=True)
        ]
