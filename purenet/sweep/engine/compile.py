"""Compiling a group's programs in the background."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.core.types import Key, PyTree
from purenet.sweep.engine.layout import place, sharding, shrink
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

# A trial starts once and trains for many epochs. At this LLVM level, weight initialisation compiles
# in half the time, runs 5% longer and rounds the same.
_QUICKLY = {"xla_backend_optimization_level": 1}


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


class Compilation:
    """A group's programs while they compile in the background.

    Under `jax_disable_jit` nothing is compiled: operations run eagerly, on concrete numbers.
    """

    @quarantined
    def __init__(self, program: Program, numbers: tuple, key: Key, data: PyTree | LaneChunk):
        """Trace now; compile in threads, since the compiler releases the GIL. For streamed data,
        `data` is a chunk, by shapes and dtypes."""
        began = time.perf_counter()
        layout = program.layout

        here = sharding(layout, split=True)
        wide = lambda shape, dtype: jax.ShapeDtypeStruct(
            (layout.width, *shape), dtype, sharding=here
        )
        state = [wide(leaf.shape, leaf.dtype) for leaf in program.leaves]
        each = tuple(wide(np.shape(a), a.dtype) for a in numbers)
        integer, flag = wide((), np.int32), wide((), bool)
        lanes = Lanes(each, integer, flag, flag, integer, state)  # type: ignore[arg-type]
        seats = LaneAssignment(lanes.epochs, lanes.epochs, lanes.epochs, lanes.numbers)
        self._tracing, self._eager = 0.0, jax.config.jax_disable_jit  # type: ignore[attr-defined]
        self._again = lambda program: Compilation(program, numbers, key, data)
        self._program, self._lanes = program, lanes
        if self._eager:
            return
        start = start_program(program).lower(lanes, place(layout, key), seats, lanes.alive)
        advance = self._advance_of(program).lower(*self._arguments(lanes, data))
        compilers = ThreadPoolExecutor(2)
        quickly = _QUICKLY if layout.devices[0].platform == "cpu" else None
        self._start = compilers.submit(_timed, lambda: start.compile(quickly))
        self._advance = compilers.submit(_timed, advance.compile)
        compilers.shutdown(wait=False)
        self._tracing = time.perf_counter() - began

    @staticmethod
    def _advance_of(program: Program) -> Any:
        return (advance_program if program.stream is None else chunk_program)(program)

    def _arguments(self, lanes: Lanes, data: PyTree | LaneChunk) -> tuple:
        layout = self._program.layout
        if not isinstance(data, LaneChunk):
            return lanes, place(layout, data), lanes.epochs
        here = sharding(layout, split=False)
        shape = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here)
        return lanes, jax.tree.map(shape, data), lanes.alive

    def result(self) -> Compiled:
        """The programs, with fewer lanes if that many would not fit in memory."""
        layout = self._program.layout
        lane = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(self._lanes)) // layout.width
        # while trials change lanes, their states exist twice
        needed, each = lane * layout.lanes, 2 * lane
        if self._eager:
            start, advance = start_program(self._program), self._advance_of(self._program)
            return Compiled(self._program, self._lanes, start, advance, 0.0, needed, each)
        (advance, took), (start, _) = self._advance.result(), self._start.result()
        if usage := advance.memory_analysis():
            needed += usage.argument_size_in_bytes + usage.temp_size_in_bytes
            if layout.block > 1:
                each += usage.temp_size_in_bytes // layout.block
        smaller = shrink(layout)
        if needed > memory(layout.devices[0]) and smaller is not None:
            return self._again(self._program._replace(layout=smaller)).result()
        seconds = self._tracing + took
        return Compiled(self._program, self._lanes, start, advance, seconds, needed, each)


def _timed(f):
    began = time.perf_counter()
    return f(), time.perf_counter() - began
