"""plan: measure in advance how a sweep would run, and how long it would take."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.compile import Compilation
from purenet.sweep.engine.folds import first_examples
from purenet.sweep.engine.layout import Layout, layout, place, random_key
from purenet.sweep.engine.memory import memory
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.program import LaneAssignment, Program
from purenet.sweep.engine.stream_pool import StreamPool, feeds_of
from purenet.sweep.engine.streaming import StreamedParts
from purenet.sweep.options import SweepOptions, with_options
from purenet.sweep.space.points import numbers

_SHOWN = 2  # programs of a plan at a prompt
_EXAMPLES = 2000  # of each part of the data, at most, are used to measure
_CLEARLY = 1.05  # repeated measurements differ by less
_SECONDS = 0.2  # of training are enough to measure one strategy
_BLOCKS = {"cpu": (1, 4, 16, 64)}  # lanes vmapped together, in the order of their compile time
_WIDE_BLOCKS = (256, 64, 1024, 1)


class GroupPlan(NamedTuple):
    """How the trials of one static group will run.

    >>> "trials" in GroupPlan._fields
    True
    """

    static: dict[str, str]
    trials: int
    layout: Layout
    bytes_per_trial: int
    fits: int  # trials that fit in memory at once
    chunks: int  # turns that it takes until all of them have had a lane
    measured: dict[str, float]  # strategy -> seconds per trial-epoch
    compile_seconds: float
    seconds: float  # predicted, without compilation


class Plan(NamedTuple):
    """The result of `sweep.plan`; `run(..., plan=...)` follows it. Prints as a table.

    >>> print(Plan((), 0, 0.0))
    0 program(s), 0 trial-epochs, 0 s predicted
    """

    groups: tuple[GroupPlan, ...]
    trial_epochs: int
    seconds: float  # predicted for the whole sweep, including compilation

    def layout(self, static: dict[str, str]) -> Layout | None:
        """The layout of the group with these static values, None if it was not planned."""
        return next((group.layout for group in self.groups if group.static == static), None)

    def summary(self) -> dict[str, Any]:
        """The plan as plain values, for files."""
        groups = [g._asdict() | {"layout": str(g.layout)} for g in self.groups]
        return {"seconds": self.seconds, "trial_epochs": self.trial_epochs, "groups": groups}

    def __repr__(self):
        """As it prints, but with only the first two of many programs."""
        return self._text(_SHOWN)

    def __str__(self):
        return self._text(len(self.groups))

    def _text(self, shown: int) -> str:
        lines = []
        for g in self.groups[:shown]:
            named = ", ".join(f"{name} {value}" for name, value in g.static.items())
            lines += [
                f"{g.trials} trials{f' ({named})' if named else ''}: {g.layout.strategy}, "
                f"{g.layout}",
                f"  {g.bytes_per_trial / 2**20:.3g} MiB a trial, {g.fits} fit at once, "
                f"{g.chunks} chunk(s)",
                "  ms per trial-epoch: "
                + ", ".join(f"{name} {1e3 * s:.3g}" for name, s in g.measured.items()),
            ]
        if more := len(self.groups[shown:]):
            lines.append(f"... and {more} program(s) more")
        lines.append(
            f"{len(self.groups)} program(s), {self.trial_epochs} trial-epochs, "
            f"{self.seconds:.3g} s predicted"
        )
        return "\n".join(lines)


@with_options
def plan(
    trial: Callable,
    space: PyTree,
    data: PyTree,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    **options: Unpack[SweepOptions],
) -> Plan:
    """How `run` with the same arguments would go: programs, memory, strategy and time.

    The strategies are lanes that run one after the other (a loop inside the program), blocks of
    lanes that are vmapped, or all lanes of a device vmapped. For the first group, each is compiled
    and measured briefly on at most 2,000 examples; the other groups use the fastest. Streamed data
    is predicted to take as long as reading it, if that is longer.
    `run(..., plan=plan)` follows the plan. Another strategy may round the last bits differently.
    Raises what `run` raises for bad arguments, including a missing number of `epochs`.

    >>> import purenet as pn
    >>> from purenet import sweep
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> def trial(hyper):
    ...     return pn.supervised(net=pn.mlp(), sizes=(4, 2), optimizer=pn.sgd(hyper["rate"]),
    ...                          loss=pn.softmax_cross_entropy, batch_size=2)
    >>> space = {"rate": sweep.loguniform(1e-3, 1.0)}
    >>> found = sweep.plan(trial, space, ((x, t), (x, t)), trials=2, epochs=3)
    >>> len(found.groups), found.trial_epochs
    (1, 6)
    """
    request = SweepConfig(trial, space, data, trials, epochs, seed, **options)
    trial_epochs = request.search.budget(request.trials, request.epochs) * request.shape.runs
    count = np.bincount(request.start.points.group, minlength=len(request.programs))
    count *= request.shape.runs
    groups: list[GroupPlan] = []
    platform = request.devices[0].platform
    reading = _seconds_to_read(request.data)
    for g, program in enumerate(request.programs):
        lanes = math.ceil(count[g] / len(program.layout.devices))
        if groups:
            blocks = (groups[0].layout.block,)
        else:
            blocks = tuple(
                dict.fromkeys(min(b, lanes) for b in _BLOCKS.get(platform, _WIDE_BLOCKS))
            )
        tried = [_measure(request, g, program, block) for block in blocks]
        measured = {
            _called(block, lanes): m.seconds for block, m in zip(blocks, tried, strict=True)
        }
        # the first, which is the simplest, unless another is clearly faster
        fastest = min(tried, key=lambda m: m.seconds).seconds
        best = next(i for i, m in enumerate(tried) if m.seconds <= _CLEARLY * fastest)
        chosen = tried[best]
        where = layout(int(count[g]), request.devices, blocks[best])
        fits = max(1, int(chosen.room // chosen.each))
        if fits < where.lanes:
            block = min(where.block, fits)
            lanes = fits // block * block
            where = Layout(where.devices, max(2, lanes) if block == 1 else lanes, block)
        turns = math.ceil(count[g] / where.width)
        share = trial_epochs * count[g] / count.sum()
        groups.append(
            GroupPlan(
                request.static(request.start.points.groups[g]),
                int(count[g]),
                where,
                int(chosen.each),
                min(fits * len(where.devices), 10**9),
                turns,
                measured,
                chosen.compile_seconds,
                max(float(share * chosen.seconds), turns * request.epochs * reading),
            )
        )
    total = sum(group.compile_seconds + group.seconds for group in groups)
    return Plan(tuple(groups), int(trial_epochs), float(total))


def _seconds_to_read(data: Any) -> float:
    """For an epoch of streamed data, as fast as its first examples are read."""
    if not isinstance(data, StreamedParts):
        return 0.0
    began, few = time.perf_counter(), data.train.in_memory(_EXAMPLES)
    assert few.examples is not None
    whole = jax.tree.leaves(data.train.like_arrays())[0].shape[0]
    return (time.perf_counter() - began) * whole / few.examples


class _Measured(NamedTuple):
    seconds: float  # per trial-epoch, with all devices at work
    compile_seconds: float
    each: float  # bytes for one more lane
    room: float  # bytes that lanes may take on one device


def _measure(request: SweepConfig, g: int, program: Program, block: int) -> _Measured:
    """Train a few lanes of a group briefly."""
    members = np.flatnonzero(request.start.points.group == g)
    devices = program.layout.devices
    lanes = max(2, block)
    where = Layout(devices, lanes, block)
    one = numbers(request.space, request.start.points, members[0])
    few = _few(request, program._replace(layout=where), one)
    with contextlib.closing(few.pool):
        rates = _rates(request, few.pool, members)
    compiled = few.pool.compiled
    fixed = compiled.bytes - compiled.bytes_per_trial * compiled.program.layout.lanes + few.more
    # the very first call also warms up
    per = float(np.median(rates[1:] or rates or [0.0]))
    room = memory(devices[0]) - fixed
    return _Measured(per * few.scale, compiled.seconds, compiled.bytes_per_trial, room)


class _Few(NamedTuple):
    pool: LanePool  # on few examples
    scale: float  # by which there are more
    more: int  # bytes that they take on a device


def _few(request: SweepConfig, program: Program, one: tuple) -> _Few:
    key, whole, bytes_of = random_key(request.seed), request.data, _bytes_of
    if not isinstance(whole, StreamedParts):
        few, scale = first_examples(whole, _EXAMPLES)
        data = place(program.layout, few)
        compiled = Compilation(program, one, key, data).result()
        return _Few(LanePool(compiled, key, data), scale, bytes_of(whole) - bytes_of(few))
    stream = program.stream
    assert stream is not None
    size = stream.size
    part = whole.few(max(_EXAMPLES, size))
    steps = part.steps(size)
    shape = stream._replace(steps=steps, minibatches=(steps,), output=None)
    chunk = part.like_chunk(size)
    compiled = Compilation(program._replace(stream=shape), one, key, chunk).result()
    pool = StreamPool(compiled, key, part.held, feeds_of(part, size, 2**31, key))
    # one chunk is trained on while the next is placed
    more = 2 * bytes_of(whole.like_chunk(size)) - bytes_of(chunk)
    more += bytes_of(whole.held) - bytes_of(part.held)
    return _Few(pool, whole.count() / part.count(), more)


def _bytes_of(data: PyTree) -> int:
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(data))


def _rates(request: SweepConfig, pool: LanePool, members: np.ndarray) -> list[float]:
    """Seconds per trial-epoch, several times."""
    width = pool.layout.width
    points = np.resize(members, width)
    seeds, drawn = np.arange(width), numbers(request.space, request.start.points, points)
    pool.add(LaneAssignment(points, seeds, np.zeros(width, int), drawn))
    rates: list[float] = []
    everything, epochs, spent = np.ones(width, bool), 0, 0.0
    while len(rates) < 4 or spent < _SECONDS:
        before, began = pool.epochs.sum(), time.perf_counter()
        epochs += 1 if len(rates) < 2 else 2
        for _ in pool.train(np.full(width, epochs), everything):
            pass
        seconds = time.perf_counter() - began
        trained = pool.epochs.sum() - before
        if not trained:  # every lane diverged, so this says nothing about the speed
            break
        rates.append(seconds / trained)
        spent += seconds
    return rates


def _called(block: int, lanes: int) -> str:
    return "loop" if block == 1 else "vmap" if block == lanes else f"blocks of {block}"
