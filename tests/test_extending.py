"""A sweep that gets more trials or more epochs is the one that was asked for at once."""

import concurrent.futures
import json

import crash_points
import jax
import numpy as np
import pytest
from crash_points import differing, held, learner, moments, outcome, put

from purenet import sweep
from purenet.sweep.storage.reading import CURVES, SETTINGS
from purenet.sweep.testing import check_scheduler

DATA = crash_points.DATA
SMALL, MORE, LONGER, BOTH = (3, 4), (6, 4), (3, 6), (6, 6)
NUMBERS = {"limit": sweep.uniform(0.0, 1.0), "step": sweep.loguniform(0.05, 0.5)}
# of the points of seed 16, the fourth is the first of kind "b", and the third diverges
CHOICES = NUMBERS | {"kind": sweep.choice(["a", "b"])}


def run(size, path=None, space=CHOICES, **options):
    options = {"devices": 1, "progress": False, "seed": 16} | options
    return sweep.run(learner, space, DATA, *size, path=path, **options)


def tpe(batch):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return sweep.from_optuna(optuna.samplers.TPESampler, batch=batch)


def check(tmp_path, sizes, **options):
    """One folder that is extended from size to size, and one of the last size from the start."""
    at_once = run(sizes[-1], tmp_path / "at once", **options)
    *_, result = [run(size, tmp_path / "extended", **options) for size in sizes]
    assert not differing(outcome(result), outcome(at_once))
    assert not differing(held(tmp_path / "extended"), held(tmp_path / "at once"))
    assert result.settings == at_once.settings
    return result


WAYS = {
    "more trials": (MORE, {}), "more epochs": (LONGER, {}), "both": (BOTH, {}),
    "sobol": (BOTH, {"search": sweep.sobol, "space": NUMBERS}), "seeds": (BOTH, {"seeds": 2}),
    "none kept": (LONGER, {"keep": 0}), "all kept": (BOTH, {"keep": 9}),
}  # fmt: skip


@pytest.mark.parametrize("size, options", WAYS.values(), ids=WAYS)
def test_an_extended_sweep_is_the_one_asked_for_at_once(tmp_path, size, options):
    check(tmp_path, [SMALL, size], **options)


def test_more_trials_may_need_a_program_that_the_first_ones_did_not(tmp_path):
    small, result = run(SMALL), check(tmp_path, [SMALL, MORE])
    assert (len(small.programs), len(result.programs)) == (1, 2)
    assert "diverged" in small.status


def test_it_is_extended_again_and_again(tmp_path):
    check(tmp_path, [(1, 1), (1, 2), (3, 2), (6, 3)])
    content = json.loads((tmp_path / "extended" / SETTINGS).read_text())
    assert content["extended from"] == [[1, 1], [1, 2], [3, 2]]


def test_a_search_that_learns_is_extended_by_whole_batches(tmp_path):
    check(tmp_path, [SMALL, (7, 4)], space=NUMBERS, search=tpe(3))


def test_median_stopping_gets_more_epochs(tmp_path):
    search = sweep.median_stopping(grace=1, every=2)
    result = check(tmp_path, [(9, 4), (9, 8)], space=NUMBERS, search=search)
    assert {"stopped", "done"} <= set(result.status)


@pytest.mark.parametrize("search", [sweep.grid(3), sweep.latin_hypercube])
def test_a_design_of_a_certain_size_gets_more_epochs(tmp_path, search):
    check(tmp_path, [(9, 3), (9, 5)], space=NUMBERS, search=search)


class Here(concurrent.futures.Executor):
    """Tasks are run at once, in this process."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.parametrize("size", [MORE, LONGER])
def test_workers_extend_a_sweep(tmp_path, size):
    at_once = run(size, tmp_path / "at once")
    run(SMALL, tmp_path / "extended", devices=None, executor=Here())
    result = run(size, tmp_path / "extended", devices=None, executor=Here())
    assert not differing(outcome(result), outcome(at_once))


def test_only_what_is_not_known_is_trained_again(tmp_path, monkeypatch):
    trained = []
    fresh = sweep.group.Group.record

    def record(self, report, best):
        trained.extend(zip(self.rows[report.rows].tolist(), report.before.tolist(), strict=True))
        return fresh(self, report, best)

    monkeypatch.setattr(sweep.group.Group, "record", record)
    run(SMALL, tmp_path)
    trained.clear()
    run(MORE, tmp_path)
    assert {row for row, _ in trained} == set(range(SMALL[0], MORE[0]))
    trained.clear()
    (best,) = run(MORE, tmp_path).kept
    assert not trained
    run(BOTH, tmp_path)
    first = dict(reversed(trained))
    alive = [r for r, known in enumerate(sweep.load(tmp_path).status) if known != "diverged"]
    assert first == {row: MORE[1] if row == best else 0 for row in alive}


def _whole(points, epochs):
    yield np.full(points, epochs)


REFUSED = {
    "latin hypercube": (sweep.latin_hypercube, (9, 4), "each point of latin_hypercube depends on"),
    "halving": (sweep.halving(), (9, 4), "its rungs compare all points"),
    "halving longer": (sweep.halving(), (3, 9), "its rungs compare all points"),
    "hyperband": (sweep.hyperband(), (3, 9), "its rungs compare all points"),
    "median": (sweep.median_stopping(), (9, 4), "the median of more points differs"),
    "pbt": (sweep.pbt(every=2), (9, 4), "its members copy one another, at exchanges"),
    "pbt longer": (sweep.pbt(every=2), (3, 8), "its members copy one another, at exchanges"),
    "one's own": (
        sweep.Scheduler(sweep.random, _whole, name="mine"),
        (9, 4), "its scheduler does not say that it can be extended",
    ),
    "fewer trials": (sweep.random, (2, 4), None),
    "fewer epochs": (sweep.random, (9, 3), None),
}  # fmt: skip


@pytest.mark.parametrize("search, size, why", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_extended_is_refused_with_the_reason(tmp_path, search, size, why):
    run(SMALL, tmp_path, space=NUMBERS, search=search)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    asked = f"{size[0]} trials of {size[1]} epochs"
    reason = f"which cannot become {asked}: {why}" if why else f"but {asked} are requested"
    with pytest.raises(ValueError, match=f"holds 3 trials of 4 epochs, {reason}.*; read it with "):
        run(size, tmp_path, space=NUMBERS, search=search)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


@pytest.mark.parametrize("size, why", [
    ((9, 4), r"come in batches, and the last of them is not full"),
    ((3, 8), r"depend on the scores after the last epoch"),
])  # fmt: skip
def test_a_search_that_learns_is_extended_in_no_other_way(tmp_path, size, why):
    run(SMALL, tmp_path, space=NUMBERS, search=tpe(2))
    with pytest.raises(ValueError, match=why):
        run(size, tmp_path, space=NUMBERS, search=tpe(2))


def test_another_sweep_is_not_taken_for_a_smaller_one(tmp_path):
    run(SMALL, tmp_path)
    with pytest.raises(ValueError, match=r"(?s)another sweep.*trials: was 3.*seed: was 16, is 4"):
        run(MORE, tmp_path, seed=4)


@pytest.mark.parametrize("size", [MORE, LONGER])
def test_killed_at_any_write_it_ends_the_same(tmp_path, monkeypatch, size):
    expected = outcome(run(size, tmp_path / "at once", keep=2))
    files = held(tmp_path / "at once")
    folder = tmp_path / "extended"
    run(SMALL, folder, keep=2)
    _, states = moments(monkeypatch, folder, lambda: run(size, folder, keep=2))
    assert len(states) > 4 * 2
    wrong = {}
    monkeypatch.setattr("os.fsync", lambda file: None)
    for k, state in enumerate(states):
        put(folder, state)
        loaded = sweep.load(folder)
        assert len(loaded) in (SMALL[0], size[0])
        again = run(size, folder, keep=2)
        if names := differing(outcome(again), expected) + differing(held(folder), files):
            wrong[k] = names
    assert not wrong


def test_one_that_is_not_finished_is_extended_too(tmp_path, monkeypatch):
    expected, folder = outcome(run(BOTH, keep=2)), tmp_path / "killed"
    _, states = moments(monkeypatch, folder, lambda: run(SMALL, folder, keep=2))
    for state in states[1::3]:
        put(folder, state)
        assert not differing(outcome(run(BOTH, folder, keep=2)), expected)


def test_a_folder_whose_settings_alone_were_extended_can_be_read(tmp_path, monkeypatch):
    small = run(SMALL, tmp_path, seeds=2)
    _, states = moments(monkeypatch, tmp_path, lambda: run(LONGER, tmp_path, seeds=2))
    put(tmp_path, states[1])  # before the first save of the longer sweep
    loaded = sweep.load(tmp_path)
    curve = loaded.curves["validation"]["loss"]
    assert curve.shape == (2 * LONGER[0], LONGER[1])
    np.testing.assert_array_equal(curve[:, : SMALL[1]], small.curves["validation"]["loss"])
    assert np.isnan(curve[:, SMALL[1] :]).all()
    assert set(loaded.status) == {"stopped", "diverged"} and loaded.best().epochs == SMALL[1]


def test_curves_of_no_earlier_size_are_damaged(tmp_path):
    run(SMALL, tmp_path)
    path = tmp_path / SETTINGS
    content = json.loads(path.read_text())
    content["settings"]["trials"] = 9
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{CURVES} is damaged.*'epochs' is int64"):
        run((9, 4), tmp_path)
    content["extended from"] = [[3, "4"]]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"'extended from' is \[\[3, '4'\]\]"):
        run((9, 4), tmp_path)


def test_other_software_is_refused_although_the_smaller_sweep_was_finished(tmp_path):
    run(SMALL, tmp_path)
    path = tmp_path / SETTINGS
    content = json.loads(path.read_text())
    content["versions"]["jax"] = "0.0.1"
    path.write_text(json.dumps(content))
    run(SMALL, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"other software.*jax is {jax.__version__}, there 0.0.1"):
        run(MORE, tmp_path)
    assert path.read_bytes() == before


def test_a_scheduler_that_promises_too_much_is_found():
    rounds = sweep.halving().rounds
    mine = sweep.Scheduler(sweep.random, rounds, name="mine", extends=lambda before, after: None)
    with pytest.raises(AssertionError, match=r"mine: it says that .* can become 4 trials"):
        check_scheduler(mine)
