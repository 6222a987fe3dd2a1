"""The compiled program of a group: trials in lanes, trained side by side or one after the other.

One program trains every trial of a group. Its arguments are the trials' hyperparameters and the
number of epochs that each lane trains, so that neither a hyperparameter's value nor the seed, nor
which lanes are in use, needs another compilation. A lane reads nothing of its neighbours; the trial
axis is sharded over the devices, which do not communicate.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.contracts import (
    checked_epoch,
    checked_metrics,
    checked_state,
    checked_trainable,
    same_state,
    traced_code,
)
from purenet.core.dtypes import is_key
from purenet.core.jit_cache import jit_for_each
from purenet.core.types import PyTree, Trainable
from purenet.sweep.engine.layout import Layout, on_every_device, random_key
from purenet.sweep.space.structure import Traced, Untaken

# What the two parts of the data are called wherever they are named.
PARTS = ("train", "validation")

# One compiled call trains at most this many epochs; how many it does train is an argument.
BLOCK = 64


class Program(NamedTuple):
    """What a compiled program depends on besides the shapes of its data: hashable."""

    trial: Callable
    treedef: Any
    static: tuple
    layout: Layout
    metrics: tuple[str, ...] = ()
    structure: Any = None  # of a state, if it is the same for all trials
    keys: tuple[str | None, ...] = ()  # the implementation of each leaf that is a random key
    leaves: tuple[jax.ShapeDtypeStruct, ...] = ()  # of a state, packed

    def trainable(self, numbers: Iterable) -> Trainable:
        remaining = iter(numbers)
        taken = [value for value in self.static if value is not Untaken.UNTAKEN]
        leaves = [next(remaining) if isinstance(v, Traced) else v for v in taken]
        trainable = self.trial(jax.tree.unflatten(self.treedef, leaves))
        if not isinstance(trainable, Trainable):
            raise TypeError(
                f"sweep: the trial function returned {type(trainable).__name__}, but a "
                "Trainable(init, epoch, evaluate) such as supervised(...) is expected."
            )
        return checked_trainable("sweep", trainable)

    def pack(self, state: PyTree) -> list:
        """The leaves of a state as a lane holds them: plain numbers."""
        plain = lambda a: jax.random.key_data(a) if is_key(a) else jnp.asarray(a)
        return list(map(plain, jax.tree.leaves(state)))

    def unpack(self, leaves: list, trainable: Callable[[], Trainable]) -> PyTree:
        """The state that `pack` took apart, of the trial whose `trainable()` this is."""
        pairs = zip(leaves, self.keys, strict=True)
        typed = [a if kind is None else jax.random.wrap_key_data(a, impl=kind) for a, kind in pairs]
        structure = self.structure
        if structure is None:
            # of a state of the same numbers in the same trace; its leaves are of no use here
            structure = jax.tree.structure(trainable().init(jax.random.key(0)))
        return jax.tree.unflatten(structure, typed)


class LaneAssignment(NamedTuple):
    """The trial in each lane; or trials without lanes, one per row."""

    point: np.ndarray | jax.Array  # int32, the number of the point of the space
    seed: np.ndarray | jax.Array  # int32, which of the point's seeds
    numbers: tuple  # its traced hyperparameters


class Lanes(NamedTuple):
    """The training of each lane, one row per lane."""

    numbers: tuple
    alive: jax.Array  # bool: every number finite so far
    epochs: jax.Array  # int32, epochs completed with finite numbers
    state: list  # after that many epochs, packed


def describe(program: Program, numbers: tuple, data: PyTree) -> Program:
    """Check a group's training against the data, and find its metrics; nothing is compiled.

    `numbers` are the traced hyperparameters of one trial.
    Raises TypeError or ValueError for a trial function, data or metrics that a sweep cannot use.
    """

    def began(numbers, key):
        check(program, numbers, data)
        with traced_code("sweep: `init`"):
            return checked_state("sweep", program.trainable(numbers).init(key))

    # only shapes: without jit, every loop of the training would be unrolled for them
    with jax.disable_jit(False):
        first = jax.eval_shape(began, numbers, random_key(0))
        seen = _looked_at(program).eval_shape(numbers, random_key(0), abstract(data))
    before, after, metrics, packed = seen
    same_state("sweep", before, after)
    leaves, structure = jax.tree.flatten(before)
    # a static part of a state, such as an optimizer, may be made of the numbers of one trial
    shared = _equal(structure, jax.tree.structure(first))
    with jax.transfer_guard_host_to_device("allow"):
        kind = lambda a: str(jax.random.key_impl(jnp.empty((), a.dtype))) if is_key(a) else None
        keys = tuple(map(kind, leaves))
    return program._replace(
        metrics=tuple(sorted(metrics["validation"])),
        structure=structure if shared else None,
        keys=keys,
        leaves=tuple(packed),
    )


def check(program: Program, numbers: tuple, data: PyTree) -> None:
    """Let the training of a trial with these hyperparameters check the data."""
    trainable = program.trainable(numbers)
    for part in data:
        trainable.check(part)


def abstract(data: PyTree) -> PyTree:
    """Arrays of the shapes and dtypes that the data has on a device."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, _canonical(a)), data)


def look(program: Program, numbers: tuple, key: jax.Array, data: PyTree) -> tuple:
    """A first state, and what one epoch makes of it."""
    trainable = program.trainable(numbers)
    with traced_code("sweep: `init`"):
        state = checked_state("sweep", trainable.init(key))
    after, metrics = _epoch(trainable, state, data)
    return state, after, metrics, program.pack(state)


_looked_at = jit_for_each()(look)  # traced once for a program, and never run


def _equal(one, other) -> bool:
    """Whether two structures, each from its own trace, are the same."""
    try:
        return bool(one == other)
    except Exception:  # traced numbers in them cannot be compared
        return False


def _canonical(a):
    return jax.dtypes.canonicalize_dtype(a.dtype)


def quarantined(f: Callable) -> Callable:
    """f without JAX's checks for NaN and infinity: a trial that diverges is marked, and does not
    end the sweep."""

    @functools.wraps(f)
    def unchecked(*arguments, **options):
        with jax.debug_nans(False), jax.debug_infs(False):
            return f(*arguments, **options)

    return unchecked


@jit_for_each(donate_argnums=0)
def start_program(program: Program, lanes: Lanes, key, seats: LaneAssignment, fresh) -> Lanes:
    """Start new trials in the fresh lanes; the others stay as they are."""

    def one(lane, seat, fresh, key):
        key = jax.random.fold_in(key, seat.point)
        # a point's first seed is what it would be with one seed only
        key = jnp.where(seat.seed > 0, jax.random.fold_in(key, seat.seed), key)
        state = program.pack(program.trainable(seat.numbers).init(key))
        new = Lanes(seat.numbers, jnp.ones((), bool), jnp.zeros((), jnp.int32), state)
        return jax.tree.map(lambda a, b: jnp.where(fresh, a, b), new, lane)

    def start(lanes, key, seats, fresh):
        def some(i, lanes):
            take, put, several = _in_blocks(program.layout, i)
            several = several(functools.partial(one, key=key))
            arguments = take((lanes, seats, fresh))
            now = jax.lax.cond(arguments[2].any(), several, lambda lanes, *_: lanes, *arguments)
            return put(lanes, now)

        return jax.lax.fori_loop(0, _blocks(program.layout), some, lanes)

    every = on_every_device(program.layout, start, (True, False, True, True))
    return every(lanes, key, seats, fresh)


@jit_for_each(donate_argnums=0)
def advance_program(program: Program, lanes: Lanes, data, epochs):
    """Train each lane for its own number of epochs. Returns the lanes, and the metrics after each
    epoch."""
    layout = program.layout

    def one(lane, active, data):
        trainable = program.trainable(lane.numbers)
        state, metrics = _epoch(trainable, program.unpack(lane.state, lambda: trainable), data)
        # a Trainable of ours keeps its weights in `params`
        finite = _all_finite((metrics, getattr(state, "params", ())))
        going = active & finite
        state = jax.tree.map(
            lambda new, old: jnp.where(going, new, old), program.pack(state), lane.state
        )
        alive = lane.alive & (finite | ~active)
        return lane._replace(
            alive=alive, epochs=lane.epochs + going.astype(jnp.int32), state=state
        ), metrics

    def advance(lanes, data, epochs):
        def some(i, carry):
            """Train one block of lanes in place: the stacked states exist only once."""
            lanes, curves = carry
            take, put, several = _in_blocks(layout, i)
            now, goal, measured = take((lanes, epochs, curves))

            def going(loop):
                epoch, now, _ = loop
                return (now.alive & (epoch < goal)).any()

            def train(loop):
                epoch, now, measured = loop
                active = now.alive & (epoch < goal)
                now, metrics = several(functools.partial(one, data=data))(now, active)
                record = lambda curve, m: curve.at[..., epoch].set(m)
                return epoch + 1, now, jax.tree.map(record, measured, metrics)

            # lanes that are done or have diverged cost nothing once their whole block has
            _, now, measured = jax.lax.while_loop(going, train, (jnp.int32(0), now, measured))
            return put(carry, (now, measured))

        rows = layout.lanes
        blank = lambda: jnp.zeros((rows, BLOCK), jnp.result_type(float))
        curves = {part: {name: blank() for name in program.metrics} for part in PARTS}
        used = jnp.where(lanes.alive & (epochs > 0), jnp.arange(rows) // layout.block + 1, 0)
        return jax.lax.fori_loop(0, used.max(), some, (lanes, curves))

    return on_every_device(layout, advance, (True, False, True))(lanes, data, epochs)


def _blocks(layout: Layout) -> int:
    return layout.lanes // layout.block


def _in_blocks(layout: Layout, i):
    """How to take the i-th block of lanes, to put it back, and to run a function on all of it."""
    if layout.block == 1:
        take = lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False)
        put = lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0)
        several = lambda f: f
    else:
        first = i * layout.block
        take = lambda a: jax.lax.dynamic_slice_in_dim(a, first, layout.block)
        put = lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, 0)
        several = jax.vmap
    over = lambda f: functools.partial(jax.tree.map, f)
    return over(take), over(put), several


def _epoch(trainable: Trainable, state, data):
    """One epoch, and the metrics on both parts of the data after it."""
    training, validation = data
    with traced_code("sweep: `epoch`"):
        state, _ = checked_epoch("sweep", trainable.epoch(state, training))
    with traced_code("sweep: `evaluate`"):
        measured = (trainable.evaluate(state, training), trainable.evaluate(state, validation))
    metrics = dict(zip(PARTS, measured, strict=True))
    for part in metrics.values():
        if not checked_metrics("sweep: `evaluate`", part):
            raise TypeError("sweep: `evaluate` gave {}, but a dict of scalars is expected.")
    if {*metrics["train"]} != {*metrics["validation"]}:
        raise ValueError(
            f"sweep: `evaluate` gave the metrics {sorted(metrics['train'])} on the training data, "
            f"but {sorted(metrics['validation'])} on the validation data; both need the same."
        )
    return state, jax.tree.map(lambda m: jnp.asarray(m, jnp.result_type(float)), metrics)


def _all_finite(tree):
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(a).all() for a in floats]).all()
