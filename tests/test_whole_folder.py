"""A sweep's folder is one thing: a file that is not of it is refused, or its numbers come back."""

import errno
import os
import shutil

import numpy as np
import pytest
from crash_points import differing, held, moments, outcome, put, run

from purenet import sweep
from purenet.sweep.storage import folder as store

SEARCHES = {"random": sweep.random, "pbt": sweep.pbt(every=2)}
RECOVERED = None
# file -> what it is exchanged for -> what `run` says, if it does not come back to the right numbers
EXCHANGED = {
    "settings.json": {
        "older": RECOVERED,
        "newer": RECOVERED,
        "another seed's": r"holds another sweep.*\n.*seed: was 1, is 0 now",
        "truncated": r"settings\.json is damaged",
        "missing": r"holds curves\.npz, .* but no settings\.json",
    },
    "curves.npz": {
        "older": r"curves\.npz is of save \d+, older than .*states\.npz of save \d+",
        "newer": RECOVERED,
        "another seed's": r"curves\.npz belongs to another sweep than settings\.json",
        "truncated": r"curves\.npz is damaged",
        "missing": RECOVERED,
    },
    "states.npz": {
        "older": RECOVERED,
        "newer": r"curves\.npz is of save \d+, older than .*states\.npz of save \d+",
        "another seed's": r"states\.npz belongs to another sweep than settings\.json",
        "truncated": r"states\.npz is damaged",
        "missing": RECOVERED,
    },
    "trials.jsonl": {
        "older": RECOVERED,
        "newer": RECOVERED,
        "another seed's": RECOVERED,
        "truncated": RECOVERED,
        "missing": RECOVERED,
        "reversed": RECOVERED,
    },
    "report.json": {
        "older": RECOVERED,
        "newer": RECOVERED,
        "another seed's": r"report\.json belongs to another sweep than settings\.json",
        "truncated": r"report\.json is damaged",
        "missing": RECOVERED,
    },
}
CASES = {
    f"{stage}, {name} {how}": (stage, name, how, says)
    for stage in ("half done", "finished")
    for name, outcomes in EXCHANGED.items()
    for how, says in outcomes.items()
    if (stage, how) != ("finished", "newer")
}


@pytest.fixture(scope="module", params=SEARCHES)
def known(request, tmp_path_factory):
    """(search, result, files of the finished folder, files of every save, of another seed)."""
    folder, search = tmp_path_factory.mktemp("known"), SEARCHES[request.param]
    with pytest.MonkeyPatch.context() as patched:
        result, states = moments(patched, folder / "a", lambda: run(search, 2, folder / "a"))
    run(search, 2, folder / "b", seed=1)
    other = {p.name: p.read_bytes() for p in (folder / "b").iterdir()}
    clean = [{n: c for n, c in s.items() if not n.endswith(".tmp")} for s in states]
    saves = [s for s in clean[1::4] if len(s) == 6]  # after the last write of each save
    return search, result, held(folder / "a"), saves, other


@pytest.mark.parametrize("stage, name, how, says", CASES.values(), ids=CASES)
def test_whatever_is_exchanged_is_refused_or_recovered(tmp_path, known, stage, name, how, says):
    search, result, files, saves, other = known
    place = -1 if stage == "finished" else len(saves) // 2
    here = saves[place]
    exchanged = {
        "older": lambda: saves[place - 2][name],
        "newer": lambda: saves[place + 2][name],
        "another seed's": lambda: other[name],
        "truncated": lambda: here[name][: len(here[name]) // 2],
        "reversed": lambda: b"".join(reversed(here[name].splitlines(keepends=True))),
        "missing": lambda: None,
    }[how]()
    put(tmp_path / "a", {n: c for n, c in (here | {name: exchanged}).items() if c is not None})
    try:
        loaded = sweep.load(tmp_path / "a")
    except (ValueError, FileNotFoundError) as error:
        assert name in str(error)
    else:
        assert name not in ("settings.json", "curves.npz") or how in ("older", "newer")
        trained = np.arange(loaded.curves["train"]["loss"].shape[1]) < loaded.epochs[:, None]
        for part, metrics in loaded.curves.items():
            np.testing.assert_array_equal(
                metrics["loss"][trained], result.curves[part]["loss"][trained]
            )
        for column in loaded.hyper if loaded.lineage is None else ():
            assert list(loaded.hyper[column]) == list(result.hyper[column])
    if says is not RECOVERED:
        with pytest.raises(ValueError, match=rf"(?s){says}"):
            run(search, 2, tmp_path / "a")
        return
    again = run(search, 2, tmp_path / "a")
    assert not differing(outcome(again), outcome(result))
    assert not differing(held(tmp_path / "a"), files)


def test_a_folder_that_was_begun_anew_is_not_written_over_by_its_first_sweep(tmp_path, monkeypatch):
    folder, save, count = tmp_path / "a", store.Store.save, []

    def replaced(self, *known):
        save(self, *known)
        count.append(1)
        if len(count) == 1:
            shutil.rmtree(folder)
            run(sweep.random, 2, folder, seed=1)

    monkeypatch.setattr(store.Store, "save", replaced)
    with pytest.raises(OSError, match="was deleted or replaced while the sweep ran"):
        run(sweep.random, 2, folder)
    expected = run(sweep.random, 2, seed=1)
    assert not differing(outcome(run(sweep.random, 2, folder, seed=1)), outcome(expected))


def test_a_finished_folder_is_replayed_where_nothing_can_be_written(tmp_path, monkeypatch, known):
    search, result, _, saves, _ = known
    put(tmp_path / "a", saves[-1])
    put(tmp_path / "b", saves[2])

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store, "Lock", refuse)
    monkeypatch.setattr(store, "write_bytes", refuse)
    assert not differing(outcome(run(search, 2, tmp_path / "a")), outcome(result))
    (tmp_path / "a" / "report.json").unlink()  # what can only be read need not be complete
    assert not differing(outcome(run(search, 2, tmp_path / "a")), outcome(result))
    for folder in ("b", "c"):
        with pytest.raises(OSError, match=r"cannot write results to .*Read-only file system"):
            run(search, 2, tmp_path / folder)


def test_weights_of_more_members_come_from_the_whole_population_again(tmp_path):
    search = SEARCHES["pbt"]
    expected = run(search, 3)
    run(search, 0, tmp_path / "a")
    assert not differing(outcome(run(search, 3, tmp_path / "a")), outcome(expected))


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_lock_that_is_no_file_is_refused_and_leads_nowhere(tmp_path, kind):
    folder, outside = tmp_path / "a", tmp_path / "outside"
    folder.mkdir()
    if kind == "link":
        (folder / ".lock").symlink_to(outside)
    else:
        os.mkfifo(folder / ".lock")
    with pytest.raises(ValueError, match=r"\.lock is a link, a FIFO or a device"):
        run(sweep.random, 2, folder)
    assert not outside.exists()


@pytest.mark.parametrize("name", ["settings.json", "curves.npz", "states.npz", "report.json"])
def test_a_fifo_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path, known, name):
    search, _, _, saves, _ = known
    put(tmp_path / "a", {n: c for n, c in saves[2].items() if n != name})
    os.mkfifo(tmp_path / "a" / name)
    with pytest.raises(ValueError, match=f"{name} is a FIFO"):
        run(search, 2, tmp_path / "a")
    if name != "states.npz":
        with pytest.raises(ValueError, match=f"{name} is a FIFO"):
            sweep.load(tmp_path / "a")


def test_a_fifo_in_the_place_of_the_rows_is_written_over(tmp_path, known):
    search, result, files, saves, _ = known
    put(tmp_path / "a", {n: c for n, c in saves[-1].items() if n != "trials.jsonl"})
    os.mkfifo(tmp_path / "a" / "trials.jsonl")
    assert not differing(outcome(run(search, 2, tmp_path / "a")), outcome(result))
    assert not differing(held(tmp_path / "a"), files)
