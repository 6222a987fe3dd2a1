"""What is resumed needs the number settings and versions that it was started with."""

import jax
import numpy as np
import pytest
from crash_points import differing, moments, outcome, put, run

import purenet as pn
from purenet import sweep
from purenet.core import software

OTHERS = {
    "threefry": (lambda: jax.threefry_partitionable(False), "jax_threefry_partitionable is False"),
    "precision": (
        lambda: jax.default_matmul_precision("float32"),
        "jax_default_matmul_precision is float32, there None",
    ),
    "keys": (lambda: jax.default_prng_impl("rbg"), "jax_default_prng_impl is rbg, there threefry"),
    "x64": (lambda: jax.enable_x64(False), "jax_enable_x64 is False, there True"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(result, the content of a folder that is half done, of one that is finished)."""
    folder = tmp_path_factory.mktemp("software") / "a"
    with pytest.MonkeyPatch.context() as patched:
        result, states = moments(patched, folder, lambda: run(sweep.random, 2, folder))
    return result, states[len(states) // 2], states[-1]


@pytest.mark.parametrize("setting, says", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("finished", [False, True], ids=["half done", "finished"])
def test_a_sweep_of_other_number_settings_is_refused(tmp_path, folders, setting, says, finished):
    put(tmp_path / "a", folders[1 + finished])
    with setting(), pytest.raises(ValueError, match=rf"a was started with other software.*{says}"):
        run(sweep.random, 2, tmp_path / "a")


@pytest.fixture
def updated(monkeypatch):
    """Another version of JAX, or so it says."""
    new = software.versions() | {"jax": "99.0"}
    monkeypatch.setattr(software, "versions", lambda: new)


def test_a_sweep_of_other_versions_is_refused(tmp_path, folders, updated):
    put(tmp_path / "a", folders[1])
    with pytest.raises(ValueError, match=r"jax is 99\.0, there 0\..*Install those versions"):
        run(sweep.random, 2, tmp_path / "a")


def test_a_finished_sweep_is_read_by_every_version(tmp_path, folders, updated):
    put(tmp_path / "a", folders[2])
    assert not differing(outcome(run(sweep.random, 2, tmp_path / "a")), outcome(folders[0]))


def fit(path, epochs):
    one = pn.Trainable(
        init=lambda key: {"x": jax.random.uniform(key)},
        epoch=lambda state, data: ({"x": state["x"] / 2}, {}),
        evaluate=lambda state, data: {"loss": state["x"]},
    )
    data = ((np.ones(1),), (np.zeros(1),))
    return pn.fit(one, data, epochs, jax.random.key(0), path=path)


def test_a_run_of_other_number_settings_is_refused(tmp_path):
    fit(tmp_path / "run.npz", 2)
    setting, says = OTHERS["threefry"]
    with setting(), pytest.raises(ValueError, match=rf"run\.npz was started with other.*{says}"):
        fit(tmp_path / "run.npz", 2)


def test_a_run_of_other_versions_is_refused_unless_it_is_finished(tmp_path, request):
    _, history = fit(tmp_path / "run.npz", 2)
    request.getfixturevalue("updated")
    _, again = fit(tmp_path / "run.npz", 2)
    np.testing.assert_array_equal(again["validation"]["loss"], history["validation"]["loss"])
    with pytest.raises(ValueError, match=r"fit: .*run\.npz was started .*jax is 99\.0, there 0\."):
        fit(tmp_path / "run.npz", 3)


@pytest.mark.parametrize("there", [None, [], {}, {"jax": 3}])
def test_what_says_nothing_of_its_software_is_other_software(there):
    assert software.differences(there, {"jax": "0.1"}) == ["jax is 0.1, there unknown"]
