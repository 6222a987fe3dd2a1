"""Every test runs in float64 unless it says otherwise, on two host devices, without warnings."""

import os

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")


# Modules that compile many small programs, each of which runs once.
_RUN_ONCE = {
    "test_conv",
    "test_errors_networks",
    "test_executors",
    "test_extremes",
    "test_gradcheck",
    "test_masked_width",
    "test_mesh",
    "test_nets",
    "test_ops",
    "test_pool",
    "test_precision",
    "test_training",
    "test_transformations",
}


@pytest.fixture(autouse=True)
def compiled_quickly(request):
    """What runs once is not optimised."""
    once = request.node.path.stem in _RUN_ONCE
    jax.config.update("jax_disable_most_optimizations", once)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
