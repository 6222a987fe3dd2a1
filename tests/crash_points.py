"""What a kill leaves of a sweep's folder, before every single write of every save.

A process that is killed leaves the files as they are, and nothing else. So one sweep that runs to
its end shows all that its kills can leave: the folder is copied before each rename, with the
temporary file cut in half, and the same call is made on each of the copies.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet import sweep
from purenet.core import autosave, files
from purenet.sweep.engine import pool
from purenet.sweep.storage import reading

DATA = ((np.ones(1),), (np.zeros(1),))
TRIALS, EPOCHS = 6, 4


def learner(hyper):
    """A scalar that nears its limit, with noise; the highest limits diverge on the way."""

    def epoch(state, data):
        noise = 0.01 * jax.random.normal(jax.random.fold_in(state["key"], state["t"]))
        x = state["x"] + hyper["step"] * (hyper["limit"] - state["x"]) + noise
        x = jnp.where((hyper["limit"] > 0.8) & (state["t"] == 2), jnp.nan, x)
        return {"key": state["key"], "x": x, "t": state["t"] + 1}, {}

    return pn.Trainable(
        init=lambda key: {"key": key, "x": jax.random.uniform(key), "t": jnp.zeros((), jnp.int32)},
        epoch=epoch,
        evaluate=lambda state, data: {"loss": state["x"] + data[0].sum()},
    )


MEMBERS = {"limit": sweep.uniform(0.0, 1.0), "step": sweep.loguniform(0.05, 0.5)}
SPACE = MEMBERS | {"kind": sweep.choice(["a", "b"])}


def run(search, keep, path=None, seed=0):
    space = MEMBERS if isinstance(search, type(sweep.pbt())) else SPACE
    options = {"search": search, "keep": keep, "devices": 1, "progress": False}
    return sweep.run(learner, space, DATA, TRIALS, EPOCHS, seed, path=path, **options)


class Watched:
    """The module `os`, which looks at a folder before each rename and at the end of it."""

    def __init__(self, folder: Path):
        self.folder, self.moments = folder, []

    def __getattr__(self, name):
        return getattr(os, name)

    def fsync(self, file):
        """A kill loses nothing that was written."""

    def replace(self, temporary, path):
        self.look()
        os.replace(temporary, path)

    def look(self):
        found = {}
        for path in self.folder.iterdir():
            content = path.read_bytes()
            found[path.name] = content[: len(content) // 2 if path.suffix == ".tmp" else None]
        self.moments.append(found)


def moments(monkeypatch, folder: Path, call) -> tuple:
    """What `call` gives where every epoch is reported and saved, and what is in the folder before
    each write, by name."""
    watched = Watched(folder)
    with monkeypatch.context() as patched:
        patched.setattr(pool, "_REPORT", 1e-9)
        patched.setattr(autosave, "SHARE", 1e9)
        patched.setattr(files, "os", watched)
        result = call()
    watched.look()
    return result, watched.moments


def put(folder: Path, content: dict[str, bytes]) -> None:
    """Make this the content of the folder."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, held in content.items():
        (folder / name).write_bytes(held)


def outcome(result) -> dict[str, np.ndarray]:
    """Every number of a result, by name."""
    found = {"rows": np.array(list(map(repr, result.rows())))}
    for part, metrics in result.curves.items():
        found |= {f"{part} {name}": curve for name, curve in metrics.items()}
    for row, state in result.kept.items():
        for i, leaf in enumerate(jax.tree.leaves(state)):
            found[f"state {row} {i}"] = np.asarray(jax.random.key_data(leaf) if i == 0 else leaf)
    if result.lineage is not None:
        found |= result.lineage.arrays()
    return found


def held(folder: Path) -> dict[str, np.ndarray]:
    """Every number of a folder, by name, but for times and stamps."""
    found = {"trials": np.array((folder / reading.TRIALS).read_bytes())}
    for name in (reading.CURVES, reading.STATES):
        found |= {f"{name} {n}": array for n, array in reading.arrays(folder / name).items()}
    return found


def differing(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    """The names of what is not the same, to the bit."""
    return [
        name
        for name in sorted(found.keys() | expected.keys())
        if name not in found
        or name not in expected
        or found[name].dtype != expected[name].dtype
        or found[name].tobytes() != expected[name].tobytes()
    ]
