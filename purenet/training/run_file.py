"""The file of one run of `fit`, from which it resumes, and when to save it."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purenet.checkpoint.encoding import from_array, leaf_spec
from purenet.checkpoint.trees import checked_path, load, load_metadata, save
from purenet.core.autosave import Autosave
from purenet.core.files import as_path
from purenet.core.software import check_resumable, described
from purenet.core.tree import named_leaves
from purenet.core.types import PyTree
from purenet.distributed import multihost

# of a run with an evaluation after each epoch and no early stopping
_UNSCORED: dict[str, Any] = {"metric": None, "maximize": True, "keep_best": False, "every": 1}


class RunFile:
    """State, curves and the number of epochs done, for a key and data of certain shapes.

    If the run is `shared` by several processes, only the first one reads and writes; it sends what
    it reads to the others, which need no access to the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        key: jax.Array,
        parts: dict[str, PyTree],
        shared: bool = False,
        scoring: dict[str, Any] | None = None,
        patience: int | None = None,
        epochs: int | None = None,
    ):
        self.path, self.shared = as_path("fit", path), shared
        self._on_first(lambda: checked_path("fit", path))
        self.key = key
        leaves = named_leaves("fit", parts).items()
        self.data = {name: str(leaf_spec("fit", name, leaf)) for name, leaf in leaves}
        # the other settings that affect the results, and the patience
        self.scoring, self.patience = scoring or _UNSCORED, patience
        self.epochs = epochs  # asked for; the last one is evaluated
        self.saved: int | None = None  # epochs in the file
        self.stream: dict[str, Any] = {}  # where in an epoch a run on streamed data is
        self.autosave = Autosave(every=1.0)

    def exists(self) -> bool:
        return self._agreed(self.path.exists())

    def load(self, state: PyTree, names: PyTree, epochs: int) -> tuple[PyTree, PyTree, int]:
        """(state, curves, epochs done), like `state` and the metrics `names` of one epoch.

        Raises ValueError, with the difference, if the file holds another run.
        """
        found: list = []
        self._on_first(lambda: found.extend(self._read(state, names, epochs)))
        self.saved = self._agreed(found[2] if found else 0)
        if not found:  # the first process has read it; this one receives into placeholders
            curves = jax.tree.map(lambda a: np.zeros(self.saved, a.dtype), names)
            found = [jax.tree.map(_blank, state), curves]
        if self.shared:
            text = multihost.broadcast_bytes(lambda: json.dumps(self.stream).encode())
            self.stream = json.loads(text)
        return *self._agreed((found[0], found[1])), self.saved

    def _read(self, state, names, epochs: int) -> tuple[PyTree, PyTree, int]:
        metadata = load_metadata(self.path)
        run: Any = metadata.get("fit", {}) if isinstance(metadata, dict) else {}
        done: Any
        data: Any
        done, data = (run.get("epochs"), run.get("data")) if isinstance(run, dict) else (None, None)
        legal = type(done) is int and done >= 0 and isinstance(data, dict)
        self._require(legal, "is not a run of fit, and is not overwritten")
        for name in sorted(data.keys() | self.data.keys()):
            was, now = data.get(name, "absent"), self.data.get(name, "absent")
            text = f"holds a run on other data: {name} was {was}, and is {now} now"
            self._require(was == now, text)
        text = f"holds a run of {done} epochs, but epochs is {epochs}; at least {done} are expected"
        self._require(done <= epochs, text)
        same_patience = self._check_stopping(run)
        self._check_last(run.get("of"), done, epochs)
        finished = done == epochs or (run.get("stopped") is True and same_patience)
        check_resumable(f"fit: {self.path}", run, finished)
        curves = jax.tree.map(lambda a: np.zeros(done, a.dtype), names)
        with jax.transfer_guard_host_to_device("allow"):
            found = load(self.path, {"key": self.key, "state": state, "history": curves})
        mine, theirs = (np.asarray(jax.random.key_data(key)) for key in (found["key"], self.key))
        self._require(np.array_equal(mine, theirs), "holds a run from another random key")
        stream = run.get("stream")
        self.stream = stream if isinstance(stream, dict) else {}
        return found["state"], found["history"], done

    def require_whole_epochs(self) -> None:
        """Raises ValueError if the run was saved in the midst of an epoch."""
        streamed = "was saved in the midst of an epoch on streamed data; stream it again, or"
        self._require(not self.stream.get("at"), streamed)

    def _check_stopping(self, run: dict[str, Any]) -> bool:
        """Whether patience is the same as before; everything else must be."""
        there, patience = run.get("scoring", _UNSCORED), run.get("patience")
        for name, now in self.scoring.items():
            was = there.get(name) if isinstance(there, dict) else None
            self._require(was == now, f"holds a run with {name} {was!r}, which is now {now!r}")
        more = self.patience is None or (isinstance(patience, int) and self.patience >= patience)
        text = f"holds a run with patience {patience}, but patience is only"
        self._require(more, f"{text} {self.patience} now")
        return patience == self.patience

    def _check_last(self, of: Any, done: int, epochs: int) -> None:
        """Whether the epoch after which the file was saved was evaluated if and only if it has to
        be now; `of` is how many epochs were asked for."""
        every, scored = self.scoring["every"], self.scoring["metric"] is not None
        if of is None or done % every == 0 or (of == done) == (epochs == done):
            return
        # where nothing follows the scores, one too many is left out of the curves
        text = (
            f"holds a run whose epoch {done} was evaluated as the last, though not one in {every}"
        )
        self._require(not scored or epochs == done, f"{text}, and {epochs} epochs are asked for")
        text = f"holds {done} of {of} epochs, the last of them not evaluated"
        self._require(epochs > done, f"{text}; ask for more than {done} epochs")

    def _require(self, legal: bool, problem: str) -> None:
        if not legal:
            raise ValueError(f"fit: {self.path} {problem}; name another path.")

    def is_due(self) -> bool:
        return self._agreed(self.autosave.is_due())

    def save(
        self,
        state: PyTree,
        history: PyTree,
        done: int,
        stopped: bool = False,
        stream: dict[str, Any] | None = None,
    ) -> None:
        began = time.perf_counter()
        curves = jax.tree.map(lambda curve: curve[:done], history)
        tree = {"key": self.key, "state": multihost.to_local(state, gather=True), "history": curves}
        rules = {"scoring": self.scoring, "patience": self.patience, "stopped": stopped}
        run = {"epochs": done, "of": self.epochs, "data": self.data} | rules | described()
        if stream is not None:
            run["stream"] = stream
        self._on_first(lambda: save(self.path, tree, {"fit": run}))
        self.autosave.saved(began)
        self.saved = done

    def _agreed(self, tree: PyTree) -> PyTree:
        return multihost.broadcast(tree) if self.shared else tree

    def _on_first(self, action: Callable[[], Any]) -> None:
        if self.shared:
            multihost.run_on_first(action)
        else:
            action()


def _blank(leaf):
    kind = leaf_spec("fit", "state", leaf)
    return from_array("fit", "state", np.zeros(kind.shape, kind.dtype), kind, leaf)
