"""Freeze-thaw: its process is the dense one, its decisions are good, its sweeps resume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crash_points import differing, held, outcome

import purenet as pn
from purenet import sweep
from purenet.sweep.backends import multihost as together
from purenet.sweep.schedulers.curves import (
    Curves,
    Forecast,
    Settings,
    chosen_settings,
    forecast,
    initial_settings,
    matern,
)
from purenet.sweep.schedulers.freeze_thaw import _forward, _most_promising, _scaled
from purenet.sweep.space.coordinates import coordinates
from purenet.sweep.space.given import checked_points
from purenet.sweep.space.space import take_apart

RNG = np.random.default_rng(0)
OWNERS = np.array([0, 1, 1])
SETTINGS = Settings((0.0, 1.0), 1.0, -1.0, -4.0)


def some_curves(points=5, epochs=6):
    known = np.array([6, 1, 3, 4, 2])[:points]
    y = RNG.standard_normal((points, 1)) + np.log(np.arange(1, epochs + 1))
    values = np.where(np.arange(epochs) < known[:, None], y, np.nan)
    return Curves(RNG.random((points, 3)), OWNERS, values, known)


def dense(curves, others, settings):
    """The same process by the textbook, with one matrix over all scores that are known."""
    beta, a, noise = (2.0**value for value in settings[1:])
    point, epoch = np.nonzero(np.isfinite(curves.values))
    y, days = curves.values[point, epoch], np.arange(1, curves.epochs + 1) * 27 / curves.epochs
    every = np.concatenate([curves.places, others])
    k = matern(every, every, OWNERS, 2.0 ** np.array(settings.lengths))
    decay = lambda one, other: a * beta / (one[:, None] + other + beta)
    t, last = days[epoch], np.full(len(every), days[-1])
    cov = k[np.ix_(point, point)] + (point[:, None] == point) * decay(t, t)
    inverse = np.linalg.inv(cov + noise * np.eye(len(y)))
    basis = np.column_stack([np.ones(len(y)), beta / (t + beta)])
    normal = basis.T @ inverse @ basis + np.diag([1e-6, 1e-2])
    trend = np.linalg.solve(normal, basis.T @ inverse @ y)
    rest = y - basis @ trend
    scale = (rest @ inverse @ rest + 1) / (len(y) + 1)
    beside = k[:, point] + (np.arange(len(every))[:, None] == point) * decay(last, t)
    mean = trend[0] + trend[1] * beta / (last + beta) + beside @ inverse @ rest
    prior = k + np.eye(len(every)) * decay(last, last)
    return mean, scale * np.diag(prior - beside @ inverse @ beside.T)


def test_the_forecast_is_that_of_the_dense_process():
    curves, others = some_curves(), RNG.random((3, 3))
    ends = forecast(curves, others, SETTINGS)
    mean, variance = dense(curves, others, SETTINGS)
    np.testing.assert_allclose(ends.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(ends.variance, variance, rtol=1e-6)


def test_settings_follow_the_curves():
    """Only the first hyperparameter matters; the second gets a longer length, noise falls."""
    places = RNG.random((40, 2))
    values = np.sin(6 * places[:, :1]) - 1 / np.arange(2, 8)
    curves = Curves(places, np.arange(2), values, np.full(40, 6))
    found = chosen_settings(curves, initial_settings(2), 12)
    assert found.lengths[0] < found.lengths[1] - 1
    assert found.noise < initial_settings(2).noise
    ends = forecast(curves, np.array([[0.26, 0.5], [0.79, 0.5]]), found)
    np.testing.assert_allclose(ends.mean[-2:], np.sin([1.56, 4.74]) - 1 / 7, atol=0.05)


def test_of_many_epochs_some_are_looked_at_and_the_last_always():
    curves = Curves(np.zeros((2, 1)), np.array([0]), np.tile(np.arange(1000.0), (2, 1)),
                    np.array([1000, 10]))  # fmt: skip
    thin = curves.thinned()
    assert thin.epochs == 64 and thin.values[0, -1] == 999 and thin.known.tolist() == [64, 1]
    assert some_curves().thinned().epochs == 6


def test_scores_are_on_a_logarithmic_scale_and_the_lost_are_the_worst():
    scores = np.array([[1.0, -1e9], [0.5, np.nan], [0.0, np.nan], [np.nan, np.nan], [1e300, 0.9]])
    known, lost = np.array([1, 1, 1, 1, 2]), np.array([False, False, False, True, False])
    scaled = _scaled(scores[:4], known[:4], lost[:4])
    assert scaled[0, 0] == pytest.approx(np.log(11)) and scaled[1, 0] == pytest.approx(0)
    assert scaled[3].tolist() == [scaled[2, 0]] * 2 and np.isnan(scaled[0, 1])
    assert np.isfinite(_scaled(scores, known, lost)[4]).all()
    assert not _scaled(scores[3:4], known[3:4], lost[3:4]).any()
    assert _forward(np.array([[np.nan, 1.0], [2.0, np.nan]])).tolist()[0] == [1, 1]


def test_the_next_point_is_the_one_with_the_largest_expected_improvement_and_not_its_twin():
    shared = np.array([[1.0, 0.999, 0], [0.999, 1, 0], [0, 0, 0.25]])
    ends = Forecast(np.array([0.0, 0.0, 0.1]), np.diag(shared), shared)
    going = np.ones(3, bool)
    assert _most_promising(ends, 0.5, going, 2) == [0, 2]
    assert _most_promising(ends, 60.0, going & (np.arange(3) > 0), 9) == [1, 2]  # far below
    assert _most_promising(ends, -np.inf, going, 1) == [0]


BRANCHES = {
    "kind": sweep.choice([{"name": "a", "rate": sweep.loguniform(1e-4, 1.0)},
                          {"name": "b", "n": sweep.randint(0, 4)}]),
    "x": sweep.normal(0.0, 1.0),
    "units": sweep.padded(sweep.choice([4, 8]), to=(8,)),
    "size": sweep.padded(sweep.lograndint(1, 9), to=(8,)),
}  # fmt: skip


def test_coordinates_of_given_points_are_those_of_the_same_points_drawn():
    space = take_apart(BRANCHES)
    given = checked_points(space, [
        {"kind": {"name": "a", "rate": 0.01}, "x": 0.0, "units": 8, "size": 2},
        {"kind": {"name": "b", "n": 1}, "x": 0.0, "units": 4, "size": 2},
    ])  # fmt: skip
    size = float(np.log(2.5) / np.log(9))
    cube = np.array([[0.2, 0.5, 0.9, 0.5, 0.9, size], [0.7, 0.1, 0.3, 0.5, 0.2, size]])
    of = coordinates(space.drawn, given, cube)
    assert list(space.drawn) == ["kind", "kind.rate", "kind.n", "x", "units", "size"]
    np.testing.assert_allclose(of.places[:2], of.places[2:], rtol=1e-12)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(of.places[:2, :4], [[half, 0, 0.5, 0.5], [0, half, 0.5, 0.375]])
    assert of.owners.tolist() == [0, 0, 1, 2, 3, 4, 4, 5] and of.hyperparameters == 6


# in a sweep
SPACE = {"rate": sweep.loguniform(1e-4, 1.0), "kind": sweep.choice(["a", "b"])}
DATA = (np.zeros(1), np.zeros(1))


def trial(hyper):
    """Best at a rate of 0.01; those above 0.1 look better still, until they diverge."""
    decades = jnp.log10(hyper["rate"])
    tempting = decades > -1

    def init(key):
        x = 3 + 0.01 * jax.random.normal(key)
        return {"key": key, "t": jnp.zeros((), jnp.int32), "x": x}

    def epoch(state, data):
        target = jnp.where(tempting, -1.0, (decades + 2) ** 2)
        x = jnp.where(tempting & (state["t"] == 1), jnp.nan, (state["x"] + target) / 2)
        return state | {"t": state["t"] + 1, "x": x}, {}

    return pn.Trainable(init, epoch, lambda state, data: {"loss": state["x"]})


SEARCH = sweep.freeze_thaw(share=0.3, initial=4, batch=3)


def run(path=None, search=SEARCH, **options):
    options = {"devices": 1, "progress": False, "seed": 3} | options
    return sweep.run(trial, SPACE, DATA, 24, 6, path=path, search=search, **options)


@pytest.mark.parametrize("options", [{"seeds": 2}, {"points": [{"rate": 0.0101, "kind": "a"}]}])
def test_it_finds_what_all_points_to_the_end_would(options):
    result, full = run(**options), run(search=sweep.random, **options)
    runs = options.get("seeds", 1)
    assert result.epochs.sum() <= 0.3 * 24 * 6 * runs
    assert result.best().number == full.best().number and result.best().status == "done"
    assert "diverged" in result.status and (result.epochs == 0).any()
    assert result.plot_rungs() is not None  # of those that began
    again = run(**options)
    np.testing.assert_array_equal(again.epochs, result.epochs)


def test_interrupted_at_every_report_it_ends_with_the_same_bits(tmp_path):
    expected, reports = run(tmp_path / "whole"), []

    def stop(progress):
        reports.append(progress)
        raise InterruptedError

    for _ in range(3):
        with pytest.raises(InterruptedError):
            run(tmp_path / "often", on_report=stop)
    result = run(tmp_path / "often")
    assert reports[2].done > reports[0].done
    assert not differing(outcome(result), outcome(expected))
    assert not differing(held(tmp_path / "often"), held(tmp_path / "whole"))
    with pytest.raises(ValueError, match="its model compares all points, so others would have"):
        sweep.run(trial, SPACE, DATA, 25, 6, seed=3, search=SEARCH, path=tmp_path / "often")


def test_it_goes_with_patience_and_rare_evaluations():
    result = run(search=sweep.freeze_thaw(0.5, 4, 2, every=2), evaluate_every=2, patience=1)
    assert result.best().number == run(search=sweep.random).best().number
    with pytest.raises(ValueError, match=r"first decision comes after 1 epoch\(s\)"):
        run(evaluate_every=2)


def test_points_without_hyperparameters_and_few_epochs_are_legal():
    result = sweep.run(lambda hyper: trial({"rate": 0.01}), {"c": 1.0}, DATA, 5, 2, search=SEARCH)
    assert result.epochs.sum() == 3


def test_what_it_cannot_be_combined_with_is_explained(monkeypatch):
    with pytest.raises(ValueError, match=r"model of freeze_thaw.* forecasts a single score"):
        run(objectives={"loss": "min", "rate": "max"})
    with pytest.raises(TypeError, match=r"freeze_thaw: the sampler is .* batches that depend on"):
        sweep.freeze_thaw(sampler=sweep.from_optuna(lambda seed: None))
    with pytest.raises(ValueError, match=r"AskTell: the search freeze_thaw.* stops trials"):
        sweep.AskTell(SPACE, SEARCH)
    monkeypatch.setattr("purenet.distributed.multihost.count", lambda: 2)
    with pytest.raises(ValueError, match="depends on rounding, which may differ between the 2 pro"):
        together.check({}, SEARCH, None)


@pytest.mark.parametrize("share", [0, 1.5, float("nan"), "all"])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(
        ValueError, match=r"freeze_thaw: share is .*, but a number above 0, at most"
    ):
        sweep.freeze_thaw(share=share)


def test_the_budget_is_a_share_and_enough_for_one_point():
    assert sweep.freeze_thaw(share=0.1).budget(100, 27) == 270
    assert sweep.freeze_thaw(share=0.01).budget(9, 27) == 27
    assert sweep.freeze_thaw(share=1).budget(9, 27) == 9 * 27


@pytest.mark.parametrize("initial, batch, every", [(2, 2, 1), (3, 5, 1), (100, 8, 3)])
def test_enough_is_kept_back_to_train_the_best_forecast_to_the_end(initial, batch, every):
    search = sweep.freeze_thaw(0.3, initial, batch, every)
    final = np.sort(RNG.standard_normal((20, 1)), axis=0) - 1 / np.arange(1, 9)
    rounds, goals = search.rounds(20, 8), None
    scores = None
    while True:
        try:
            goals = next(rounds) if scores is None else rounds.send(scores)
        except StopIteration:
            break
        scores = np.where(np.arange(8) < goals[:, None], final, np.nan)
    assert goals.max() == 8 and goals.sum() <= 48
    assert goals[goals > 0].max() == goals[np.flatnonzero(goals)[-1]]  # the best that began
