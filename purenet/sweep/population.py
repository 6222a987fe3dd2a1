"""Population based training: bad members copy good ones and change their hyperparameters."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.checks import is_number, whole
from purenet.sweep.engine import Lanes, place, sharding
from purenet.sweep.layout import Layout
from purenet.sweep.reading import fitting
from purenet.sweep.space import (
    Choice,
    Space,
    add_points,
    checked_sampler,
    maker,
    no_points,
    numbers,
    random,
)


class Lineage(NamedTuple):
    """Who copied whom, and how the hyperparameters of each member moved.

    >>> Lineage(5, np.array([[0, 0]]), {"rate": np.ones((2, 2))}).parents.tolist()
    [[0, 0]]
    """

    every: int  # an exchange follows every so many epochs
    parents: np.ndarray  # (exchanges, members): whose state a member went on with, mostly its own
    numbers: dict[str, np.ndarray]  # (exchanges + 1, members) of each traced hyperparameter

    def arrays(self) -> dict[str, np.ndarray]:
        """What changes from exchange to exchange, by name."""
        named = {f"lineage number {name}": column for name, column in self.numbers.items()}
        return {"lineage parents": self.parents} | named


class Population(NamedTuple):
    """What `pbt` makes: see there.

    >>> pbt(every=5).exchanges(20)
    3
    """

    sampler: Callable
    every: int
    fraction: float
    factors: tuple[float, float]
    resample: float
    name: str
    points: None = None  # a population does not know how large it is

    def exchanges(self, epochs: int) -> int:
        """How many there are: what the last one brought is trained `every` epochs or more."""
        return epochs // self.every - 1

    def rounds(self, points: int, epochs: int) -> Iterator[np.ndarray]:
        """One round: all members are trained to the end. Raises ValueError where there is no time
        for an exchange, or nobody to copy."""
        if self.exchanges(epochs) < 1:
            raise ValueError(
                f"pbt: with an exchange every {self.every} epochs a trial needs "
                f"{2 * self.every} or more, but it has {epochs}; lower `every` or train longer."
            )
        if points < 2:
            raise ValueError(f"pbt: a population of {points} has nobody to copy; use 2 or more.")
        yield np.full(points, epochs)


@maker
def pbt(
    every: int = 5,
    fraction: float = 0.25,
    factors: tuple[float, float] = (0.8, 1.2),
    resample: float = 0.25,
    sampler: Callable = random,
) -> Population:
    """Population based training: members that do badly take over the state of others that do well.

    After every `every` epochs, as long as so many are still to come, the worst `fraction` of the
    members and those that diverged take over the whole state of one of the best `fraction`
    (exploit), and change their hyperparameters (explore).

    To explore is to draw a hyperparameter anew from its distribution, with probability `resample`,
    or else to multiply it by one of `factors`, within the reach of the distribution; a choice of
    floats is drawn anew or kept. All of it happens in a compiled program, with nothing sent
    to the host but the scores. `result.lineage` tells who copied whom.
    Source: Jaderberg et al. (2017).
    Raises TypeError or ValueError for numbers out of range, TypeError for what is no sampler; when
    it runs, ValueError for a space with static choices, for several seeds, or a population that
    does not fit on the devices at once.

    >>> pbt(every=10).fraction
    0.25
    """
    every = whole("pbt: every", every, least=1)
    if not (is_number(fraction) and 0 < fraction <= 0.5):
        raise ValueError(f"pbt: fraction is {fraction!r}, expected a number above 0, at most 0.5.")
    if not (is_number(resample) and 0 <= resample <= 1):
        raise ValueError(f"pbt: resample is {resample!r}, expected a probability.")
    pair = isinstance(factors, (tuple, list)) and len(factors) == 2 and all(map(is_number, factors))
    if not (pair and all(0 < factor < math.inf for factor in factors)):
        raise ValueError(f"pbt: factors is {factors!r}, but two numbers above 0 are expected.")
    checked_sampler("pbt", sampler)
    kind = getattr(sampler, "__name__", repr(sampler))
    name = f"pbt({every=}, {fraction=}, {factors=}, {resample=}, {kind})"
    return Population(sampler, every, fraction, (factors[0], factors[1]), resample, name)


def train(sweep: Any, epochs: int) -> None:
    """Train all members of a running sweep side by side, with exchanges between them, from so many
    `epochs` on, which all of them have.

    Raises ValueError for several programs or seeds, and for members that do not fit at once.

    >>> import purenet as pn
    >>> from purenet import sweep
    >>> halve = lambda hyper: pn.Trainable(
    ...     lambda key: hyper, lambda s, data: (s / 2, {}), lambda s, data: {"loss": s}
    ... )
    >>> data = (np.zeros(1), np.zeros(1))
    >>> found = sweep.run(halve, sweep.uniform(1, 2), data, 4, 2, search=pbt(every=1))
    >>> found.lineage.parents.shape
    (1, 4)
    """
    request, search = sweep.request, sweep.request.search
    if len(sweep.programs) != 1 or request.seeds != 1:
        raise ValueError(
            f"pbt: a population is one program with one seed a member, but the space has "
            f"{len(sweep.programs)} combinations of static choices and seeds is {request.seeds}."
        )
    every, last, members = search.every, request.epochs, request.trials
    # a state is saved before the exchange that follows it
    exchanges = search.exchanges(last)
    done = min(max(0, -(-epochs // every) - 1), exchanges)
    sweep.lineage = lineage = _known_lineage(sweep, done)
    if sweep.finished:
        return
    pool = sweep.pool(0)
    if pool.layout.width < members:
        raise ValueError(
            f"pbt: {members} members do not fit in memory at once, but {pool.layout.width} do."
        )
    for exchange in range(done, exchanges + 1):
        goal = (exchange + 1) * every if exchange < exchanges else last
        goals = np.where(sweep.alive & (sweep.epochs < goal), goal, 0)
        for report in pool.train(goals, np.ones(members, bool)):
            sweep.record(0, report)
        if goal == last or not sweep.alive.any():
            return
        scores = np.where(sweep.alive, sweep.scores()[:, goal - 1], -np.inf)
        with jax.transfer_guard_host_to_device("allow"):
            key = jax.random.fold_in(jax.random.fold_in(sweep.key, members), exchange)
        drawn = _drawn(request, exchange)
        lanes = pool.lanes_of_all()
        pool.lanes, parents = _exchange(
            pool.layout,
            max(1, int(search.fraction * members)),
            pool.lanes,
            *place(
                pool.layout,
                (key, lanes, scores, drawn, _reaches(request.space), search.factors,
                 search.resample),
            ),
        )  # fmt: skip
        lineage.parents[exchange] = parents = jax.device_get(parents)
        pool.epochs, pool.alive = pool.epochs[parents], pool.alive[parents]
        sweep.epochs[:], sweep.alive[:] = pool.epochs, pool.alive
        for moved, column in zip(lineage.numbers.values(), pool.lanes.numbers, strict=True):
            moved[exchange + 1] = jax.device_get(column)[lanes]


def _known_lineage(sweep: Any, done: int) -> Lineage:
    """Room for every exchange, and what the folder knows of those that are done."""
    request, space = sweep.request, sweep.request.space
    members, exchanges = request.trials, request.search.exchanges(request.epochs)
    parents = np.tile(np.arange(members), (exchanges, 1))
    traced = [name for name, t in zip(space.names, space.traced, strict=True) if t]
    first = numbers(space, sweep.points, slice(None))
    moved = {
        n: np.tile(column, (exchanges + 1, 1)) for n, column in zip(traced, first, strict=True)
    }
    lineage = Lineage(request.search.every, parents, moved)
    for name, mine in lineage.arrays().items() if done else ():
        known = done if mine is parents else done + 1
        mine[:known] = fitting(sweep.store.folder, sweep.known, name, mine)[:known]
    if not ((parents >= 0) & (parents < members)).all():
        raise ValueError(
            f"{sweep.store.folder} holds a lineage with parents outside 0 to {members - 1}; its "
            "curves.npz is damaged: remove it, and what it held is computed again."
        )
    return lineage


def _drawn(request: Any, exchange: int) -> tuple:
    """For each member a fresh value of every traced hyperparameter."""
    space = request.space
    rng = np.random.default_rng([request.seed, 1 + exchange])
    cube = rng.random((request.trials, len(space.distributions)))
    return numbers(space, add_points(space, no_points(space), cube), slice(None))


def _reaches(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each traced hyperparameter; equal where it must not be
    multiplied: a constant, or a choice."""
    ends = []
    for leaf, traced in zip(space.leaves, space.traced, strict=True):
        if traced:
            fixed = isinstance(leaf, Choice) or not hasattr(leaf, "ppf")
            low_high = (0.0, 0.0) if fixed else leaf.ppf(np.array([0.0, 1.0]))
            ends.append([float(end) for end in low_high])
    low, high = np.array(ends).reshape(-1, 2).T
    return low, high


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _exchange(
    layout: Layout, count: int, lanes: Lanes, key, lane_of, scores, drawn, reaches, factors,
    resample,
):  # fmt: skip
    """One exchange between the members that sit in the lanes `lane_of`: the lanes, and the parent
    of each member.

    Shapes: scores (members,), larger is better, -inf for those that diverged; `drawn`, for each
    traced hyperparameter, (members,) values from its distribution.
    """
    members = len(scores)
    choose, *explore = jax.random.split(key, 1 + len(lanes.numbers))
    order = jnp.argsort(-scores)  # stable: ties go to the lower number
    rank = jnp.zeros(members, int).at[order].set(jnp.arange(members))
    finite = jnp.isfinite(scores)
    donors = jnp.minimum(count, finite.sum())
    donor = order[jax.random.randint(choose, (members,), 0, jnp.maximum(donors, 1))]
    replaced = ((rank >= members - count) | ~finite) & (donors > 0) & (rank >= donors)
    parents = jnp.where(replaced, donor, jnp.arange(members))
    source = jnp.arange(len(lanes.alive)).at[lane_of].set(lane_of[parents])
    lanes = jax.tree.map(lambda a: a[source], lanes)

    def changed(old, key, drawn, low, high):
        which, anew = jax.random.split(key)
        factor = jnp.where(jax.random.bernoulli(which, 0.5, (members,)), *factors)
        before = old[lane_of]
        moved = jnp.clip(before * factor, low, high)
        if jnp.issubdtype(old.dtype, jnp.integer):
            moved = jnp.round(moved)
        moved = jnp.where(low < high, moved, before)
        new = jnp.where(jax.random.bernoulli(anew, resample, (members,)), drawn, moved)
        return old.at[lane_of].set(jnp.where(replaced, new, before).astype(old.dtype))

    moved = map(changed, lanes.numbers, explore, drawn, *reaches)
    lanes = lanes._replace(numbers=tuple(moved))
    return jax.lax.with_sharding_constraint(lanes, sharding(layout, split=True)), parents
