"""Every search on a space of which half diverges: none does worse than chance, some learn."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.samplers.base import as_sampler
from purenet.sweep.schedulers.base import as_scheduler
from purenet.sweep.space.points import add_points, no_points
from purenet.sweep.space.space import take_apart

optuna = pytest.importorskip("optuna")

TRIALS, EPOCHS = 40, 9
SPACE = {"rate": sweep.loguniform(1e-6, 1e3)}  # too large from 1e-2 on
DATA = (np.zeros(1), np.zeros(1))


def trial(hyper):
    """Comes closer to a score that is best just below the rates that diverge."""
    decades = jnp.log10(hyper["rate"])
    reached = -((decades + 2.5) ** 2)

    def epoch(state, data):
        return jnp.where(decades > -2, jnp.nan, state + 0.5 * (reached - state)), {}

    return pn.Trainable(lambda key: jnp.float64(-20.0), epoch, lambda s, data: {"score": s})


def tpe(seed):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.samplers.TPESampler(seed=seed)


SEARCHES = {
    "random": sweep.random,
    "sobol": sweep.sobol,
    "latin_hypercube": sweep.latin_hypercube,
    "grid": sweep.grid(TRIALS),
    "halving": sweep.halving(),
    "hyperband": sweep.hyperband(),
    "median": sweep.median_stopping(grace=2),
    "from_optuna": sweep.from_optuna(tpe, batch=5),
}


def trained(search, seed):
    """The curves (TRIALS, EPOCHS) and the rates of a search, trained by NumPy as `trial` is."""
    space, search = take_apart(SPACE), as_scheduler(search)
    drawn = as_sampler("test", search.sampler).source(space.drawn, TRIALS, seed)
    points = no_points(space)
    rounds, goals = search.rounds(TRIALS, EPOCHS), np.zeros(TRIALS, int)
    curves, epochs = np.full((TRIALS, EPOCHS), np.nan), np.arange(1, EPOCHS + 1)
    message = None
    while True:
        known = len(points.group)
        try:
            goals = np.maximum(goals, rounds.send(message))
        except StopIteration:
            return curves, points.columns[0]
        points = add_points(space, points, drawn.ask(np.flatnonzero(goals)[-1] + 1 - known))
        decades = np.log10(points.columns[0])[:, None]
        scores = -20 + (20 - (decades + 2.5) ** 2) * (1 - 0.5**epochs)
        here = (epochs <= goals[: len(decades), None]) & (decades <= -2)
        curves[: len(decades)] = np.where(here, scores, np.nan)
        drawn.tell(np.arange(known, len(decades)), curves[known : len(decades)])
        message = curves


@functools.cache
def found(name):
    """The best score and the share of points that diverge, on average over seeds."""
    ends = [trained(SEARCHES[name], seed) for seed in range(4 if name == "from_optuna" else 30)]
    best = [np.nanmax(curves[:, -1]) for curves, _ in ends]
    return np.mean(best), np.mean([rates > 1e-2 for _, rates in ends])


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_is_as_good_as_chance_where_half_the_space_diverges(name):
    assert found(name)[0] >= found("random")[0]


def test_a_sampler_that_learns_proposes_fewer_points_that_diverge():
    assert found("random")[1] > 0.5
    assert found("from_optuna")[1] < 0.8 * found("random")[1]


def run(search):
    return sweep.run(trial, SPACE, DATA, TRIALS, EPOCHS, seed=1, search=search, metric="score",
                     mode="max", devices=1)  # fmt: skip


def test_a_population_leaves_the_half_that_diverges():
    population = run(sweep.pbt(every=2))
    first = population.lineage.numbers["rate"][0]
    assert (first > 1e-2).mean() > 0.5
    assert (population.status == "diverged").mean() < 0.5 * (first > 1e-2).mean()
    chance, _ = trained(sweep.random, 1)  # the points that the population began with
    assert population.best().score >= np.nanmax(chance[:, -1])


def test_a_sweep_tells_its_sampler_which_trials_diverged():
    diverged = run(sweep.from_optuna(tpe, batch=5)).status == "diverged"
    assert diverged.mean() < 0.45  # where chance has 0.56, and more without being told


@pytest.mark.parametrize("steps", [1, 3])
def test_ask_and_tell_learns_from_scores_that_are_not_finite(steps):
    shares = []
    for seed in range(3):
        study = sweep.AskTell(SPACE, sweep.from_optuna(tpe), seed=seed)
        for _ in range(10):
            asked = study.ask(5)
            decades = np.log10(asked.hyper["rate"])
            last = np.where(decades > -2, np.nan, -((decades + 2.5) ** 2))
            scores = [*[np.full(5, -20.0)] * (steps - 1), last]  # finite at first
            study.tell(asked.numbers, np.stack(scores, axis=1))
            shares.append(np.mean(decades > -2))
        assert study.best().score > -0.2
    assert np.mean(shares) < 0.5


def told(*batches):
    """What a study of Optuna has been told after these batches of scores."""
    kept = []

    def make(seed):
        kept.append(optuna.samplers.RandomSampler(seed=seed))
        return kept[-1]

    study = sweep.AskTell(SPACE, sweep.from_optuna(make))
    for scores in batches:
        study.tell(study.ask(len(scores)).numbers, scores)
    return [trial.value for trial in study._source._study.trials]


def test_a_failure_is_told_as_the_worst_score_once_there_is_one_to_compare_with():
    assert told([math.nan, math.inf]) == [None, None]
    assert told([math.nan, math.inf], [2.0, math.nan], [math.nan]) == [
        -math.inf, -math.inf, 2.0, -math.inf, -math.inf,
    ]  # fmt: skip
