"""A sweep's folder: going on, refusing, reading back; what a fault leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.checkpoint import npz
from purenet.sweep.engine import pool
from purenet.sweep.storage import folder as store

DATA = ((np.ones(3),), (np.zeros(3),))
SPACE = {"limit": sweep.uniform(0.0, 1.0), "kind": sweep.choice([pn.relu, pn.tanh]), "k": 0.5}


def learner(hyper):
    step = lambda x: x + 0.3 * (hyper["kind"](hyper["limit"]) - x)
    return pn.Trainable(
        init=lambda key: {"x": jax.random.uniform(key), "key": key},
        epoch=lambda state, data: ({**state, "x": step(state["x"])}, {}),
        evaluate=lambda state, data: {"loss": state["x"] + 0 * data[0].sum()},
    )


def run(path=None, trials=9, epochs=9, seed=0, trial=learner, space=SPACE, data=DATA, **options):
    return sweep.run(trial, space, data, trials, epochs, seed, path=path, **options)


@pytest.fixture(scope="module")
def whole():
    return run()


@pytest.fixture
def often(monkeypatch):
    """A report, and a save, after every epoch."""
    monkeypatch.setattr(pool, "_REPORT", 1e-9)
    monkeypatch.setattr("purenet.core.autosave.SHARE", 1e9)


def same(a, b):
    assert list(a.status) == list(b.status) and list(a.epochs) == list(b.epochs)
    for part, metrics in a.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_array_equal(curve, b.curves[part][name])
    assert a.table() == b.table()


class Enough(Exception):
    pass


def stop_after(monkeypatch, saves):
    """Let the process die after so many saves."""
    save, count = store.Store.save, []

    def dying(self, *arguments):
        save(self, *arguments)
        count.append(1)
        if len(count) == saves:
            raise Enough

    monkeypatch.setattr(store.Store, "save", dying)


@pytest.mark.parametrize("search", [sweep.random, sweep.halving(), sweep.pbt(every=3)],
                         ids=["random", "halving", "pbt"])  # fmt: skip
@pytest.mark.parametrize("saves", [1, 4, 7])
def test_a_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch, often, search, saves):
    space = SPACE if search is sweep.random else {**SPACE, "kind": pn.relu}
    with monkeypatch.context() as dying:
        stop_after(dying, saves)
        with pytest.raises(Enough):
            run(tmp_path, search=search, space=space)
    trained = []
    advance = pool.LanePool._advance

    def counting(self, remaining):
        report = advance(self, remaining)
        trained.append(int((report.after - report.before).sum()))
        return report

    monkeypatch.setattr(pool.LanePool, "_advance", counting)
    result = run(tmp_path, search=search, space=space)
    again, trained[:] = sum(trained), []
    plain = run(search=search, space=space)
    same(result, plain)
    assert again < sum(trained)  # what was done was not done again
    if result.lineage is not None:
        np.testing.assert_array_equal(result.lineage.parents, plain.lineage.parents)
    trained.clear()
    same(run(tmp_path, search=search, space=space), plain)
    assert not trained  # a sweep that is finished trains nothing


@pytest.mark.slow
def test_a_sweep_that_is_really_killed_goes_on(tmp_path, whole):
    code = (
        "import os, signal, test_store as t; save, n = t.store.Store.save, []\n"
        "def killed(self, *known):\n"
        "    save(self, *known); n.append(1)\n"
        "    len(n) == 4 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.store.Store.save, t.pool._REPORT = killed, 1e-9\n"
        "import purenet.core.autosave as a; a.SHARE = 1e9\n"
        f"t.run({str(tmp_path)!r})"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "JAX_ENABLE_X64": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=600)
    assert done.returncode == -signal.SIGKILL
    assert 0 < sweep.load(tmp_path).epochs.sum() < 81
    same(run(tmp_path), whole)


def test_the_folder_says_what_the_sweep_is(tmp_path, whole):
    result = run(tmp_path)
    names = [".lock", "curves.npz", "report.json", "settings.json", "states.npz", "trials.jsonl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    settings = json.loads((tmp_path / "settings.json").read_text())
    leaves = {"limit": {"uniform": [0.0, 1.0]}, "kind": {"choice": ["relu", "tanh"]}, "k": 0.5}
    assert settings["settings"]["space"] == leaves
    assert settings["versions"]["purenet"] == pn.__version__ and "jax" in settings["versions"]
    rows = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [row["trial"] for row in rows] == list(range(9))
    assert rows[3]["limit"] == result.hyper["limit"][3] and rows[3]["kind"] in ("relu", "tanh")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["finished"] and len(report["programs"]) == 2
    result.to_jsonl(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "trials.jsonl").read_bytes()
    same(result, whole)


def test_results_are_read_back(tmp_path):
    result = run(tmp_path / "a", seeds=2, search=sweep.halving())
    back = sweep.load(tmp_path / "a")
    assert back.seeds == 2 and back.metric == "loss" and not back.maximize
    same(back, result)
    assert back.space["limit"] == SPACE["limit"] and back.space["kind"].values == ("relu", "tanh")
    np.testing.assert_array_equal(back.hyper["limit"], result.hyper["limit"])
    assert back.hyper["limit"].dtype == result.hyper["limit"].dtype
    assert list(back.hyper["kind"]) == [f.__name__ for f in result.hyper["kind"]]
    assert back.programs == result.programs
    with pytest.raises(ValueError, match="has no trial function; call run"):
        back.replay(0)
    again = run(tmp_path / "a", seeds=2, search=sweep.halving())
    best = again.best().number
    np.testing.assert_array_equal(again.weights(best)["x"], result.weights(best)["x"])


def test_a_population_is_read_back(tmp_path):
    space = {**SPACE, "kind": pn.relu}
    result = run(tmp_path, search=sweep.pbt(every=3), space=space)
    back = sweep.load(tmp_path)
    same(back, result)
    assert back.lineage.every == 3
    np.testing.assert_array_equal(back.lineage.parents, result.lineage.parents)
    for name, column in result.lineage.numbers.items():
        np.testing.assert_array_equal(back.lineage.numbers[name], column)


OTHERS = {
    "seed": ({"seed": 1}, "seed: was 0, is 1 now"),
    "space": ({"space": {**SPACE, "k": 0.25}}, r"space: was \{.*'k': 0.5\}, is .*0.25. now"),
    "search": ({"search": sweep.sobol}, "search: was 'random', is 'sobol' now"),
    "data": ({"data": (DATA[0], DATA[0])}, "data: was"),
    "seeds": ({"seeds": 2}, "seeds: was 1, is 2 now"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep")
    run(path)
    return path


@pytest.mark.parametrize("options, message", OTHERS.values(), ids=OTHERS.keys())
def test_another_sweep_in_the_same_folder_is_refused_with_the_difference(folder, options, message):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ValueError, match=rf"(?s)holds another sweep.*{message}"):
        run(folder, **options)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_trial_function_whose_state_has_changed_is_refused(tmp_path, monkeypatch, often):
    with monkeypatch.context() as dying:
        stop_after(dying, 2)
        with pytest.raises(Enough):
            run(tmp_path)

    def learner(hyper):
        wide = lambda key: {"x": jax.random.uniform(key, (2,)), "key": key}
        return pn.Trainable(wide, lambda s, d: (s, {}), lambda s, d: {"loss": s["x"].sum()})

    with pytest.raises(ValueError, match="the function has changed since, so choose"):
        run(tmp_path, trial=learner)


def test_a_second_process_is_refused(tmp_path):
    settings = {"trials": 1}
    first = store.Store(tmp_path, settings)
    with pytest.raises(BlockingIOError, match="is in use: another process"):
        store.Store(tmp_path, settings)  # a lock belongs to who opened the file, not to a process
    first.close()
    store.Store(tmp_path, settings).close()


def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="is a file, but a folder"):
        run(tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot write results to .*file/below"):
        run(tmp_path / "file" / "below")


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    half = tmp_path / f".curves.npz.{'0' * 16}.tmp"
    half.write_bytes(b"half of it")
    run(tmp_path)
    assert not half.exists() and (tmp_path / "curves.npz").exists()


def test_a_full_disk_is_one_error_and_nothing_saved_is_lost(tmp_path, monkeypatch, often, whole):
    written, count = store.write_bytes, []

    def filling(path, content):
        count.append(path)
        if len(count) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, content)

    with monkeypatch.context() as full:
        full.setattr(store, "write_bytes", filling)
        with pytest.raises(OSError, match="No space left on device; what was saved before"):
            run(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".curves")]
    same(run(tmp_path), whole)


def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path, monkeypatch, often, capsys, whole):
    advance, count = pool.LanePool._advance, []

    def interrupted(self, remaining):
        count.append(1)
        if len(count) == 3:
            signal.raise_signal(signal.SIGINT)
        return advance(self, remaining)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(pool.LanePool, "_advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, progress=False)
    assert signal.getsignal(signal.SIGINT) is before and len(count) == 3
    assert f"trial-epochs are in {tmp_path}, and the same call resumes" in capsys.readouterr().err
    partly = sweep.load(tmp_path)
    assert 0 < partly.epochs.sum() < 81
    same(run(tmp_path), whole)


@pytest.mark.parametrize("name", ["curves.npz", "states.npz", "settings.json", "report.json"])
@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"nonsense", lambda b: b""],
    ids=["truncated", "foreign", "empty"],
)
def test_damaged_files_are_named(folder, tmp_path, name, damage):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{name}.*(damaged|empty|starts with)"):
        run(tmp_path)
    if name != "states.npz":
        with pytest.raises(ValueError, match=rf"{name}.*(damaged|empty|starts with)"):
            sweep.load(tmp_path)


def json_file(name, **changes):
    def write(folder):
        content = json.loads((folder / name).read_text())
        part = content["settings"] if name == "settings.json" else content
        part |= changes
        (folder / name).write_text(json.dumps(content))

    return name, write


def array_in(name, member, change):
    """`change` makes another array of the member, None leaves it out."""

    def write(folder):
        with npz.opened("test", folder / name) as file:
            held, text = {member: file.read(member) for member in file.names}, file.text
        new = change(held.pop(member))
        held |= {} if new is None else {member: np.asarray(new)}
        (folder / name).write_bytes(npz.write(held, text))

    return name, write


EPOCHS = ("curves.npz", "epochs")
CRAFTED = {
    "no space": json_file("settings.json", space=[1]),
    "no number": json_file("settings.json", epochs="9"),
    "a count of nothing": json_file("settings.json", seeds=0),
    "mode": json_file("settings.json", mode="median"),
    "two distributions": json_file("settings.json", space={"a": {"uniform": [], "choice": []}}),
    "no such distribution": json_file("settings.json", space={"limit": {"eval": [1]}}),
    "too few numbers": json_file("settings.json", space={"limit": {"randint": [1]}}),
    "no choice": json_file("settings.json", space={"limit": {"choice": []}}),
    "NaN": json_file("settings.json", space={"limit": float("nan")}),
    "an object for a value": json_file("settings.json", space={"kind": {"choice": [{}]}}),
    "deep lists": json_file("settings.json", space={"kind": json.loads("[" * 99 + "]" * 99)}),
    "seconds": json_file("report.json", seconds=[1]),
    "programs": json_file("report.json", programs=[{"static": {}}]),
    "no programs": json_file("report.json", programs=None),
    "epochs of floats": array_in(*EPOCHS, lambda a: a * 1.0),
    "too many epochs": array_in(*EPOCHS, lambda a: a + 1),
    "fewer than none": array_in(*EPOCHS, lambda a: a - 10),
    "a scalar": array_in(*EPOCHS, lambda a: a[0]),
    "no epochs": array_in(*EPOCHS, lambda a: None),
    "no curve": array_in("curves.npz", "validation loss", lambda a: None),
    "a short curve": array_in("curves.npz", "validation loss", lambda a: a[:, :3]),
    "complex numbers": array_in("curves.npz", "train loss", lambda a: a + 1j),
    "no column": array_in("curves.npz", "hyper limit", lambda a: None),
    "no choice of a trial": array_in("curves.npz", "choice kind", lambda a: None),
    "a choice of nothing": array_in("curves.npz", "choice kind", lambda a: a + 1),
    "no number of trials": array_in("curves.npz", "rows", lambda a: None),
    "too many trials": array_in("curves.npz", "rows", lambda a: a + 1),
    "a table for a column": array_in("curves.npz", "hyper limit", lambda a: a[:, None]),
}


@pytest.mark.parametrize("name, write", CRAFTED.values(), ids=CRAFTED.keys())
def test_load_refuses_what_no_sweep_writes(folder, tmp_path, name, write):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}/{name} is damaged"):
        sweep.load(tmp_path)


GOING_ON = {
    "seconds": json_file("report.json", seconds=[1]),
    "too many epochs": array_in(*EPOCHS, lambda a: a + 1),
    "epochs of floats": array_in(*EPOCHS, lambda a: a * 1.0),
    "complex numbers": array_in("curves.npz", "train loss", lambda a: a + 1j),
    "a scalar for rows": array_in("states.npz", "0 rows", lambda a: a[0]),
    "a row too many": array_in("states.npz", "0 rows", lambda a: [*a, 7]),
    "a row far away": array_in("states.npz", "0 rows", lambda a: a + 1000),
    "a state after too long": array_in("states.npz", "0 epochs", lambda a: a + 100),
    "other hyperparameters": array_in("states.npz", "0 numbers 0", lambda a: a[:, None]),
}


@pytest.mark.parametrize("name, write", GOING_ON.values(), ids=GOING_ON.keys())
def test_run_refuses_what_no_sweep_writes(tmp_path, name, write):
    space = {**SPACE, "kind": pn.relu}
    run(tmp_path, space=space)
    write(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}/{name} is damaged"):
        run(tmp_path, space=space)


@pytest.mark.parametrize(
    "member, change",
    [
        ("lineage parents", lambda a: a + 9),
        ("lineage parents", lambda a: a[0]),
        ("lineage every", lambda a: a * 0),
        ("lineage number limit", lambda a: a[1:]),
    ],
)
def test_a_lineage_that_cannot_be_is_refused(tmp_path, member, change):
    space, search = {**SPACE, "kind": pn.relu}, sweep.pbt(every=3)
    run(tmp_path, search=search, space=space)
    array_in("curves.npz", member, change)[1](tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}/curves\.npz is damaged"):
        sweep.load(tmp_path)
    if member != "lineage every":  # which is known without the file
        with pytest.raises(ValueError, match=r"curves\.npz is damaged"):
            run(tmp_path, search=search, space=space)


def test_shapes_among_the_choices_are_read_back(tmp_path):
    def trial(hyper):
        return learner({"kind": pn.relu, "limit": 0.1 * len(hyper["shape"])})

    result = run(tmp_path, trial=trial, space={"shape": sweep.choice([(3, 3), (5, 5)])})
    assert list(sweep.load(tmp_path).hyper["shape"]) == list(result.hyper["shape"])


def test_what_is_no_sweep_is_not_read(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"holds no sweep: there is no settings\.json"):
        sweep.load(tmp_path)
    content = json.loads((folder / "settings.json").read_text()) | {"format": 99}
    (tmp_path / "settings.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has the format 99, but 3 is what"):
        sweep.load(tmp_path)


def test_a_finished_sweep_goes_to_optuna(whole):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = run(search=sweep.halving()).to_optuna()
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 1 and states.count("PRUNED") == 8
    done = next(t for t in study.trials if t.state.name == "COMPLETE")
    assert len(done.intermediate_values) == 9 and done.user_attrs["k"] == "0.5"
    study = whole.to_optuna()
    assert study.best_trial.number == whole.best().number
    assert study.best_value == whole.best().score
    assert study.best_params["kind"] == whole.best().hyper["kind"].__name__
    assert study.best_params["limit"] == whole.best().hyper["limit"]


def test_points_from_an_optuna_sampler_train_in_batches(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = sweep.from_optuna(optuna.samplers.TPESampler, batch=6)
    result = run(trials=24, epochs=3, search=search, path=tmp_path)
    assert set(result.status) == {"done"} and result.trials == 24
    limits = result.hyper["limit"]
    assert limits[-6:].mean() < limits[:6].mean()  # small limits have small losses
    same(run(trials=24, epochs=3, search=search, path=tmp_path), result)


def test_states_in_bfloat16_go_on(tmp_path, monkeypatch, often):
    def half(hyper):
        import jax.numpy as jnp

        return pn.Trainable(
            init=lambda key: {"x": jax.random.uniform(key, (3,), jnp.bfloat16)},
            epoch=lambda state, data: ({"x": state["x"] * jnp.bfloat16(0.9)}, {}),
            evaluate=lambda state, data: {"loss": state["x"].sum().astype(float)},
        )

    with monkeypatch.context() as dying:
        stop_after(dying, 4)
        with pytest.raises(Enough):
            run(tmp_path, trial=half, space={"k": 1.0})
    whole = run(tmp_path, trial=half, space={"k": 1.0})
    same(whole, run(trial=half, space={"k": 1.0}))
    again = run(tmp_path, trial=half, space={"k": 1.0})  # nothing is left to train
    best = whole.best().number
    assert again.weights(best)["x"].dtype == whole.weights(best)["x"].dtype == "bfloat16"
    np.testing.assert_array_equal(again.weights(best)["x"], whole.weights(best)["x"])
