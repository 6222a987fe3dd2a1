"""The file of one run of `fit`: what the run goes on from, and when it is written."""

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purenet.checkpoint.encoding import from_array, leaf_spec
from purenet.checkpoint.trees import checked_path, load, load_metadata, save
from purenet.core.files import as_path
from purenet.core.software import check_resumable, described
from purenet.core.tree import named_leaves
from purenet.core.types import PyTree
from purenet.distributed import multihost

_SHARE = 0.05  # of the time, at most, is spent on writing
_EVERY = 1.0  # seconds from one writing to the next, at least


class RunFile:
    """State, curves and the number of epochs done, for a key and data of certain shapes.

    Where the run is `shared` by several processes, the first one alone reads and writes, and tells
    the others, which need not see the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        key: jax.Array,
        parts: dict[str, PyTree],
        shared: bool = False,
    ):
        self.path, self.shared = as_path("fit", path), shared
        self._by_first(lambda: checked_path("fit", path))
        self.key = key
        leaves = named_leaves("fit", parts).items()
        self.data = {name: str(leaf_spec("fit", name, leaf)) for name, leaf in leaves}
        self.saved: int | None = None  # epochs in the file
        self.due = time.perf_counter() + _EVERY

    def exists(self) -> bool:
        return self._agreed(self.path.exists())

    def load(self, state: PyTree, names: PyTree, epochs: int) -> tuple[PyTree, PyTree, int]:
        """(state, curves, epochs done), like `state` and the metrics `names` of one epoch.

        Raises ValueError, with the difference, where the file holds another run.
        """
        found: list = []
        self._by_first(lambda: found.extend(self._read(state, names, epochs)))
        self.saved = self._agreed(found[2] if found else 0)
        if not found:  # the first process has read it; this one needs something to be told
            curves = jax.tree.map(lambda a: np.zeros(self.saved, a.dtype), names)
            found = [jax.tree.map(_blank, state), curves]
        return *self._agreed((found[0], found[1])), self.saved

    def _read(self, state, names, epochs: int) -> tuple[PyTree, PyTree, int]:
        metadata = load_metadata(self.path)
        run = metadata.get("fit", {}) if isinstance(metadata, dict) else {}
        done, data = (run.get("epochs"), run.get("data")) if isinstance(run, dict) else (None, None)
        if not (type(done) is int and done >= 0 and isinstance(data, dict)):
            raise ValueError(
                f"fit: {self.path} is no run of fit, and is not overwritten; name another path."
            )
        for name in sorted(data.keys() | self.data.keys()):
            was, comes = data.get(name, "absent"), self.data.get(name, "absent")
            if was != comes:
                raise ValueError(
                    f"fit: {self.path} holds a run on other data: {name} was {was} and is now "
                    f"{comes}; name another path."
                )
        if done > epochs:
            raise ValueError(
                f"fit: {self.path} holds a run of {done} epochs, but epochs is {epochs}; ask for "
                f"at least {done}, or name another path."
            )
        check_resumable(f"fit: {self.path}", run, finished=done == epochs)
        curves = jax.tree.map(lambda a: np.zeros(done, a.dtype), names)
        with jax.transfer_guard_host_to_device("allow"):
            found = load(self.path, {"key": self.key, "state": state, "history": curves})
        before, now = (np.asarray(jax.random.key_data(key)) for key in (found["key"], self.key))
        if not np.array_equal(before, now):
            raise ValueError(
                f"fit: {self.path} holds a run from another random key; name another path."
            )
        return found["state"], found["history"], done

    def is_due(self) -> bool:
        return self._agreed(time.perf_counter() >= self.due)

    def save(self, state: PyTree, history: PyTree, done: int) -> None:
        started = time.perf_counter()
        curves = jax.tree.map(lambda curve: curve[:done], history)
        tree = {"key": self.key, "state": multihost.to_local(state, gather=True), "history": curves}
        run = {"epochs": done, "data": self.data} | described()
        self._by_first(lambda: save(self.path, tree, {"fit": run}))
        ended = time.perf_counter()
        self.saved = done
        self.due = ended + max(_EVERY, (ended - started) / _SHARE)

    def _agreed(self, tree: PyTree) -> PyTree:
        return multihost.broadcast(tree) if self.shared else tree

    def _by_first(self, action: Callable[[], Any]) -> None:
        if self.shared:
            multihost.run_on_first(action)
        else:
            action()


def _blank(leaf):
    kind = leaf_spec("fit", "state", leaf)
    return from_array("fit", "state", np.zeros(kind.shape, kind.dtype), kind, leaf)
