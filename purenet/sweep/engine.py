"""The compiled population: trials in lanes, trained side by side or one after the other.

One program trains every trial of a group. Its arguments are the numbers of the trials, so neither
a hyperparameter's value nor the seed, nor which lanes are in use, costs a compilation. A lane reads
nothing of its neighbours; the trial axis is sharded over the devices and nothing is communicated.
"""

import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from purenet.sweep.plan import Layout, halved, memory
from purenet.sweep.space import TRACED, Group, Points
from purenet.types import PyTree, Trainable

# What the two parts of the data are called wherever they are named.
PARTS = ("train", "validation")

# One compiled call trains at most this many epochs; how many it does train is an argument.
BLOCK = 64


class Program(NamedTuple):
    """What a compiled program depends on besides the shapes of its data: hashable."""

    trial: Callable
    treedef: Any
    static: tuple
    metrics: tuple[str, ...]
    layout: Layout

    def trainable(self, numbers) -> Trainable:
        numbers = iter(numbers)
        leaves = [next(numbers) if value is TRACED else value for value in self.static]
        trainable = self.trial(jax.tree.unflatten(self.treedef, leaves))
        if not isinstance(trainable, Trainable):
            raise TypeError(
                f"sweep: the trial function returned {type(trainable).__name__}, but a "
                "Trainable(init, epoch, evaluate) such as supervised(...) is expected."
            )
        return trainable


class Seats(NamedTuple):
    """Who sits in which lane, a row a lane."""

    trial: np.ndarray  # int32, the trial's number
    numbers: tuple  # its traced hyperparameters
    taken: np.ndarray  # bool; an empty lane trains nothing


class Lanes(NamedTuple):
    """Where every lane's training stands, a row a lane."""

    numbers: tuple
    alive: jax.Array  # bool: taken, and every number finite so far
    epochs: jax.Array  # int32, epochs completed with finite numbers
    state: PyTree  # after that many epochs
    curves: PyTree  # (BLOCK,) of each metric: the epochs of the latest call


class Compiled(NamedTuple):
    """The programs of one static group, ready to run, and what they cost."""

    program: Program
    start: Callable  # (key, seats) -> lanes
    advance: Callable  # (lanes, data, epochs) -> lanes, which it uses up
    seconds: float  # tracing and compiling; next to nothing for a program already in memory
    bytes: int  # of one device: arguments and temporaries together


class Outcome(NamedTuple):
    """What became of some trials, a row a trial; curves are NaN where nothing finite is known."""

    done: int  # epochs since the start
    epochs: np.ndarray  # (n,) completed with finite numbers
    alive: np.ndarray  # (n,)
    curves: dict[str, dict[str, np.ndarray]]  # part -> metric -> (n, epochs)
    state: PyTree  # of the last lanes, a row a lane


def describe(trial, points: Points, group: Group, layout: Layout, data) -> Program:
    """Check a group's training against the data, and see what it measures; nothing is compiled.

    Raises TypeError or ValueError for a trial function, data or metrics that a sweep cannot use.
    """
    program = Program(trial, points.treedef, group.static, (), layout)
    names: set[str] = set()

    def look(numbers, key):
        trainable = program.trainable(numbers)
        for part in data:
            trainable.check(part)
        arrays = jax.tree.map(jnp.asarray, data)
        names.update(_epoch(trainable, trainable.init(key), arrays)[1]["validation"])

    jax.eval_shape(look, tuple(column[0] for column in group.numbers), jax.random.key(0))
    return program._replace(metrics=tuple(sorted(names)))


def compile_group(program: Program, group: Group, key, data) -> Compiled:
    """Trace and compile a group's programs, with fewer lanes where they would not fit in memory."""
    layout, started = program.layout, time.perf_counter()
    seats = place(layout, seat(group, layout.width), split=True)
    on_devices = place(layout, data)
    lowered = _start.lower(program, place(layout, key), seats)
    here = _sharding(layout, split=True)
    lanes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), lowered.out_info
    )
    with ThreadPoolExecutor(1) as beside:  # the compiler holds no lock: two cores compile at once
        starting = beside.submit(lowered.compile)
        no_epochs = place(layout, np.int32(0))
        advance = _advance.lower(program, lanes, on_devices, no_epochs).compile()
        start = starting.result()
    usage = advance.memory_analysis()
    needed = usage.argument_size_in_bytes + usage.temp_size_in_bytes if usage else 0
    smaller = halved(layout)
    if needed > memory(layout.devices[0]) and smaller is not None:
        return compile_group(program._replace(layout=smaller), group, key, data)
    return Compiled(program, start, advance, time.perf_counter() - started, needed)


def seat(group: Group, width: int, rows: slice = slice(0, None)) -> Seats:
    """Put the given rows of a group in the first of `width` lanes; the others stay empty."""
    trials = group.trials[rows][:width].astype(np.int32)
    empty = width - len(trials)
    fill = lambda a: np.concatenate([a, np.repeat(a[:1], empty, axis=0)])
    numbers = tuple(fill(column[rows][:width]) for column in group.numbers)
    return Seats(fill(trials), numbers, np.arange(width) < len(trials))


def train(compiled: Compiled, key, seats: Seats, data, epochs: int) -> Iterator[Outcome]:
    """Train the seated trials, yielding what is known after each block of epochs."""
    layout = compiled.program.layout
    key, data = place(layout, key), place(layout, data)
    lanes = compiled.start(key, place(layout, seats, split=True))
    trials = int(seats.taken.sum())
    curves = jax.tree.map(lambda a: np.full((trials, epochs), np.nan, a.dtype), lanes.curves)
    done, block = 0, 1
    while done < epochs:
        started = time.perf_counter()
        n = min(block, epochs - done)
        lanes = compiled.advance(lanes, data, place(layout, np.int32(n)))
        completed, alive = np.asarray(lanes.epochs)[:trials], np.asarray(lanes.alive)[:trials]
        known = np.arange(done, done + n) < completed[:, None]
        for whole, latest in zip(
            jax.tree.leaves(curves), jax.tree.leaves(lanes.curves), strict=True
        ):
            whole[:, done : done + n] = np.where(known, np.asarray(latest)[:trials, :n], np.nan)
        done += n
        yield Outcome(done, completed, alive, curves, lanes.state)
        # about four reports a second, whatever a block costs
        per_epoch = (time.perf_counter() - started) / n
        block = max(1, min(BLOCK, int(0.25 / max(per_epoch, 1e-9))))
        if not alive.any():
            return


@functools.partial(jax.jit, static_argnums=0)
def _start(program: Program, key, seats: Seats) -> Lanes:
    def one(seat, key):
        trainable = program.trainable(seat.numbers)
        state = trainable.init(jax.random.fold_in(key, seat.trial))
        curves = {part: {name: jnp.zeros(BLOCK) for name in program.metrics} for part in PARTS}
        return Lanes(seat.numbers, seat.taken, jnp.zeros((), jnp.int32), state, curves)

    over_lanes = jax.lax.map if program.layout.block == 1 else lambda f, xs: jax.vmap(f)(xs)
    start = lambda key, seats: over_lanes(functools.partial(one, key=key), seats)
    return _on_every_device(program.layout, start, (False, True))(key, seats)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _advance(program: Program, lanes: Lanes, data, epochs) -> Lanes:
    layout = program.layout

    def one(lane, data, epochs):
        trainable = program.trainable(lane.numbers)

        def body(i, lane):
            state, metrics = _epoch(trainable, lane.state, data)
            # a Trainable of ours keeps its weights in `params`
            finite = _all_finite((metrics, getattr(state, "params", ())))
            alive = lane.alive & finite
            keep = lambda new, old: jnp.where(alive, new, old)
            return lane._replace(
                alive=alive,
                epochs=lane.epochs + alive,
                state=jax.tree.map(keep, state, lane.state),
                curves=jax.tree.map(lambda c, m: c.at[i].set(m), lane.curves, metrics),
            )

        return jax.lax.fori_loop(0, epochs, body, lane)

    def advance(lanes, data, epochs):
        def block(i, lanes):
            """Some lanes at a time, in place: the stacked states exist once."""
            if layout.block == 1:
                take = lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False)
                put = lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0)
                several = one
            else:
                first, size = i * layout.block, layout.block
                take = lambda a: jax.lax.dynamic_slice_in_dim(a, first, size)
                put = lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, 0)
                several = jax.vmap(one, (0, None, None))
            now = jax.tree.map(take, lanes)
            # where lanes run one by one, a branch is a branch: one that stopped costs nothing
            now = jax.lax.cond(
                now.alive.any(), lambda now: several(now, data, epochs), lambda now: now, now
            )
            return jax.tree.map(put, lanes, now)

        return jax.lax.fori_loop(0, layout.lanes // layout.block, block, lanes)

    return _on_every_device(layout, advance, (True, False, False))(lanes, data, epochs)


def _epoch(trainable: Trainable, state, data):
    """One epoch, and the metrics on both parts of the data after it."""
    training, validation = data
    state, _ = trainable.epoch(state, training)
    measured = (trainable.evaluate(state, training), trainable.evaluate(state, validation))
    metrics = dict(zip(PARTS, measured, strict=True))
    for name, value in _named(metrics["validation"]):
        if jnp.shape(value) != ():
            raise ValueError(
                f"sweep: the metric {name!r} of `evaluate` has shape {jnp.shape(value)}, but a "
                "scalar is expected; take its mean."
            )
    return state, jax.tree.map(lambda m: jnp.asarray(m, jnp.result_type(float)), metrics)


def _named(metrics):
    if not isinstance(metrics, dict) or not metrics:
        raise TypeError(
            f"sweep: `evaluate` gave {metrics!r}, but a dict of scalars such as "
            '{"loss": ..., "accuracy": ...} is expected.'
        )
    return metrics.items()


def _all_finite(tree):
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(a).all() for a in floats]).all()


def _on_every_device(layout: Layout, f, split):
    """f on each device's own lanes, with nothing communicated; `split` marks which arguments are
    divided over the devices."""
    if len(layout.devices) == 1:
        return f
    specs = tuple(P("trials") if s else P() for s in split)
    # each device's lanes are its own business, so there is no variance over the mesh to check
    return jax.shard_map(
        f, mesh=_mesh(layout), in_specs=specs, out_specs=P("trials"), check_vma=False
    )


def _mesh(layout: Layout) -> Mesh:
    return Mesh(np.array(layout.devices), ("trials",))


def _sharding(layout: Layout, split: bool):
    return NamedSharding(_mesh(layout), P("trials") if split else P())


def place(layout: Layout, tree, split: bool = False):
    """Arrays on the devices: a lane's rows where the lane is, everything else everywhere."""
    return jax.device_put(tree, _sharding(layout, split))
