"""Values of any kind on one axis: each gets a position in 0..1, and the axis its ticks.

Numbers lie on a linear or a logarithmic axis, categories (strings, functions, tuples, booleans) at
even distances, and numbers that are not finite beyond the ends of the others.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from purenet.core.validate import real_numbers, require
from purenet.plots import style

_FEW = 6  # up to this many distinct numbers get a tick each
_LABEL = 16  # characters of a tick


@dataclasses.dataclass(frozen=True)
class Scale:
    """The positions `at` (n,) of n values in 0..1, and what is needed to draw the axis.

    >>> Scale("rate", np.array([0.0, 1.0]), numbers=np.array([1.0, 3.0])).distance
    0.0
    """

    name: str
    at: np.ndarray
    marks: tuple[tuple[float, str], ...] = ()  # categories, and what is not finite
    numbers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))  # sorted, distinct
    log: bool = False
    span: tuple[float, float] = (0, 1)  # positions of the smallest and the largest number

    @property
    def distance(self) -> float:
        """Between two categories; 0 where the values are numbers."""
        return 0.0 if self.numbers.size or len(self.marks) < 2 else 1 / (len(self.marks) - 1)

    def ticks(self, most: int = 5) -> tuple[list[float], list[str]]:
        """Positions and labels of about `most` ticks, or a few more for categories.

        >>> scale("rate", np.array([1e-4, 1e-3, 1e-1]), log=True).ticks(4)[1]
        ['1e-4', '1e-3', '0.1']
        """
        if not self.numbers.size:
            every = -(-len(self.marks) // max(10, most))
            marks = self.marks[::every]
        else:
            values = self._tick_values(most)
            places = self._places(values)
            labels = _labels(values, self.log)
            marks = tuple(sorted([*zip(places.tolist(), labels, strict=True), *self.marks]))
        return [place for place, _ in marks], [label for _, label in marks]

    def _places(self, values: np.ndarray) -> np.ndarray:
        low, high = self.span  # equal if there is only one number
        return low + (high - low) * _unit(values, self.numbers[0], self.numbers[-1], self.log)

    def _tick_values(self, most: int) -> np.ndarray:
        low, high = self.numbers[0], self.numbers[-1]
        few = self.numbers
        if len(few) <= _FEW and (np.diff(self._places(few)) > 0.8 / most).all():
            return few
        if self.log:
            first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
            if last > first:
                return 10.0 ** np.arange(first, last + 1, -(-(last - first + 1) // most))
            values = np.array([m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)])
            inside = values[(values >= low) & (values <= high)]
            if len(inside) > 1:
                return inside
        return _round_values(low, high, most, bool((few == np.rint(few)).all()))


def scale(name: str, values: Any, log: bool = False, caller: str = "scale") -> Scale:
    """The scale of a column (n,) of numbers, or of any other values as categories.

    Raises ValueError for any other shape, or for a value that a logarithmic axis cannot show;
    TypeError unless `values` is a list.

    >>> scale("net", ["tanh", "relu", "tanh"]).at
    array([1., 0., 1.])
    """
    column = style.a_list(caller, f"the column {name!r}", values, "values")
    shape = values.shape if isinstance(values, np.ndarray) else (len(column),)
    style.check_shape(caller, f"the column {name!r} has", shape, len(shape) == 1, "(n,)")
    others = [v for v in column if not _is_number(v)]
    held = f"{caller}: the column {name!r} has a log axis, but holds"
    if others:
        require(not log, f"{held} {_text(others[0])!r}; leave it out of `log`.")
        return _categories(name, column)
    x = real_numbers(caller, f"the column {name!r}", column)
    finite = np.isfinite(x)
    least = x[finite].min(initial=np.inf)
    require(not log or least > 0, f"{held} {least:g}; only numbers above 0 have a logarithm.")
    return _numbers(name, x, finite, log)


def _numbers(name, x, finite, log) -> Scale:
    numbers = np.unique(x[finite])
    at = np.full(x.shape, 0.5)
    if numbers.size:
        at[finite] = _unit(x[finite], numbers[0], numbers[-1], log)
    # those that are not finite lie a tenth beyond the ends
    where = {
        "inf": (np.isposinf(x), 1.1),
        "-inf": (np.isneginf(x), -0.1),
        "nan": (np.isnan(x), -0.2 if np.isneginf(x).any() else -0.1),
    }
    for chosen, place in where.values():
        at[chosen] = place
    low, high = min(at.min(), 0), max(at.max(), 1)
    unit = lambda place: (place - low) / (high - low)
    marks = [(unit(place), label) for label, (chosen, place) in where.items() if chosen.any()]
    ends = (0.5, 0.5) if numbers.size == 1 else (0, 1)
    return Scale(name, unit(at), tuple(sorted(marks)), numbers, log, (unit(ends[0]), unit(ends[1])))


def _categories(name, column) -> Scale:
    def key(value):
        try:
            hash(value)
        except TypeError:
            return _text(value), ""
        return _text(value), value

    distinct = {key(v): v for v in column}
    try:
        order = sorted(distinct, key=lambda k: distinct[k])
    except (TypeError, ValueError):
        order = sorted(distinct, key=lambda k: k[0])
    place = {k: i / (len(order) - 1) if len(order) > 1 else 0.5 for i, k in enumerate(order)}
    marks = tuple((place[k], style.shorten(" ".join(k[0].split()), _LABEL)) for k in order)
    return Scale(name, np.array([place[key(v)] for v in column]), marks)


def _is_number(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return False
    return isinstance(value, (int, float, np.number)) or (
        getattr(value, "shape", None) == () and np.issubdtype(value.dtype, np.number)
    )


def _unit(x: np.ndarray, low: float, high: float, log: bool) -> np.ndarray:
    if log:
        x, low, high = np.log10(x), math.log10(low), math.log10(high)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # constant, up to rounding
        return np.full(np.shape(x), 0.5)
    return (x - low) / (high - low)


def _round_values(low: float, high: float, most: int, whole: bool) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    values = np.array(MaxNLocator(most, steps=steps, integer=whole).tick_values(low, high))
    inside = values[(values >= low) & (values <= high)]
    return inside if len(inside) else np.array([low, high])


def _labels(values: np.ndarray, log: bool) -> list[str]:
    gaps = np.diff(values)
    least = gaps.min() if not log and gaps.size and gaps.min() > 0 else 0
    digits = 3
    if least:  # as many digits as tell neighbours apart
        digits = max(3, math.ceil(math.log10(np.abs(values).max() / least)) + 1)
    return [_number(v, min(digits, 12), log) for v in values]


def _number(value: float, digits: int, log: bool) -> str:
    text = f"{value:.{digits}g}"
    if log and value < 1e-2 and "e" not in text:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
    # 1e-05 as 1e-5
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _text(value: Any) -> str:
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return str(value)
