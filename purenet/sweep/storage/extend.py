"""Extending a sweep's folder with more trials or more epochs.

Its settings are rewritten, and record the size it had before. Files saved earlier have fewer rows
or fewer epochs, are padded when they are read, and do not count as finished, whatever their stamps
say.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.json_text import json_bytes
from purenet.core.tree import printable, short
from purenet.core.validate import is_integer
from purenet.sweep.schedulers.extending import Extends, Extent
from purenet.sweep.storage.reading import SETTINGS, Known

_EARLIER = "extended from"  # in the settings file: [trials, epochs] before each extension
_BLANK = {
    "epochs": 0,
    "alive": True,
    "ended": False,
}  # the values of untrained rows; curves have NaN


def extended(
    folder: Path, found: dict[str, Any], settings: dict[str, Any], extends: Extends
) -> dict[str, Any]:
    """The new content of the settings file for a sweep of these settings, where it now has the
    content `found`.

    Raises ValueError for another sweep, and for one that cannot be extended that way.
    """
    asked, was = json.loads(json_bytes(settings)), found["settings"]
    names = [name for name in {**was, **asked} if was.get(name) != asked.get(name)]
    if not names:
        return found
    if set(names) - set(Extent._fields) or not all(is_integer(was[name]) for name in names):
        lines = [f"  {printable(n)}: was {was.get(n)!r}, is {asked.get(n)!r} now" for n in names]
        raise ValueError(
            f"{folder} holds another sweep; use the same settings, or choose another folder:\n"
            + "\n".join(lines)
        )
    before, after = (Extent(said["trials"], said["epochs"]) for said in (was, asked))
    cure = "read it with sweep.load, or choose another folder"
    if after.trials < before.trials or after.epochs < before.epochs:
        raise ValueError(f"{folder} holds {before}, but {after} are requested; {cure}.")
    if (why := extends(before, after)) is not None:
        raise ValueError(f"{folder} holds {before}, which cannot become {after}: {why}; {cure}.")
    history = [*map(list, earlier(folder / SETTINGS, found)), list(before)]
    return found | {"settings": asked, _EARLIER: history}


def earlier(path: Path, content: dict[str, Any]) -> list[Extent]:
    """The sizes that the sweep of a settings file was extended from. Raises ValueError, naming the
    file, if it is malformed."""
    history = content.get(_EARLIER, [])
    if not (isinstance(history, list) and all(map(_is_extent, history))):
        raise ValueError(f"{path} is damaged: {_EARLIER!r} is {short(history)}.")
    return [Extent(*pair) for pair in history]


def _is_extent(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(is_integer, pair))


def with_room(folder: Path, content: dict[str, Any], known: Known) -> Known:
    """The content of a folder for a sweep of the settings in `content`: unfinished if that sweep
    has more trials or epochs."""
    said = content["settings"]
    history = earlier(folder / SETTINGS, content)
    if known.curves is None or not history:
        return known
    runs = said["seeds"] * said["folds"]
    curves = padded(known.curves, history, Extent(said["trials"], said["epochs"]), runs)
    if curves is known.curves:
        return known
    return known._replace(curves=curves, finished=False, complete=False)


def padded(
    curves: dict[str, np.ndarray], before: Sequence[Extent], now: Extent, runs: int
) -> dict[str, np.ndarray]:
    """The arrays of curves.npz, padded to all trials and epochs if they were saved with an earlier
    size; unchanged otherwise."""
    measured = {name: a for name, a in curves.items() if _is_measured(name)}
    for extent in before:
        rows = extent.trials * runs
        if extent != now and all(
            a.shape == ((rows,) if name in _BLANK else (rows, extent.epochs))
            for name, a in measured.items()
        ):
            more = (now.trials * runs - rows, now.epochs - extent.epochs)
            return curves | {
                name: np.pad(
                    a, [(0, n) for n in more[: a.ndim]], constant_values=_BLANK.get(name, np.nan)
                )
                for name, a in measured.items()
            }
    return curves


def _is_measured(name: str) -> bool:
    return name in _BLANK or name.startswith(("train ", "validation "))
