"""Samplers and schedulers keep their promises, a user's own too, and broken ones are found."""

import functools

import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.testing import check_sampler, check_scheduler


def middle(distributions, trials, seed):
    """A plain function: every trial in the middle."""
    return np.full((trials, len(distributions)), 0.5)


def halton(distributions, trials, seed):
    """Point i is the same however many are drawn: van der Corput numbers in other bases."""
    bases = (2, 3, 5, 7)[: len(distributions)]
    return np.array([[corput(i + 1, b) for b in bases] for i in range(trials)]).reshape(trials, -1)


def corput(i, base):
    value, share = 0.0, 1.0
    while i:
        i, digit = divmod(i, base)
        share /= base
        value += share * digit
    return value


class Climb:
    """Points around the best so far."""

    points = None

    def __init__(self, distributions, trials, seed):
        self.rng, self.columns = np.random.default_rng(seed), len(distributions)
        self.best, self.score = np.full(self.columns, 0.5), -np.inf
        self.asked = np.empty((0, self.columns))

    def ask(self, n):
        new = self.best + 0.1 * self.rng.standard_normal((n, self.columns))
        self.asked = np.concatenate([self.asked, new.clip(0, 1)])
        return self.asked[-n:]

    def tell(self, numbers, scores):
        for number, score in zip(numbers, scores[:, -1], strict=True):
            if score > self.score:
                self.best, self.score = self.asked[number], score


def no_draw(distributions, trials, seed):
    raise TypeError("climb: the points depend on scores")


CLIMB = sweep.Sampler(no_draw, "climb", batch=3, learn=Climb)


def tournament(sampler=sweep.random):
    """Every epoch, the worst point stops."""

    def rounds(points, epochs):
        goals, alive = np.ones(points, int), np.arange(points)
        for level in range(1, epochs + 1):
            goals[alive] = level
            reached = (yield goals.copy())[alive, level - 1]
            alive = alive[np.isfinite(reached)]
            if len(alive) > 1:
                alive = np.delete(alive, np.argmin(reached[np.isfinite(reached)]))

    return sweep.Scheduler(sampler, rounds, name="tournament")


def tpe(seed):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)


SAMPLERS = {
    "random": sweep.random, "sobol": sweep.sobol, "latin_hypercube": sweep.latin_hypercube,
    "grid": sweep.grid(3), "from_optuna": sweep.from_optuna(tpe, batch=4), "a function": middle,
    "a sequence": sweep.Sampler(halton, "halton", prefix=True), "one that learns": CLIMB,
    "a partial function": functools.partial(sweep.random),
}  # fmt: skip
SCHEDULERS = SAMPLERS | {
    "halving": sweep.halving(), "halving by 2": sweep.halving(2, 2, sweep.sobol),
    "hyperband": sweep.hyperband(), "median_stopping": sweep.median_stopping(),
    "median_stopping early": sweep.median_stopping(1, 2), "pbt": sweep.pbt(1),
    "freeze_thaw": sweep.freeze_thaw(),
    "descent": sweep.descent(1),
    "one's own": tournament(), "one's own of a sequence": tournament(SAMPLERS["a sequence"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_keeps_its_promises(name):
    check_sampler(SAMPLERS[name])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_keeps_its_promises(name):
    check_scheduler(SCHEDULERS[name])


def changing(distributions, trials, seed):
    return np.random.default_rng().random((trials, len(distributions)))


def outside(distributions, trials, seed):
    return np.full((trials, len(distributions)), 1.5)


class Forgets(Climb):
    """Every NaN counts as the best score."""

    def tell(self, numbers, scores):
        self.best = self.best * scores[0, -1]

    def ask(self, n):
        return super().ask(n) if np.isfinite(self.best).all() else np.full((n, self.columns), 2.0)


BROKEN_SAMPLERS = {
    "another design each time": (changing, "the same seed gave two designs"),
    "points outside": (outside, "points outside 0 to 1"),
    "a column too few": (lambda d, n, s: np.zeros((n, 1)), r"0 distributions it return.*\(1, 1\)"),
    "a false prefix": (
        sweep.Sampler(sweep.latin_hypercube, "mine", prefix=True), "mine: it declares prefix, but",
    ),
    "NaN as the best": (sweep.Sampler(no_draw, "mine", batch=3, learn=Forgets), "scores that are"),
    "no name": (sweep.Sampler(sweep.random, ""), "the name is not a non-empty string"),
    "an address": (sweep.Sampler(sweep.random, "<f at 0x7f>"), "differs in every process"),
}  # fmt: skip


@pytest.mark.parametrize("sampler, message", BROKEN_SAMPLERS.values(), ids=BROKEN_SAMPLERS)
def test_a_broken_sampler_is_found(sampler, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(sampler)


def plays(goals, after=lambda goals, scores, epochs: [epochs] * len(goals)):
    """A scheduler of two rounds: `goals(points, epochs)`, and what follows from the scores."""

    def rounds(points, epochs):
        first = np.array(goals(points, epochs))
        scores = yield first
        yield np.array(after(first, scores, epochs))

    return sweep.Scheduler(sweep.random, rounds, name="mine")


def one(points, epochs):
    return [1] * points


def chance(points, epochs):
    return np.random.default_rng().integers(1, epochs + 1, points)


def endless(points, epochs):
    while True:
        yield np.full(points, epochs)


class Boasts(sweep.Scheduler):
    def budget(self, points, epochs):
        return 1


def refuses(points, epochs):
    raise ValueError("never")
    yield


BROKEN_SCHEDULERS = {
    "goals beyond the end": (plays(lambda n, last: [last + 1] * n), "a round of mine returned"),
    "goals for other points": (plays(lambda n, last: [1] * (n + 1)), "a round of mine returned"),
    "goals of floats": (plays(lambda n, last: [1.0] * n), "a round of mine returned"),
    "nothing": (plays(lambda n, last: [0] * n), "its first round trains nothing"),
    "falling goals": (plays(one, lambda goals, s, e: goals * 0), "point 0 falls from 1 to 0"),
    "diverged points": (plays(one), "point 0 has diverged, but its goal is 2"),
    "chance": (plays(chance, lambda goals, s, e: goals), "the same scores led to different rounds"),
    "no end": (sweep.Scheduler(sweep.random, endless, name="mine"), "its rounds do not end"),
    "no round": (sweep.Scheduler(sweep.random, lambda *sizes: iter(())), "it has no rounds"),
    "another budget": (
        Boasts(sweep.random, sweep.halving().rounds), "2 points and 1 epochs is 1, but 2 are",
    ),
    "nothing accepted": (sweep.Scheduler(sweep.random, refuses), "refuses every number of points"),
    "a broken sampler": (tournament(outside), "outside: .*points outside 0 to 1"),
    "an address": (
        sweep.Scheduler(sweep.random, endless, name="<f at 0x7f>"), "differs in every process",
    ),
}  # fmt: skip


@pytest.mark.parametrize("scheduler, message", BROKEN_SCHEDULERS.values(), ids=BROKEN_SCHEDULERS)
def test_a_broken_scheduler_is_found(scheduler, message):
    with pytest.raises(AssertionError, match=message):
        check_scheduler(scheduler)


def test_what_is_neither_is_refused():
    with pytest.raises(TypeError, match="check_sampler: the sampler is 3, but a function"):
        check_sampler(3)
    with pytest.raises(TypeError, match=r"the function halving.*call it"):
        check_scheduler(sweep.halving)


# in a sweep
SPACE = {"rate": sweep.uniform(0.0, 1.0)}
DATA = (np.zeros(1), np.zeros(1))


def trial(hyper):
    return pn.Trainable(
        lambda key: hyper["rate"], lambda rate, data: (rate, {}),
        lambda rate, data: {"loss": (rate - 0.9) ** 2},
    )  # fmt: skip


def test_a_sampler_of_ones_own_with_a_scheduler_of_ones_own_runs_in_a_sweep():
    result = sweep.run(trial, SPACE, DATA, 4, 3, search=tournament(SAMPLERS["a sequence"]))
    assert result.hyper["rate"].tolist() == [0.5, 0.25, 0.75, 0.125]
    assert result.epochs.tolist() == [3, 2, 3, 1] and result.best().hyper["rate"] == 0.75


def test_a_sampler_of_ones_own_learns_in_a_sweep_and_in_a_loop_of_ones_own():
    result = sweep.run(trial, SPACE, DATA, 12, 1, search=CLIMB)
    assert result.settings["search"] == "climb"
    study = sweep.AskTell(SPACE, CLIMB, mode="min")
    for _ in range(4):
        asked = study.ask(3)
        study.tell(asked.numbers, (asked.hyper["rate"] - 0.9) ** 2)
    assert study.best().hyper["rate"] == result.best().hyper["rate"] > 0.6


def test_more_points_of_a_declared_prefix_can_be_asked_for_without_their_number():
    study = sweep.AskTell(SPACE, SAMPLERS["a sequence"])
    assert np.concatenate([study.ask(2).hyper["rate"], study.ask(1).hyper["rate"]]).tolist() == [
        0.5, 0.25, 0.75,
    ]  # fmt: skip


@pytest.mark.parametrize("make", [
    sweep.halving, sweep.hyperband, sweep.median_stopping, sweep.pbt, sweep.descent,
])  # fmt: skip
def test_a_scheduler_that_compares_all_points_takes_no_sampler_that_learns(make):
    with pytest.raises(TypeError, match=f"{make.__name__}: the sampler is climb, whose po"):
        make(sampler=CLIMB)
