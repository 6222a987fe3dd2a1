"""The contract of samplers and schedulers, as checks for your own.

Each check returns None, or raises an AssertionError that says what was expected and what came:

    def test_my_scheduler():
        sweep.testing.check_scheduler(my_scheduler(eta=4))

A check only draws some points: nothing is trained.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from purenet.sweep.samplers.base import Sampler, as_sampler
from purenet.sweep.schedulers.base import Scheduler, as_scheduler, checked_rounds
from purenet.sweep.schedulers.extending import Extent, unsaid
from purenet.sweep.space.distributions import choice, loguniform, randint, uniform
from purenet.sweep.space.space import take_apart

_SPACES: tuple[dict[str, Any], ...] = (
    {},
    {"rate": loguniform(1e-4, 1.0)},
    {"rate": loguniform(1e-4, 1.0), "units": randint(1, 9), "slope": uniform(-1.0, 1.0),
     "kind": choice(["a", "b", "c"])},
    take_apart({"kind": choice([{"name": "a", "rate": loguniform(1e-4, 1.0)},
                                {"name": "b", "units": randint(1, 9)}])}).drawn,
)  # fmt: skip
_TRIALS = (1, 7, 16)  # if the sampler leaves it to the caller
_MANY = 1000  # rounds: a scheduler with more does not end


def check_sampler(sampler: Sampler | Callable) -> None:
    """Check what a sweep relies on in a sampler.

    The same seed gives the same points; they have a row for each trial, a column for each
    distribution, and numbers from 0 to 1; they are the same whether drawn at once or one by one;
    the first points do not depend on how many follow, if `prefix` is set; a sampler that learns
    from scores can handle trials that diverged; the name is the same in every process.
    Raises AssertionError if any of this fails, TypeError if `sampler` is not a sampler.

    >>> from purenet import sweep
    >>> check_sampler(sweep.sobol)
    >>> check_sampler(lambda distributions, trials, seed: np.full((trials, 1), 0.5))
    Traceback (most recent call last):
    AssertionError: <lambda>: for 1 trials of 0 distributions it returned points of shape (1, 1).
    """
    sampler = as_sampler("check_sampler", sampler)
    _check_name(sampler.name)
    for space in _SPACES:
        for trials in _sizes(sampler, space):
            _check_points(sampler, space, trials)
            _check_scores(sampler, space, trials)


def check_scheduler(scheduler: Scheduler | Sampler | Callable) -> None:
    """Check what a sweep relies on in a scheduler, and in its sampler.

    The goals of a round are integers from 0 to the last epoch, one for each point, and the first
    round trains something; goals never decrease; the same scores give the same rounds; rounds end,
    with scores of any kind, infinite and equal ones too; what `extends` allows only adds trials and
    epochs; a point that diverged (its score is NaN)
    is not trained any further; no more is trained than `budget` says if one point is always better
    than the next, and `budget` is at most every point to the end; the name is the same in every
    process. Numbers of points and epochs that the scheduler refuses with ValueError are left out.
    Raises AssertionError for a broken promise, TypeError if `scheduler` is not a scheduler.

    >>> from purenet import sweep
    >>> check_scheduler(sweep.halving(eta=4))
    >>> def endless(points, epochs):
    ...     while True:
    ...         yield np.full(points, epochs)
    >>> check_scheduler(sweep.Scheduler(sweep.random, endless, name="endless"))
    Traceback (most recent call last):
    AssertionError: endless: its rounds do not end.
    """
    scheduler = as_scheduler(scheduler)
    _check_name(scheduler.name)
    check_sampler(scheduler.sampler)
    accepted = 0
    for epochs in (1, 2, 9, 27):
        own = scheduler.points(epochs) if _accepts(scheduler, 9, epochs) else None
        for points in dict.fromkeys((2, 9, own or 9)):
            if _accepts(scheduler, points, epochs):
                accepted += 1
                for scores in _scores(points, epochs):
                    _check_rounds(scheduler, scores)
                _check_budget(scheduler, points, epochs)
                _check_extends(scheduler, Extent(points, epochs))
    _promise(accepted, scheduler.name, "it refuses every number of points and epochs")


def _promise(kept: Any, name: str, broken: str) -> None:
    if not kept:
        raise AssertionError(f"{name}: {broken}.")


def _check_name(name: Any) -> None:
    text = isinstance(name, str) and name
    _promise(text, repr(name), "the name is not a non-empty string")
    _promise(" at 0x" not in name, name, "the name has an address, which differs in every process")


# samplers
def _sizes(sampler: Sampler, space: dict[str, Any]) -> tuple[int, ...]:
    """Numbers of trials that the sampler can have: its own, or any."""
    try:
        own = sampler.source(space, None, 0).points
    except ValueError:  # it depends on their number
        own = None
    return _TRIALS if own is None else (own,)


def _ask(sampler: Sampler, space: dict, trials: int | None, seed: int, *batches: int) -> np.ndarray:
    source = sampler.source(space, trials, seed)
    return np.concatenate([np.asarray(source.ask(n)) for n in batches])


def _check_points(sampler: Sampler, space: dict[str, Any], trials: int) -> None:
    name = sampler.name
    asked = f"for {trials} trials of {len(space)} distributions"
    if sampler.learn is None:
        drawn = np.asarray(sampler.draw(list(space.values()), trials, 3))
        shape = (trials, len(space))
        _promise(drawn.shape == shape, name, f"{asked} it returned points of shape {drawn.shape}")
        inside = ((drawn >= 0) & (drawn <= 1)).all()
        _promise(inside, name, f"{asked} it returned points outside 0 to 1")
    first = _ask(sampler, space, trials, 3, trials)
    again = _ask(sampler, space, trials, 3, trials)
    _promise(first.shape == (trials, len(space)), name, f"{asked} it returned shape {first.shape}")
    inside = ((first >= 0) & (first <= 1)).all()
    _promise(inside, name, f"{asked} it returned points outside 0 to 1")
    _promise(np.array_equal(first, again), name, f"{asked} the same seed gave two designs")
    if sampler.learn is None:
        single = _ask(sampler, space, trials, 3, *[1] * trials)
        _promise(np.array_equal(first, single), name, "drawn one by one, the points differ")
    if sampler.prefix:
        whole = _ask(sampler, space, None, 3, 2 * trials + 5)
        parts = _ask(sampler, space, None, 3, trials, trials + 5)
        _promise(
            np.array_equal(first, whole[:trials]) and np.array_equal(whole, parts), name,
            f"it declares prefix, but the first {trials} points depend on how many follow",
        )  # fmt: skip


def _check_scores(sampler: Sampler, space: dict[str, Any], trials: int) -> None:
    """Batches whose scores are good, NaN at the end, and NaN from the start."""
    source, batch = sampler.source(space, trials, 0), sampler.batch or trials
    for first in range(0, trials, batch):
        numbers = np.arange(first, min(first + batch, trials))
        points = np.asarray(source.ask(len(numbers)))
        scores = np.stack([numbers * 0.1, numbers * 0.2], axis=1)
        scores[numbers % 3 == 0, 1] = np.nan
        scores[numbers % 3 == 1] = np.nan
        source.tell(numbers, scores)
        legal = points.shape == (len(numbers), len(space)) and ((points >= 0) & (points <= 1)).all()
        _promise(legal, sampler.name, "after scores that are NaN it leaves the unit cube")


# schedulers
def _accepts(scheduler: Scheduler, points: int, epochs: int) -> bool:
    """Whether the scheduler runs with these numbers. Goals are checked elsewhere."""
    try:
        next(scheduler.rounds(points, epochs))
    except ValueError:
        return False
    except StopIteration:
        raise AssertionError(f"{scheduler.name}: it has no rounds.") from None
    return True


def _scores(points: int, epochs: int) -> list[np.ndarray]:
    """Final scores (points, epochs): in order, in no order, all equal, in part and all diverged."""
    rng = np.random.default_rng(0)
    ordered = np.repeat(-np.arange(points, dtype=float)[:, None], epochs, axis=1)
    mixed = rng.standard_normal((points, epochs))
    some = mixed.copy()
    for point in range(0, points, 2):  # each diverges at a different epoch
        some[point, point % epochs :] = np.nan
    infinite = mixed.copy()
    infinite[::3] = np.inf
    infinite[1::3] = -np.inf
    lost = np.full((points, epochs), np.nan)
    return [ordered, mixed, np.zeros((points, epochs)), some, infinite, lost]


def _play(scheduler: Scheduler, final: np.ndarray) -> list[np.ndarray]:
    """The goals of every round, if these are the scores."""
    points, epochs = final.shape
    rounds = checked_rounds(scheduler, points, epochs)
    goals: list[np.ndarray] = []
    scores = None
    while True:
        try:
            goals.append(np.array(next(rounds) if scores is None else rounds.send(scores)))
        except StopIteration:
            return goals
        except ValueError as error:
            raise AssertionError(f"{scheduler.name}: {error}") from error
        _promise(len(goals) < _MANY, scheduler.name, "its rounds do not end")
        reached = np.max(goals, axis=0)
        scores = np.where(np.arange(epochs) < reached[:, None], final, np.nan)


def _check_rounds(scheduler: Scheduler, final: np.ndarray) -> None:
    name, points = scheduler.name, len(final)
    played = _play(scheduler, final)
    again = _play(scheduler, final)
    same = len(played) == len(again) and all(map(np.array_equal, played, again))
    _promise(same, name, "the same scores led to different rounds")
    _promise(played[0].any(), name, "its first round trains nothing")
    reached = np.zeros(points, int)
    for goals in played:
        for point in np.flatnonzero(goals < reached):
            _promise(
                False, name, f"the goal of point {point} falls from {reached[point]} to "
                f"{goals[point]} epochs",
            )  # fmt: skip
        lost = (reached > 0) & np.isnan(final[np.arange(points), np.maximum(reached, 1) - 1])
        for point in np.flatnonzero(lost & (goals > reached)):
            _promise(False, name, f"point {point} has diverged, but its goal is {goals[point]}")
        reached = goals


def _check_budget(scheduler: Scheduler, points: int, epochs: int) -> None:
    ordered = _scores(points, epochs)[0]
    total = int(np.max(_play(scheduler, ordered), axis=0).sum())
    said = scheduler.budget(points, epochs)
    _promise(
        total <= said <= points * epochs, scheduler.name,
        f"the budget of {points} points and {epochs} epochs is {said}, but {total} are trained",
    )  # fmt: skip


def _check_extends(scheduler: Scheduler, before: Extent) -> None:
    """Nothing that the smaller sweep trains is missing in the larger one."""
    points, epochs = before
    for after in (Extent(2 * points, epochs), Extent(points, epochs + 3), Extent(points + 4, 30)):
        reason = getattr(scheduler, "extends", unsaid)(before, after)
        if reason is not None or not _accepts(scheduler, *after):
            continue
        for final in _scores(*after):
            smaller = np.max(_play(scheduler, final[:points, :epochs]), axis=0)
            larger = np.max(_play(scheduler, final), axis=0)[:points]
            for point in np.flatnonzero(smaller > larger):
                _promise(
                    False, scheduler.name, f"it says that {before} can become {after}, but point "
                    f"{point} has {smaller[point]} epochs in one and {larger[point]} in the other",
                )  # fmt: skip
