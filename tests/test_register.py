"""No op and no layer is without what every one has: a new one that is half there fails here."""

import importlib
import inspect
import json
import pkgutil
import types

import cases
import jax
import jax.numpy as jnp
import pytest
from cases.layers import LAYERS

import purenet as pn
from purenet import ops
from purenet.checkpoint import spec
from purenet.core.vjp import hand_vjp, ops_in
from purenet.nn import register

CASES = [
    case
    for module in pkgutil.iter_modules(cases.__path__, "cases.")
    for case in importlib.import_module(module.name).CASES.values()
]


def package():
    names = [info.name for info in pkgutil.walk_packages(pn.__path__, "purenet.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def makers(module):
    """The functions of a file of layers that give a Layer."""
    place, _, file = module.__name__.rpartition(".")
    if place != "purenet.nn" or file in ("base", "combinators", "models"):
        return {}
    return {
        name: f
        for name, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and not name.startswith("_")
        and inspect.signature(f).return_annotation is pn.Layer
    }


def lacking(modules):
    """What the ops and the layers of these modules do not have, in words."""
    found = []
    for op in {id(op): op for module in modules for op in ops_in(module).values()}.values():
        if op not in ops_in(ops).values():
            found.append(f"the op {op.__name__} is not in purenet.ops")
        if not any(case.op is op for case in CASES):
            found.append(f"the op {op.__name__} has no case in tests/cases")
        if op.plain.__module__ == "purenet.nn.activations":
            if getattr(pn, op.__name__, None) is not op:
                found.append(f"the activation {op.__name__} is not exported")
            if spec._FUNCTIONS.get(op.__name__) is not op:
                found.append(f"the activation {op.__name__} cannot be rebuilt")
    for name, maker in (pair for module in modules for pair in makers(module).items()):
        if getattr(pn, name, None) is not maker:
            found.append(f"the layer {name} is not exported")
        if spec._LAYERS.get(name) is not maker:
            found.append(f"the layer {name} cannot be rebuilt")
        if name not in LAYERS:
            found.append(f"the layer {name} has no row in tests/cases/layers.py")
    return found


def test_every_op_and_every_layer_has_what_all_have():
    modules = package()
    assert not lacking(modules)
    assert {name for module in modules for name in makers(module)} == {
        name for name in LAYERS if "," not in name
    }


def test_the_ops_are_those_that_the_files_define():
    assert ops_in(ops) == register.operations()


def test_a_new_op_and_its_layer_are_told_what_they_lack():
    def square_normalise(x):
        return x / jnp.sqrt(jnp.square(x).mean(axis=1, keepdims=True))

    def square_norm() -> pn.Layer:
        return pn.Layer(
            lambda key, sizes: pn.Params(()), lambda p, x, train, key: (op(x), ()), ("square_norm",)
        )

    op = hand_vjp(square_normalise, lambda x: (square_normalise(x), x), lambda x, g: (g,))
    module = types.ModuleType("purenet.nn.square_norm")
    square_norm.__module__ = module.__name__
    module._square_normalise, module.square_norm = op, square_norm
    assert lacking([module]) == [
        "the op square_normalise is not in purenet.ops",
        "the op square_normalise has no case in tests/cases",
        "the layer square_norm is not exported",
        "the layer square_norm cannot be rebuilt",
        "the layer square_norm has no row in tests/cases/layers.py",
    ]
    square_normalise.__module__ = "purenet.nn.activations"
    assert "the activation square_normalise cannot be rebuilt" in lacking([module])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_rebuilt_from_its_description_with_the_same_parameters(name, key):
    layer, sizes, params = LAYERS[name]
    described = json.loads(json.dumps(spec.describe("test", layer, {})))
    again = spec.rebuild("test", described, {})
    assert again.spec[0] == name.partition(",")[0]
    shapes = jax.eval_shape(lambda key: again.init(key, sizes), key)
    leaves = jax.tree.leaves_with_path(shapes)
    assert {jax.tree_util.keystr(path): a.shape for path, a in leaves} == params
