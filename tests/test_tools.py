"""The tools around the code say the same: pre-commit, CI, scripts and pyproject.toml."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CI = (ROOT / ".ci" / "run").read_text()


def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["run"]


def test_pre_commit_has_the_versions_of_the_extra():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "codespell", "mypy"}
    pinned = {pin for hook in hooks.values() for pin in hook.get("additional_dependencies", [])}
    assert len(pinned) == 2 and pinned <= set(PROJECT["optional-dependencies"]["check"])


def test_the_workflow_runs_every_part_of_ci_on_every_python():
    matrix = workflow()["strategy"]["matrix"]
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]
    assert matrix["part"] == re.search(r"\|\| set -- (.*)", CI)[1].split()
    assert all(f"\nrun_{part}() {{\n" in CI for part in matrix["part"])
    assert workflow()["steps"][-1]["run"] == ".ci/run ${{ matrix.part }}"


def test_ci_finds_the_oldest_jax_in_the_project():
    (line,) = (line for line in CI.splitlines() if line.strip().startswith("oldest=$("))
    done = subprocess.run(
        ["bash", "-c", f'{line}; echo "$oldest"'], cwd=ROOT, capture_output=True, text=True
    )
    assert f"jax>={done.stdout.strip()}" in PROJECT["dependencies"]
    assert f"jaxlib>={done.stdout.strip()}" in PROJECT["dependencies"]


@pytest.mark.parametrize("tool", ["ruff format --check .", "ruff check .", "codespell", "mypy"])
def test_the_script_and_ci_run_the_same_checks(tool):
    assert f"\n{tool}\n" in (ROOT / "scripts" / "check").read_text()
    assert f"\n  {tool}\n" in CI


def test_mutate_knows_modules_and_tests_that_exist():
    tree = ast.parse((ROOT / "scripts" / "mutate").read_text())
    table = [node for node in tree.body if isinstance(node, ast.Assign)]
    code = ast.Module([node for node in table if node.targets[0].id in ("LAYERS", "TESTS")], [])
    names = {}
    exec(compile(code, "scripts/mutate", "exec"), names)
    assert names["TESTS"]
    for module, tests in names["TESTS"].items():
        assert (ROOT / module).is_file(), module
        assert not [test for test in tests if not (ROOT / "tests" / f"{test}.py").is_file()]
