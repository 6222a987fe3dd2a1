"""What `fit` measures and returns, and how a run is told of while it trains."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from purenet.core import display
from purenet.core.interrupts import InterruptFlag, until_interrupted
from purenet.core.types import PyTree
from purenet.training.stopping import Scoring

History = dict[str, dict[str, np.ndarray]]  # part -> metric -> (epochs,)


class _Pair(NamedTuple):
    state: PyTree
    history: History


class Fit(_Pair):
    """What `fit` returns: a pair (state, history), the final state and what was measured.

    `history["train"][name]` are the running means of each epoch's minibatches, and
    `history["validation"][name]` what `evaluate` gave after each epoch: NumPy arrays (epochs,) of
    the epochs that were trained, NaN where an epoch was not evaluated. `epoch` is the number of
    epochs that `state` has seen, fewer than there are in `history` where the best was kept.
    """

    epoch: int

    def __new__(cls, state: PyTree, history: Mapping, epoch: int | None = None) -> Self:
        made = super().__new__(cls, state, history)  # type: ignore[arg-type]
        if epoch is None:
            epoch = max(map(np.size, jax.tree.leaves(history)), default=0)
        made.epoch = epoch
        return made

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**(self._asdict() | {"epoch": self.epoch} | changes))

    def __repr__(self):
        return display.run_text("Fit", self.state, self.history)


# as a pair of JAX, with its epoch
_attribute = jax.tree_util.GetAttrKey
jax.tree_util.register_pytree_with_keys(
    Fit,
    lambda f: ([(_attribute("state"), f.state), (_attribute("history"), f.history)], f.epoch),
    lambda epoch, pair: Fit(*pair)._replace(epoch=epoch),
    lambda f: (tuple(f), f.epoch),
)


def record(history: History, done: int, n: int, values: PyTree, told: Scoring) -> int:
    """Write the metrics of `n` more epochs, and return how many epochs are done."""
    last = max(map(len, jax.tree.leaves(history)), default=0)
    for old, new in zip(jax.tree.leaves(history), jax.tree.leaves(values), strict=True):
        old[done : done + n] = jax.device_get(new)[:n]
    if told.every > 1:
        skipped = [i for i in range(done, done + n) if not told.due(i, last)]
        for curve in history.get("validation", {}).values():
            curve[skipped] = np.nan
    return done + n


def shown(history: History, done: int, speed: float) -> dict[str, str]:
    """The progress bar's words: the latest value of every metric, and the speed."""
    latest = {
        f"{part} {name}": f"{known[-1]:.4g}"
        for part, curves in history.items()
        for name, curve in curves.items()
        # not evaluated in the last epoch, it is that of an earlier one; without any, NaN
        if len(known := [*curve[:done][~np.isnan(curve[:done])]] or [np.nan])
    }
    return latest | {"examples/s": f"{speed:.3g}"}


def say_interrupted(done: int, epochs: int, path: Path) -> None:
    """Tell where the run is saved."""
    print(
        f"\nfit: interrupted; {done} of {epochs} epochs are in {path}, and the same call resumes "
        "from there.",
        file=sys.stderr,
    )


def until_saved(waits: bool) -> contextlib.AbstractContextManager[InterruptFlag]:
    """Signals wait until the run is saved where that happens: with a file, in a single process."""
    return until_interrupted() if waits else contextlib.nullcontext(InterruptFlag())
