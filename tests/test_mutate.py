"""The script that changes one token at a time, on a module of a few lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

MODULE = '''"""More than 9 is enough."""


def enough(x: int | None, least: int = 10) -> int:
    """1 + 1"""
    if x is None:
        raise ValueError(f"{1 + 1} is not enough")
    return x + 1 if x >= least else 0


def endless(x):
    while x < 3:
        x += 1
    return x
'''


@pytest.fixture
def changes(monkeypatch):
    """The function of the script that finds the changes: text -> [(line, before, after)]."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import mutations

    return lambda text: [(m.line, m.before, m.after) for m in mutations.mutants(text)]


def test_annotations_docstrings_and_what_is_raised_are_left_alone(changes):
    assert changes(MODULE) == [
        (4, "10", "11"), (4, "10", "9"), (6, "is", "is not"),
        (8, "+", "-"), (8, "1", "0"), (8, "1", "2"), (8, ">=", "<"), (8, ">=", ">"),
        (8, "0", "-1"), (8, "0", "1"),
        (12, "<", "<="), (12, "<", ">="), (12, "3", "2"), (12, "3", "4"),
        (13, "+=", "-="), (13, "1", "0"), (13, "1", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("text, expected", [
    ("not a", [("not ", "")]),
    ("-a", [("-", "")]),
    ("a is not None", [("is not", "is")]),
    ("(a) not  in (b)", [("not  in", "in")]),
    ("a or b and c", [("or", "and"), ("and", "or")]),
    ("a // b", [("//", "*")]),
    ("1.5", [("1.5", "1.515")]),
    ("'é' + a", [("+", "-")]),
    ("a[b:1]", [("b", ""), ("", " + 1"), ("1", ""), ("1", "0"), ("1", "2")]),
    ("np.maximum(a, f(axis=0))", [("maximum", "minimum"), ("0", "-1"), ("0", "1")]),
    ("f(True)", [("True", "False")]),
    ("f'{1}'", []),
])  # fmt: skip
def test_every_kind_of_token_is_changed_where_it_stands(changes, text, expected):
    assert [change[1:] for change in changes(text)] == expected


LARGER = """def larger(a, b):
    while not a:
        a += 1
    return a > b
"""


@pytest.fixture
def mutate(tmp_path, monkeypatch):
    """A function that runs the script on line N, with these tests: what it prints, its results."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder, out = tmp_path / "toy", tmp_path / "results.jsonl"
    (folder / "tests").mkdir(parents=True)
    (folder / "toy.py").write_text(LARGER)

    def run(line, test, *options):
        test = f"from toy import larger\n\n\ndef test_larger():\n    assert {test}\n"
        (folder / "tests" / "test_toy.py").write_text(test)
        command = [sys.executable, SCRIPTS / "mutate", "toy.py", "--root", folder, "--out", out,
                   "--line", str(line), *options]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (folder / "toy.py").read_text() == LARGER
        results = [json.loads(line) for line in out.read_text().splitlines()]
        return done.stdout, {(r["before"], r["after"]): (r["outcome"], r["by"]) for r in results}

    return run


def test_a_mutant_is_killed_by_a_test_or_survives_until_there_is_one(mutate):
    killed, survived = ("killed", "tests/test_toy.py::test_larger"), ("survived", None)
    text, results = mutate(4, "larger(2, 1) and not larger(1, 2)")
    assert results == {(">", "<="): killed, (">", ">="): survived}
    assert "toy.py:4:14 '>' -> '>=' survived" in text
    text, results = mutate(4, "not larger(1, 1)", "--again")
    assert "1/1" in text  # the survivor alone is tried again
    assert results == {(">", "<="): killed, (">", ">="): killed}


@pytest.mark.slow
def test_a_mutant_that_never_ends_is_killed(mutate):
    _, results = mutate(3, "larger(0, 0)", "--patience", "2")
    assert results["1", "0"] == ("timed out", "tests/test_toy.py::test_larger")
