"""Several objectives: fronts of points that no other is better than, bounds, and what decides."""

import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine.pareto import Goal, preference

DATA = (np.zeros(1), np.zeros(1))
SPACE = {"x": sweep.uniform(-1.0, 1.0), "units": sweep.choice([1, 2, 3])}


def learner(hyper):
    """Two metrics that pull apart between 0 and 1, from the first epoch on; weights of a size."""
    metrics = lambda state, data: {"up": hyper["x"] + 0 * state["t"], "down": -(hyper["x"] ** 2)}
    count = lambda state, data: ({**state, "t": state["t"] + 1}, {})
    init = lambda key: {"t": jnp.zeros(()), "w": jnp.zeros(hyper["units"])}
    return pn.Trainable(init, count, metrics)


def run(objectives, trials=24, epochs=4, **options):
    return sweep.run(
        learner, SPACE, DATA, trials, epochs, objectives=objectives, progress=False, **options
    )


def fronts(values):
    """By the definition: what nobody dominates, then what only those dominate, ..."""
    n, left, front, k = len(values), set(range(len(values))), np.zeros(len(values), int), 0
    better = lambda a, b: (a >= b).all() and (a > b).any()
    while left:
        now = [i for i in left if not any(better(values[j], values[i]) for j in left)]
        front[now], left, k = k, left - set(now), k + 1
    assert len(front) == n
    return front


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_fronts_are_those_of_the_definition(columns):
    rng = np.random.default_rng(columns)
    goals = tuple(Goal(str(i), True) for i in range(columns))
    for _ in range(60):
        values = rng.integers(0, 4, (rng.integers(1, 12), columns)).astype(float)
        found = preference(goals, values)
        assert np.ceil(found).astype(int).tolist() == (-fronts(values)).tolist()


def test_what_keeps_a_bound_comes_before_what_does_not_and_then_the_nearest():
    goals = Goal("score", True), Goal("size", False, bound=10.0)
    values = np.array([[1.0, 9.0], [9.0, 11.0], [9.0, 99.0], [2.0, 10.0], [np.nan, 1.0]])
    found = preference(goals, values)
    assert np.argsort(-found[:4]).tolist() == [3, 0, 1, 2] and np.isnan(found[4])


def test_points_that_are_alone_on_their_front_come_before_the_crowded():
    goals = Goal("a", True), Goal("b", True)
    values = np.array([[0.0, 9.0], [4.0, 5.0], [4.1, 4.9], [4.2, 4.8], [9.0, 0.0]])
    found = preference(goals, values)
    assert {*np.argsort(-found, kind="stable")[:2].tolist()} == {0, 4}
    assert found[2] == found.min() and (found > -1).all()


def test_the_front_of_a_sweep_is_where_one_objective_costs_the_other():
    found = run({"up": "max", "down": "max"})
    x = found.hyper["x"]
    on = {trial.number for trial in found.pareto()}
    nearest = np.abs(x).argmin()  # what is smaller is nearer to 0, and worse in nothing but "up"
    assert on == {*np.flatnonzero(x >= 0).tolist()} | {int(nearest)}
    ups = [trial.score for trial in found.pareto()]
    assert ups == sorted(ups, reverse=True) and found.metric == "up"
    assert found.best().number in on


def test_parameters_are_counted_and_bounded():
    found = run({"up": "max", "parameters": ("<=", 3)})
    assert found.curves["validation"]["parameters"][:, -1].tolist() == [
        1.0 + units for units in found.hyper["units"]
    ]
    best = found.best()
    within = found.hyper["units"] <= 2
    assert best.hyper["units"] <= 2
    assert best.score == found.hyper["x"][within].max()


def test_a_hyperparameter_is_an_objective_too():
    found = run({"up": "max", "units": "min"})
    for trial in found.pareto():
        cheaper = found.hyper["units"] <= trial.hyper["units"]
        assert trial.score == found.hyper["x"][cheaper].max()


def test_halving_goes_on_with_the_fronts():
    found = run({"up": "max", "down": "max"}, search=sweep.halving(eta=3), epochs=3)
    whole = run({"up": "max", "down": "max"}, epochs=3)
    goals = Goal("up", True), Goal("down", True)
    x = found.hyper["x"].astype(float)
    liked = preference(goals, np.stack([x, -(x**2)], axis=1))
    going = np.argsort(-liked, kind="stable")[:8]
    assert set(np.flatnonzero(found.epochs == 3)) <= set(going.tolist())
    assert len(whole.pareto()) >= len([t for t in found.pareto() if t.epochs == 3])


def test_objectives_are_read_back_and_belong_to_the_sweep(tmp_path):
    asked = {"up": "max", "parameters": ("<=", 3)}
    found = run(asked, path=tmp_path)
    read = sweep.load(tmp_path)
    assert [t.number for t in read.pareto()] == [t.number for t in found.pareto()]
    assert read.ranked() == found.ranked()
    with pytest.raises(ValueError, match="objectives: was"):
        run({"up": "max"}, path=tmp_path)


def test_the_front_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = run({"up": "max", "down": "max"})
    found.plot_pareto(tmp_path / "front.svg")
    assert (tmp_path / "front.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="two objectives"):
        run({"up": "max"}).plot_pareto(tmp_path / "one.svg")
    with pytest.raises(ValueError, match="single objective"):
        sweep.run(learner, SPACE, DATA, 2, 1, metric="up", mode="max", progress=False).pareto()


@pytest.mark.parametrize("objectives, error, message", [
    ({}, TypeError, "objectives"),
    (["up"], TypeError, "such as"),
    ({"speed": "max"}, ValueError, "'speed' is unknown; it may be one of the metrics"),
    ({"up": "best"}, ValueError, "'up' is 'best'"),
    ({"up": ("<", 3)}, ValueError, "such as"),
    ({"up": ("<=", "3")}, ValueError, "such as"),
    ({"up": (">=", 0.5)}, ValueError, "none of the objectives"),
    ({"parameters": "min"}, ValueError, "none of the objectives"),
])  # fmt: skip
def test_what_is_no_objective_is_named(objectives, error, message):
    with pytest.raises(error, match=message):
        run(objectives, trials=2, epochs=1)


def test_a_metric_beside_objectives_and_a_sampler_that_learns_are_refused():
    with pytest.raises(ValueError, match="leave them out"):
        run({"up": "max"}, metric="up")
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with pytest.raises(ValueError, match="learns from a single score"):
        run({"up": "max"}, search=sweep.from_optuna(optuna.samplers.TPESampler))
