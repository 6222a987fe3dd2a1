"""Some hundred damaged and malicious files for each reader; `scripts/fuzz` tries many more."""

import sys

import fuzzing
import pytest
from fuzzed_readers import READERS

CASES = {"network": 100, "ensemble": 100, "load": 200, "resume": 200, "fit": 200}


@pytest.mark.skipif(sys.platform == "win32", reason="the watch needs signals")
@pytest.mark.parametrize("name", READERS)
def test_no_file_makes_a_reader_fail(tmp_path, name):
    if name == "safetensors":
        pytest.importorskip("safetensors")
    outcome = fuzzing.run(name, READERS[name], tmp_path, range(CASES.get(name, 300)))
    assert not outcome.failures, "\n".join(fuzzing.kinds(outcome.failures))
    assert outcome.refused > outcome.cases // 4


def wrong(folder, read, content=b"x", check=lambda result: None):
    case = fuzzing.Case({folder / "file": content}, read, check)
    return fuzzing.run("", lambda folder: lambda rng: case, folder, range(1)).failures


def test_the_watch_sees_what_it_is_there_for(tmp_path, monkeypatch):
    """Every kind of failure is one."""
    monkeypatch.setattr(fuzzing, "SECONDS", 0.05)
    path = tmp_path / "file"

    def refuse(message):
        raise ValueError(message)

    def endless():
        while True:
            pass

    def differs(result):
        raise AssertionError("other numbers")

    assert not wrong(tmp_path, path.read_bytes)
    assert not wrong(tmp_path, lambda: refuse(f"{path} is damaged"))
    for read, kind in [
        (lambda: refuse("damaged"), "an error without the file's name"),
        (lambda: {}["a"], "KeyError"),
        (endless, "too long"),
        (lambda: bytes(fuzzing.MEMORY + 2**20) and None, "too much memory"),
        (lambda: (tmp_path.parent / "outside").write_text("x"), "outside its folder"),
    ]:
        assert [failure.kind for failure in wrong(tmp_path, read)] == [kind]
    assert [f.kind for f in wrong(tmp_path, path.read_bytes, check=differs)] == ["a wrong result"]
