"""points=: what is given comes first, and the points of the sampler follow as without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crash_points import DATA, MEMBERS, differing, held, learner, moments, outcome, put

import purenet as pn
from purenet import sweep
from purenet.sweep.space.given import checked_points, described_points, given_points
from purenet.sweep.space.space import take_apart

CHOICES = MEMBERS | {"kind": sweep.choice(["a", "b"])}
GIVEN = [{"limit": 0.25, "step": 0.1}, {"limit": 0.5, "step": 0.3}]
KINDS = [{**GIVEN[0], "kind": "b"}, {**GIVEN[1], "kind": "a"}]


def run(space=MEMBERS, points=GIVEN, trials=6, epochs=4, path=None, **options):
    options = {"devices": 1, "progress": False} | options
    return sweep.run(learner, space, DATA, trials, epochs, points=points, path=path, **options)


def tpe(batch=3):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return sweep.from_optuna(optuna.samplers.TPESampler, batch=batch)


@pytest.mark.parametrize(
    "search",
    [sweep.random, sweep.sobol, sweep.latin_hypercube, sweep.halving(2)],
    ids=["random", "sobol", "latin_hypercube", "halving"],
)
def test_given_points_come_first_and_those_of_the_sampler_follow(search):
    result = run(search=search)
    alone = run(points=None, trials=4, search=search)
    for name in MEMBERS:
        expected = [*(point[name] for point in GIVEN), *alone.hyper[name]]
        np.testing.assert_array_equal(result.hyper[name], expected)
    assert len(result) == 6 and (result.epochs[:2] > 0).all()


def test_a_given_point_is_trained_as_it_is_written():
    seen = sweep.run(lambda hyper: pn.Trainable(
        lambda key: hyper["limit"], lambda s, data: (s, {}), lambda s, data: {"loss": s},
    ), MEMBERS, DATA, 2, 1, points=GIVEN)  # fmt: skip
    assert seen.curves["validation"]["loss"][:, 0].tolist() == [0.25, 0.5]
    assert seen.best().number == 0


def test_a_grid_comes_on_top():
    result = run(trials=None, search=sweep.grid(2))
    assert len(result) == 2 + 4
    assert sorted(set(result.hyper["limit"])) == [0.0, 0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match="grid: 2 x 2 = 4 combinations, but trials is 2"):
        run(trials=4, search=sweep.grid(2))


def test_a_search_that_counts_its_points_counts_them_in():
    search = sweep.hyperband(3)
    assert len(run(trials=None, search=search)) == search.points(4)


def test_members_of_a_population_are_given():
    result = run(search=sweep.pbt(every=2))
    first = result.lineage.numbers["limit"][0]
    assert first[:2].tolist() == [0.25, 0.5]
    assert len(set(first)) == 6


def test_nothing_need_be_drawn():
    for search in (sweep.random, sweep.sobol, sweep.latin_hypercube, tpe()):
        assert run(trials=2, search=search).hyper["step"].tolist() == [0.1, 0.3]


class Heard:
    """The points of a sampler that learns, and what it was told."""

    points = None

    def __init__(self):
        self.told, self.asked = [], []

    def ask(self, n):
        self.asked.append(n)
        return np.full((n, 2), 0.5)

    def tell(self, numbers, scores):
        self.told += numbers.tolist()


def test_a_sampler_that_learns_hears_of_its_own_points_in_whole_batches():
    source = Heard()
    sampler = sweep.Sampler(lambda *_: None, "mine", batch=3, learn=lambda *_: source)
    run(trials=9, search=sampler)
    assert source.asked == [3, 3, 1] and source.told == list(range(7))


def test_optuna_learns_from_given_points():
    optuna = pytest.importorskip("optuna")
    studies = []

    class Sampler(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):
            studies.append([t for t in study.get_trials(deepcopy=False) if t.state.is_finished()])
            return {}

    space = {
        "limit": sweep.uniform(0.0, 1.0), "step": sweep.normal(0.2, 0.1),
        "kind": sweep.choice(["a", "b"]), "slope": sweep.choice([0.5, 1.5]),
    }  # fmt: skip
    given = [point | {"slope": 1.5} for point in (*KINDS, {**KINDS[0], "limit": 0.9})]
    result = run(space, given, 7, search=sweep.from_optuna(lambda seed: Sampler(seed), batch=2))
    assert not studies[1]
    best, worse, lost = studies[2][2:]  # after those asked for
    assert best.params == pytest.approx(
        {"limit": 0.25, "step": 0.158655, "kind": 1, "slope": 1}, rel=1e-5
    )
    assert worse.params["kind"] == 0
    assert [best.value, worse.value] == (-result.curves["validation"]["loss"][:2, -1]).tolist()
    assert lost.value == -np.inf and result.status[2] == "diverged"
    assert len(best.intermediate_values) == 4


@pytest.mark.parametrize("options", [
    {}, {"seeds": 2, "trials": 4}, {"search": sweep.pbt(every=2)}, {"search": sweep.halving(2)},
], ids=["random", "seeds", "pbt", "halving"])  # fmt: skip
def test_they_are_resumed(tmp_path, monkeypatch, options):
    space, points = (MEMBERS, GIVEN) if "search" in options else (CHOICES, KINDS)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    call = lambda path: run(space, points, path=path, **options)
    expected, states = moments(monkeypatch, whole, lambda: call(whole))
    for state in states[::4]:
        put(folder, state)
        assert not differing(outcome(call(folder)), outcome(expected))
        assert not differing(held(folder), held(whole))
    loaded = sweep.load(folder)
    assert loaded.settings["points"] == points
    np.testing.assert_array_equal(loaded.hyper["step"], expected.hyper["step"])
    with pytest.raises(ValueError, match=r"(?s)another sweep.*points: was \[\{"):
        run(space, points[:1], path=folder, **options)


@pytest.mark.parametrize("search", [lambda: sweep.random, tpe], ids=["random", "optuna"])
def test_they_are_extended(tmp_path, search):
    at_once = run(trials=8, path=tmp_path / "at once", search=search())
    run(trials=5, path=tmp_path / "extended", search=search())
    result = run(trials=8, path=tmp_path / "extended", search=search())
    assert not differing(outcome(result), outcome(at_once))
    if search is tpe:  # 2 given points, and 2 batches of 3
        with pytest.raises(ValueError, match=r"cannot become 10 trials .* the last of them is not"):
            run(trials=7, path=tmp_path / "other", search=tpe())
            run(trials=10, path=tmp_path / "other", search=tpe())


def relu(x):
    return jnp.maximum(x, 0)


NESTED = {
    "net": {"width": sweep.choice([4, 8]), "act": sweep.choice([relu, jnp.tanh])},
    "rates": [sweep.loguniform(1e-4, 1e-1), sweep.randint(1, 9)],
    "shape": sweep.choice([(2, 2), (3, 1)]), "fixed": 3, "none": None,
}  # fmt: skip
WHOLE = {"net": {"width": 8, "act": relu}, "rates": [1e-2, 3], "shape": (3, 1)}


def test_a_point_is_written_like_the_space_or_like_a_result_or_as_json():
    space = take_apart(NESTED)
    expected = {"net.width": 1, "net.act": 0, "rates.0": 0.01, "rates.1": 3, "shape": 1}
    flat = {"net.width": 8, "net.act": "relu", "rates.0": 0.01, "rates.1": 3, "shape": [3, 1]}
    whole = {**WHOLE, "fixed": 3, "none": None}
    for point in (WHOLE, flat, whole, flat | {"fixed": 3}, {**whole, "rates": (0.01, np.int8(3))}):
        (found,) = given = checked_points(space, [point])
        assert found == expected
        points = given_points(space, given)
        row = {n: c[0] for n, c in zip(space.names, points.columns, strict=True)}
        assert (row["net.width"], row["net.act"], row["shape"]) == (8, relu, (3, 1))
        assert (row["rates.0"], row["rates.1"], row["fixed"]) == (0.01, 3, 3)
        (described,) = described_points(space, given)
        assert (
            described == {**flat, "net.act": described["net.act"]}
            and given_points(space, checked_points(space, [described | {"net.act": "relu"}])).groups
            == points.groups
        )
    assert checked_points(take_apart(sweep.uniform(0, 1)), [0.25]) == ({"value": 0.25},)


def test_the_best_of_one_sweep_is_a_point_of_the_next():
    result = run(CHOICES, KINDS)
    again = run(CHOICES, [trial.hyper for trial in result.best(3)], trials=3)
    for name in CHOICES:
        assert again.hyper[name].tolist() == [trial.hyper[name] for trial in result.best(3)]


def without(name):
    return {key: value for key, value in WHOLE.items() if key != name}


REFUSED = {
    "no list": (WHOLE, TypeError, "points is a dict, but a list of points"),
    "missing": ([without("shape")], ValueError, r"points\[0\]: 'shape' is missing; give a value"),
    "missing inside": (
        [WHOLE, {**WHOLE, "net": {"width": 8}}], ValueError, r"points\[1\]: 'net.act' is missing",
    ),
    "unknown": (
        [{**WHOLE, "rat": 1}], ValueError,
        r"points\[0\]: 'rat' is not a hyperparameter; they are fixed, net, none, rates, shape",
    ),
    "unknown inside": (
        [{**WHOLE, "net": {**WHOLE["net"], "depth": 3}}], ValueError,
        r"'depth' is not a hyperparameter in 'net'; they are act, width",
    ),
    "no dict": ([{**WHOLE, "net": 8}], ValueError, r"points\[0\] is 8 in 'net', but a dict is"),
    "too short": (
        [{**WHOLE, "rates": [0.1]}], ValueError, r"is \[0.1\] in 'rates', but 2 values are",
    ),
    "out of range": (
        [{**WHOLE, "rates": [1.0, 3]}], ValueError, r"'rates.0' is 1.0, but LogUniform.*goes from",
    ),
    "beyond the last": ([{**WHOLE, "rates": [0.1, 9]}], ValueError, "'rates.1' is 9, but RandInt"),
    "no integer": ([{**WHOLE, "rates": [0.1, 3.0]}], ValueError, "'rates.1' is 3.0, but an integ"),
    "no number": ([{**WHOLE, "rates": ["a", 3]}], ValueError, "'rates.0' is 'a', but a finite num"),
    "not finite": ([{**WHOLE, "rates": [np.nan, 3]}], ValueError, "'rates.0' is nan, but a finite"),
    "a truth value": ([{**WHOLE, "rates": [True, 3]}], ValueError, "'rates.0' is True, but a fini"),
    "not among": ([{**WHOLE, "shape": (1, 3)}], ValueError, r"is \(1, 3\), but one of \(2, 2\), "),
    "another constant": (
        [{**WHOLE, "fixed": 4}], ValueError, "'fixed' is 4, but the space has the constant 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("points, error, message", REFUSED.values(), ids=REFUSED)
def test_a_point_that_is_not_of_the_space_is_refused_by_its_number(points, error, message):
    with pytest.raises(error, match=message):
        sweep.run(learner, NESTED, DATA, 4, 1, points=points)


def test_fewer_trials_than_points_are_refused():
    with pytest.raises(ValueError, match="trials is 1, but points holds 2; raise trials"):
        run(trials=1)


def test_a_number_that_the_device_rounded_beyond_the_end_is_taken():
    high = float(np.float32(0.1))
    space = take_apart({"rate": sweep.uniform(0.0, 0.1)})
    assert high > 0.1
    with jax.enable_x64(False):
        assert checked_points(space, [{"rate": np.float32(0.1)}]) == ({"rate": high},)
