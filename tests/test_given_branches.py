"""Given points of spaces with branches and padded sizes."""

import numpy as np
import pytest
from crash_points import DATA

import purenet as pn
from purenet import sweep
from purenet.sweep.space.given import checked_points, given_points
from purenet.sweep.space.space import take_apart

SPACE = {
    "optimizer": sweep.choice([
        {"name": "sgd", "momentum": sweep.uniform(0.0, 1.0)},
        {"name": "adam", "b1": sweep.uniform(0.8, 1.0), "kind": sweep.choice(["a", "b"])},
    ]),
    "width": sweep.padded(sweep.randint(8, 1025), to=(64, 256, 1024)),
    "depth": sweep.padded(sweep.choice([1, 3, 9]), to=(4, 16)),
}  # fmt: skip
GIVEN = [
    {"optimizer": {"name": "adam", "b1": 0.9, "kind": "b"}, "width": 100, "depth": 9},
    {"optimizer": {"momentum": 0.25}, "width": 64, "depth": 3},
]


def learner(hyper):
    optimizer = hyper["optimizer"]
    number = optimizer["b1"] if optimizer["name"] == "adam" else optimizer["momentum"]
    return pn.Trainable(
        lambda key: number + hyper["width"].size,
        lambda state, data: (state, {}),
        lambda state, data: {"loss": state},
    )


def test_the_values_of_the_branch_that_is_taken_are_given():
    space = take_apart(SPACE)
    given = checked_points(space, GIVEN)
    assert given[0] == {
        "optimizer": 1,
        "optimizer.b1": 0.9,
        "optimizer.kind": 1,
        "width": 100,
        "depth": 9,
    }
    assert given[1] == {"optimizer": 0, "optimizer.momentum": 0.25, "width": 64, "depth": 3}
    assert len(given_points(space, given).groups) == 2


@pytest.mark.parametrize("search", [sweep.random, sweep.halving(2)], ids=["random", "halving"])
def test_they_are_trained_and_resumed_and_are_points_of_the_next_sweep(tmp_path, search):
    options = {"points": GIVEN, "search": search, "devices": 1}
    result = sweep.run(learner, SPACE, DATA, 5, 2, path=tmp_path, **options)
    assert result.curves["validation"]["loss"][:2, 0].tolist() == [100.9, 64.25]
    assert result.hyper["optimizer"][:2].tolist() == ["adam", "sgd"]
    alone = sweep.run(learner, SPACE, DATA, 3, 2, **{**options, "points": None})
    np.testing.assert_array_equal(result.hyper["width"][2:], alone.hyper["width"])
    again = sweep.run(learner, SPACE, DATA, 5, 2, path=tmp_path, **options)
    assert again.table() == result.table()
    best = [trial.hyper for trial in result]
    copied = sweep.run(learner, SPACE, DATA, 5, 2, points=best)
    assert [repr(trial.hyper) for trial in copied] == list(map(repr, best))


SIZES = {"width": 9, "depth": 3}


@pytest.mark.parametrize("point, message", [
    ({"optimizer": {"name": "rms"}, **SIZES}, r"is \{'name': 'rms'\}, which matches none"),
    ({"optimizer": {"name": "sgd"}, **SIZES}, "'optimizer.momentum' is missing"),
    ({"optimizer": {"name": "sgd", "b1": 0.9}, **SIZES}, "which matches none of its branches"),
    ({"optimizer": {"name": "sgd", "momentum": 2}, **SIZES}, "'optimizer.momentum' is 2, but"),
    ({**GIVEN[1], "width": 2000}, "'width' is 2000, but"),
    ({**GIVEN[1], "depth": 2}, "'depth' is 2, but one of 1, 3, 9 is expected"),
])  # fmt: skip
def test_others_are_refused(point, message):
    with pytest.raises(ValueError, match=message):
        checked_points(take_apart(SPACE), [point])


def test_optuna_learns_from_them():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = []

    class Sampler(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):
            studies.append([t for t in study.get_trials(deepcopy=False) if t.state.is_finished()])
            return {}

    search = sweep.from_optuna(lambda seed: Sampler(seed), batch=1)
    sweep.run(learner, SPACE, DATA, 4, 1, points=GIVEN, search=search)
    params = [trial.params for trial in studies[1]][-2:]
    assert {
        "optimizer": 1,
        "optimizer.b1": 0.9,
        "optimizer.kind": 1,
        "width": 100,
        "depth": 2,
    } in params
    assert {"optimizer": 0, "optimizer.momentum": 0.25, "width": 64, "depth": 1} in params
