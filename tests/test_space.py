"""Spaces: distributions, samplers and the grouping of static choices."""

import numpy as np
import pytest
import scipy.stats

from purenet import sweep
from purenet.sweep.space import TRACED, sample

MIXED = {
    "rate": sweep.loguniform(1e-4, 1e-1),
    "noise": sweep.normal(1.0, 0.5),
    "units": sweep.choice([16, 32]),
    "steps": sweep.randint(2, 6),
    "slope": sweep.choice([0.1, 0.2, 0.3]),
    "skewed": scipy.stats.beta(2.0, 5.0),
    "name": "fixed",
    "eps": 1e-3,
    "shape": (4, 4),
}


@pytest.mark.parametrize("distribution, low, high", [
    (sweep.uniform(-2.0, 3.0), -2.0, 3.0),
    (sweep.loguniform(1e-6, 1e-2), 1e-6, 1e-2),
    (sweep.randint(-2, 4), -2, 3),
])  # fmt: skip
def test_distributions_reach_from_end_to_end_and_grow(distribution, low, high):
    values = distribution.ppf(np.linspace(0, 1, 101))
    assert values[0] == low and values[-1] == high
    assert (np.diff(values) >= 0).all()


def test_distributions_follow_their_laws():
    u = np.random.default_rng(0).random(20000)
    decades = np.histogram(np.log10(sweep.loguniform(1e-4, 1.0).ppf(u)), 4, (-4, 0))[0]
    np.testing.assert_allclose(decades / 20000, 0.25, atol=0.02)
    normal = sweep.normal(1.0, 2.0).ppf(u)
    np.testing.assert_allclose([normal.mean(), normal.std()], [1.0, 2.0], atol=0.05)
    faces = np.bincount(sweep.randint(0, 6).ppf(u), minlength=6)
    np.testing.assert_allclose(faces / 20000, 1 / 6, atol=0.02)


@pytest.mark.parametrize("sampler", [sweep.random, sweep.sobol])
def test_a_trial_does_not_depend_on_how_many_there_are(sampler):
    few, many = (sample(MIXED, sampler, n, seed=3) for n in (5, 33))
    for name in MIXED.keys() - {"shape"}:
        assert list(few.columns[name]) == list(many.columns[name][:5])
    other = sample(MIXED, sampler, 5, seed=4)
    assert list(few.columns["rate"]) != list(other.columns["rate"])


def test_sobol_fills_the_space_more_evenly_than_chance():
    space = {"a": sweep.uniform(0, 1), "b": sweep.uniform(0, 1)}

    def cells(sampler):
        columns = sample(space, sampler, 64, seed=0).columns
        return len({(int(8 * a), int(8 * b)) for a, b in zip(*columns.values(), strict=True)})

    assert cells(sweep.sobol) == 64 > cells(sweep.random)


def test_a_grid_drops_nothing():
    space = {"rate": sweep.loguniform(1e-3, 1e-1), "units": sweep.choice([8, 16]),
             "n": sweep.randint(0, 3), "z": sweep.normal(0.0, 1.0)}  # fmt: skip
    points = sample(space, sweep.grid(3), None, seed=0)
    rows = set(zip(*points.columns.values(), strict=True))
    assert points.trials == len(rows) == 3 * 2 * 3 * 3
    np.testing.assert_allclose(sorted(set(points.columns["rate"])), [1e-3, 1e-2, 1e-1])
    assert set(points.columns["units"]) == {8, 16} and set(points.columns["n"]) == {0, 1, 2}
    assert np.isfinite(points.columns["z"].astype(float)).all()
    with pytest.raises(ValueError, match=r"3 x 3 x 2 x 3 = 54 combinations, but trials is 50"):
        sample(space, sweep.grid(3), 50, seed=0)
    assert sample({"a": 1.0}, sweep.grid(3), None, seed=0).trials == 1


def test_trials_are_grouped_by_their_static_values():
    points = sample(MIXED, sweep.random, 40, seed=0)
    assert sorted(i for group in points.groups for i in group.trials) == list(range(40))
    assert len(points.groups) == 2  # units: whole numbers are static, floats and randint are not
    for group in points.groups:
        static = [value for value in group.static if value is not TRACED]
        assert static[0] == "fixed" and static[1:3] == [4, 4] and static[3] in (16, 32)
        assert len(group.numbers) == 6  # eps, noise, rate, skewed, slope, steps
        assert {points.columns["units"][i] for i in group.trials} == {static[3]}
    assert set(points.columns["slope"]) <= {0.1, 0.2, 0.3}


def test_columns_are_named_by_path_in_the_order_they_were_written():
    space = {"z": sweep.uniform(0, 1), "a": {"deep": 1.0, "list": [2.0, "x"]}}
    names = list(sample(space, sweep.random, 2, seed=0).columns)
    assert names == ["z", "a.deep", "a.list.0", "a.list.1"]


def test_a_choice_may_hold_shapes_and_functions():
    space = {"sizes": sweep.choice([(4, 3), (4, 8, 3)]), "f": sweep.choice([np.sin, None])}
    points = sample(space, sweep.grid(), None, seed=0)
    assert len(points.groups) == 4
    assert set(points.columns["sizes"]) == {(4, 3), (4, 8, 3)}


@pytest.mark.parametrize("make, kind, message", [
    (lambda: sweep.uniform(2, 1), ValueError, "low 2.0 must be below high 1.0"),
    (lambda: sweep.uniform(1, 1), ValueError, "must be below"),
    (lambda: sweep.uniform("a", 1), TypeError, "'a', but a number"),
    (lambda: sweep.uniform(0, float("nan")), ValueError, "finite"),
    (lambda: sweep.loguniform(0, 1), ValueError, "low is 0.0.*above 0"),
    (lambda: sweep.normal(0, 0), ValueError, "std is 0.0"),
    (lambda: sweep.randint(3, 3), ValueError, "low 3 must be below high 3"),
    (lambda: sweep.randint(0.5, 3), TypeError, "0.5, but a whole number"),
    (lambda: sweep.choice([]), ValueError, "nothing to choose"),
    (lambda: sweep.choice([[1, 2]]), TypeError, "write a list as a tuple"),
    (lambda: sweep.grid(0), ValueError, "points is 0"),
    (lambda: sample({"a": np.ones(3)}, sweep.random, 2, 0), TypeError, "constant 'a'.*close over"),
    (lambda: sample(MIXED, sweep.random, None, 0), ValueError, "trials is missing"),
    (lambda: sample(MIXED, lambda d, n, s: np.ones((1, 1)), 3, 0), ValueError,
     r"\(1, 1\), but \(3, 6\)"),
    (lambda: sample({"z": scipy.stats.cauchy()}, lambda d, n, s: np.ones((n, 1)), 2, 0), ValueError,
     "'z' gave a number that is not finite"),
])  # fmt: skip
def test_mistakes_are_explained(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
