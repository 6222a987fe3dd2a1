"""What the README shows runs as it stands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_in_an_empty_directory(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.png", "trials.csv"]
    assert "rank  trial" in done.stdout


def test_every_extra_that_a_message_names_exists():
    extras = set(
        tomllib.loads((README.parent / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
    )
    named = {
        extra
        for path in (README.parent / "purenet").rglob("*.py")
        for extra in re.findall(r"purenet\[(\w+)\]", path.read_text())
    }
    assert "optuna" in named and named <= extras
