"""A population in the lanes of one program, with exchanges between its members."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from purenet.core.types import Key
from purenet.core.validate import require
from purenet.sweep.engine.exchange import exchange_lanes, reaches
from purenet.sweep.engine.layout import place
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.records import Lineage, Report, damaged
from purenet.sweep.group import Group
from purenet.sweep.schedulers.pbt import Population
from purenet.sweep.space.space import add_points, no_points, numbers
from purenet.sweep.state import SweepState
from purenet.sweep.storage.reading import fitting


def train(
    search: Population,
    seed: int,
    state: SweepState,
    groups: Sequence[Group],
    epochs: int,
    record: Callable[[Group, Report], None],
) -> None:
    """Train the members of a population side by side, with exchanges between them.

    All members have completed `epochs` epochs; `record` is called with every report.
    Raises ValueError for several programs or seeds, and for members that do not fit in memory at
    once.

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
    members, seeds, last = state.shape
    require(
        len(groups) == 1 and seeds == 1,
        "pbt: a population is one program with one seed for each member, but the space has "
        f"{len(groups)} combinations of static choices and seeds is {seeds}.",
    )
    # a state is saved before the exchange that follows it
    exchanges = search.exchanges(last)
    done = min(max(0, -(-epochs // search.every) - 1), exchanges)
    state.lineage = restored_lineage(search, state, done)
    if state.restored.finished:
        return
    (group,) = groups
    pool = group.pool()
    assert isinstance(pool, LanePool)
    require(
        pool.layout.width >= members,
        f"pbt: {members} members do not fit in memory at once, but {pool.layout.width} do.",
    )
    for exchange in range(done, exchanges + 1):
        target = (exchange + 1) * search.every if exchange < exchanges else last
        target_epochs = np.where(state.alive & (state.epochs < target), target, 0)
        for report in pool.train(target_epochs, np.ones(members, bool)):
            record(group, report)
        if target == last or not state.alive.any():
            return
        with jax.transfer_guard_host_to_device("allow"):
            key = jax.random.fold_in(jax.random.fold_in(group.workplace.key, members), exchange)
        _exchange(search, key, state, pool, exchange, _drawn(state, seed, exchange))


def _exchange(
    search: Population, key: Key, state: SweepState, pool: LanePool, exchange: int, drawn: tuple
) -> None:
    """Let bad members copy good ones, and enter it in the lineage."""
    assert state.lineage is not None
    last = (exchange + 1) * search.every
    scores = np.where(state.alive, state.scores()[:, last - 1], -np.inf)
    lane_of = pool.lanes_of_all()
    lanes, parents = exchange_lanes(
        pool.layout,
        max(1, int(search.fraction * len(scores))),
        pool.lanes,
        *place(
            pool.layout,
            (key, lane_of, scores, drawn, reaches(state.space), search.factors, search.resample),
        ),
    )
    pool.lanes = lanes
    state.lineage.parents[exchange] = parents = jax.device_get(parents)
    pool.epochs, pool.alive = pool.epochs[parents], pool.alive[parents]
    state.epochs[:], state.alive[:] = pool.epochs, pool.alive
    for moved, column in zip(state.lineage.numbers.values(), lanes.numbers, strict=True):
        moved[exchange + 1] = jax.device_get(column)[lane_of]


def restored_lineage(search: Population, state: SweepState, done: int) -> Lineage:
    """Room for every exchange, with the first `done` of them as the folder has them.

    Raises ValueError for a lineage that cannot be of this population.
    """
    members, _, epochs = state.shape
    exchanges, space, restored = search.exchanges(epochs), state.space, state.restored
    parents = np.tile(np.arange(members), (exchanges, 1))
    traced = [name for name, t in zip(space.names, space.traced, strict=True) if t]
    first = zip(traced, state.numbers(slice(None)), strict=True)
    moved = {name: np.tile(column, (exchanges + 1, 1)) for name, column in first}
    lineage = Lineage(search.every, parents, moved)
    for name, mine in lineage.arrays().items() if done else ():
        known = done if mine is parents else done + 1
        assert restored.curves is not None
        mine[:known] = fitting(restored.curves_path, restored.curves, name, mine)[:known]
    if not ((parents >= 0) & (parents < members)).all():
        raise damaged(restored.curves_path, f"its lineage has parents outside 0 to {members - 1}")
    return lineage


def _drawn(state: SweepState, seed: int, exchange: int) -> tuple:
    """For each member a fresh value of every traced hyperparameter."""
    space = state.space
    rng = np.random.default_rng([seed, 1 + exchange])
    cube = rng.random((state.shape.points, len(space.distributions)))
    return numbers(space, add_points(space, no_points(space), cube), slice(None))
