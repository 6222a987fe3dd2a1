"""The compiled program of a group: trials in lanes, trained side by side or one after the other.

One program trains every trial of a group. Its arguments are the trials' hyperparameters and the
number of epochs that each lane trains, so a new value of a hyperparameter, another seed or
other lanes in use need no new compilation. A lane reads nothing from its neighbours; the trial axis
is sharded over the devices, which do not communicate.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core import best as tracking
from purenet.core.contracts import observed
from purenet.core.dtypes import is_key
from purenet.core.jit_cache import jit_for_each
from purenet.core.types import PyTree, Trainable
from purenet.sweep.engine.folds import parts_of
from purenet.sweep.engine.layout import (
    Layout,
    block_count,
    cached,
    in_blocks,
    on_every_device,
)
from purenet.sweep.engine.monitor import Monitor, all_finite, checked_parts
from purenet.sweep.engine.packing import Packing
from purenet.sweep.engine.streaming import StreamShape
from purenet.sweep.engine.training import PARTS, Training, after_epoch, begun, measured

# One compiled call trains at most this many epochs; the actual number is an argument.
BLOCK = 64


class Program(NamedTuple):
    """Everything that a compiled program depends on besides the shapes of its data; hashable."""

    training: Training
    layout: Layout
    metrics: tuple[str, ...] = ()
    structure: Any = None  # of a state, if it is the same for all trials
    keys: tuple[str | None, ...] = ()  # the implementation of each leaf that is a random key
    leaves: tuple[jax.ShapeDtypeStruct, ...] = ()  # of a state, as plain numbers
    monitor: Monitor = Monitor()
    stream: StreamShape | None = None  # of data that is streamed

    def trainable(self, numbers: Iterable) -> Trainable:
        """That of the trial with these hyperparameters."""
        return self.training.trainable(numbers)

    @property
    def shared(self) -> bool:
        """Whether the states of all trials have the same structure."""
        return self.structure is not None

    @property
    def packing(self) -> Packing:
        """How a lane holds a state. Joined where lanes are trained one after the other: beside
        each other, the leaves would have to be copied out, and on a TPU rearranged."""
        return Packing(self.leaves, self.layout.block == 1 and self.stream is None)

    def pack(self, state: PyTree) -> list:
        """A state as a lane holds it."""
        return self.packing.join(plain(state))

    def held(self, lane: "Lanes", trainable: Callable[[], Trainable]) -> PyTree:
        """The state that a lane holds, of the trial whose `trainable()` this is."""
        return self.unpack(self.packing.split(lane.state), trainable)

    def unpack(self, leaves: list, trainable: Callable[[], Trainable]) -> PyTree:
        """The state with these `plain` leaves."""
        pairs = zip(leaves, self.keys, strict=True)
        typed = [a if kind is None else jax.random.wrap_key_data(a, impl=kind) for a, kind in pairs]
        structure = self.structure
        if structure is None:
            # of a state of the same numbers in the same trace; only its structure is used
            first = trainable().init(jax.random.key(0))
            structure = jax.tree.structure(self.begin(first))
        return jax.tree.unflatten(structure, typed)

    def weights_in(self, held: list, state: PyTree) -> list:
        """The weights of a state that a lane would hold so, in as few arrays as those are; none if
        it keeps none in `params`, as a Trainable of ours does."""
        if not self.packing.joined:
            return jax.tree.leaves(getattr(state, "params", ()))
        params = jax.tree_util.GetAttrKey("params")
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
        return self.packing.some(held, [path[:1] == (params,) for path in paths])

    def begin(self, state: PyTree) -> PyTree:
        """The state of a lane before the first epoch of its trial, whose own state this is."""
        monitor = self.monitor
        if self.stream is not None:
            state = self.stream.begin(state)
        return tracking.start(state, monitor.keep_best) if monitor.tracks else state

    def in_cached_blocks(self) -> "Program":
        """The same program, with blocks of lanes that suit the memory of its devices."""
        lane = sum(leaf.size * leaf.dtype.itemsize for leaf in self.leaves)
        return self._replace(layout=cached(self.layout, lane))

    def predictor(self, numbers: tuple) -> Callable[[PyTree, PyTree], Any]:
        """The `predict(state, x)` of a trial with these hyperparameters. Raises ValueError if the
        Trainable has no `predict`."""
        predict = self.trainable(numbers).predict
        if predict is None:
            raise ValueError(
                "sweep: the trial function's Trainable has no `predict(state, x)`; add one."
            )
        return predict

    def monitored(self, monitor: Monitor) -> "Program":
        """The same program, whose lanes track what the monitor needs."""
        program = self._replace(metrics=tuple(sorted({*self.metrics, *monitor.added})))
        if not monitor.tracks:
            return program._replace(monitor=monitor)
        start = functools.partial(tracking.start, keep_best=monitor.keep_best)
        leaves = tuple(jax.tree.leaves(jax.eval_shape(start, list(self.leaves))))
        keys = self.keys * (2 if monitor.keep_best else 1)
        structure = self.structure
        if structure is not None:
            dummy = jax.tree.unflatten(structure, [0] * len(self.leaves))
            structure = jax.tree.structure(start(dummy))
        keys += (None,) * (len(leaves) - len(keys))
        return program._replace(monitor=monitor, structure=structure, keys=keys, leaves=leaves)


class LaneAssignment(NamedTuple):
    """The trial in each lane; or trials without lanes, one per row."""

    point: np.ndarray | jax.Array  # int32, the number of the point of the space
    seed: np.ndarray | jax.Array  # int32, which of the point's seeds
    fold: np.ndarray | jax.Array  # int32, which of the folds of the data
    numbers: tuple  # its traced hyperparameters


class Lanes(NamedTuple):
    """The training of each lane, one row per lane."""

    numbers: tuple
    fold: jax.Array  # int32
    alive: jax.Array  # bool: every number finite so far
    ended: jax.Array  # bool: out of patience
    epochs: jax.Array  # int32, epochs completed with finite numbers
    state: list  # after that many epochs, packed


def plain(state: PyTree) -> list:
    """The leaves of a state as arrays of plain numbers."""
    of = lambda a: jax.random.key_data(a) if is_key(a) else jnp.asarray(a)
    return list(map(of, jax.tree.leaves(state)))


def quarantined(f: Callable) -> Callable:
    """f without JAX's checks for NaN and infinity: a trial that diverges is marked as such
    and does not end the sweep."""

    @functools.wraps(f)
    def unchecked(*arguments, **options):
        with jax.debug_nans(False), jax.debug_infs(False):
            return f(*arguments, **options)

    return unchecked


@jit_for_each(donate_argnums=0)
def start_program(program: Program, lanes: Lanes, key, seats: LaneAssignment, fresh) -> Lanes:
    """Start new trials in the fresh lanes; the others stay as they are."""

    def one(seat, key):
        key = jax.random.fold_in(key, seat.point)
        # a point's first seed is the same however many seeds there are
        key = jnp.where(seat.seed > 0, jax.random.fold_in(key, seat.seed), key)
        first = begun(program.training, program.shared, seat.numbers, key)
        state = program.pack(program.begin(first))
        yes, no, none = jnp.ones((), bool), jnp.zeros((), bool), jnp.zeros((), jnp.int32)
        return Lanes(seat.numbers, seat.fold, yes, no, none, state)

    def start(lanes, key, seats, fresh):
        def some(i, lanes):
            take, put, several = in_blocks(program.layout, i)
            seat, now = take((seats, fresh))

            def begun(lanes):
                new = several(functools.partial(one, key=key))(seat)
                if program.layout.block > 1:
                    kept = lambda now, new, old: jax.tree.map(
                        lambda a, b: jnp.where(now, a, b), new, old
                    )
                    new = several(kept)(now, new, take(lanes))
                return put(lanes, new)

            return jax.lax.cond(now.any(), begun, lambda lanes: lanes, lanes)

        return jax.lax.fori_loop(0, block_count(program.layout), some, lanes)

    every = on_every_device(program.layout, start, (True, False, True, True))
    return every(lanes, key, seats, fresh)


@jit_for_each(donate_argnums=0)
def advance_program(program: Program, lanes: Lanes, data, epochs):
    """Train each lane for its own number of epochs. Returns the lanes, and the metrics after each
    epoch."""
    layout, monitor = program.layout, program.monitor

    def advance(lanes, data, epochs):
        def some(i, carry):
            """Train one block of lanes; a lane that is alone in its block, unless it is done."""
            if layout.block > 1:  # on a TPU, the loop below would copy the states of all blocks
                return trained_block(i, carry)
            take, *_ = in_blocks(layout, i)
            # a loop of one turn or none: a branch would copy all states
            now, goal = take((carry[0]._replace(numbers=(), state=[]), epochs))
            busy = _active(now, 0, goal).astype(jnp.int32)
            return jax.lax.fori_loop(0, busy, lambda _, carry: trained_block(i, carry), carry)

        def trained_block(i, carry):
            """Train one block of lanes in place: the stacked states exist only once."""
            lanes, curves = carry
            take, put, several = in_blocks(layout, i)
            now, goal, curves = take((lanes, epochs, curves))

            def going(loop):
                epoch, now, _ = loop
                return _active(now, epoch, goal).any()

            def train(loop):
                epoch, now, curves = loop
                active = _active(now, epoch, goal)
                due = monitor.due(now.epochs)
                one = functools.partial(_one_epoch, program, data, (active & due).any())
                now, metrics = several(one)(now, active, due)
                latest = jnp.stack(jax.tree.leaves(metrics), axis=-1)
                return epoch + 1, now, curves.at[..., epoch, :].set(latest)

            # lanes that are done or diverged cost nothing once their whole block is
            _, now, curves = jax.lax.while_loop(going, train, (jnp.int32(0), now, curves))
            return put(carry, (now, curves))

        # all curves are one array, which costs less to compile
        names = {part: dict.fromkeys(program.metrics, 0) for part in PARTS}
        count, structure = len(PARTS) * len(program.metrics), jax.tree.structure(names)
        curves = jnp.zeros((layout.lanes, BLOCK, count), jnp.result_type(float))
        used = jnp.where(_active(lanes, 0, epochs), jnp.arange(layout.lanes) // layout.block + 1, 0)
        lanes, curves = jax.lax.fori_loop(0, used.max(), some, (lanes, curves))
        return lanes, jax.tree.unflatten(structure, [curves[..., i] for i in range(count)])

    return on_every_device(layout, advance, (True, False, True))(lanes, data, epochs)


# one lane
def _active(lanes: Lanes, epoch, goal):
    """Which lanes train one more epoch, after `epoch` epochs of this call."""
    return lanes.alive & ~lanes.ended & (epoch < goal)


def _one_epoch(program: Program, data, any_due, lane: Lanes, active, due):
    """One epoch of a lane that is `active`, evaluated if it is `due`; the metrics are NaN if not.
    `any_due` is the same for all lanes of a block, so that it can skip the evaluation."""
    monitor, trainable = program.monitor, program.trainable(lane.numbers)
    parts = parts_of(data, lane.fold)
    before = program.held(lane, lambda: trainable)
    this = program.training, program.shared, lane.numbers
    state = after_epoch(*this, before.state if monitor.tracks else before, parts)
    look = lambda state: checked_parts(monitor, state, measured(*this, state, parts))
    return end_epoch(program, lane, trainable, before, state, look, any_due, active, due)


def end_epoch(
    program: Program,
    lane: Lanes,
    trainable: Trainable,
    before: PyTree,
    state: PyTree,
    look: Callable,
    any_due: Any,
    active: Any,
    due: Any,
    wrap: Callable = lambda state: state,
) -> tuple[Lanes, dict]:
    """A lane that holds `before`, with the `state` after one more epoch, and its metrics, which
    are `look(state)`. `wrap(state)` is what it holds of a state."""
    monitor = program.monitor
    if monitor.every == 1:
        metrics = known = look(state)
    else:
        blank = lambda state: jax.tree.map(
            lambda a: jnp.full(a.shape, jnp.nan, a.dtype), jax.eval_shape(look, state)
        )
        metrics = jax.lax.cond(any_due, look, blank, state)
        known = jax.tree.map(lambda m: jnp.where(due, m, 0), metrics)
        metrics = jax.tree.map(lambda m: jnp.where(due, m, jnp.nan), metrics)
    whole = wrap(observed("sweep", trainable, state, metrics["validation"], due))
    ended = lane.ended
    if monitor.tracks:
        going = active & all_finite((known, getattr(state, "params", ())))
        score = monitor.sign * metrics["validation"][monitor.metric]
        after = tracking.update(before, whole, score, due, going)
        kept = program.pack(after)
        if monitor.patience is not None:
            ended |= going & tracking.exhausted(after, monitor.patience)
    else:
        new = program.pack(whole)
        going = active & all_finite((known, program.weights_in(new, state)))
        kept = tracking.either(going, new, lane.state)
    alive, epochs = lane.alive & (going | ~active), lane.epochs + going.astype(jnp.int32)
    return lane._replace(alive=alive, ended=ended, epochs=epochs, state=kept), metrics
