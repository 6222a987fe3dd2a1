"""Compiling a group's programs in the background."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.types import Key, PyTree
from purenet.sweep.engine.describe import abstract
from purenet.sweep.engine.layout import (
    Layout,
    fewer_lanes,
    sharding,
    shrink,
    small_layouts,
)
from purenet.sweep.engine.memory import memory
from purenet.sweep.engine.program import (
    LaneAssignment,
    Lanes,
    Program,
    advance_program,
    quarantined,
    start_program,
)
from purenet.sweep.engine.streamed import chunk_program
from purenet.sweep.engine.streaming import LaneChunk

_LEVEL = "xla_backend_optimization_level"


def _options(platform: str) -> dict[str, int]:
    """Those of the compiler. On a CPU, that is LLVM's first level of optimization: programs compile
    in 0.5 to 0.75 of the time of the third, and lanes train as fast, within 2%. A level in
    XLA_FLAGS is the user's choice."""
    chosen = _LEVEL in os.environ.get("XLA_FLAGS", "")
    return {_LEVEL: 1} if platform == "cpu" and not chosen else {}


class Compiled(NamedTuple):
    """The compiled programs of one static group, and what they cost."""

    program: Program
    shapes: Lanes  # of all lanes
    start: Callable  # (lanes, key, seats, fresh) -> lanes, with new trials in the fresh ones
    # (lanes, data, epochs) -> lanes, curves, with the `epochs` of each lane; of streamed data
    # (lanes, chunk, active) -> lanes, an array that is there once they are trained
    advance: Callable
    seconds: float  # of tracing and compiling; almost 0 for a program already in memory
    bytes: int  # on one device: arguments and temporaries together
    bytes_per_trial: int  # of these, those that one more lane would need


def lane_shapes(program: Program, numbers: tuple) -> Lanes:
    """The lanes of a program, by shapes, dtypes and places. `numbers` are those of any trial."""
    layout = program.layout
    here = sharding(layout, split=True)
    wide = lambda shape, dtype: jax.ShapeDtypeStruct((layout.width, *shape), dtype, sharding=here)
    state: list = [wide(a.shape, a.dtype) for a in program.packing.shapes]
    each = tuple(wide(np.shape(a), a.dtype) for a in numbers)
    integer: Any = wide((), np.int32)
    flag: Any = wide((), bool)
    return Lanes(each, integer, flag, flag, integer, state)


def program_arguments(
    program: Program, numbers: tuple, key: Key, data: PyTree | LaneChunk
) -> tuple[tuple, tuple]:
    """The arguments of the program that starts lanes and of that which trains them, by shapes,
    dtypes and places: nothing has to be on a device, nor need the devices exist."""
    lanes = lane_shapes(program, numbers)
    here = sharding(program.layout, split=False)
    like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here)
    replicated = lambda tree: jax.tree.map(like, tree)
    seats = LaneAssignment(lanes.epochs, lanes.epochs, lanes.epochs, lanes.numbers)
    goals = lanes.epochs if program.stream is None else lanes.alive
    data = replicated(data if isinstance(data, LaneChunk) else abstract(data))
    return (lanes, replicated(key), seats, lanes.alive), (lanes, data, goals)


def training_program(program: Program) -> Any:
    """The program that trains the lanes."""
    return (advance_program if program.stream is None else chunk_program)(program)


class Compilation:
    """A group's programs while they compile in the background.

    Under `jax_disable_jit` nothing is compiled: operations run eagerly, on concrete numbers.
    """

    @quarantined
    def __init__(
        self,
        program: Program,
        numbers: tuple,
        key: Key,
        data: PyTree | LaneChunk,
        estimated: bool = False,
    ):
        """Trace now; compile in threads, since the compiler releases the GIL. For streamed data,
        `data` is a chunk, by shapes and dtypes. `estimated`: the lanes are those that should fit in
        memory."""
        self._began = time.perf_counter()
        self._eager = jax.config.jax_disable_jit  # type: ignore[attr-defined]
        self._again = lambda layout, estimated=True: Compilation(
            program._replace(layout=layout), numbers, key, data, estimated
        )
        self._program, self._lanes = program, lane_shapes(program, numbers)
        self._estimated = estimated
        if self._eager:
            return
        starting, advancing = program_arguments(program, numbers, key, data)
        options = _options(program.layout.devices[0].platform)
        compilers = ThreadPoolExecutor(2)
        # the longer one first: it compiles while the other is traced
        lowered = training_program(program).lower(*advancing)
        self._advance = compilers.submit(_measured, lowered, options)
        self._start = compilers.submit(start_program(program).lower(*starting).compile, options)
        compilers.shutdown(wait=False)

    def result(self) -> Compiled:
        """The programs, with fewer lanes if that many would not fit in memory.

        Raises the compiler's error if not even the fewest do.
        """
        layout = self._program.layout
        room = memory(layout.devices[0])
        made = self._made()
        if isinstance(made, Compiled) and (self._eager or made.bytes <= room):
            return made
        fewer = shrink(layout) if self._estimated else self._fitting(room)
        if fewer is not None:
            return self._again(fewer).result()
        if isinstance(made, Compiled):
            return made
        made.add_note(
            "sweep: not even a few lanes fit in the memory of a device; train on smaller "
            "minibatches, or with microbatches= or remat."
        )
        raise made

    def _fitting(self, room: float) -> Layout | None:
        """Fewer lanes: as many as should fit, by what two small programs need."""
        layout = self._program.layout
        pair = small_layouts(layout)
        if pair is None:
            return shrink(layout)
        both = [self._again(small, True) for small in pair]  # they compile at the same time
        one, two = (each._made() for each in both)
        if not isinstance(one, Compiled) or not isinstance(two, Compiled):
            return pair[0]
        return fewer_lanes(layout, room, (one.bytes, two.bytes), 2 * self._lane)

    @property
    def _lane(self) -> int:
        """Bytes of one lane."""
        leaves = jax.tree.leaves(self._lanes)
        return sum(a.size * a.dtype.itemsize for a in leaves) // self._program.layout.width

    def _made(self) -> "Compiled | jax.errors.JaxRuntimeError":
        """The programs with these lanes; the compiler's error if it runs out of memory."""
        layout, lane = self._program.layout, self._lane
        # while trials change lanes, their states exist twice
        needed, each = lane * layout.lanes, 2 * lane
        if self._eager:
            start, advance = start_program(self._program), training_program(self._program)
            return Compiled(self._program, self._lanes, start, advance, 0.0, needed, each)
        try:
            (advance, usage, then), start = self._advance.result(), self._start.result()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return error
        if usage:
            needed += usage.argument_size_in_bytes + usage.temp_size_in_bytes
            if layout.block > 1:
                each += usage.temp_size_in_bytes // layout.block
        took = then - self._began
        return Compiled(self._program, self._lanes, start, advance, took, needed, each)


def _measured(lowered, options):
    """The program, the memory that it needs, and when it was compiled."""
    program, then = lowered.compile(options), time.perf_counter()
    return program, program.memory_analysis(), then
