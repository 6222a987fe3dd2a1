"""The options that `run`, `plan` and `SweepConfig` share, declared once."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

import jax

from purenet.core.types import PyTree
from purenet.sweep.samplers.base import Sampler
from purenet.sweep.samplers.designs import random
from purenet.sweep.schedulers.base import Scheduler

F = TypeVar("F", bound=Callable)


class SweepOptions(TypedDict, total=False):
    """Options by name: which points to try and for how long, the seeds and folds of each, how to
    rank them and when to evaluate them, the devices to train them on, and the points to try first.

    >>> sorted(SweepOptions.__optional_keys__)[:4]
    ['devices', 'evaluate_every', 'folds', 'metric']
    """

    search: Scheduler | Sampler | Callable
    seeds: int
    folds: int | Sequence | None
    metric: str | None
    mode: str | None
    objectives: Mapping[str, Any] | None
    patience: int | None
    select: str | None
    evaluate_every: int
    devices: int | Sequence[jax.Device] | None
    points: Sequence[PyTree] | None


_DEFAULTS: SweepOptions = {
    "search": random, "seeds": 1, "folds": None, "metric": None, "mode": None, "objectives": None,
    "patience": None, "select": None, "evaluate_every": 1, "devices": None, "points": None,
}  # fmt: skip


def filled(options: Mapping[str, Any]) -> SweepOptions:
    """All options, with defaults for those not given. Raises TypeError for any other name.

    >>> filled({"seeds": 3})["mode"] is None
    True
    """
    for name in options:
        if name not in _DEFAULTS:
            raise TypeError(
                f"sweep: got an unexpected keyword argument {name!r}; the options are "
                f"{', '.join(_DEFAULTS)}, and those of the function called."
            )
    return {**_DEFAULTS, **options}  # type: ignore[typeddict-item]


def with_options(function: F) -> F:
    """Spell out the last parameter, `**options: Unpack[SweepOptions]`, for `help`.

    >>> @with_options
    ... def asked(trial, *, keep=1, **options): ...
    >>> list(inspect.signature(asked).parameters)[-3:]
    ['devices', 'points', 'keep']
    """
    signature, types = inspect.signature(function), get_type_hints(SweepOptions)
    *own, _ = signature.parameters.values()
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name]
        )
        for name, default in _DEFAULTS.items()
    ]
    before = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    after = own[len(before) :]
    vars(function)["__signature__"] = signature.replace(parameters=[*before, *shared, *after])
    return function
