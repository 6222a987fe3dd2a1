"""Which metric scores a training, and whether a large or a small one is good."""

from collections.abc import Collection
from typing import Any

from purenet.core.validate import describe_value

# the mode of the metrics that have one by their name; the first that is measured is the default
_USUAL = {"accuracy": "max", "loss": "min"}


def choose_metric(caller: str, names: Collection[str], metric: Any, mode: Any) -> tuple[str, bool]:
    """The metric, and whether large values of it are good, among the `names` of those measured.

    The default `metric` is the accuracy, or else the loss. The default `mode` is "max" for an
    accuracy and "min" for a loss; any other metric needs one.
    Raises TypeError for a metric that is not a name; ValueError for one that is not measured, for
    no metric where neither accuracy nor loss is measured, and for a mode other than "max" and
    "min".

    >>> choose_metric("fit", {"loss", "accuracy"}, None, None)
    ('accuracy', True)
    >>> choose_metric("fit", {"loss", "f1"}, "f1", "max")
    ('f1', True)
    """
    if not isinstance(metric, str | None):
        raise TypeError(
            f"{caller}: metric is {describe_value(metric)}, but the name of one is expected."
        )
    if metric is None:
        metric = next((name for name in _USUAL if name in names), None)
    if metric is None:
        raise ValueError(
            f"{caller}: `evaluate` returns the metrics {sorted(names)}, neither accuracy nor loss; "
            "say which one is the score with metric=."
        )
    if metric not in names:
        raise ValueError(
            f"{caller}: metric is {metric!r}, but `evaluate` returns {sorted(names)}; name one of "
            "them with metric=."
        )
    mode = _USUAL.get(metric) if mode is None else mode
    if not isinstance(mode, str) or mode not in ("max", "min"):
        raise ValueError(
            f'{caller}: mode is {describe_value(mode)}; say with mode="max" or mode="min" whether '
            f"a large or a small {metric} is good."
        )
    return metric, mode == "max"
