"""Save and load any tree, in one file.

The suffix of the path chooses the format: `.npz` can be read by NumPy too, `.safetensors` by many
libraries (and needs the one of that name). Leaves are named by their path, `params.weights.0.w`.
A file is complete or absent; errors name the file and the leaf; no more memory is used than the
requested tree needs, and nothing is ever unpickled or evaluated.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from purenet.checkpoint import npz, safetensors
from purenet.checkpoint.encoding import LeafSpec, check_same, from_array, leaf_spec, to_array
from purenet.core.ensemble import Ensemble
from purenet.core.files import as_path, writable, write_bytes
from purenet.core.tree import named_leaves, short
from purenet.core.types import PyTree
from purenet.core.validate import require

_FORMAT = 1
_FORMATS = {".npz": npz, ".safetensors": safetensors}


def save(path: str | os.PathLike, tree: PyTree, metadata: Any = None) -> None:
    """Write a tree of arrays, numbers and random keys to one file, complete or not at all.

    `metadata` is anything that JSON can hold, such as settings or measurements (arrays and NumPy
    numbers become lists and numbers); `load_metadata` returns it.
    Raises ValueError for a path that does not end in .npz or .safetensors, for leaves that are not
    numbers, for two leaves with the same name, and for metadata that JSON cannot hold; TypeError if
    `path` is not a path, for dicts whose keys cannot be ordered and for an Ensemble; OSError if the
    file cannot be written.

    >>> import tempfile, jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", {"w": jnp.arange(3), "steps": 7}, metadata={"seed": 0})
    ...     found = load(f"{folder}/a.npz", like={"w": jnp.zeros(3, int), "steps": 0})
    >>> print(found["w"], found["steps"])
    [0 1 2] 7
    """
    hint = "save: an Ensemble has a function of its own: pn.save_ensemble(path, ensemble)."
    require(not isinstance(tree, Ensemble), hint, TypeError)
    write_tree("save", path, tree, {"metadata": {} if metadata is None else metadata})


def load(path: str | os.PathLike, like: PyTree) -> PyTree:
    """The tree in a file that `save` wrote, with the structure of `like`.

    Every leaf must have the shape and the dtype of the leaf in `like`, which also decides its type:
    NumPy arrays for NumPy arrays, Python numbers for Python numbers, JAX arrays for anything else,
    such as the results of `jax.eval_shape`.
    Raises FileNotFoundError if there is no file; ValueError, naming the file and the leaf, if it is
    damaged, foreign or of a newer format, and if leaves are missing, unexpected, or of another
    shape or dtype; TypeError if `path` is not a path.

    >>> load("no-such-file.npz", like={})
    Traceback (most recent call last):
    FileNotFoundError: load: there is no file no-such-file.npz.
    """
    with opened("load", path) as (file, document):
        return read_tree(file, document, like)


def load_metadata(path: str | os.PathLike) -> Any:
    """The metadata given to `save` or `save_network`, {} if none was; no leaf is read.

    Raises what `load` raises for files that are missing, damaged or foreign.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", {}, metadata={"seed": 0})
    ...     load_metadata(f"{folder}/a.npz")
    {'seed': 0}
    """
    with opened("load_metadata", path) as (_, document):
        return document["metadata"]


def checked_path(caller: str, path: str | os.PathLike) -> tuple[Path, Any]:
    """The path, and the module of its format.

    Raises ValueError for any other suffix, and what `writable` raises.

    >>> checked_path("save", "a.npz")[0].name
    'a.npz'
    """
    found, form = _format(caller, path)
    return writable(caller, found), form


# writing
def write_tree(caller: str, path: str | os.PathLike, tree: PyTree, document: dict) -> None:
    found, form = checked_path(caller, path)
    leaves = named_leaves(caller, tree)
    kinds = {name: leaf_spec(caller, name, leaf, form.NATIVE) for name, leaf in leaves.items()}
    arrays = {name: to_array(caller, name, leaf, kinds[name]) for name, leaf in leaves.items()}
    other = {name: kind.name for name, kind in kinds.items() if kind.name != kind.dtype.name}
    try:
        text = json.dumps({"format": _FORMAT, "kinds": other, **document}, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        given = short(document["metadata"])
        text = f"{caller}: metadata is {given}, which JSON cannot hold ({error})."
        raise ValueError(text) from error
    require(
        len(text) <= npz.LONGEST_TEXT,
        f"{caller}: metadata takes {len(text)} bytes, but at most {npz.LONGEST_TEXT} are "
        "expected; put arrays into the tree.",
    )
    write_bytes(found, form.write(arrays, text))


def _plain(value):
    """Arrays and numbers of NumPy and JAX in metadata, for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{short(value)} is a {type(value).__name__}")


# reading
@contextlib.contextmanager
def opened(caller: str, path: str | os.PathLike) -> Iterator[tuple[Any, dict]]:
    """The file to read leaves from, and its document, with the checks that every reader needs."""
    found, form = _format(caller, path)
    with form.opened(caller, found) as file:
        try:
            document = json.loads(file.text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.caller}: its metadata cannot be read ({error}).") from error
        version: Any = document.get("format") if isinstance(document, dict) else None
        legal = type(version) is int and version >= 1
        _require_metadata(legal, f"{file.caller} was not written by `save`", document)
        newer = f"is of format {version}, but this purenet reads up to {_FORMAT}; update purenet."
        require(version <= _FORMAT, f"{file.caller} {newer}")
        kinds = document.get("kinds")
        legal = isinstance(kinds, dict) and all(isinstance(kind, str) for kind in kinds.values())
        legal = legal and "metadata" in document
        _require_metadata(legal, f"{file.caller} is damaged", document)
        yield file, document


def _require_metadata(legal: bool, problem: str, document: Any) -> None:
    if not legal:  # formatted only if needed: a document may have megabytes
        raise ValueError(f"{problem}: its metadata is {short(document)}.")


def read_tree(file: Any, document: dict, like: PyTree) -> PyTree:
    """The leaves that `like` asks for, all of them checked before any is read."""
    leaves = named_leaves(file.caller, like)
    expected = {
        name: leaf_spec(f"{file.caller}: like", name, leaf, file.native)
        for name, leaf in leaves.items()
    }

    def kind(name):
        dtype, shape = file.header(name)
        return LeafSpec(document["kinds"].get(name, dtype.name), dtype, shape)

    check_same(file.caller, {name: lambda name=name: kind(name) for name in file.names}, expected)
    loaded = [
        from_array(file.caller, name, file.read(name), expected[name], leaf)
        for name, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), loaded)


def leaf_specs(caller: str, tree: PyTree) -> dict[str, Any]:
    return {
        name: leaf_spec(caller, name, leaf) for name, leaf in named_leaves(caller, tree).items()
    }


def _format(caller: str, path: str | os.PathLike) -> tuple[Path, Any]:
    path = as_path(caller, path)
    suffix = path.suffix
    expected = "expected .npz or .safetensors; the suffix chooses the format."
    require(suffix in _FORMATS, f"{caller}: {path} ends in {suffix!r}, {expected}")
    return path, _FORMATS[suffix]
