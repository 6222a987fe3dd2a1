"""Spaces: distributions, samplers and the grouping of static choices."""

import numpy as np
import pytest
import scipy.stats

from purenet import sweep
from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.space.points import add_points, no_points, numbers
from purenet.sweep.space.space import take_apart
from purenet.sweep.space.structure import TRACED

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


def draw(space, sampler, trials, seed=0):
    """The space and its points, all drawn at once."""
    space = take_apart(space)
    source = as_sampler("draw", sampler).source(space.drawn, trials, seed)
    return space, add_points(space, no_points(space), source.ask(source.points or trials))


def columns(space, sampler, trials, seed=0):
    space, points = draw(space, sampler, trials, seed)
    by_name = dict(zip(space.names, points.columns, strict=True))
    return {name: by_name[name] for name in space.shown}


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
    few, many = (columns(MIXED, sampler, n, seed=3) for n in (5, 33))
    for name in MIXED.keys() - {"shape"}:
        assert list(few[name]) == list(many[name][:5])
    other = columns(MIXED, sampler, 5, seed=4)
    assert list(few["rate"]) != list(other["rate"])


def test_points_may_be_drawn_a_few_at_a_time():
    space, whole = draw(MIXED, sweep.random, 12)
    source = as_sampler("draw", sweep.random).source(space.drawn, 12, 0)
    points = no_points(space)
    for n in (1, 7, 4):
        points = add_points(space, points, source.ask(n))
    for a, b in zip(points.columns, whole.columns, strict=True):
        assert a.dtype == b.dtype and list(a) == list(b)
    assert points.group.tolist() == whole.group.tolist() and points.groups == whole.groups


def test_sobol_fills_the_space_more_evenly_than_chance():
    space = {"a": sweep.uniform(0, 1), "b": sweep.uniform(0, 1)}

    def cells(sampler):
        pairs = zip(*columns(space, sampler, 64).values(), strict=True)
        return len({(int(8 * a), int(8 * b)) for a, b in pairs})

    assert cells(sweep.sobol) == 64 > cells(sweep.random)


def test_a_latin_hypercube_takes_one_value_of_each_part():
    space = {"a": sweep.uniform(0, 1), "b": sweep.loguniform(1e-3, 1.0), "c": 1.0}
    drawn = columns(space, sweep.latin_hypercube, 20, seed=1)
    assert sorted((drawn["a"] * 20).astype(int)) == list(range(20))
    assert sorted(((np.log10(drawn["b"]) / 3 + 1) * 20).astype(int)) == list(range(20))
    assert columns({"c": 1.0}, sweep.latin_hypercube, 3)["c"].tolist() == [1.0] * 3


def test_a_grid_drops_nothing():
    space = {"rate": sweep.loguniform(1e-3, 1e-1), "units": sweep.choice([8, 16]),
             "n": sweep.randint(0, 3), "z": sweep.normal(0.0, 1.0)}  # fmt: skip
    drawn = columns(space, sweep.grid(3), None)
    rows = set(zip(*drawn.values(), strict=True))
    assert len(drawn["n"]) == len(rows) == 3 * 2 * 3 * 3
    np.testing.assert_allclose(sorted(set(drawn["rate"])), [1e-3, 1e-2, 1e-1])
    assert set(drawn["units"]) == {8, 16} and set(drawn["n"]) == {0, 1, 2}
    assert np.isfinite(drawn["z"].astype(float)).all()
    shaped = [drawn[name].reshape(3, 2, 3, 3) for name in space]  # the last one runs fastest
    for axis, column in enumerate(shaped):
        assert (column == column.take([0], axis=axis)).all() == (column.shape[axis] == 1)
        others = tuple(i for i in range(4) if i != axis)
        assert (column == column[tuple(slice(0, 1) if i in others else slice(None)
                                       for i in range(4))]).all()  # fmt: skip
    with pytest.raises(ValueError, match=r"3 x 2 x 3 x 3 = 54 combinations, but trials is 50"):
        draw(space, sweep.grid(3), 50)
    assert columns({"a": 1.0}, sweep.grid(3), None)["a"].tolist() == [1.0]


def test_trials_are_grouped_by_their_static_values():
    space, points = draw(MIXED, sweep.random, 40)
    assert len(points.groups) == 2  # units: whole numbers are static, floats and randint are not
    assert len(numbers(space, points, 0)) == 6  # eps, noise, rate, skewed, slope, steps
    drawn = dict(zip(space.names, points.columns, strict=True))
    for g, group in enumerate(points.groups):
        static = [value for value in group if value is not TRACED]
        assert static[0] == "fixed" and static[1:3] == [4, 4] and static[3] in (16, 32)
        assert set(drawn["units"][points.group == g]) == {static[3]}
    assert set(drawn["slope"]) <= {0.1, 0.2, 0.3}


def test_columns_are_named_by_path_in_the_order_they_were_written():
    space = {"z": sweep.uniform(0, 1), "a": {"deep": 1.0, "list": [2.0, "x"]}}
    assert list(columns(space, sweep.random, 2)) == ["z", "a.deep", "a.list.0", "a.list.1"]


def test_a_choice_may_hold_shapes_and_functions():
    space = {"sizes": sweep.choice([(4, 3), (4, 8, 3)]), "f": sweep.choice([np.sin, None])}
    assert len(draw(space, sweep.grid(), None)[1].groups) == 4
    assert set(columns(space, sweep.grid(), None)["sizes"]) == {(4, 3), (4, 8, 3)}


def test_only_a_grid_knows_how_many_there_are():
    drawn = {"rate": sweep.uniform(0, 1)}
    source = lambda sampler: as_sampler("test", sampler).source(drawn, None, 0)
    assert source(sweep.grid(2)).points == 2
    assert source(sweep.random).points is None and source(sweep.sobol).points is None
    with pytest.raises(ValueError, match="trials is missing, and the function latin_hypercube"):
        source(sweep.latin_hypercube)


@pytest.mark.parametrize("make, kind, message", [
    (lambda: sweep.uniform(2, 1), ValueError, "low 2.0 must be below high 1.0"),
    (lambda: sweep.uniform(1, 1), ValueError, "must be below"),
    (lambda: sweep.uniform("a", 1), TypeError, "'a', but a number"),
    (lambda: sweep.uniform(0, float("nan")), ValueError, "finite"),
    (lambda: sweep.loguniform(0, 1), ValueError, "low is 0.0.*above 0"),
    (lambda: sweep.normal(0, 0), ValueError, "std is 0.0"),
    (lambda: sweep.randint(3, 3), ValueError, "low 3 must be below high 3"),
    (lambda: sweep.randint(0.5, 3), TypeError, "0.5, but an integer"),
    (lambda: sweep.choice([]), ValueError, "values is empty"),
    (lambda: sweep.choice([[1, 2]]), TypeError, "write a list as a tuple"),
    (lambda: sweep.grid(0), ValueError, "points is 0"),
    (lambda: draw({"a": np.ones(3)}, sweep.random, 2), TypeError, "constant 'a'.*close over"),
    (lambda: draw(MIXED, lambda d, n, s: np.ones((1, 1)), 3), ValueError,
     r"\(1, 1\), but \(3, 6\)"),
    (lambda: draw({"z": scipy.stats.cauchy()}, lambda d, n, s: np.ones((n, 1)), 2), ValueError,
     "'z' returned a number that is not finite"),
])  # fmt: skip
def test_mistakes_are_explained(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
