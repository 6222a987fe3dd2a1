"""Any tree in one file, and a network with its description in one file.

The end of the path chooses the format: `.npz` is read by NumPy too, `.safetensors` by many
libraries (and needs the one of that name). Leaves are called by their path, `params.weights.0.w`.
A file is complete or absent; what is wrong with a file is said with its name and the leaf; no more
memory is taken than the tree asked for, and nothing is ever unpickled or evaluated.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from purenet import npz_format, safetensors_format
from purenet.compose import as_layer
from purenet.description import Registry, checked_registry, describe, rebuild
from purenet.files import as_path, writable, write_bytes
from purenet.leaves import Kind, check_same, from_array, kind_of, named_leaves, short, to_array
from purenet.types import Layer, Params, PyTree, Sizes, shape

_FORMAT = 1
_FORMATS = {".npz": npz_format, ".safetensors": safetensors_format}


def save(path: str | os.PathLike, tree: PyTree, metadata: Any = None) -> None:
    """Write a tree of arrays, numbers and random keys to one file, complete or not at all.

    `metadata` is what JSON can hold (arrays and NumPy numbers become lists and numbers): texts,
    settings, what was measured; `load_metadata` gives it back.
    Raises ValueError for a path that does not end in .npz or .safetensors, for leaves that are not
    numbers, for two leaves with one name, and for metadata that JSON cannot hold; TypeError for
    what is no path and for dicts whose keys have no order; OSError where the file cannot be
    written.

    >>> import tempfile, jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", {"w": jnp.arange(3), "steps": 7}, metadata={"seed": 0})
    ...     found = load(f"{folder}/a.npz", like={"w": jnp.zeros(3, int), "steps": 0})
    >>> print(found["w"], found["steps"])
    [0 1 2] 7
    """
    _write("save", path, tree, {"metadata": {} if metadata is None else metadata})


def load(path: str | os.PathLike, like: PyTree) -> PyTree:
    """The tree in a file that `save` wrote, with the structure of `like`.

    Every leaf has to have the shape and the dtype of the leaf in `like`, which says what to give
    back: NumPy arrays for NumPy arrays, Python numbers for Python numbers, JAX arrays for anything
    else, be it as little as `jax.eval_shape` gives.
    Raises FileNotFoundError where there is no file; ValueError that names the file and the leaf
    for one that is damaged, foreign or of a newer format, and where leaves are missing, not
    expected, or of another shape or dtype; TypeError for what is no path.

    >>> load("no-such-file.npz", like={})
    Traceback (most recent call last):
    FileNotFoundError: load: there is no file no-such-file.npz.
    """
    with _opened("load", path) as (file, document):
        return _tree(file, document, like)


def load_metadata(path: str | os.PathLike) -> Any:
    """What `save` or `save_network` was given as metadata, {} if nothing; no leaf is read.

    Raises what `load` raises for files that are missing, damaged or foreign.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", {}, metadata={"seed": 0})
    ...     load_metadata(f"{folder}/a.npz")
    {'seed': 0}
    """
    with _opened("load_metadata", path) as (_, document):
        return document["metadata"]


def save_network(
    path: str | os.PathLike,
    net: Layer,
    sizes: Sizes,
    params: Params,
    registry: Registry | None = None,
    metadata: Any = None,
) -> None:
    """Write a network, its description and its parameters, to one file, complete or not at all.

    `sizes` is what `net.init` takes. Layers and functions are stored by name and arguments, so
    what is not purenet's own needs a name: `registry={"swish": swish}`, here and on loading. A
    layer of your own, Layer(init, apply, spec=(name, arguments)), is registered under the name in
    its spec, with the function that makes it of the arguments.
    Raises ValueError, naming the layer and the argument, for what has no name or description, and
    where `params` are not those of `net`; TypeError for a `registry` that is no dict; else what
    `save` raises.

    >>> import tempfile
    >>> from purenet import dense, relu, serial
    >>> net = serial(dense(8), relu, dense(3))
    >>> params = net.init(jax.random.key(0), 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_network(f"{folder}/net.npz", net, 4, params)
    ...     again, sizes, loaded = load_network(f"{folder}/net.npz")
    >>> sizes, [layer.spec[0] for layer in again.spec[1]["layers"]]
    (4, ['dense', 'relu', 'dense'])
    >>> bool((loaded.weights["2"]["w"] == params.weights["2"]["w"]).all())
    True
    """
    who = "save_network"
    registry = checked_registry(who, registry)
    net = as_layer(net)
    description = describe(who, net, registry)
    plain_sizes = _plain_sizes(sizes)
    # what is written must be readable: the rebuilt network, not this one, says what is expected
    expected = _kinds(who, _like(who, rebuild(who, description, registry), plain_sizes))
    check_same(f"{who}: params", _kinds(who, {"params": params}), expected)
    document = {
        "metadata": {} if metadata is None else metadata,
        "network": {"description": description, "sizes": plain_sizes},
    }
    _write(who, path, {"params": params}, document)


def load_network(
    path: str | os.PathLike, registry: Registry | None = None
) -> tuple[Layer, Sizes, Params]:
    """The network that `save_network` wrote: (net, sizes, params).

    It is built by name from purenet's layers and functions, and from those in `registry`.
    Raises FileNotFoundError where there is no file; ValueError that names the file and the part for
    names and arguments that are not known, and for everything that `load` refuses; TypeError for
    what is no path, and for a `registry` that is no dict.

    >>> load_network("no-such-file.npz")
    Traceback (most recent call last):
    FileNotFoundError: load_network: there is no file no-such-file.npz.
    """
    registry = checked_registry("load_network", registry)
    with _opened("load_network", path) as (file, document):
        network = document.get("network")
        if not isinstance(network, dict) or network.keys() != {"description", "sizes"}:
            raise ValueError(
                f"{file.who} holds no network; it was written by `save`, so read it with `load`."
            )
        net = as_layer(rebuild(file.who, network["description"], registry))
        sizes = network["sizes"]
        try:
            shape(sizes)
        except ValueError as error:
            raise ValueError(f"{file.who}: the sizes are damaged: {error}") from None
        sizes = tuple(sizes) if isinstance(sizes, list) else sizes
        return net, sizes, _tree(file, document, _like(file.who, net, sizes))["params"]


def checked_path(who: str, path: str | os.PathLike) -> tuple[Path, Any]:
    """The path and the module of its format, if a file can be there; `who` asks.

    Raises ValueError for another ending, and what `writable` raises.

    >>> checked_path("save", "a.npz")[0].name
    'a.npz'
    """
    found, form = _format(who, path)
    return writable(who, found), form


# writing
def _write(who: str, path, tree: PyTree, document: dict) -> None:
    path, form = checked_path(who, path)
    leaves = named_leaves(who, tree)
    kinds = {name: kind_of(who, name, leaf, form.NATIVE) for name, leaf in leaves.items()}
    arrays = {name: to_array(who, name, leaf, kinds[name]) for name, leaf in leaves.items()}
    other = {name: kind.name for name, kind in kinds.items() if kind.name != kind.dtype.name}
    try:
        text = json.dumps({"format": _FORMAT, "kinds": other, **document}, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{who}: metadata is {short(document['metadata'])}, which JSON cannot hold ({error})."
        ) from error
    if len(text) > npz_format.LONGEST_TEXT:
        raise ValueError(
            f"{who}: metadata takes {len(text)} bytes, at most {npz_format.LONGEST_TEXT} are "
            "expected; put arrays into the tree."
        )
    write_bytes(path, form.write(arrays, text))


def _plain(value):
    """Arrays and numbers of NumPy and JAX in metadata, as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{short(value)} is a {type(value).__name__}")


def _plain_sizes(sizes):
    numbers = shape(sizes)
    return list(numbers) if isinstance(sizes, (tuple, list)) else numbers[0]


# reading
@contextlib.contextmanager
def _opened(who: str, path) -> Iterator[tuple[Any, dict]]:
    """The file to read leaves from, and its document, checked as far as every reader needs."""
    path, form = _format(who, path)
    with form.opened(who, path) as file:
        try:
            document = json.loads(file.text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.who}: its metadata cannot be read ({error}).") from error
        version = document.get("format") if isinstance(document, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError(
                f"{file.who} was not written by `save`: its metadata is {short(document)}."
            )
        if version > _FORMAT:
            raise ValueError(
                f"{file.who} is of format {version}, but this purenet reads up to {_FORMAT}; "
                "update purenet."
            )
        kinds = document.get("kinds")
        legal = isinstance(kinds, dict) and all(isinstance(kind, str) for kind in kinds.values())
        if not legal or "metadata" not in document:
            raise ValueError(f"{file.who} is damaged: its metadata is {short(document)}.")
        yield file, document


def _tree(file, document: dict, like: PyTree) -> PyTree:
    """The leaves that `like` asks for, every one compared with it before any is read."""
    leaves = named_leaves(file.who, like)
    expected = {
        name: kind_of(f"{file.who}: like", name, leaf, file.native) for name, leaf in leaves.items()
    }

    def kind(name):
        dtype, shape = file.header(name)
        return Kind(document["kinds"].get(name, dtype.name), dtype, shape)

    check_same(file.who, {name: lambda name=name: kind(name) for name in file.names}, expected)
    loaded = [
        from_array(file.who, name, file.read(name), expected[name], leaf)
        for name, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), loaded)


def _like(who: str, net: Layer, sizes) -> PyTree:
    """The parameters of a network by shape and dtype; nothing is computed."""
    init = lambda key: net.init(key, tuple(sizes) if isinstance(sizes, list) else sizes)
    try:
        return {"params": jax.eval_shape(init, jax.random.key(0))}
    except Exception as error:  # whatever a description may lead a layer to
        raise ValueError(
            f"{who}: the network cannot be initialised for sizes {short(sizes)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _kinds(who: str, tree: PyTree) -> dict[str, Any]:
    return {name: kind_of(who, name, leaf) for name, leaf in named_leaves(who, tree).items()}


def _format(who: str, path: str | os.PathLike) -> tuple[Path, Any]:
    path = as_path(who, path)
    suffix = path.suffix
    if suffix not in _FORMATS:
        raise ValueError(
            f"{who}: {path} ends in {suffix!r}, expected .npz or .safetensors, which chooses the "
            "format."
        )
    return path, _FORMATS[suffix]
