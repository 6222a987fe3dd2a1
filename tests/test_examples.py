"""Every example runs with --quick, reaches the outcome that it asserts, and draws its pictures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = {
    "e10_simple_convnet": {"curves", "filters_before", "filters_after", "mistakes"},
    "e11_deep_convnet": {"curves", "mistakes"},
    "e12_alexnet": {"curves", "filters_before", "filters_after", "patches"},
    "e2_numerical_gradient": {"curves"},
    "e3_gradient_check": {"errors"},
    "e13_save_load": {"curves"},
    "e14_data": {"images"},
}


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("e*.py")} == set(PICTURES)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_example_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--out", tmp_path],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"JAX_ENABLE_X64": "0"},
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout  # the example itself asserts what it is to show
    number = name.partition("_")[0]
    drawn = {path.stem.removeprefix(f"{number}_") for path in tmp_path.glob("*.png")}
    assert drawn >= PICTURES[name] - {"mistakes"}
