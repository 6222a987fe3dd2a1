"""What an installation is made of; scripts/check_install tries it out, and CI runs that."""

import importlib.machinery
import re
import tomllib
from pathlib import Path

import purenet as pn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_said_once():
    assert "version" in PROJECT["project"]["dynamic"] and "version" not in PROJECT["project"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert re.findall(r'"(\d+\.\d+\.\d+)"', source.read_text()) == [pn.__version__]
    for path in (ROOT / "purenet").rglob("*.py"):
        assert path == source or f'"{pn.__version__}"' not in path.read_text()


def test_an_editable_install_is_a_path_file_which_wins_over_a_folder_of_the_same_name(tmp_path):
    assert PROJECT["build-system"]["build-backend"] == "hatchling.build"
    assert PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["."]
    (tmp_path / "purenet" / "purenet").mkdir(parents=True)  # the folder above a clone
    found = importlib.machinery.PathFinder.find_spec("purenet", [str(tmp_path), str(ROOT)])
    assert found.origin == str(ROOT / "purenet" / "__init__.py")


def test_the_wheel_is_the_package_with_its_types_alone():
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["purenet"]}
    assert (ROOT / "purenet" / "py.typed").exists()


def test_ci_tries_the_installation_with_what_the_extra_brings():
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert "scripts/check_install" in lines
    tools = set(re.findall(r'"-m", "(\w+)"', (ROOT / "scripts" / "check_install").read_text()))
    extra = " ".join(PROJECT["project"]["optional-dependencies"]["check"])
    assert {"build", "twine", "mypy", "pyright"} <= tools
    assert all(tool in extra for tool in tools - {"pip", "purenet"}) and "hatchling" in extra


def test_no_extra_brings_what_nothing_imports():
    assert "tqdm" not in (ROOT / "pyproject.toml").read_text()
