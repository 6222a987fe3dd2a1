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


def test_a_tutorial_runs_as_a_notebook(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "tutorials" / "hand_written_layer.md").read_text()
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", page, re.DOTALL)
    done = execute(cells, tmp_path, monkeypatch)
    assert len(done) >= 4 and all(cell.execution_count for cell in done)


def test_a_sweep_in_a_notebook_leaves_one_line_of_progress_and_a_table(tmp_path, monkeypatch):
    (cell,) = execute([SWEEP], tmp_path, monkeypatch)
    bar, result = [out.data for out in cell.outputs if "data" in out]
    assert not [out for out in cell.outputs if "\r" in out.get("text", "")]
    line = bar["text/plain"]
    assert line.startswith("100%") and "12/12" in line and "best val loss" in line
    assert "\n" not in line and "\x1b" not in line
    assert "<table>" in result["text/html"] and result["text/plain"].startswith("Result: 4 trials")
