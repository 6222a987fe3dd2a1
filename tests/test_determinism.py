"""The same seed gives the same bits, in another process too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from one_run import SEARCHES

SCRIPT = Path(__file__).with_name("one_run.py")


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Everything in two new processes, which hash strings and functions differently."""

    def run(seed):  # the second finds what the first has compiled, if it is the same
        folder = tmp_path_factory.mktemp("run")
        environment = os.environ | {"PYTHONHASHSEED": seed, "JAX_ENABLE_X64": "0"}
        done = subprocess.run(
            [sys.executable, SCRIPT, folder], env=environment, stdout=subprocess.PIPE, timeout=300
        )
        assert done.returncode == 0
        return json.loads(done.stdout)

    return [run("1"), run("2")]


def test_a_whole_fit_is_repeated_to_the_last_bit(twice):
    first, second = ({k: v for k, v in run.items() if k.startswith("fit")} for run in twice)
    assert len(first) == 4 and first == second


@pytest.mark.parametrize("network", ["perceptron", "convnet"])
def test_a_fit_does_not_depend_on_its_blocks(twice, network):
    assert twice[0][f"fit of a {network}, block=None"] == twice[0][f"fit of a {network}, block=2"]
    assert len({v for k, v in twice[0].items() if k.startswith("fit")}) == 2


@pytest.mark.parametrize("search", SEARCHES)
def test_a_whole_sweep_is_repeated_to_the_last_bit(twice, search):
    first, second = ({k: v for k, v in run.items() if k.startswith(search)} for run in twice)
    assert len(first) == 6 and first == second
