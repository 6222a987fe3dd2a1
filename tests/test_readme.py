"""What the README shows runs as it stands."""

import re
import tomllib
from pathlib import Path

import pytest
from forks import run

README = Path(__file__).parents[1] / "README.md"
EXAMPLE, *MORE = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


# between the example and what follows it
LEFT = "import os; print('left behind:', sorted(os.listdir()))"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All of it in one process: (what the example prints, what the others print, their folder)."""
    folder = tmp_path_factory.mktemp("readme")
    code = "\n".join([EXAMPLE, LEFT, *MORE])
    done = run("-c", code, cwd=folder)
    assert done.code == 0, done.err
    first, _, others = done.out.partition("left behind: ")
    return first, others, folder


@pytest.mark.slow
def test_the_example_runs_in_an_empty_directory(ran):
    first, others, _ = ran
    assert len(EXAMPLE.splitlines()) <= 40
    assert others.splitlines()[0] == "['best.png', 'trials.csv']"
    assert "rank  trial" in first


@pytest.mark.slow
def test_what_follows_the_example_goes_on_from_it(ran):
    _, others, folder = ran
    assert "trial-epochs in place of 800" in others and "±" in others
    assert (folder / "rungs.png").exists()


def test_every_extra_that_a_message_names_exists():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    named = {
        extra
        for path in (README.parent / "purenet").rglob("*.py")
        for extra in re.findall(r"purenet\[(\w+)\]", path.read_text())
    }
    assert "optuna" in named and named <= set(project["optional-dependencies"])
