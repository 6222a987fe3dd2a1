"""The page about a sweep: what it holds, that it needs nothing else, and that it works."""

import base64
import json
import sys

import numpy as np
import pytest
from browser import CHROMIUM, run_in

from purenet import cli, sweep
from purenet.core import types
from purenet.sweep.engine.monitor import Objective
from purenet.sweep.engine.pareto import Goal
from purenet.sweep.engine.records import Lineage
from purenet.sweep.results import importance, report
from purenet.sweep.results.trials import TrialTable
from purenet.sweep.storage.lock import Lock

EVIL = "<b><script>alert(1)</script>"  # Plotly takes <b> for bold
WITHIN_6_MB = 6_000_000


def table(n=24, epochs=9, *, columns=(), goals=()):
    """Trials whose score depends on the rate alone; the worse half is stopped, one diverged."""
    rng = np.random.default_rng(0)
    rate = 10 ** rng.uniform(-4, 0, n)
    end = 1 - 0.1 * np.abs(np.log10(rate) + 2)
    accuracy = np.linspace(0.1, 1, epochs) * end[:, None] + rng.normal(size=(n, epochs)) * 1e-3
    ended, status = np.full(n, epochs), np.full(n, "done", object)
    worse = np.argsort(end)[: n // 2]
    ended[worse], status[worse] = epochs // 3, "stopped"
    status[worse[0]] = "diverged"
    accuracy[np.arange(epochs) >= ended[:, None]] = np.nan
    hyper = {
        EVIL: rate,
        "width": rng.integers(8, 512, n),
        "net": np.array([EVIL, "tanh"], object)[rng.integers(0, 2, n)],
        "momentum": np.where(np.arange(n) % 3 == 0, np.nan, rng.uniform(size=n)),
        "batch": np.full(n, 100),
    }
    space = dict.fromkeys(hyper) | {EVIL: sweep.loguniform(1e-4, 1.0)}
    score = accuracy.astype(np.float32)
    curves = {"train": {"accuracy": score}, "validation": {"accuracy": score}}
    objective = Objective("accuracy", maximize=True, goals=tuple(goals))
    return TrialTable(hyper, space, 1, status.astype(str), ended, curves, objective)


def written(trials, path, lineage=None, **options):
    report.write_report(path, trials, lineage, 12.0, **options)
    return path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(importance, "_TREES", 10)


# what it holds
def test_the_page_holds_the_numbers_of_the_trials():
    trials = table()
    found = json.loads(json.dumps(report.content(trials, None)))
    first = trials.ranked()[0]
    assert found["rank"][first] == 1 and found["rank"].count(0) == 1
    assert found["status"] == trials.status.tolist()
    curves = found["curves"]
    stored = np.frombuffer(base64.b64decode(curves["metrics"]["accuracy"]["train"]), "<f4")
    np.testing.assert_array_equal(stored.reshape(24, 9), trials.curves["train"]["accuracy"])
    hyper = {column["name"]: column for column in found["hyper"]}
    assert [*hyper] == [EVIL, "width", "net", "momentum"]  # which differ between trials
    assert found["constants"] == ["batch = 100"]
    assert hyper[EVIL]["log"] and not hyper["width"]["log"]
    np.testing.assert_allclose(hyper[EVIL]["values"], trials.hyper[EVIL], rtol=1e-6)
    assert hyper["net"]["names"] == sorted([EVIL, "tanh"])
    assert hyper["momentum"]["values"][0] is None and hyper["momentum"]["values"][1] > 0
    assert found["rungs"] == {"levels": [3, 9], "counts": [[24, 12], [12, 0]]}


def test_runs_are_averaged_and_a_diverged_one_counts():
    trials = table()
    trials = TrialTable(trials.hyper, trials.space, 2, trials.status, trials.epochs, trials.curves,
                        trials.objective)  # fmt: skip
    found = report.content(trials, None)
    assert len(found["rank"]) == 12 and found["number"][3] == 6
    score, interval = found["metrics"][:2]
    assert interval["name"] == "±" and interval["values"][0] > 0
    assert score["values"][5] == pytest.approx(trials.scores()[10:12].mean(), rel=1e-6)
    assert "diverged" in found["status"] and "averaged" not in score["name"]


def test_too_many_curves_are_thinned_and_the_last_epoch_stays(monkeypatch):
    monkeypatch.setattr(report, "_MOST", 100)
    curves = report.content(table(), None)["curves"]
    assert curves["every"] == 5 and curves["x"] == [4, 9]


def test_objectives_and_lineage_are_shown_where_there_are_some():
    goals = [Goal("accuracy", True), Goal("width", False)]
    numbers = {EVIL: np.array([[0.1, 0.2], [0.2, 0.2]])}
    lineage = Lineage(5, np.array([[1, 1]]), numbers)
    trials = table(2, goals=goals)
    found = report.content(trials, lineage)
    assert [goal["name"] for goal in found["objectives"]["goals"]] == ["accuracy", "width"]
    assert found["objectives"]["front"] == trials.front()
    best = trials.ranked()[0]
    assert found["lineage"]["ancestors"] == [1, best] and EVIL in found["lineage"]["numbers"]


# the file
def test_the_page_escapes_what_it_is_given_and_fetches_nothing(tmp_path):
    page = written(table(), tmp_path / "a.html", title=EVIL)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page and "{{" not in page.split('id="library"')[0]
    assert written(table(), tmp_path / "b.html", title=EVIL) == page


def test_2000_trials_of_100_epochs_take_less_than_6_mb(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "importances", lambda *_: importance.Importances({}, 0.0))
    trials = table(2000, 100)
    for part in trials.curves:  # curves that no compression makes smaller
        noise = np.random.default_rng(1).normal(size=(2000, 100)).astype(np.float32)
        trials.curves[part] |= {"accuracy": noise, "loss": noise}
    assert len(written(trials, tmp_path / "a.html")) < WITHIN_6_MB


def test_without_plotly_nothing_is_written_and_the_error_says_what_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ModuleNotFoundError, match=r"plotly.*pip install 'purenet\[report\]'"):
        written(table(), tmp_path / "a.html")
    assert not any(tmp_path.iterdir())


def test_without_scikit_learn_the_page_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    found = report.content(table(), None)["importance"]
    assert not found["names"] and "pip install 'purenet[report]'" in found["note"]


# importances
def test_the_rate_is_what_matters():
    trials = table(60)
    columns = {name: column for name, column in trials.hyper.items() if name != "batch"}
    found = importance.importances(trials, columns)
    assert next(iter(found.losses)) == EVIL and found.shares[EVIL] > 0.8
    assert found.explained > 0.5


def test_few_points_have_no_importances():
    with pytest.raises(ValueError, match=r"importances need 12 points or more; 5 of this"):
        importance.importances(table(5), {EVIL: table(5).hyper[EVIL]})


# purenet report
def halve(hyper):
    return types.Trainable(
        init=lambda key: hyper["start"],
        epoch=lambda state, data: (state / 2, {}),
        evaluate=lambda state, data: {"loss": state},
    )


def test_the_command_writes_the_page_of_a_folder_and_follows_one_that_runs(
    tmp_path, monkeypatch, capsys
):
    folder, nothing = tmp_path / "out", (np.zeros(1), np.zeros(1))
    sweep.run(halve, {"start": sweep.uniform(1.0, 2.0)}, nothing, 3, 2, path=folder)
    lock, pages = Lock(folder), []

    def ends(_):
        pages.append((folder / "report.html").read_text(encoding="utf-8"))
        lock.close()

    monkeypatch.setattr("time.sleep", ends)
    assert cli.main(["report", str(folder)]) == 0
    assert "the page follows it" in capsys.readouterr().out
    last = (folder / "report.html").read_text(encoding="utf-8")
    assert len(pages) == 1 and last != pages[0]  # only the first loads itself again
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "one.html")]) == 0
    assert (tmp_path / "one.html").read_text(encoding="utf-8") == last
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err


# in a browser
BRUSH = """
const count = () => byId("count").textContent;
const rows = () => document.querySelectorAll("#table tbody tr").length;
const found = { before: [count(), rows()] };
const brush = document.querySelector("#parallel .axis-brush .background");
const box = brush.getBoundingClientRect();
const mouse = (on, kind, share) => on.dispatchEvent(new MouseEvent(kind, {
  bubbles: true, view: window,
  clientX: box.left + box.width / 2, clientY: box.top + share * box.height,
}));
mouse(brush, "mousemove", 0.1);
mouse(brush, "mousedown", 0.1);
for (const share of [0.2, 0.3, 0.4]) mouse(window, "mousemove", share);
mouse(window, "mouseup", 0.4);
await wait(300);
found.brushed = [count(), rows()];
found.drawn = byId("curves").data.slice(0, 6).flatMap((t) => [...new Set(t.customdata)]).sort();
const all = (what) => [...document.querySelectorAll(what)];
found.kept = all("#table tbody tr").map((row) => Number(row.dataset.point)).sort();
byId("clear").click();
await wait(300);
found.cleared = [count(), rows()];
const press = (on, key) => on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
all("#table th button")[2].click();  // the score, upwards
found.sorted = all("#table tbody tr td:nth-child(3)").map((cell) => Number(cell.textContent));
const row = document.querySelector("#table tbody tr");
row.focus();
press(row, "ArrowDown");
found.next = document.activeElement === row.nextElementSibling;
press(document.activeElement, "Enter");
found.chosen = Number(document.activeElement.dataset.point) === state.chosen;
await wait(200);
found.highlighted = byId("curves").data.slice(-4).some((trace) => trace.x.length > 1);
const typing = document.querySelector("#fields input[type=text]");
typing.value = "0.01";
typing.dispatchEvent(new Event("change", { bubbles: true }));
await wait(300);
found.typed = rows();
found.names = all("#parallel .axis-title").map((title) => title.textContent);
return found;
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_brushing_sorting_and_keys_work_in_a_browser(tmp_path):
    trials = table()
    page = tmp_path / "report.html"
    written(trials, page, title=EVIL)
    found, failures = run_in(page, tmp_path, BRUSH)
    assert not failures
    assert found["before"] == found["cleared"] == ["24 of 24 trials", 24]
    count, rows = found["brushed"]
    assert 0 < rows < 24 and count == f"{rows} of 24 trials"
    assert found["drawn"] == found["kept"]
    assert found["sorted"] == sorted(found["sorted"])
    assert found["next"] and found["chosen"] and found["highlighted"]
    assert found["typed"] == (trials.hyper[EVIL] >= 0.01).sum()
    assert EVIL in found["names"]
