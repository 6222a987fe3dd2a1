"""Two processes that compute together, for tests of `jax.distributed`.

`run_two(function, *arguments)` runs a module's function in two new processes, each with two CPU
devices, and gives back what each printed and how it ended. Both are killed at a hard time-out.
"""

import socket

from forks import Ended, Forked

_PROGRAM = """
import importlib, sys
import jax
port, me, heartbeat, module, name, *arguments = sys.argv[1:]
jax.distributed.initialize(
    f"127.0.0.1:{port}", 2, int(me), initialization_timeout=60,
    heartbeat_timeout_seconds=int(heartbeat),
)
getattr(importlib.import_module(module), name)(*arguments)
"""


def run_two(function, *arguments, seconds: float = 90, heartbeat: int = 60) -> list[Ended]:
    """Both processes' ends; `arguments` reach the function as text.

    A process that dies takes the other along within `heartbeat` seconds. Raises TimeoutError, with
    its output, where one has not ended after `seconds`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {"jax_num_cpu_devices": 2, "jax_enable_x64": True, "jax_platforms": "cpu"}
    what = function.__module__, function.__name__, *arguments
    processes = [
        Forked("-c", _PROGRAM, port, me, heartbeat, *what, config=config) for me in range(2)
    ]
    try:
        return [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()  # SIGKILL ends stopped ones too
