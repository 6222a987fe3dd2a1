"""A population in the lanes of one program, with exchanges between its members."""

from typing import Any

import jax
import numpy as np

from purenet.sweep.engine.exchange import exchange_lanes, reaches
from purenet.sweep.engine.layout import place
from purenet.sweep.engine.records import Lineage
from purenet.sweep.space.space import add_points, no_points, numbers
from purenet.sweep.storage.reading import fitting


def train(sweep: Any, epochs: int) -> None:
    """Train all members of a running sweep side by side, with exchanges between them, from so many
    `epochs` on, which all of them have.

    Raises ValueError for several programs or seeds, and for members that do not fit at once.

    >>> from purenet.sweep.schedulers.pbt import pbt
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
        pool.lanes, parents = exchange_lanes(
            pool.layout,
            max(1, int(search.fraction * members)),
            pool.lanes,
            *place(
                pool.layout,
                (key, lanes, scores, drawn, reaches(request.space), search.factors,
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
