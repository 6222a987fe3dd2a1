"""Conditional spaces: a choice of dicts, each with distributions of its own."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from crash_points import differing, held, moments, outcome, put
from test_executors import Inline

import purenet as pn
from purenet import sweep
from purenet.sweep.engine.monitor import Objective
from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.space.points import add_points, hyper_arrays, no_points, numbers, taken_points
from purenet.sweep.space.schema import describe_leaf, distribution_of
from purenet.sweep.space.space import of_columns, take_apart
from purenet.sweep.space.structure import Traced, Untaken, structure
from purenet.sweep.state import SweepShape, SweepState

DATA = ((np.ones(1),), (np.zeros(1),))
SPACE = {
    "start": sweep.uniform(1.0, 2.0),
    "optimizer": sweep.choice([
        {"name": "sgd", "momentum": sweep.uniform(0.0, 1.0), "rate": sweep.loguniform(1e-3, 1.0)},
        {"name": "adam", "steps": sweep.randint(2, 9), "rate": 0.5,
         "decay": sweep.choice([{"kind": "none"},
                                {"kind": "weights", "strength": sweep.uniform(0.0, 1.0)}])},
    ]),
}  # fmt: skip
COLUMNS = ["start", "optimizer", "optimizer.momentum", "optimizer.rate", "optimizer.steps",
           "optimizer.decay", "optimizer.decay.kind", "optimizer.decay.strength"]  # fmt: skip
FORMS = set()  # of what the trial function got


def factor(optimizer):
    """What an epoch multiplies a state by; the names are known when it is traced."""
    if optimizer["name"] == "sgd":
        assert set(optimizer) == {"name", "momentum", "rate"}
        return optimizer["momentum"] * optimizer["rate"]
    strength = optimizer["decay"].get("strength", 0.25)
    return optimizer["rate"] * strength / optimizer["steps"]


def trial(hyper):
    def epoch(state, data):
        return state | {"x": state["x"] * factor(hyper["optimizer"])}, {}

    FORMS.add(str(jax.tree.structure(hyper)))
    return pn.Trainable(
        init=lambda key: {"key": key, "x": hyper["start"] + 0.0},
        epoch=epoch,
        evaluate=lambda state, data: {"loss": state["x"]},
    )


def run(trials=16, epochs=3, seed=0, **options):
    options = {"progress": False, "devices": 1} | options
    return sweep.run(trial, SPACE, DATA, trials, epochs, seed, **options)


def draw(space, sampler, trials, seed=0):
    space = take_apart(space)
    source = as_sampler("draw", sampler).source(space.drawn, trials, seed)
    return space, add_points(space, no_points(space), source.ask(source.points or trials))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("branches") / "sweep"


@pytest.fixture(scope="module")
def result(folder):
    return run(seeds=2, path=folder)


def absent(column):
    return np.array([isinstance(v, float | np.floating) and np.isnan(v) for v in column])


# spaces
class Names:
    """A space made by chance, no two of whose hyperparameters have the same name."""

    def __init__(self, seed):
        self.rng, self.count = np.random.default_rng(seed), 0

    def space(self, depth=0):
        return {self.name(): self.leaf(depth) for _ in range(self.rng.integers(1, 4))}

    def name(self):
        self.count += 1
        return f"{'zyxabc'[self.rng.integers(6)]}{self.count}"

    def leaf(self, depth):
        kinds = 8 if depth < 3 else 6
        match int(self.rng.integers(kinds)):
            case 0:
                return sweep.uniform(-1.0, 1.0)
            case 1:
                return sweep.randint(-3, 30)
            case 2:
                return 0.5
            case 3:
                return sweep.choice([0.1, 0.2, 0.3])
            case 4:
                return sweep.choice(["a", (2, 2), None])
            case 5:
                return sweep.padded(sweep.choice([3, 9, 27]), to=(8, 32))
            case _:
                many = self.rng.integers(1, 4)
                return sweep.choice([self.space(depth + 1) for _ in range(many)])  # fmt: skip


def expected(tree, drawn, path=()):
    """The point of a space that numbers of the unit cube stand for, by name, and what it takes."""
    if isinstance(tree, dict):
        return {key: expected(value, drawn, (*path, key)) for key, value in tree.items()}
    if not hasattr(tree, "ppf"):
        return tree
    u = drawn.pop(".".join(path))
    if hasattr(tree, "branches"):
        return expected(tree.branches[int(u * len(tree.branches))], drawn, path)
    if hasattr(tree, "to"):
        size = tree.distribution.values[int(u * len(tree.distribution.values))]
        return size, next(capacity for capacity in tree.to if capacity >= size)
    return tree.values[int(u * len(tree.values))] if hasattr(tree, "values") else tree.ppf(u)


def same(one, other):
    if isinstance(one, dict):
        assert set(one) == set(other)
        return all(same(one[key], other[key]) for key in one)
    if hasattr(one, "capacity"):
        return (int(one.size), one.capacity) == other
    if isinstance(other, float | np.floating):
        return float(one) == np.float32(other)
    return one == other


@pytest.mark.parametrize("seed", range(40))
def test_every_point_is_the_dict_that_its_numbers_stand_for(seed):
    tree = Names(seed).space()
    space, points = draw(tree, sweep.random, 25, seed)
    cube = sweep.random(space.distributions, 25, seed)
    for row in range(25):
        group = points.group[row]
        static = points.groups[group]
        remaining = iter(numbers(space, points, row))
        values = [next(remaining) if isinstance(v, Traced) else v
                  for v in static if v is not Untaken.UNTAKEN]  # fmt: skip
        assert next(remaining, None) is None
        got = jax.tree.unflatten(structure(space, points.places[group]), values)
        drawn = dict(zip(space.drawn, cube[row], strict=True))
        assert same(got, expected(tree, drawn))
        unused = {space.keys[i] for i, here in enumerate(taken_points(space, points))
                  if not here[row] and hasattr(space.leaves[i], "ppf")}  # fmt: skip
        assert set(drawn) == unused  # exactly what was taken has been read


@pytest.mark.parametrize("seed", range(10))
def test_points_do_not_depend_on_how_many_follow_nor_on_how_they_are_asked_for(seed):
    tree = Names(100 + seed).space()
    space, whole = draw(tree, sweep.sobol, 20, seed)
    source = as_sampler("draw", sweep.sobol).source(space.drawn, 13, seed)
    points = no_points(space)
    for n in (1, 5, 7):
        points = add_points(space, points, source.ask(n))
    for a, b in zip(points.columns, whole.columns, strict=True):
        assert a.dtype == b.dtype and str(a.tolist()) == str(b[:13].tolist())
    assert points.group.tolist() == whole.group[:13].tolist()
    assert points.groups == whole.groups[: len(points.groups)]


@pytest.mark.parametrize("seed", range(20))
def test_a_space_is_described_as_json_and_read_back(seed):
    space = take_apart(Names(200 + seed).space())
    told = json.loads(json.dumps({n: describe_leaf(leaf) for n, leaf in space.top.items()}))
    again = of_columns({name: distribution_of(leaf) for name, leaf in told.items()})
    assert again.shown == space.shown and list(again.drawn) == list(space.drawn)
    for one, other in zip(again.distributions, space.distributions, strict=True):
        assert type(one) is type(other) and one.ppf(0.7) == other.ppf(0.7)
        where = lambda leaf: [getattr(leaf, name, None) for name in ("choice", "place")]
        assert where(one) == where(other)


def test_branches_are_called_by_name_by_constants_or_by_place():
    rate = sweep.uniform(0, 1)
    assert sweep.choice([{"name": "a"}, {"name": "b", "rate": rate}]).values == ("a", "b")
    assert sweep.choice([{"name": "a"}, {"name": "a", "k": 2}]).values == ("name a", "name a, k 2")
    assert sweep.choice([{"f": pn.relu}, {"k": 2, "rate": rate}]).values == ("f relu", "k 2")
    assert sweep.choice([{"rate": rate}, {"k": 2}]).values == (0, 1)
    assert sweep.choice([{}, {"rate": rate}]).values == (0, 1)
    named = take_apart({"o": sweep.choice([{"name": "a", "k": 1}, {"name": "b"}])})
    assert named.shown == ["o", "o.k"]
    counted = take_apart({"o": sweep.choice([{"name": "a", "k": 1}, {"k": 2}])})
    assert counted.shown == ["o", "o.name", "o.k"]


def test_a_name_may_stand_in_several_branches_and_nowhere_else():
    rate = sweep.uniform(0, 1)
    two = sweep.choice([{"rate": rate}, {"rate": sweep.randint(0, 9)}])
    assert take_apart({"o": two}).shown == ["o", "o.rate"]
    assert list(take_apart({"o": two}).drawn) == ["o", "o.rate [0]", "o.rate [1]"]
    with pytest.raises(ValueError, match=r"two leaves have the name 'o\.rate'"):
        take_apart({"o": two, "o.rate": rate})
    with pytest.raises(ValueError, match=r"have the name 'o\.a\.b'"):
        take_apart({"o": sweep.choice([{"a": sweep.choice([{"b": 1}]), "a.b": rate}])})


def test_a_space_without_branches_is_described_as_ever():
    space = {"rate": sweep.loguniform(1e-4, 0.1), "units": sweep.choice([16, 32]), "f": pn.relu,
             "n": sweep.randint(1, 4), "layers": {"z": 1, "a": sweep.normal(0, 1)}}  # fmt: skip
    described = {n: describe_leaf(leaf) for n, leaf in take_apart(space).top.items()}
    assert json.dumps(described) == (
        '{"rate": {"loguniform": [0.0001, 0.1]}, "units": {"choice": [16, 32]}, "f": "relu", '
        '"n": {"randint": [1, 4]}, "layers.a": {"normal": [0.0, 1.0]}, "layers.z": 1}'
    )


@pytest.mark.parametrize("make, kind, message", [
    (lambda: sweep.choice([{"a": sweep.uniform(0, 1)}, None]), TypeError, "holds a distribution"),
    (lambda: sweep.choice([{"a": np.ones(2)}, {}]), TypeError, "choice: 'a'.*static value"),
    (lambda: sweep.choice([sweep.uniform(0, 1)]), TypeError, "is a distribution.*use a dict"),
])  # fmt: skip
def test_what_is_no_branch_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


# searches
def test_a_grid_combines_each_branch_with_what_it_holds_only():
    space, points = draw(SPACE, sweep.grid(3), None)
    assert len(points.group) == 3 * (3 * 3 + 7 * (1 + 3))
    rows = hyper_arrays(space, points, np.arange(len(points.group)))
    told = [str((float(a), jax.tree.map(str, b)))
            for a, b in zip(rows["start"], rows["optimizer"], strict=True)]  # fmt: skip
    assert len(set(told)) == len(told)
    names = [optimizer["name"] for optimizer in rows["optimizer"]]
    assert names == 3 * (["sgd"] * 9 + ["adam"] * 28)
    assert names.count("sgd") == 27 and rows["start"][:37].tolist() == [1.0] * 37
    with pytest.raises(ValueError, match="grid: 111 combinations, but trials is 50"):
        draw(SPACE, sweep.grid(3), 50)
    huge = sweep.choice([{"a": sweep.choice(range(10**5)), "b": sweep.choice(range(10**5))}, {}])
    with pytest.raises(ValueError, match="grid: 10000000001 combinations, but trials is 5"):
        draw({"huge": huge}, sweep.grid(), 5)


def test_a_latin_hypercube_has_a_column_for_every_distribution():
    space, points = draw(SPACE, sweep.latin_hypercube, 8)
    cube = sweep.latin_hypercube(space.distributions, 8, 0)
    assert cube.shape == (8, 7)
    columns = dict(zip(space.keys, points.columns, strict=True))
    sgd = columns["optimizer"] == "sgd"
    assert sgd.sum() == 4
    at = list(space.drawn).index("optimizer.momentum")
    np.testing.assert_allclose(columns["optimizer.momentum"][sgd], cube[sgd, at], rtol=1e-6)
    assert np.isnan(columns["optimizer.momentum"][~sgd]).all()


def test_optuna_is_asked_for_what_is_taken_only():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seen = []

    class Watched(optuna.samplers.TPESampler):
        def after_trial(self, study, trial, state, values):
            seen.append(trial.params)
            super().after_trial(study, trial, state, values)

    space = take_apart(SPACE)
    source = sweep.from_optuna(Watched).source(space.drawn, None, 0)
    points = no_points(space)
    for first in range(0, 40, 8):
        points = add_points(space, points, source.ask(8))
        some = np.arange(first, first + 8)
        losses = [float(factor(o)) for o in hyper_arrays(space, points, some)["optimizer"]]
        source.tell(some, -np.array(losses)[:, None])
    leaves = zip(space.keys, points.columns, taken_points(space, points), strict=True)
    leaves = {key: (column, here) for key, column, here in leaves if key in space.drawn}
    for number, params in enumerate(seen):
        assert set(params) == {key for key, (_, here) in leaves.items() if here[number]}
        place = params["optimizer"]
        assert points.columns[space.keys.index("optimizer")][number] == ("sgd", "adam")[place]
        for key in set(params) - {"optimizer", "optimizer.decay"}:
            assert float(leaves[key][0][number]) == pytest.approx(params[key], rel=1e-5)
    late = [params["optimizer"] for params in seen[24:]]
    assert len(seen) == 40 and np.mean(late) < 0.4  # it has learnt which branch is better


def test_ask_gives_the_dicts_themselves():
    study = sweep.AskTell(SPACE, mode="min")
    asked = study.ask(9)
    study.tell(asked.numbers, [float(factor(o)) for o in asked.hyper["optimizer"]])
    best = study.best()
    assert best.score == min(float(factor(o)) for o in asked.hyper["optimizer"])
    assert best.hyper["optimizer"] == asked.hyper["optimizer"][best.number]
    assert asked.hyper["start"].dtype.kind == "f"


def test_halving_stops_trials_of_any_branch(result):
    found = run(seeds=2, search=sweep.halving(eta=3))
    assert sorted(set(found.epochs)) == [1, 3] and (found.epochs == 3).sum() == 10
    reached = found.epochs == 3
    np.testing.assert_array_equal(found.curves["train"]["loss"][reached],
                                  result.curves["train"]["loss"][reached])  # fmt: skip


# results
def test_a_trial_gets_its_branch_alone(result):
    assert {program.static["optimizer"] for program in result.programs} == {"sgd", "adam"}
    assert len({str(program.static) for program in result.programs}) == 3
    assert not any("optimizer.name" in program.static for program in result.programs)
    assert len(result.programs) == 3  # adam with and without decay
    forms = "".join(FORMS)
    assert "{'name': *, 'momentum'" in forms or "{'momentum': *, 'name': *, 'rate': *}" in forms
    assert "UNTAKEN" not in forms


def test_the_numbers_are_those_of_a_training_without_a_sweep(result):
    for number in range(0, len(result), 3):
        hyper = result.trial(number).hyper
        optimizer = {name.removeprefix("optimizer."): value for name, value in hyper.items()
                     if name.startswith("optimizer.")}  # fmt: skip
        optimizer["name"] = hyper["optimizer"]
        strength = optimizer.pop("decay.strength", 0.25)
        kind = optimizer.pop("decay.kind", None)
        assert (optimizer.pop("decay", None) == "kind none") == (kind == "none")
        optimizer |= {"decay": {"strength": strength}} if kind else {}
        curve = float(hyper["start"]) * float(factor(optimizer)) ** np.arange(1, 4)
        np.testing.assert_allclose(result.curves["train"]["loss"][number], curve, rtol=1e-5)


def test_columns_are_absent_where_their_branch_is_not_taken(result):
    assert list(result.hyper) == COLUMNS
    sgd = result.hyper["optimizer"] == "sgd"
    weights = result.hyper["optimizer.decay"] == "kind weights"
    assert 0 < sgd.sum() < 32 and 0 < weights.sum() < 32 - sgd.sum()
    for name, here in {"momentum": sgd, "steps": ~sgd, "decay": ~sgd, "rate": sgd | ~sgd,
                       "decay.kind": ~sgd, "decay.strength": weights}.items():  # fmt: skip
        np.testing.assert_array_equal(absent(result.hyper[f"optimizer.{name}"]), ~here)
    assert (result.hyper["optimizer.rate"][~sgd] == 0.5).all()
    assert (result.hyper["optimizer.rate"][sgd] < 1.0).all()
    for trial in result:
        taken = "optimizer.momentum" if trial.hyper["optimizer"] == "sgd" else "optimizer.steps"
        other = {"optimizer.momentum", "optimizer.steps"} - {taken}
        assert taken in trial.hyper and not other & set(trial.hyper)
        assert "nan" not in str(trial)


def test_tables_and_files_leave_out_what_is_absent(result, tmp_path):
    table = result.table(16)
    assert "nan" not in table and len({len(line.rstrip()) for line in table.splitlines()}) < 6
    result.to_csv(tmp_path / "trials.csv")
    result.to_jsonl(tmp_path / "trials.jsonl")
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    with open(tmp_path / "trials.csv", newline="") as file:
        written = list(csv.DictReader(file))
    frame = pytest.importorskip("pandas") and result.to_pandas()
    for number, (row, line) in enumerate(zip(written, map(json.loads, lines), strict=True)):
        for name in COLUMNS:
            gone = bool(absent(result.hyper[name])[number])
            assert (row[name] == "") == (line[name] is None) == gone
            assert bool(frame[name].isna()[number]) == gone
        if line["optimizer.steps"] is not None:
            assert type(line["optimizer.steps"]) is int and row["optimizer.steps"].isdigit()


def test_an_optuna_study_has_the_parameters_that_were_taken(result):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for number, frozen in enumerate(result.to_optuna().trials):
        hyper = result.trial(number).hyper
        rate = {"optimizer.rate [sgd]"} if hyper["optimizer"] == "sgd" else set()
        fixed = {"optimizer.rate"} if hyper["optimizer"] == "adam" else set()
        fixed |= {"optimizer.decay.kind"} & set(hyper)
        assert set(frozen.params) == (set(hyper) - {"optimizer.rate", *fixed}) | rate
        assert fixed == {name for name in frozen.user_attrs if "loss" not in name}


def test_pictures_show_branches(result, tmp_path):
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "curves.png", n=2)
    result.plot_parallel(tmp_path / "parallel.png")
    result.plot_slices(tmp_path / "slices.png")
    result.plot_map(tmp_path / "map.png", names=("optimizer", "optimizer.steps"))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_is_resumed_and_read_back(result, folder):
    loaded = sweep.load(folder)
    assert loaded.table() == result.table() and str(loaded.rows()) == str(result.rows())
    assert str(loaded.space) == str(result.space)
    assert {n: c.dtype for n, c in loaded.hyper.items()} == {
        n: c.dtype for n, c in result.hyper.items()}  # fmt: skip
    again = run(seeds=2, path=folder)
    assert again.table() == result.table()
    number = int(np.flatnonzero(again.hyper["optimizer"] == "adam")[0])
    np.testing.assert_array_equal(again.replay(number).curves["train"]["loss"],
                                  result.curves["train"]["loss"][number])  # fmt: skip
    with pytest.raises(ValueError, match="space"):
        other = {**SPACE, "optimizer": sweep.choice(SPACE["optimizer"].branches[:1])}
        sweep.run(trial, other, DATA, 16, 3, seeds=2, path=folder)


@pytest.mark.parametrize("damage", [
    lambda branches: branches.clear(),
    lambda branches: branches.append(["sgd", {}]),
    lambda branches: branches.append("sgd"),
    lambda branches: branches.append([{}, {}]),
    lambda branches: branches.append(["third", ["momentum"]]),
    lambda branches: branches[0][1].update(momentum={"uniform": [1.0, 0.0]}),
    lambda branches: branches[0][1].update(other={"uniform": [0.0, 1.0]}),
    lambda branches: branches[0][1].update(deep={"branches": [["x", {"y": {"branches": 3}}]]}),
    lambda branches: branches[1][1].update({"decay.kind": 1}),
])  # fmt: skip
def test_damaged_branches_are_refused(result, folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path / "a")
    path = tmp_path / "a" / "settings.json"
    content = json.loads(path.read_text())
    damage(content["settings"]["space"]["optimizer"]["branches"])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="damaged"):
        sweep.load(tmp_path / "a")


def test_branches_nested_without_end_are_refused():
    leaf = {"uniform": [0.0, 1.0]}
    for _ in range(200):
        leaf = {"branches": [["x", {"y": leaf}]]}
    with pytest.raises(ValueError):
        distribution_of(leaf)


def test_workers_get_the_branches(result):
    found = run(seeds=2, executor=Inline(), trials_per_block=32)
    assert found.table(16) == result.table(16)
    np.testing.assert_array_equal(found.curves["train"]["loss"], result.curves["train"]["loss"])


# populations
PBT = sweep.pbt(every=2, resample=0.5)


def test_members_copy_within_their_branch_and_keep_it():
    found = run(12, 5, search=PBT, keep=2)
    label = np.array([f"{o} {d}" for o, d in zip(found.hyper["optimizer"],
                                                 found.hyper["optimizer.decay"],
                                                 strict=True)])  # fmt: skip
    parents = found.lineage.parents
    assert (label[parents] == label).all() and (parents != np.arange(12)).any()
    space, points = draw(SPACE, sweep.random, 12)
    drawn = points.columns[space.keys.index("optimizer")]
    np.testing.assert_array_equal(found.hyper["optimizer"], drawn)
    for name, leaf in (("optimizer.momentum", "optimizer.momentum"),
                       ("optimizer.rate", "optimizer.rate [sgd]")):  # fmt: skip
        moved = found.lineage.numbers[leaf]
        sgd = found.hyper["optimizer"] == "sgd"
        assert np.isnan(moved[:, ~sgd]).all() and np.isfinite(moved[:, sgd]).all()
        assert (moved[0] != moved[-1])[sgd].any()
        np.testing.assert_array_equal(found.hyper[name][sgd], moved[-1][sgd])
    best = found.best()
    np.testing.assert_array_equal(found.replay(best).curves["train"]["loss"],
                                  found.curves["train"]["loss"][best.number])  # fmt: skip


def test_a_member_has_the_final_numbers_of_its_branch():
    space, points = draw(SPACE, sweep.random, 12)
    state = SweepState(space, points, SweepShape(12, 1, 5), Objective("loss", False))
    pairs = zip(space.keys, points.columns, space.traced, strict=True)
    moved = {key: np.stack([column, 2 * column]) for key, column, traced in pairs if traced}
    state.lineage = sweep.Lineage(2, np.arange(12)[None], moved)
    for row in range(12):
        final = [float(n) for n in state.final_numbers(row)]
        assert final == [2 * float(n) for n in numbers(space, points, row)]


@pytest.mark.parametrize("search", [sweep.random, PBT], ids=["random", "pbt"])
def test_killed_at_any_moment_it_ends_the_same(tmp_path, monkeypatch, search):
    call = lambda path: run(12, 5, search=search, keep=2, path=path)
    whole = tmp_path / "whole"
    expected, states = moments(monkeypatch, whole, lambda: call(whole))
    expected, files = outcome(expected), held(whole)
    assert len(states) > 4 * 5
    monkeypatch.setattr("os.fsync", lambda file: None)
    for state in states[3 :: len(states) // 5]:
        put(tmp_path / "killed", state)
        again = call(tmp_path / "killed")
        assert not differing(outcome(again), expected)
        assert not differing(held(tmp_path / "killed"), files)
