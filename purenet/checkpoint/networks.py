"""A network's description and its parameters in one file."""

import os
from typing import Any

import jax

from purenet.checkpoint.encoding import check_same
from purenet.checkpoint.spec import (
    Registry,
    checked_registry,
    describe,
    describe_sizes,
    rebuild,
    rebuild_sizes,
)
from purenet.checkpoint.trees import leaf_specs, opened, read_tree, write_tree
from purenet.core.padded import PaddedSizes
from purenet.core.tree import short
from purenet.core.types import Layer, Params, PyTree
from purenet.core.validate import require
from purenet.nn.base import as_layer


def save_network(
    path: str | os.PathLike,
    net: Layer,
    sizes: PaddedSizes,
    params: Params,
    registry: Registry | None = None,
    metadata: Any = None,
) -> None:
    """Write a network, its description and its parameters, to one file, complete or not at all.

    `sizes` is what `net.init` takes. Layers and functions are stored by name and arguments, so
    those that are not purenet's own need a name: `registry={"swish": swish}`, here and on loading.
    A layer of your own, Layer(init, apply, spec=(name, arguments)), is registered under the name
    in its spec, with the function that builds it from the arguments.
    Raises ValueError, naming the layer and the argument, for anything without a name or a
    description, and if `params` do not belong to `net`; TypeError if `registry` is not a dict;
    otherwise what `save` raises.

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
    caller = "save_network"
    registry = checked_registry(caller, registry)
    net = as_layer(net)
    description = describe(caller, net, registry)
    plain_sizes = describe_sizes(caller, sizes)
    # a file must be readable: the rebuilt network, not this one, defines what is expected
    again = rebuild(caller, description, registry), rebuild_sizes(caller, plain_sizes)
    expected = leaf_specs(caller, _like(caller, *again))
    check_same(f"{caller}: params", leaf_specs(caller, {"params": params}), expected)
    document = {
        "metadata": {} if metadata is None else metadata,
        "network": {"description": description, "sizes": plain_sizes},
    }
    write_tree(caller, path, {"params": params}, document)


def load_network(
    path: str | os.PathLike, registry: Registry | None = None
) -> tuple[Layer, PaddedSizes, Params]:
    """The network that `save_network` wrote: (net, sizes, params).

    It is built by name from purenet's layers and functions, and from those in `registry`.
    Raises FileNotFoundError if there is no file; ValueError, naming the file and the part, for
    unknown names and arguments, and for everything that `load` rejects; TypeError if `path` is not
    a path or `registry` is not a dict.

    >>> load_network("no-such-file.npz")
    Traceback (most recent call last):
    FileNotFoundError: load_network: there is no file no-such-file.npz.
    """
    registry = checked_registry("load_network", registry)
    with opened("load_network", path) as (file, document):
        network: Any = document.get("network")
        require(
            isinstance(network, dict) and network.keys() == {"description", "sizes"},
            f"{file.caller} holds no network; it was written by `save{_ensemble(document)}`, so "
            f"read it with `load{_ensemble(document)}`.",
        )
        net = as_layer(rebuild(file.caller, network["description"], registry))
        sizes = rebuild_sizes(file.caller, network["sizes"])
        return net, sizes, read_tree(file, document, _like(file.caller, net, sizes))["params"]


def _ensemble(document: dict) -> str:
    return "_ensemble" if "ensemble" in document else ""


def _like(caller: str, net: Layer, sizes) -> PyTree:
    """The parameters of a network by shape and dtype; nothing is computed."""
    init = lambda key: net.init(key, sizes)
    try:
        return {"params": jax.eval_shape(init, jax.random.key(0))}
    except Exception as error:  # a description from a file may make a layer raise anything
        raise ValueError(
            f"{caller}: the network cannot be initialised for sizes {short(sizes)}: "
            f"{type(error).__name__}: {error}"
        ) from error
