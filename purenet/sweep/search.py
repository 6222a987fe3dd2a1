"""run: many trials of one training, from a space to a result."""

import time
from collections.abc import Callable

import jax
import numpy as np

from purenet.checks import whole
from purenet.progress import Progress
from purenet.sweep import engine
from purenet.sweep.plan import chosen_devices, layout
from purenet.sweep.result import ProgramRecord, Result, Run
from purenet.sweep.space import TRACED, named_leaves, random, sample
from purenet.types import PyTree

_RESERVED = ("trial", "status", "epochs")


def run(
    trial: Callable,
    space: PyTree,
    data: PyTree,
    trials: int | None = None,
    epochs: int = 1,
    seed: int = 0,
    *,
    search: Callable = random,
    metric: str | None = None,
    mode: str | None = None,
    devices=None,
    progress: bool | None = None,
) -> Result:
    """Train many trials in one program a static group, and rank them.

    `trial(hyper)` makes a `Trainable` from one point of `space`, whose numbers arrive traced.
    `data` is (train, validation), each a pytree of arrays with the examples on the leading axis:
    `epoch` gets the first, `evaluate` is run on both after every epoch. Trial i depends on the seed
    and on i alone. `search` samples the space: `random`, `sobol` or `grid(points)`.
    Trials are ranked by `metric` on the validation data after the last epoch: by itself "accuracy"
    where there is one, else "loss"; `mode` "max" or "min" is needed for any other.
    `devices` are those to use, or how many: by itself all local ones. `progress` shows a bar
    (by itself: when standard error is a terminal).

    A trial that becomes non-finite is frozen, marked "diverged" and never selected.
    Raises TypeError or ValueError for bad arguments, before anything is compiled.

    >>> import purenet as pn
    >>> from purenet import sweep
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> def trial(hyper):
    ...     return pn.supervised(net=pn.mlp(), sizes=(4, 8, 2), optimizer=pn.sgd(hyper["rate"]),
    ...                          loss=pn.softmax_cross_entropy, batch_size=2)
    >>> space = {"rate": sweep.loguniform(1e-3, 1.0)}
    >>> result = sweep.run(trial, space, ((x, t), (x, t)), trials=5, epochs=3, seed=0)
    >>> result.curves["validation"]["accuracy"].shape
    (5, 3)
    """
    began = time.perf_counter()
    if not callable(trial):
        raise TypeError(f"sweep: trial is {trial!r}, but a function of one point is expected.")
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        raise ValueError("sweep: data should be a pair (train, validation).")
    trials = None if trials is None else whole("sweep: trials", trials, least=1)
    epochs = whole("sweep: epochs", epochs, least=1)
    seed = whole("sweep: seed", seed, least=0)
    chosen = chosen_devices(devices)
    points = sample(space, search, trials, seed)
    for name in points.columns:
        if name in _RESERVED:
            raise ValueError(f"sweep: a hyperparameter cannot be called {name!r}; rename it.")
    data = tuple(jax.tree.map(np.asarray, part) for part in data)
    programs = [
        engine.describe(trial, points, group, layout(len(group.trials), chosen), data)
        for group in points.groups
    ]
    names = [set(program.metrics) for program in programs]
    metric, largest = _objective(names, metric, mode)
    key = jax.random.key(seed)

    completed, alive = np.zeros(points.trials, int), np.ones(points.trials, bool)
    blank = lambda: np.full((points.trials, epochs), np.nan, jax.dtypes.canonicalize_dtype(float))
    curves = {part: {n: blank() for n in sorted(set().union(*names))} for part in engine.PARTS}
    records: list[ProgramRecord] = []
    where: dict[int, tuple] = {}  # trial -> its programs, its group, its row there
    with Progress(points.trials * epochs, "trial-epoch", show=progress) as bar:
        for program, group in zip(programs, points.groups, strict=True):
            compiled = engine.compile_group(program, group, key, data)
            records.append(_record(space, group, compiled))
            where |= {
                int(number): (compiled, group, row) for row, number in enumerate(group.trials)
            }
            width = compiled.program.layout.width
            for first in range(0, len(group.trials), width):
                rows = slice(first, first + width)
                seats, numbers, before = engine.seat(group, width, rows), group.trials[rows], 0
                for outcome in engine.train(compiled, key, seats, data, epochs):
                    completed[numbers], alive[numbers] = outcome.epochs, outcome.alive
                    for part, metrics in outcome.curves.items():
                        for name, curve in metrics.items():
                            curves[part][name][numbers] = curve
                    bar.advance(
                        (outcome.done - before) * len(numbers),
                        _standing(curves["validation"][metric], completed, alive, metric, largest),
                    )
                    before = outcome.done
                if before < epochs:  # every lane stopped early
                    bar.advance((epochs - before) * len(numbers), {"alive": "0"})

    def again(number: int) -> Run:
        compiled, group, row = where[number]
        seats = engine.seat(group, compiled.program.layout.width, slice(row, row + 1))
        *_, last = engine.train(compiled, key, seats, data, epochs)
        first = lambda tree: jax.tree.map(lambda a: a[0], tree)
        return Run(first(last.state), first(last.curves))

    return Result(
        hyper=points.columns,
        status=np.where(alive, "done", "diverged"),
        epochs=completed,
        curves=curves,
        metric=metric,
        largest=largest,
        settings={
            "trials": points.trials,
            "epochs": epochs,
            "seed": seed,
            "space": {name: repr(leaf) for name, leaf in named_leaves(space)},
            "metric": metric,
            "mode": "max" if largest else "min",
        },
        programs=tuple(records),
        seconds=time.perf_counter() - began,
        _again=again,
    )


def _objective(names: list[set[str]], metric: str | None, mode: str | None) -> tuple[str, bool]:
    """What trials are ranked by, and whether the largest is best."""
    common = set.intersection(*names)
    usual = {"accuracy": "max", "loss": "min"}
    if metric is None:
        metric = next((name for name in usual if name in common), None)
    if metric not in common:
        raise ValueError(
            f"sweep: `evaluate` gives the metrics {sorted(common)}, and {metric!r} is not one of "
            "them; name one with metric=."
        )
    mode = usual.get(metric) if mode is None else mode
    if mode not in ("max", "min"):
        raise ValueError(
            f'sweep: mode is {mode!r}; say with mode="max" or mode="min" whether a large '
            f"or a small {metric} is good."
        )
    return metric, mode == "max"


def _standing(curve, completed, alive, metric, largest) -> dict[str, str]:
    """The progress bar's words: the best latest score of the trials alive, and their number."""
    begun = np.flatnonzero(alive & (completed > 0))
    latest = curve[begun, completed[begun] - 1]
    counts = {"alive": f"{alive.sum()}/{len(alive)}"}
    if not latest.size:
        return counts
    return {f"best val {metric}": f"{latest.max() if largest else latest.min():.4g}"} | counts


def _record(space, group, compiled) -> ProgramRecord:
    static = {
        name: str(getattr(value, "__name__", value))
        for (name, _), value in zip(named_leaves(space), group.static, strict=True)
        if value is not TRACED
    }
    layout = str(compiled.program.layout)
    return ProgramRecord(static, len(group.trials), layout, compiled.seconds, compiled.bytes)
