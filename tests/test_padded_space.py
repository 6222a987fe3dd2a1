"""Padded sizes and log-uniform integers as hyperparameters."""

import itertools
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from test_executors import Inline

import purenet as pn
from purenet import sweep
from purenet.core.padded import PaddedSize
from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.space.distributions import LogRandInt
from purenet.sweep.space.points import add_points, no_points
from purenet.sweep.space.schema import describe_leaf, distribution_of
from purenet.sweep.space.space import take_apart

DATA = ((np.ones(1),), (np.zeros(1),))
SPACE = {"rate": sweep.uniform(0.1, 1.0),
         "width": sweep.padded(sweep.lograndint(1, 65), to=(4, 16, 64))}  # fmt: skip
CAPACITIES = set()


def trial(hyper):
    """A vector of `width` numbers that shrink; its sum says how many there are."""
    width = hyper["width"]
    CAPACITIES.add(width.capacity)
    real = jnp.arange(width.capacity) < width.size
    return pn.Trainable(
        init=lambda key: {"key": key, "x": jnp.where(real, 1.0, 0.0)},
        epoch=lambda state, data: (state | {"x": state["x"] * hyper["rate"]}, {}),
        evaluate=lambda state, data: {"loss": state["x"].sum()},
    )


def run(trials=12, epochs=3, space=SPACE, **options):
    options = {"progress": False, "devices": 1} | options
    return sweep.run(trial, space, DATA, trials, epochs, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("padded") / "sweep"


@pytest.fixture(scope="module")
def result(folder):
    return run(path=folder)


def capacity(size, to=(4, 16, 64)):
    return next(c for c in to if c >= size)


# the distributions
@pytest.mark.parametrize("low, high", [(1, 2), (1, 1001), (7, 9), (8, 1025), (1, 2**31)])
def test_integers_spread_over_their_logarithm_have_exact_ends(low, high):
    distribution = sweep.lograndint(low, high)
    u = np.linspace(0, 1, 4001)
    values = distribution.ppf(u)
    assert values[0] == low and values[-1] == high - 1 and values.dtype.kind == "i"
    assert (np.diff(values) >= 0).all()
    assert int(distribution.ppf(0.0)) == low and int(distribution.ppf(1.0)) == high - 1


def test_every_factor_is_as_likely():
    drawn = sweep.lograndint(8, 1024).ppf(np.random.default_rng(0).random(70_000))
    octaves = np.histogram(np.log2(drawn), 7, (3, 10))[0]
    np.testing.assert_allclose(octaves / 70_000, 1 / 7, atol=0.01)
    small = sweep.lograndint(1, 4).ppf(np.random.default_rng(1).random(50_000))
    shares = np.bincount(small, minlength=4)[1:] / 50_000
    law = [math.log((n + 1) / n) / math.log(4) for n in (1, 2, 3)]
    np.testing.assert_allclose(shares, law, atol=0.01)


def test_a_size_is_rounded_up_to_the_nearest_rung():
    sizes = sweep.padded(sweep.randint(1, 65), to=[4, 16, 64])
    drawn = sizes.ppf(np.linspace(0, 1, 200))
    assert set(drawn) == set(range(1, 65))
    assert [sizes.to[r] for r in sizes.rung(drawn)] == [capacity(n) for n in drawn]
    chosen = sweep.padded(sweep.choice([32, 4, 5]), to=(4, 64))
    assert set(chosen.ppf(np.linspace(0, 1, 50))) == {4, 5, 32}


@pytest.mark.parametrize("make, kind, message", [
    (lambda: sweep.padded(sweep.uniform(1, 9), (16,)), TypeError, "distribution is .*Uniform.*but"),
    (lambda: sweep.padded(8, (16,)), TypeError, "distribution is 8, but a randint"),
    (lambda: sweep.padded(sweep.choice([1.0]), (16,)), TypeError, "choice of integers"),
    (lambda: sweep.padded(sweep.choice([True]), (16,)), TypeError, "choice of integers"),
    (lambda: sweep.padded(sweep.choice([{"a": 1}]), (16,)), TypeError, "choice of integers"),
    (lambda: sweep.padded(sweep.randint(1, 9), 16), TypeError, "to is 16, but a tuple"),
    (lambda: sweep.padded(sweep.randint(1, 9), (8.0,)), TypeError, "of `to` is 8.0"),
    (lambda: sweep.padded(sweep.randint(1, 9), ()), ValueError, r"to is \(\), but"),
    (lambda: sweep.padded(sweep.randint(1, 9), (0, 16)), ValueError, "at least 1"),
    (lambda: sweep.padded(sweep.randint(1, 9), (8, 8)), ValueError, "increasing integers"),
    (lambda: sweep.padded(sweep.randint(1, 9), (16, 8)), ValueError, "increasing integers"),
    (lambda: sweep.padded(sweep.randint(1, 10), (4, 8)), ValueError, "1 to 9, but sizes from 1"),
    (lambda: sweep.padded(sweep.randint(0, 9), (8,)), ValueError, "0 to 8, but sizes from 1"),
    (lambda: sweep.padded(sweep.choice([3, 9]), (8,)), ValueError, "from 3 to 9"),
    (lambda: sweep.lograndint(0, 9), ValueError, "low is 0, but at least 1"),
    (lambda: sweep.lograndint(9, 9), ValueError, "low 9 must be below high 9"),
    (lambda: sweep.lograndint(1.5, 9), TypeError, "low is 1.5, but an integer"),
])  # fmt: skip
def test_mistakes_are_explained(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_the_largest_size_may_be_the_last_rung():
    assert sweep.padded(sweep.randint(1, 9), (8,)).to == (8,)
    assert sweep.padded(sweep.lograndint(1, 9), (np.int64(8),)).to == (8,)


@pytest.mark.parametrize("leaf", [
    sweep.lograndint(2, 9), sweep.padded(sweep.lograndint(2, 9), (4, 8)),
    sweep.padded(sweep.randint(2, 9), (4, 8)), sweep.padded(sweep.choice([4, 2]), (4, 8)),
])  # fmt: skip
def test_they_are_described_as_json_and_read_back(leaf):
    assert distribution_of(json.loads(json.dumps(describe_leaf(leaf)))) == leaf


@pytest.mark.parametrize("described", [
    {"padded": [{"randint": [2, 9]}]}, {"padded": [{"randint": [2, 9]}, [4]]},
    {"padded": [{"randint": [2, 9]}, "ab"]}, {"padded": [3, [4, 8]]},
    {"padded": [{"padded": [{"randint": [1, 3]}, [4]]}, [4, 8]]}, {"lograndint": [0, 4]},
])  # fmt: skip
def test_damaged_descriptions_are_refused(described):
    with pytest.raises((ValueError, TypeError)):
        distribution_of(described)


# searches
def test_a_grid_has_every_size_once():
    space = {"width": sweep.padded(sweep.randint(2, 9), (4, 8)), "n": sweep.lograndint(1, 65),
             "k": sweep.padded(sweep.choice([9, 3]), (16,))}  # fmt: skip
    taken = take_apart(space)
    source = as_sampler("draw", sweep.grid(4)).source(taken.drawn, None, 0)
    points = add_points(taken, no_points(taken), source.ask(source.points))
    columns = dict(zip(taken.names, points.columns, strict=True))
    assert sorted(set(columns["width"])) == list(range(2, 9))
    assert sorted(set(columns["n"])) == [1, 4, 16, 64] and set(columns["k"]) == {3, 9}
    assert source.points == 7 * 4 * 2 and len(points.groups) == 2
    few = sweep.grid(9)([LogRandInt(1, 4)], None, 0)
    assert sorted(LogRandInt(1, 4).ppf(few[:, 0])) == [1, 2, 3]


def test_optuna_knows_them_as_integers():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seen = []

    class Watched(optuna.samplers.RandomSampler):
        def after_trial(self, study, trial, state, values):
            seen.append((trial.params, trial.distributions))

    space = take_apart({**SPACE, "n": sweep.lograndint(1, 9),
                        "k": sweep.padded(sweep.choice([9, 3]), (16,))})  # fmt: skip
    source = sweep.from_optuna(Watched).source(space.drawn, None, 0)
    points = add_points(space, no_points(space), source.ask(200))
    source.tell(np.arange(200), np.zeros((200, 1)))
    columns = dict(zip(space.names, points.columns, strict=True))
    for number, (params, _) in enumerate(seen):
        assert columns["width"][number] == params["width"] and columns["n"][number] == params["n"]
        assert columns["k"][number] == (9, 3)[params["k"]]
    assert set(columns["n"]) == set(range(1, 9)) and len(seen) == 200
    whole = seen[0][1]["width"]
    assert (whole.low, whole.high, whole.log) == (1, 64, True)


def test_ask_gives_the_padded_sizes_themselves():
    asked = sweep.AskTell(SPACE).ask(6)
    assert [isinstance(size, PaddedSize) for size in asked.hyper["width"]] == [True] * 6
    assert [s.capacity for s in asked.hyper["width"]] == [
        capacity(s.size) for s in asked.hyper["width"]]  # fmt: skip


# results
def test_there_is_a_program_for_each_rung_and_the_size_is_exact(result):
    sizes, rate = result.hyper["width"], result.hyper["rate"].astype(float)
    assert sizes.dtype == np.int32 and len(set(sizes)) > 6
    assert len(result.programs) == len({capacity(n) for n in sizes}) == 3
    assert {p.static["width"] for p in result.programs} == {"up to 4", "up to 16", "up to 64"}
    assert sorted(CAPACITIES) == [4, 16, 64]
    curves = sizes[:, None] * rate[:, None] ** np.arange(1, 4)
    np.testing.assert_allclose(result.curves["train"]["loss"], curves, rtol=1e-5)
    for row in range(12):
        state = result.replay(row).state if row < 2 else None
        assert state is None or len(state["x"]) == capacity(sizes[row])


def test_sizes_are_exported_exactly(result, tmp_path):
    sizes = result.hyper["width"].tolist()
    result.to_csv(tmp_path / "trials.csv")
    header, *lines = (tmp_path / "trials.csv").read_text().splitlines()
    at = header.split(",").index("width")
    assert [line.split(",")[at] for line in lines] == list(map(str, sizes))
    assert [type(row["width"].item()) for row in result.rows()] == [int] * 12
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = result.to_optuna()
    assert [t.params["width"] for t in study.trials] == sizes
    assert study.trials[0].distributions["width"].log


def test_sizes_come_back_from_a_folder(result, folder):
    loaded = sweep.load(folder)
    np.testing.assert_array_equal(loaded.hyper["width"], result.hyper["width"])
    assert loaded.hyper["width"].dtype == np.int32 and loaded.space == result.space
    assert run(path=folder).table() == loaded.table() == result.table()
    other = {**SPACE, "width": sweep.padded(sweep.lograndint(1, 65), to=(4, 64))}
    with pytest.raises(ValueError, match="space"):
        run(space=other, path=folder)


def test_workers_get_the_sizes(result):
    found = run(executor=Inline(), trials_per_block=12)
    assert found.table(12) == result.table(12)
    np.testing.assert_array_equal(found.curves["train"]["loss"], result.curves["train"]["loss"])


def test_a_size_in_a_branch_is_shown_as_an_integer():
    size = sweep.padded(sweep.randint(1024, 2048), (2048,))
    space = {"rate": 0.5, "net": sweep.choice([{"name": "wide", "width": size}, {"name": "no"}])}
    narrow = PaddedSize(1, 1)
    f = lambda hyper: trial({"rate": 0.5, "width": hyper["net"].get("width", narrow)})
    found = sweep.run(f, space, DATA, 6, 1, devices=1, progress=False)
    lines = found.table().splitlines()[1:]
    for one, line in zip(map(found.trial, found.ranked()), lines, strict=True):
        assert ("net.width" in one.hyper) == (one.hyper["net"] == "wide")
        assert type(one.hyper.get("net.width", 0)) is int
        last = str(one.hyper.get("net.width", "no"))
        assert line.split()[-1] == last
    assert {one.hyper["net"] for one in found} == {"wide", "no"}


def test_members_of_a_population_take_over_the_size_with_the_state():
    found = run(12, 8, search=sweep.pbt(every=2, fraction=0.5, resample=1.0))
    parents, sizes = found.lineage.parents, found.lineage.numbers["width"]
    assert (parents != np.arange(12)).sum() > 6
    for exchange, (old, new) in enumerate(itertools.pairwise(sizes)):
        np.testing.assert_array_equal(new, old[parents[exchange]])
    rungs = np.vectorize(capacity)
    assert (rungs(sizes) == rungs(sizes[0])).all()
    moved = found.lineage.numbers["rate"]
    replaced = parents != np.arange(12)
    assert (moved[1:][replaced] != moved[:-1][replaced]).any()
    np.testing.assert_array_equal(found.hyper["width"], sizes[-1])
