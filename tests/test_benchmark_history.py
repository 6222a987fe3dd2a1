"""Ratios of benchmarks are recorded with machine and commit, and drawn over time."""

import importlib
import json
from pathlib import Path

import pytest

import purenet as pn

SCRIPTS = Path(__file__).parents[1] / "scripts"
MACHINE = {"processor": "a processor", "cores": 2, "python": "3.11.7", "jax": "0.10.2",
           "jaxlib": "0.10.2", "numpy": "2.0.0"}  # fmt: skip


@pytest.fixture
def benchmark(monkeypatch):
    """The script with one suite, which measures nothing."""
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("benchmark")
    timing = importlib.import_module("benchmark_timing")
    samples = {"raw JAX": [1.0, 2.0, 3.0], "purenet": [1.0, 1.0, 9.0]}
    monkeypatch.setattr(script, "SUITES", {"mlp": lambda reps: timing.show("a step", samples)})
    monkeypatch.setattr(pn, "use_cpu_cores", lambda: 1)
    timing.SHOWN.clear()
    yield script
    timing.SHOWN.clear()


def run(time, ratio, table="a step", **machine):
    ratios = {table: {"raw JAX": 1.0, "purenet": ratio}}
    return {"time": time, "commit": "abc", "machine": MACHINE | machine, "ratios": ratios}


def test_each_run_appends_its_ratios_with_machine_and_commit(benchmark, tmp_path, capsys):
    path = tmp_path / "ratios.jsonl"
    for _ in range(2):
        benchmark.main(["mlp", "--record", str(path)])
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["ratios"] == second["ratios"] == {"a step": {"raw JAX": 1.0, "purenet": 0.5}}
    assert set(first["machine"]) == set(MACHINE) and first["machine"]["cores"] >= 1
    assert {"time", "commit"} < set(first) and "x 0.50" in capsys.readouterr().out


def test_without_the_option_nothing_is_written(benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    benchmark.main(["mlp"])
    assert not list(tmp_path.iterdir())


def test_a_history_is_drawn_oldest_run_first(benchmark, tmp_path):
    path, picture = tmp_path / "ratios.jsonl", tmp_path / "ratios.png"
    runs = [run("2026-02-01", 0.5), run("2026-01-01", 0.7), run("2026-03-01", 0.9, "another")]
    path.write_text("".join(json.dumps(one) + "\n" for one in runs))
    benchmark.main(["--history", str(path), "-o", str(picture)])
    assert picture.read_bytes()[:4] == b"\x89PNG"
    found = benchmark.history.series(benchmark.history.read(path))
    assert found == {
        "a step": {"purenet": [(0, 0.7), (1, 0.5)]},
        "another": {"purenet": [(2, 0.9)]},
    }


def test_ratios_of_different_machines_are_not_joined(benchmark):
    runs = [run("2026-01-01", 0.7), run("2026-02-01", 0.5, cores=4)]
    labels = benchmark.history.series(runs)["a step"]
    assert labels == {
        "purenet (a processor, 2 cores, JAX 0.10.2)": [(0, 0.7)],
        "purenet (a processor, 4 cores, JAX 0.10.2)": [(1, 0.5)],
    }


def test_an_empty_history_is_refused(benchmark, tmp_path):
    (tmp_path / "ratios.jsonl").touch()
    with pytest.raises(ValueError, match="holds no ratios; run the benchmark with --record"):
        benchmark.main(["--history", str(tmp_path / "ratios.jsonl")])
