"""New processes at little cost, for tests: forked from one that has imported what they need.

`run("-m", "purenet.cli", "sweep", ...)` is `python -m purenet.cli sweep ...`, and so with a file
or `-c` and a program. Starting Python, JAX, matplotlib and scikit-learn takes seconds of processor
time; a fork of a process that has imported them, but started no device, takes milliseconds. JAX
takes its settings from `config`, for the environment was read when it was imported.
"""

import functools
import gc
import importlib
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

MODULES = ("jax", "matplotlib.figure", "matplotlib.backends.backend_agg", "sklearn.datasets",
           "purenet.cli", "purenet.plots")  # fmt: skip

_FOLDER, _NUMBERS = tempfile.TemporaryDirectory(prefix="forked-"), itertools.count()


class Ended(NamedTuple):
    """How a process ended: its exit code (minus a signal), what it printed, its errors."""

    code: int
    out: str
    err: str


class Forked:
    """A process that was started; `kill` it or `wait` for its end."""

    def __init__(self, *command, cwd=None, config=None):
        number = next(_NUMBERS)
        out, err = (str(Path(_FOLDER.name, f"{name}{number}")) for name in ("out", "err"))
        self._files = out, err
        self.pid = _ask({
            "command": [str(word) for word in command], "cwd": str(cwd or os.getcwd()),
            "out": out, "err": err, "config": config or {},
        })  # fmt: skip

    def kill(self):
        _ask({"pid": self.pid, "kill": True})

    def wait(self, seconds: float = 300) -> Ended:
        """Raises TimeoutError, with what the process said, where it has not ended by then."""
        deadline = time.monotonic() + seconds
        while (code := _ask({"pid": self.pid, "kill": False})) is None:
            if time.monotonic() > deadline:
                self.kill()
                said = "\n".join(Path(name).read_text()[-2000:] for name in self._files)
                raise TimeoutError(f"the process did not end in {seconds} s:\n{said}")
            time.sleep(0.01)
        return Ended(code, *(Path(name).read_text() for name in self._files))


def run(*command, seconds: float = 600, **options) -> Ended:
    """The end of `python *command`; options as those of `Forked`."""
    return Forked(*command, **options).wait(seconds)


@functools.cache
def _server():
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here)])
    environment = os.environ | {"JAX_ENABLE_X64": "0", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def _ask(request):
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


# what follows runs in the process that forks
def _serve() -> dict:
    """Answers requests until their end; in a new process, what it was asked to become."""
    for module in MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a new process that looked for garbage would copy all of this
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    codes = {}  # of the processes that were started, None while they run
    for line in sys.stdin:
        request = json.loads(line)
        pid, answer = request.get("pid"), None
        if pid is None:
            answer = os.fork()
            if answer == 0:
                return request
            codes[answer] = None
        elif codes[pid] is None:
            if request["kill"]:
                os.kill(pid, signal.SIGKILL)
            found, status = os.waitpid(pid, os.WNOHANG)
            codes[pid] = os.waitstatus_to_exitcode(status) if found else None
        print(json.dumps(codes[pid] if pid else answer), flush=True)
    for pid in (pid for pid, code in codes.items() if code is None):
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _become(command, out, err, cwd, config):
    """What `python *command` does."""
    for number, name in enumerate((os.devnull, out, err)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    for name, value in config.items():
        sys.modules["jax"].config.update(name, value)
    kind, *sys.argv = command if command[0] in ("-c", "-m") else ["", *command]
    if kind == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        program, sys.argv[0] = sys.argv[0], "-c"
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _become(**_serve())
