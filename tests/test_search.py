"""Searches as such: which points go on, how far, and ask and tell. Nothing is trained here."""

import numpy as np
import pytest

from purenet import sweep


def race(search, scores):
    """The goals of each round, when the final scores are known beforehand."""
    points, epochs = scores.shape
    rounds = search.rounds(points, epochs)
    goals = [next(rounds)]
    while True:
        reached = np.arange(epochs) < np.max(goals, axis=0)[:, None]
        try:
            goals.append(rounds.send(np.where(reached, scores, np.nan)))
        except StopIteration:
            return np.array(goals)


def constant(points, epochs):
    """Point i always scores i."""
    return np.repeat(np.arange(points, dtype=float)[:, None], epochs, axis=1)


def test_halving_keeps_the_best_third_at_each_rung():
    goals = race(sweep.halving(), constant(81, 81))
    assert [int(np.unique(g).max()) for g in goals] == [1, 3, 9, 27, 81]
    for level, count in zip([1, 3, 9, 27, 81], [81, 27, 9, 3, 1], strict=True):
        reached = np.flatnonzero(goals[-1] >= level)
        assert reached.tolist() == list(range(81 - count, 81))
    assert sweep.halving().budget(81, 81) == goals[-1].sum() == 81 + 4 * 54


@pytest.mark.parametrize("eta, first, epochs, levels", [
    (3, 1, 50, [1, 3, 9, 27, 50]), (2, 5, 20, [5, 10, 20]), (4, 3, 3, [3]), (2, 1, 2, [1, 2]),
])  # fmt: skip
def test_rungs_lie_at_powers_and_end_with_the_last_epoch(eta, first, epochs, levels):
    goals = race(sweep.halving(eta, first), constant(64, epochs))
    assert [int(g.max()) for g in goals] == levels


def test_a_point_that_diverged_never_goes_on():
    scores = constant(9, 9)
    scores[8, 0:] = np.nan
    scores[7, 2:] = np.nan
    goals = race(sweep.halving(), scores)[-1]
    assert goals.tolist() == [1, 1, 1, 1, 1, 3, 9, 3, 1]
    nothing = race(sweep.halving(), np.full((9, 9), np.nan))
    assert nothing.tolist() == [[1] * 9]


def test_ties_go_to_the_lower_number():
    assert race(sweep.halving(), np.zeros((9, 9)))[-1].tolist() == [9, 3, 3, 1, 1, 1, 1, 1, 1]


def test_hyperband_is_the_table_of_its_paper():
    """R = 81, eta = 3: table 1 of Li et al. (2018)."""
    search = sweep.hyperband()
    assert search.points(81) == 81 + 34 + 15 + 8 + 5
    goals = race(search, constant(143, 81))
    ends = np.cumsum([81, 34, 15, 8, 5])
    brackets = np.split(np.arange(143), ends[:-1])
    first = [int(goals[0][bracket].max()) for bracket in brackets]
    assert first == [1, 3, 9, 27, 81]
    reached = [[int((goals[-1][b] >= level).sum()) for level in (1, 3, 9, 27, 81)]
               for b in brackets]  # fmt: skip
    assert reached == [[81, 27, 9, 3, 1], [34, 34, 11, 3, 1], [15, 15, 15, 5, 1], [8, 8, 8, 8, 2],
                       [5, 5, 5, 5, 5]]  # fmt: skip


@pytest.mark.parametrize("points", [1, 2, 7, 20, 100])
def test_hyperband_shares_any_number_of_points(points):
    goals = race(sweep.hyperband(), constant(points, 27))
    assert (goals[-1] > 0).all() and goals[-1].max() == 27
    assert (np.diff(goals, axis=0) >= 0).all()


def test_median_stops_what_is_below_the_median():
    scores = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5], [0.6, 0.7, 0.8, 0.9],
                       [0.7, 0.1, 0.1, 0.1]])  # fmt: skip
    goals = race(sweep.median_stopping(grace=2), scores)
    # medians of the mean scores: 0.45 after two epochs, then 0.5 of three
    assert goals.tolist() == [[2] * 4, [2, 3, 3, 3], [2, 4, 4, 4]]
    later = race(sweep.median_stopping(grace=1, every=2), scores)
    assert [int(g.max()) for g in later] == [1, 3, 4]


@pytest.mark.parametrize("make, message", [
    (lambda: next(sweep.halving(first=5).rounds(9, 4)), "rung is at 5 epochs, but a trial has 4"),
    (lambda: next(sweep.hyperband(first=5).rounds(9, 4)), "first rung is at 5 epochs"),
    (lambda: sweep.halving(eta=1), "eta is 1"),
    (lambda: sweep.hyperband(first=0), "first is 0"),
    (lambda: sweep.median_stopping(every=0), "every is 0"),
    (lambda: sweep.pbt(fraction=0.7), "fraction is 0.7"),
    (lambda: sweep.pbt(resample=2), "resample is 2"),
    (lambda: sweep.pbt(factors=(0, 1)), "a pair of numbers above 0"),
    (lambda: next(sweep.pbt(every=5).rounds(8, 9)), "needs 10 or more, but it has 9"),
    (lambda: next(sweep.pbt(every=1).rounds(1, 5)), "population of 1"),
])  # fmt: skip
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SPACE = {"rate": sweep.loguniform(1e-4, 1.0), "units": sweep.choice([8, 16]),
         "n": sweep.randint(2, 5), "noise": sweep.uniform(0, 1)}  # fmt: skip


def test_ask_gives_stacked_arrays_and_tell_takes_them():
    study = sweep.AskTell(SPACE, seed=3, mode="min")
    first, second = study.ask(4), study.ask(3)
    assert first.numbers.tolist() == [0, 1, 2, 3] and second.numbers.tolist() == [4, 5, 6]
    assert {a.shape for a in first.hyper.values()} == {(4,)}
    at_once = sweep.AskTell(SPACE, seed=3).ask(7)
    for name, column in at_once.hyper.items():
        assert list(column) == [*first.hyper[name], *second.hyper[name]]
    study.tell(second.numbers, [3.0, 1.0, 2.0])
    study.tell(first.numbers, np.array([[9.0, 5.0], [9.0, np.nan], [9.0, 4.0], [0.0, 1.5]]))
    best = study.best()
    assert best.number == 5 and best.score == 1.0 and best.hyper["rate"] == second.hyper["rate"][1]


def test_a_design_ends():
    study = sweep.AskTell({"a": sweep.uniform(0, 1)}, sweep.latin_hypercube, trials=5)
    drawn = np.concatenate([study.ask(2).hyper["a"], study.ask(3).hyper["a"]])
    assert sorted((drawn * 5).astype(int)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="1 more points are requested, but 0 of the 5"):
        study.ask(1)
    grid = sweep.AskTell({"a": sweep.choice([1.0, 2.0])}, sweep.grid())
    assert grid.ask(2).hyper["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("use, message", [
    (lambda s: s.tell([0], [1.0, 2.0]), "one score, or one row of scores, per number"),
    (lambda s: s.tell([7], [1.0]), "not all among the 2 points"),
    (lambda s: s.tell([0.5], [1.0]), "not all among"),
    (lambda s: s.best(), "no point with a finite score"),
    (lambda s: sweep.AskTell(SPACE, mode="best"), "'best', but \"max\" or \"min\""),
    (lambda s: sweep.AskTell(SPACE, sweep.latin_hypercube), "trials is missing"),
])  # fmt: skip
def test_mistakes_in_asking_are_explained(use, message):
    study = sweep.AskTell(SPACE)
    study.ask(2)
    with pytest.raises(ValueError, match=message):
        use(study)


def test_an_optuna_sampler_learns_from_what_it_is_told():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = sweep.from_optuna(optuna.samplers.TPESampler, batch=8)
    study = sweep.AskTell(SPACE, search, seed=1, mode="min")
    told = []
    for _ in range(8):
        asked = study.ask(8)
        scores = np.abs(np.log10(asked.hyper["rate"]) + 2) + (asked.hyper["units"] == 8)
        told.append(scores.astype(float).mean())
        study.tell(asked.numbers, scores.astype(float))
        assert set(asked.hyper["units"]) <= {8, 16} and set(asked.hyper["n"]) <= {2, 3, 4}
    assert np.mean(told[-3:]) < 0.7 * told[0]
    again = sweep.AskTell(SPACE, search, seed=1)
    assert (
        again.ask(8).hyper["rate"].tolist()
        == sweep.AskTell(SPACE, search, seed=1).ask(8).hyper["rate"].tolist()
    )


def test_optuna_is_optional(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'purenet\[optuna\]'"):
        sweep.AskTell(SPACE, sweep.from_optuna(lambda seed: None))
    with pytest.raises(TypeError, match="a callable that takes seed"):
        sweep.from_optuna("tpe")
