"""A network's description as plain values that JSON can hold, and the network rebuilt from it.

A layer is `{"layer": name, "arguments": {...}}`, a function `{"function": name}`, a partial
function the same with `args` and `keywords`; numbers, strings and lists stand for themselves. Names
are looked up in purenet's own functions and in those that the user registers. Nothing is imported,
evaluated or looked up by attribute.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np

from purenet.core.padded import PaddedSize, PaddedSizes
from purenet.core.tree import short
from purenet.core.types import Layer
from purenet.core.validate import expect, mapping, require
from purenet.nn import initializers, register
from purenet.nn.base import lifted_function, padded_shape
from purenet.nn.models import mlp

Registry = Mapping[str, Callable]

_LAYERS: Registry = {**register.layers(), "mlp": mlp}
_FUNCTIONS: Registry = {
    **register.functions(),
    **register.measures(),
    "zeros": initializers.zeros,
    "lecun_normal": initializers.lecun_normal,
    "glorot_normal": initializers.glorot_normal,
    "glorot_uniform": initializers.glorot_uniform,
    "he_normal": initializers.he_normal,
    "he_uniform": initializers.he_uniform,
    "normal": initializers.normal(1.0).func,  # type: ignore[attr-defined]
     # with its number as a keyword, as `normal(std)` returns it
    "uniform": initializers.uniform().func,  # type: ignore[attr-defined]
    **{
        name: getattr(jax.checkpoint_policies, name)  # what `remat` may save
        for name in (
            "dots_saveable", "dots_with_no_batch_dims_saveable", "everything_saveable",
            "nothing_saveable",
        )
    },
}  # fmt: skip
_OF_LAYERS = ("serial", "concatenate")  # layers are their positional arguments
_DEEPEST = 100  # levels; a layer in a serial is two below it


def checked_registry(caller: str, registry: Registry | None) -> Registry:
    """The user's functions by name.

    Raises TypeError if `registry` is not a dict, ValueError if it does not map names to functions,
    or uses one of purenet's names.

    >>> checked_registry("save_network", {"double": lambda x: 2 * x}).keys()
    dict_keys(['double'])
    """
    registry = {} if registry is None else dict(mapping(caller, "registry", registry))
    for name, function in registry.items():
        require(
            isinstance(name, str) and callable(function),
            f"{caller}: registry maps {name!r} to {short(function)}, but names are expected to map "
            "to functions.",
        )
        known = name in _LAYERS or name in _FUNCTIONS
        require(not known, f"{caller}: registry has {name!r}, which is purenet's; rename yours.")
    return registry


def describe(
    caller: str,
    net: Layer | Callable,
    registry: Registry,
    where: str = "network",
    numbers: list | None = None,
) -> Any:
    """Plain values from which `rebuild` builds the network, or a function by itself.

    With a list of `numbers`, arrays of one number, which may be traced, are appended to it, and
    `{"number": i}` stands for each of them; `rebuild` is then given as many.

    Raises ValueError, naming the layer and the argument, for anything without a description.

    >>> from purenet.nn.activations import relu
    >>> from purenet.nn.combinators import serial
    >>> describe("save", serial(relu), {})["arguments"]["layers"][0]
    {'function': 'relu'}
    """
    return _Describer(caller, registry, numbers).value(net, where, 0)


def describe_sizes(caller: str, sizes: PaddedSizes, numbers: list | None = None) -> Any:
    """The sizes that `net.init` takes, as plain values, with `numbers` as in `describe`.

    >>> describe_sizes("save", (784, PaddedSize(50, capacity=100), 10))
    [784, {'size': 50, 'capacity': 100}, 10]
    """
    plain = list(padded_shape(sizes))
    described = _Describer(caller, {}, numbers).value(plain, "sizes", 0)
    return described if isinstance(sizes, (tuple, list)) else described[0]


def rebuild_sizes(caller: str, described: Any, numbers: Sequence = ()) -> PaddedSizes:
    """The sizes that were described. Raises ValueError if they are not sizes.

    >>> rebuild_sizes("load", [784, {"size": 50, "capacity": 100}, 10])
    (784, PaddedSize(size=50, capacity=100), 10)
    """
    try:
        sizes = _Rebuilder(caller, {}, numbers).value(described, "sizes", 0)
        found = padded_shape(sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{caller}: the sizes are damaged: {error}") from None
    return found if isinstance(sizes, tuple) else found[0]


def rebuild(
    caller: str,
    description: Any,
    registry: Registry,
    where: str = "network",
    numbers: Sequence = (),
) -> Any:
    """The network, or the function, of a description, with these `numbers` in their places.

    Raises ValueError, naming the part, if it is not one.

    >>> rebuild("load", {"layer": "dense", "arguments": {"units": 4}}, {}).spec[1]["units"]
    4
    """
    net = _Rebuilder(caller, registry, numbers).value(description, where, 0)
    legal = isinstance(net, Layer) or callable(net)
    require(legal, f"{caller}: {where} is {short(net)}, but a layer is expected.")
    return net


def _check_depth(caller: str, where: str, depth: int) -> None:
    require(
        depth <= _DEEPEST,
        f"{caller}: {where[:30]}…{where[-30:]} nests deeper than {_DEEPEST} levels, the most that "
        "can be stored; a layer in a serial is two levels below it.",
    )


class _Describer:
    def __init__(self, caller: str, registry: Registry, numbers: list | None = None):
        self.caller, self.numbers = caller, numbers
        self.functions = {**_FUNCTIONS, **registry}
        self.makers = {**_LAYERS, **registry}

    def value(self, value, where: str, depth: int):
        _check_depth(self.caller, where, depth)
        if isinstance(value, Layer):
            function = lifted_function(value)
            if function is None:
                return self.layer(value, where, depth)
            return self.function(function, where, depth)
        if isinstance(value, PaddedSize):
            size = self.value(value.size, f"{where}.size", depth + 1)
            return {"size": size, "capacity": value.capacity}
        if self.numbers is not None and isinstance(value, jax.Array) and value.ndim == 0:
            self.numbers.append(value)
            return {"number": len(self.numbers) - 1}
        require(
            not isinstance(value, jax.core.Tracer),
            f"{self.caller}: {where} is traced and has no value yet; build the network from plain "
            "numbers to save it.",
        )
        if isinstance(value, (np.ndarray, np.generic, jax.Array)) and value.ndim == 0:
            value = value.item()
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
        if isinstance(value, (tuple, list)):
            return [self.value(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        such = "a layer, a function, a number, a string or a tuple of them"
        hint = "; wrap it in a function and name that in `registry`"
        expect(callable(value), f"{self.caller}: {where}", value, such, ValueError, hint)
        return self.function(value, where, depth)

    def layer(self, layer: Layer, where: str, depth: int):
        require(
            bool(layer.spec),
            f"{self.caller}: {where} is a layer without a description; give it a spec (name, "
            "arguments), and pass registry={name: the function that builds it}.",
        )
        name, arguments = layer.spec
        require(
            name in self.makers,
            f"{self.caller}: {where} is the layer {name!r}, which is not one of purenet's; pass "
            f"registry={{{name!r}: the function that builds it}}.",
        )
        here = where if where == "network" else f"{where} ({name})"
        described = {k: self.value(v, f"{here}, {k}", depth + 1) for k, v in arguments.items()}
        return {"layer": name, "arguments": described}

    def function(self, function: Callable, where: str, depth: int):
        if isinstance(function, functools.partial):
            described = self.function(function.func, where, depth + 1)
            args = [self.value(v, f"{where}, {i}", depth + 1) for i, v in enumerate(function.args)]
            keywords = {
                k: self.value(v, f"{where}, {k}", depth + 1) for k, v in function.keywords.items()
            }
            return described | {"args": args, "keywords": keywords}
        known = next((name for name, f in self.functions.items() if f is function), None)
        name = getattr(function, "__name__", "my_function")
        name = name if name.isidentifier() else "my_function"
        require(
            known is not None,
            f"{self.caller}: {where} is {short(function)}, which is not one of purenet's own; "
            f"pass registry={{{name!r}: that function}} here and on loading.",
        )
        return {"function": known}


class _Rebuilder:
    def __init__(self, caller: str, registry: Registry, numbers: Sequence = ()):
        self.caller, self.numbers = caller, numbers
        self.functions = {**_FUNCTIONS, **registry}
        self.makers = {**_LAYERS, **registry}

    def value(self, value, where: str, depth: int):
        _check_depth(self.caller, where, depth)
        if isinstance(value, list):
            return tuple(self.value(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value))
        if not isinstance(value, dict):
            return value
        if value.keys() == {"layer", "arguments"} and isinstance(value["arguments"], dict):
            return self.layer(value["layer"], value["arguments"], where, depth)
        if value.keys() == {"size", "capacity"}:
            size = self.value(value["size"], f"{where}.size", depth + 1)
            return PaddedSize(size, value["capacity"])
        if value.keys() == {"number"} and value["number"] in range(len(self.numbers)):
            return self.numbers[value["number"]]
        require(
            {"function"} <= value.keys() <= {"function", "args", "keywords"},
            f"{self.caller}: {where} is {short(value)}, but a layer (layer, arguments) or a "
            "function (function, args, keywords) is expected.",
        )
        return self.function(value, where, depth)

    def layer(self, name, arguments, where: str, depth: int) -> Layer:
        maker = self.known(self.makers, name, where, "layer")
        here = where if where == "network" else f"{where} ({name})"
        built = {k: self.value(v, f"{here}, {k}", depth + 1) for k, v in arguments.items()}
        try:
            layers = built.pop("layers") if name in _OF_LAYERS else ()
            layer = maker(*layers, **built)
        except Exception as error:  # arguments from a file may make a function raise anything
            raise ValueError(
                f"{self.caller}: {where}, the layer {name}, cannot be built: "
                f"{type(error).__name__}: {error}"
            ) from error
        made = isinstance(layer, Layer)
        require(made, f"{self.caller}: {where}: {name} returned {short(layer)}, not a Layer.")
        return layer

    def function(self, described, where: str, depth: int) -> Callable:
        function = self.known(self.functions, described["function"], where, "function")
        args, keywords = described.get("args", []), described.get("keywords", {})
        require(
            isinstance(args, list) and isinstance(keywords, dict),
            f"{self.caller}: {where} has args {short(args)} and keywords {short(keywords)}, but a "
            "list and an object are expected.",
        )
        if not args and not keywords:
            return function
        built = {k: self.value(v, f"{where}, {k}", depth + 1) for k, v in keywords.items()}
        return functools.partial(function, *self.value(args, f"{where}, args", depth + 1), **built)

    def known(self, table: Registry, name, where: str, kind: str) -> Callable:
        require(
            isinstance(name, str) and name in table,
            f"{self.caller}: {where} is the {kind} {short(name)}, which is unknown here; if it "
            f"is yours, pass registry={{{short(name)}: it}}.",
        )
        return table[name]
