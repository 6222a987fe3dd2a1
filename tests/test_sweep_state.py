"""The table of trials, and how small the classes of a sweep stay."""

import ast
from pathlib import Path

import numpy as np
import pytest

from purenet import sweep
from purenet.sweep.engine.monitor import Objective
from purenet.sweep.engine.records import Lineage, Report
from purenet.sweep.space.points import no_points
from purenet.sweep.space.space import take_apart
from purenet.sweep.state import SweepShape, SweepState

ROOMS = Path(sweep.__file__).parent
FILES = [
    *(ROOMS / name for name in ("_run.py", "group.py", "state.py")),
    *(path for room in ("engine", "storage", "backends") for path in (ROOMS / room).glob("*.py")),
]


def table(seeds=1, maximize=False):
    space = take_apart({"rate": sweep.uniform(0.0, 2.0), "width": sweep.choice([4, 8])})
    shape = SweepShape(points=3, seeds=seeds, epochs=2)
    state = SweepState(space, no_points(space), shape, Objective("loss", maximize))
    state.draw(np.array([[0.25, 0.1], [0.5, 0.9], [0.75, 0.2]]))
    state.add_metrics({"loss"})
    return state


def report(rows, before, losses, alive=True):
    """A report of as many epochs for each row as there are losses."""
    losses = np.array(losses, float)
    before = np.full(len(rows), before)
    return Report(
        np.array(rows),
        before,
        before + losses.shape[1],
        np.full(len(rows), alive),
        np.zeros(len(rows), bool),
        {part: {"loss": losses} for part in ("train", "validation")},
    )


def test_epochs_that_are_repeated_are_not_counted_again_and_none_is_lost():
    state, rows = table(), np.array([0, 1])
    assert state.record(rows, report([0, 1], 0, [[3.0, 2.0], [5.0, 4.0]])) == 4
    assert state.record(rows, report([0, 1], 0, [[3.0], [5.0]])) == 0
    assert state.epochs.tolist() == [2, 2, 0]
    np.testing.assert_array_equal(state.scores(), [[-3, -2], [-5, -4], [np.nan, np.nan]])
    assert state.statuses().tolist() == ["done", "done", "stopped"]


@pytest.mark.parametrize("maximize, best", [(False, {1}), (True, {2})])
def test_a_run_that_diverged_is_never_among_the_best(maximize, best):
    state = table(maximize=maximize)
    state.record(np.array([1, 2]), report([1, 2], 0, [[1.0, 2.0], [1.0, 3.0]]))
    lost = 9.0 if maximize else 0.0
    state.record(np.array([0]), report([0], 0, [[lost, lost]], alive=False))
    assert state.best_rows(1) == best
    assert state.status() == {
        "best val loss": f"{3 if maximize else 1} (trial {2 if maximize else 1})",
        "alive": "2/3",
        "diverged": "1",
    }


def test_the_runs_of_a_point_lie_side_by_side_and_in_its_group():
    state = table(seeds=2)
    assert [state.rows_of(g).tolist() for g in (0, 1)] == [[0, 1, 4, 5], [2, 3]]
    assert [state.group_of(row) for row in range(6)] == [0, 0, 1, 1, 0, 0]
    assert state.hyper()["width"].tolist() == [4, 4, 8, 8, 4, 4]
    (rate,) = state.final_numbers(3)
    assert rate == 1.0


def test_a_member_has_the_hyperparameters_that_it_ended_with():
    state = table()
    state.lineage = Lineage(
        1, np.array([[0, 0, 2]]), {"rate": np.array([[0.5, 1, 1.5], [7, 8, 9]])}
    )
    assert state.hyper()["rate"].tolist() == [7, 8, 9]
    assert state.final_numbers(1) == (8,)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_class_has_more_than_ten_attributes(path):
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.ClassDef):
            names = {node.target.id for node in found.body if isinstance(node, ast.AnnAssign)}
            names |= {
                node.attr
                for node in ast.walk(found)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
            assert len(names) <= 10, f"{found.name}: {sorted(names)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_below_the_run_knows_it(path):
    imported = [
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    ]
    assert path.name == "_run.py" or "purenet.sweep._run" not in imported
