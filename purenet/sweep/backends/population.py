"""A population in the lanes of one program, with exchanges between its members."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.types import Key
from purenet.core.validate import require
from purenet.sweep.engine.exchange import exchange_lanes, reaches
from purenet.sweep.engine.layout import place
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import Program, quarantined
from purenet.sweep.engine.records import Lineage, Report, damaged
from purenet.sweep.engine.walk import Walk, axes, walk_program
from purenet.sweep.group import Group
from purenet.sweep.schedulers.pbt import Descent, Population
from purenet.sweep.space.points import fresh_numbers, traced_leaves
from purenet.sweep.state import SweepState
from purenet.sweep.storage.reading import fitting


def train(
    search: Population,
    seed: int,
    state: SweepState,
    groups: Sequence[Group],
    epochs: int,
    record: Callable[[Group, Report], None],
    stop_if_late: Callable[[], None] = lambda: None,
) -> None:
    """Train the members of a population side by side, with exchanges between them.

    Members of different programs, as static choices make them, do not copy one another: each
    program has a population of its own. `epochs` is the number that the furthest members
    have completed; `record` is called with every report, `stop_if_late` before every block and
    before every exchange between two blocks.
    Raises ValueError for several seeds or folds, for a monitor that tracks the best score, for
    programs with one member each, and for members that do not fit in memory at once.

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
    members, last = state.shape.points, state.shape.epochs
    require(
        state.shape.runs == 1,
        f"{search.kind}: a member of a population is a single run, but there are "
        f"{state.shape.seeds} seed(s) and {state.shape.folds} fold(s).",
    )
    require(
        not groups[0].program.monitor.tracks,
        f"{search.kind}: the members of a population copy each other's states as they train, so "
        'none has a best epoch of its own; leave out patience= and select="best".',
    )
    require(
        any(len(group.rows) > 1 for group in groups),
        f"{search.kind}: no two of the {members} members have the same static choices, so none can "
        "copy another; use more trials, or fewer choices.",
    )
    if search.descent is not None:
        for group in groups:
            walking(search.descent, group, group.program)
    # a state is saved before the exchange that follows it
    exchanges = search.exchanges(last)
    done = min(max(0, -(-epochs // search.every) - 1), exchanges)
    state.lineage = restored_lineage(search, state, done)
    if state.restored.finished:
        return
    for group in groups:
        group.compile()
    pools = [_members(search.kind, group) for group in groups]
    stop_if_late()
    for exchange in range(done, exchanges + 1):
        target = (exchange + 1) * search.every if exchange < exchanges else last
        for group, pool in zip(groups, pools, strict=True):
            rows = group.rows
            target_epochs = np.where(state.alive[rows] & (state.epochs[rows] < target), target, 0)
            for report in pool.train(target_epochs, np.ones(len(rows), bool)):
                record(group, report)
                if (state.alive & (state.epochs < last)).any():
                    stop_if_late()
        if target == last or not state.alive.any():
            return
        rng = np.random.default_rng([seed, 1 + exchange])
        cube = rng.random((members, len(state.space.distributions)))
        for moved in state.lineage.numbers.values():
            moved[exchange + 1] = moved[exchange]
        for group, pool in zip(groups, pools, strict=True):
            if state.alive[group.rows].any():
                with jax.transfer_guard_host_to_device("allow"):
                    key = jax.random.fold_in(group.workplace.key, members)
                    key = jax.random.fold_in(key, exchange)
                    key = jax.random.fold_in(key, group.number) if group.number else key
                _exchange(search, key, group, pool, exchange, cube[group.rows])


def _members(kind: str, group: Group) -> LanePool:
    """The pool of a group, all of whose members have a lane at once."""
    pool = group.pool()
    assert isinstance(pool, LanePool)
    if pool.layout.width < len(group.rows):
        raise ValueError(
            f"{kind}: {len(group.rows)} members do not fit in memory at once, but "
            f"{pool.layout.width} do."
        )
    return pool


def _exchange(
    search: Population, key: Key, group: Group, pool: LanePool, exchange: int, cube: np.ndarray
) -> None:
    """Let the bad members of a group copy good ones, and record the copies in the lineage."""
    state, rows = group.state, group.rows
    assert state.lineage is not None
    last = (exchange + 1) * search.every
    scores = np.where(state.alive[rows], state.scores()[rows, last - 1], -np.inf)
    lane_of = pool.lanes_of_all()
    keys, traced = state.space.keys, traced_leaves(state.space, state.points, group.number)
    ends = reaches([state.space.leaves[i] for i in traced])
    drawn = fresh_numbers(state.space, state.points, group.number, cube)
    lanes, parents = exchange_lanes(
        pool.layout,
        max(1, int(search.fraction * len(scores))),
        pool.lanes,
        *place(pool.layout, (key, lane_of, scores, drawn, ends, search.factors, search.resample)),
    )
    if search.descent is not None:
        walk = walking(search.descent, group, pool.compiled.program)
        left = 1 - exchange / search.exchanges(state.shape.epochs)
        step = np.asarray(search.descent.step * left, jnp.result_type(float))
        lanes = quarantined(walk_program(walk))(lanes, pool.data, place(pool.layout, step))
    pool.lanes = lanes
    parents = jax.device_get(parents)
    state.lineage.parents[exchange, rows] = rows[parents]
    pool.epochs, pool.alive = pool.epochs[parents], pool.alive[parents]
    state.epochs[rows], state.alive[rows] = pool.epochs, pool.alive
    for i, column in zip(traced, lanes.numbers, strict=True):
        state.lineage.numbers[keys[i]][exchange + 1, rows] = jax.device_get(column)[lane_of]


def walking(descent: Descent, group: Group, program: Program) -> Walk:
    """How the members of a group walk. Raises ValueError if no hyperparameter can move, for a
    metric that their training does not return, and for streamed data."""
    state = group.state
    require(
        program.stream is None,
        "descent: the gradients need data in memory, but some of it is streamed; give arrays of a "
        "part of it.",
    )
    require(
        descent.metric in program.metrics,
        f"descent: `evaluate` returns the metrics {list(program.metrics)}, but {descent.metric!r} "
        "is to be made small.",
    )
    traced = traced_leaves(state.space, state.points, group.number)
    found = axes([state.space.leaves[i] for i in traced])
    require(
        any(axis is not None for axis in found),
        "descent: no hyperparameter can move, since none is uniform, loguniform or normal; use "
        "pbt() or another search.",
    )
    return Walk(program, found, descent.horizon, descent.metric)


def restored_lineage(search: Population, state: SweepState, done: int) -> Lineage:
    """A lineage with room for every exchange, the first `done` of them read from the folder.

    Raises ValueError for a lineage that does not fit this population.
    """
    members, epochs = state.shape.points, state.shape.epochs
    exchanges, space, restored = search.exchanges(epochs), state.space, state.restored
    parents = np.tile(np.arange(members), (exchanges, 1))
    first = zip(space.keys, state.points.columns, space.traced, strict=True)
    moved = {key: np.tile(column, (exchanges + 1, 1)) for key, column, traced in first if traced}
    lineage = Lineage(search.every, parents, moved)
    for name, mine in lineage.arrays().items() if done else ():
        known = done if mine is parents else done + 1
        assert restored.curves is not None
        mine[:known] = fitting(restored.curves_path, restored.curves, name, mine)[:known]
    if not ((parents >= 0) & (parents < members)).all():
        raise damaged(restored.curves_path, f"its lineage has parents outside 0 to {members - 1}")
    return lineage
