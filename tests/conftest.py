"""Every test runs in float64 unless it says otherwise, on two host devices, without warnings."""

import gc
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import pytest


def compilation_cache() -> Path:
    """A folder for compiled programs, one for each set of versions and kind of processor."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        processor = platform.processor()
    kinds = sorted({line for line in processor.splitlines() if line.startswith(("flags", "model"))})
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")]
    parts = [platform.python_version(), platform.machine(), *versions, *kinds]
    name = hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "purenet-tests", name)


# In the environment, before JAX is imported: the processes that tests start share it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compilation_cache()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# A test's program runs a few times, so most of its time is XLA's: what compiles in half the time
# is good enough. `XLA_FLAGS= pytest` compiles as users do.
_QUICKLY = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
_JAXLIB = importlib.metadata.version("jaxlib").split(".")
if tuple(map(int, _JAXLIB[:2])) < (0, 12):  # later ones end the process at a flag that is gone
    _QUICKLY.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_QUICKLY))

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
# Tracing makes objects by the million that live: looking for garbage among them as often as Python
# does by itself takes a fifth of the suite's time.
gc.set_threshold(50_000, 20, 20)


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")
    # a program that another process is writing to the cache just now is compiled here instead
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent comp")


# The heart of the library in half a minute, for between two edits, `pytest -m fast`: files, and
# tests of files.
_FAST = {
    "test_layout",
    "test_ops::test_rule_equals_jax_grad",
    "test_optimizers::test_equals_reference",
    "test_optimizers::test_error",
    "test_schedules",
    "test_search",
    "test_space",
    "test_stopping::test_halving_trains_what_its_rungs_say_and_nothing_else",
    "test_stopping::test_a_population_copies_and_explores",
}


def pytest_collection_modifyitems(items):
    for stem, _, test in (name.partition("::") for name in _FAST):
        path = Path(__file__).with_name(f"{stem}.py")
        found = path.exists() and f"def {test}" in path.read_text()
        assert found, f"_FAST in {__file__} names {stem}.py and {test or 'its tests'}: not there"
    for item in items:
        stem, test = item.path.stem, getattr(item, "originalname", "")
        if {stem, f"{stem}::{test}"} & _FAST:
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="module")
def little_garbage():
    """For tests that collect garbage often: what earlier tests left alive is not searched."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def mnist_dir():
    """Where the four IDX files are, from the variable MNIST_DIR; the test is skipped without it."""
    directory = os.environ.get("MNIST_DIR", "")
    if not os.path.isdir(directory):
        pytest.skip("MNIST_DIR does not name a directory with the IDX files")
    return directory
