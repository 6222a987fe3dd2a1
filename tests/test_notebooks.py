"""The tutorials run as notebooks, in a kernel of their own, and show what a reader should see."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
need = "notebooks run through nbclient and ipykernel: pip install 'purenet[test]'"
nbclient = pytest.importorskip("nbclient", reason=need)
nbformat = pytest.importorskip("nbformat", reason=need)
pytest.importorskip("ipykernel", reason=need)

SWEEP = """
import jax
import numpy as np
import purenet as pn
from purenet import sweep

trial = lambda hyper: pn.Trainable(
    lambda key: hyper["rate"], lambda s, data: (s / 2, {}), lambda s, data: {"loss": s}
)
space, nothing = {"rate": sweep.loguniform(0.1, 1.0)}, (np.zeros(1), np.zeros(1))
result = sweep.run(trial, space, nothing, trials=4, epochs=3)
result
"""


def execute(cells, folder, monkeypatch):
    """The cells of a notebook, run from top to bottom in a new kernel."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    new = nbformat.v4
    book = new.new_notebook(cells=[new.new_code_cell(source) for source in cells])
    client = nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute().cells


def output(cell, name):
    """The text of a stream, or the representations of the value of a cell."""
    parts = [out for out in cell.outputs if name in (out.get("name"), out.output_type)]
    assert parts, cell.outputs
    return parts[0].data if name == "execute_result" else "".join(out.text for out in parts)


def test_a_tutorial_runs_as_a_notebook(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "tutorials" / "hand_written_layer.md").read_text()
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", page, re.DOTALL)
    done = execute(cells, tmp_path, monkeypatch)
    assert len(done) >= 4 and all(cell.execution_count for cell in done)


def test_a_sweep_in_a_notebook_draws_one_bar_over_and_over_and_ends_in_a_table(
    tmp_path, monkeypatch
):
    (cell,) = execute([SWEEP], tmp_path, monkeypatch)
    *before, last = output(cell, "stderr").split("\r")
    assert "tracing and compiling (1 program)" in before[1]
    assert last.startswith("100%") and "12/12" in last and last.endswith("\n")
    assert last.count("\n") == 1 and "best val loss" in last and "\x1b" not in last
    shown = output(cell, "execute_result")
    assert "<table>" in shown["text/html"] and shown["text/plain"].startswith("Result: 4 trials")
