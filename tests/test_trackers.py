"""Results in trackers, and reports of a sweep while it runs."""

import sys

import numpy as np
import pytest

import purenet as pn
from purenet import sweep

NOTHING = np.zeros(1), np.zeros(1)
SPACE = {
    "rate": sweep.loguniform(0.1, 1.0),
    "kind": sweep.choice(["a", "b"]),
    "more": sweep.choice([{"deep": sweep.uniform(0.0, 1.0)}, {"wide": 3}]),
}


def trial(hyper):
    return pn.Trainable(
        lambda key: hyper["rate"],
        lambda s, data: (s / 2, {}),
        lambda s, data: {"loss": s, "twice": 2 * s},
    )


@pytest.fixture(scope="module")
def result():
    return sweep.run(trial, SPACE, NOTHING, trials=6, epochs=3, search=sweep.median_stopping(1))


def test_a_study_in_a_journal_file_loads_with_every_epoch(result, tmp_path):
    optuna = pytest.importorskip("optuna")
    path = tmp_path / "study.log"
    result.to_optuna(storage=path)
    journal = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(journal)
    study = optuna.load_study(study_name="purenet", storage=storage)
    assert len(study.trials) == 6 and study.best_value == pytest.approx(result.best().score)
    for i, found in enumerate(study.trials):
        curve = result.curves["validation"]["loss"][i, : result.epochs[i]]
        assert [*found.intermediate_values] == [*range(1, len(curve) + 1)]
        np.testing.assert_allclose([*found.intermediate_values.values()], curve)
        assert found.params["rate"] == pytest.approx(result.hyper["rate"][i])
    with pytest.raises(FileExistsError, match=r"study\.log exists; name a new file"):
        result.to_optuna(storage=str(path))
    storage = optuna.storages.InMemoryStorage()
    assert len(result.to_optuna(storage, name="mine").trials) == 6
    assert optuna.load_study(study_name="mine", storage=storage).best_value == study.best_value


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own
def test_tensorboard_reads_the_curves_of_the_best(result, tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result.to_tensorboard(tmp_path / "board", best=2)
    best = [trial.number for trial in result.best(2)]
    folders = sorted((tmp_path / "board").iterdir())
    assert [folder.name for folder in folders] == sorted(f"trial-{number}" for number in best)
    for number in best:
        events = reader.EventAccumulator(str(tmp_path / "board" / f"trial-{number}")).Reload()
        for part, metrics in result.curves.items():
            for name, curve in metrics.items():
                scalars = events.Scalars(f"{name}/{part}")
                known = curve[number][np.isfinite(curve[number])]
                assert [scalar.step for scalar in scalars] == [*range(1, len(known) + 1)]
                np.testing.assert_allclose([s.value for s in scalars], known, rtol=1e-6)
        (score,) = events.Scalars("score/loss")
        assert score.value == pytest.approx(result.trial(number).score)
        plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
        assert plugin.plugin_name == "hparams" and b"rate" in plugin.content
        assert b"wide" in plugin.content or b"deep" in plugin.content
    with pytest.raises(FileExistsError, match="is not empty; name a new folder"):
        result.to_tensorboard(tmp_path / "board")


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_has_a_run_for_the_sweep_and_one_for_each_of_the_best(result, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    parent = result.to_mlflow("mine", best=4, tracking_uri=uri)
    client = mlflow.MlflowClient(uri)
    place = client.get_experiment_by_name("mine").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([place])}
    sweep_run = runs.pop("sweep of 6 trials")
    assert sweep_run.info.run_id == parent and sweep_run.info.status == "FINISHED"
    assert sweep_run.data.params["trials"] == "6" and "loguniform" in sweep_run.data.params["space"]
    assert sweep_run.data.metrics["score/loss"] == pytest.approx(result.best().score)
    best = {trial.number: trial for trial in result.best(4)}
    assert {*runs} == {f"trial-{number}" for number in best}
    assert "stopped" in {trial.status for trial in best.values()}
    for number, trial in best.items():
        run = runs[f"trial-{number}"]
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.tags["purenet.status"] == trial.status
        assert run.info.status == ("KILLED" if trial.status == "stopped" else "FINISHED")
        assert float(run.data.params["rate"]) == pytest.approx(trial.hyper["rate"])
        assert {*run.data.params} == {*trial.hyper} and run.data.params["kind"] in "ab"
        for name in ("loss", "twice"):
            found = client.get_metric_history(run.info.run_id, f"{name}/validation")
            known = result.curves["validation"][name][number][: trial.epochs]
            assert [metric.step for metric in found] == [*range(1, trial.epochs + 1)]
            np.testing.assert_allclose([metric.value for metric in found], known, rtol=1e-6)
    assert result.to_mlflow("mine", best=1, tracking_uri=uri) != parent
    with pytest.raises(ValueError, match="best is 0"):
        result.to_mlflow(best=0)


def test_a_missing_tracker_is_named_with_how_to_install_it(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'purenet\[tensorboard\]'"):
        result.to_tensorboard(tmp_path / "board")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'purenet\[mlflow\]'"):
        result.to_mlflow()
    with pytest.raises(ValueError, match="best is 0"):
        result.to_tensorboard(tmp_path / "board", best=0)
    assert not (tmp_path / "board").exists()


def toy(on_report, path=None, **options):
    space = {"rate": SPACE["rate"]}
    return sweep.run(trial, space, NOTHING, 4, 6, path=path, on_report=on_report, **options)


def test_reports_arrive_in_the_calling_thread_and_end_with_the_result():
    import threading

    found, threads = [], set()

    def listen(progress):
        found.append(progress)
        threads.add(threading.current_thread())

    result = toy(listen)
    assert threads == {threading.main_thread()}
    done = [progress.done for progress in found]
    assert done == sorted(done) and len(done) >= 2
    last, best = found[-1], result.best()
    assert (last.done, last.total, last.alive, last.trials) == (24, 24, 4, 4)
    assert (last.trial, last.best) == (best.number, pytest.approx(best.score))
    assert 0 < last.seconds <= result.seconds


def test_an_exception_in_a_report_stops_the_sweep_with_everything_saved(tmp_path):
    class EnoughError(Exception):
        pass

    def stop(progress):
        raise EnoughError(progress.done)

    with pytest.raises(EnoughError) as left:
        toy(stop, tmp_path / "out")
    saved = sweep.load(tmp_path / "out")
    assert saved.epochs.sum() == left.value.args[0] > 0
    begun = []
    result = toy(begun.append, tmp_path / "out")
    assert begun[0].done > left.value.args[0] and result.table() == toy(None).table()


def test_anything_but_a_function_of_one_argument_is_refused(monkeypatch):
    for wrong in (3, lambda: None):
        with pytest.raises(TypeError, match=r"on_report is .* but a function f\(progress\)"):
            toy(wrong)
    monkeypatch.setattr("purenet.distributed.multihost.count", lambda: 2)
    with pytest.raises(ValueError, match="on_report works in a single process"):
        toy(print)


def test_a_sweep_without_a_survivor_has_nothing_to_show(tmp_path):
    pytest.importorskip("tensorboardX")
    nowhere = lambda hyper: trial({"rate": hyper["rate"] * np.nan})
    lost = sweep.run(nowhere, {"rate": SPACE["rate"]}, NOTHING, trials=1, epochs=1)
    with pytest.raises(ValueError, match="every trial diverged"):
        lost.to_tensorboard(tmp_path / "board")
    assert not (tmp_path / "board").exists()
