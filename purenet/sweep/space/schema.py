"""Distributions and constants as JSON, and back."""

import dataclasses
import re
from typing import Any

from purenet.core.json_text import plain
from purenet.core.tree import short
from purenet.sweep.space.distributions import (
    Choice,
    LogUniform,
    Normal,
    RandInt,
    Uniform,
    loguniform,
    normal,
    randint,
    uniform,
)

_DISTRIBUTIONS: dict[str, Any] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "normal": Normal,
    "randint": RandInt,
    "choice": Choice,
}
_CHECKED: dict[str, Any] = {
    "uniform": uniform, "loguniform": loguniform, "normal": normal, "randint": randint,
}  # fmt: skip


def describe_leaf(leaf: Any) -> Any:
    """A distribution or a constant as JSON that says the same in every process."""
    for kind, of in _DISTRIBUTIONS.items():
        if isinstance(leaf, of):
            values = leaf.values if of is Choice else dataclasses.astuple(leaf)
            return {kind: [plain(value) for value in values]}
    value = plain(leaf)
    if isinstance(value, (int, float, str, bool, list, type(None))):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def distribution_of(described: Any) -> Any:
    """What was described, as far as text can tell: functions are their names, and a distribution
    of another library is text. Raises TypeError or ValueError for what describes none."""
    if not isinstance(described, dict):
        if not is_value(described):
            raise ValueError("a value is expected")
        return described
    if len(described) != 1 or not isinstance(values := next(iter(described.values())), list):
        raise ValueError("a name of a distribution with a list is expected")
    (kind,) = described
    if kind not in _DISTRIBUTIONS:
        raise ValueError(f"{short(kind)} is no distribution")
    if kind != "choice":
        return _CHECKED[kind](*values)
    if not values or not is_value(values):
        raise ValueError("a choice has values")
    return Choice(tuple(values))


def is_value(content: Any, depth: int = 0) -> bool:
    """Whether JSON stands for a hyperparameter: no object, and no deep nesting of lists."""
    if isinstance(content, list):
        return depth < 32 and all(is_value(part, depth + 1) for part in content)
    return not isinstance(content, dict)
