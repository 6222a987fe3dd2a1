"""Distributions and constants as JSON, and back."""

import dataclasses
import re
from typing import Any

from purenet.core.json_text import plain
from purenet.core.tree import short
from purenet.sweep.space.distributions import (
    Branches,
    Choice,
    LogRandInt,
    LogUniform,
    Normal,
    RandInt,
    Uniform,
    lograndint,
    loguniform,
    normal,
    randint,
    uniform,
)
from purenet.sweep.space.padded import Padded, padded
from purenet.sweep.space.space import take_apart

_DISTRIBUTIONS: dict[str, Any] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "normal": Normal,
    "randint": RandInt,
    "lograndint": LogRandInt,
    "choice": Choice,
}
_CHECKED: dict[str, Any] = {
    "uniform": uniform, "loguniform": loguniform, "normal": normal, "randint": randint,
    "lograndint": lograndint,
}  # fmt: skip


def describe_leaf(leaf: Any) -> Any:
    """A distribution or a constant as JSON, the same in every process."""
    if isinstance(leaf, Branches):
        pairs = zip(leaf.values, leaf.branches, strict=True)
        return {"branches": [[label, _describe_branch(branch)] for label, branch in pairs]}
    if isinstance(leaf, Padded):
        return {"padded": [describe_leaf(leaf.distribution), list(leaf.to)]}
    for kind, of in _DISTRIBUTIONS.items():
        if isinstance(leaf, of):
            values = leaf.values if of is Choice else dataclasses.astuple(leaf)
            return {kind: [plain(value) for value in values]}
    value = plain(leaf)
    if isinstance(value, (int, float, str, bool, list, type(None))):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def distribution_of(described: Any, depth: int = 0) -> Any:
    """The distribution described, as far as text can tell: functions are their names, and a
    distribution of another library is text. Raises TypeError or ValueError for anything else."""
    if not isinstance(described, dict):
        if not is_value(described):
            raise ValueError("a value is expected")
        return described
    if len(described) != 1 or not isinstance(values := next(iter(described.values())), list):
        raise ValueError("a name of a distribution with a list is expected")
    (kind,) = described
    if kind == "branches" and depth < 32:
        return _branches_of(values, depth)
    if kind == "padded" and depth < 32:
        distribution, to = values
        return padded(distribution_of(distribution, depth + 1), to)
    if kind not in _DISTRIBUTIONS:
        raise ValueError(f"{short(kind)} is not a distribution")
    if kind != "choice":
        return _CHECKED[kind](*values)
    if not values or not is_value(values):
        raise ValueError("a choice has values")
    return Choice(tuple(values))


def _describe_branch(branch: dict) -> dict[str, Any]:
    return {name: describe_leaf(leaf) for name, leaf in take_apart(branch).top.items()}


def _branches_of(described: list, depth: int) -> Branches:
    """Raises what `distribution_of` raises."""
    pairs = [pair for pair in described if isinstance(pair, list) and len(pair) == 2]
    labels = [label for label, _ in pairs if isinstance(label, (str, int))]
    if not described or len({*labels}) != len(described):
        raise ValueError("branches are pairs of a unique label and what they hold")
    if not all(isinstance(branch, dict) for _, branch in pairs):
        raise ValueError("a branch is an object")
    branches = [
        {name: distribution_of(leaf, depth + 1) for name, leaf in branch.items()}
        for _, branch in pairs
    ]
    return Branches(tuple(labels), tuple(branches))


def is_value(content: Any, depth: int = 0) -> bool:
    """Whether JSON is a value of a hyperparameter: no object, and no deeply nested lists."""
    if isinstance(content, list):
        return depth < 32 and all(is_value(part, depth + 1) for part in content)
    return not isinstance(content, dict)
