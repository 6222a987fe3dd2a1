"""use_cpu_cores, in processes that have not started JAX yet."""

import subprocess
import sys

from forks import run


def say(code):
    done = run("-c", code)
    assert done.code == 0, done.err
    return done.out.strip()


def test_one_device_a_core_or_as_many_as_asked_for():
    assert (
        say("import purenet as pn, jax; n = pn.use_cpu_cores(); print(n == jax.device_count())")
        == "True"
    )
    assert say("import purenet as pn, jax; pn.use_cpu_cores(3); print(jax.device_count())") == "3"
    twice = (
        "import purenet as pn, jax; pn.use_cpu_cores(2); jax.devices(); print(pn.use_cpu_cores(2))"
    )
    assert say(twice) == "2"


def test_too_late_is_explained():
    code = (
        "import purenet as pn, jax; jax.devices()\n"
        "try: pn.use_cpu_cores(5)\n"
        "except RuntimeError as error: print(error)"
    )
    assert "too late for 5 devices: JAX has already started with 1. Call it first" in say(code)


def test_importing_computes_nothing_and_needs_no_extra():
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in {'matplotlib', 'sklearn', 'tqdm', 'pandas', 'chex'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import purenet, purenet.cli, jax\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
