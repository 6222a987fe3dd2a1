"""What the README shows runs as it stands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLE, *MORE = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def run(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_the_example_runs_in_an_empty_directory(tmp_path):
    assert len(EXAMPLE.splitlines()) <= 40
    done = run(EXAMPLE, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.png", "trials.csv"]
    assert "rank  trial" in done.stdout


@pytest.mark.slow
def test_what_follows_the_example_goes_on_from_it(tmp_path):
    done = run("\n".join([EXAMPLE, *MORE]), tmp_path)
    assert "trial-epochs in place of 800" in done.stdout and "±" in done.stdout
    assert (tmp_path / "rungs.png").exists()


def test_every_extra_that_a_message_names_exists():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    named = {
        extra
        for path in (README.parent / "purenet").rglob("*.py")
        for extra in re.findall(r"purenet\[(\w+)\]", path.read_text())
    }
    assert "optuna" in named and named <= set(project["optional-dependencies"])
