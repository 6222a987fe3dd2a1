"""No op and no layer is without what every one has: a new one that is half there is told here."""

import importlib
import inspect
import json
import pathlib
import pkgutil
import types

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import ops
from purenet.checkpoint import spec
from purenet.core.vjp import hand_vjp, ops_in

GOLDEN = json.loads(pathlib.Path(__file__).with_name("golden_params.json").read_text())
CASES = [
    case
    for module in pkgutil.iter_modules(cases.__path__, "cases.")
    for case in importlib.import_module(module.name).CASES.values()
]
# a layer, the shape of one example, and the examples where they are not real numbers
LAYERS = {
    "dense": (pn.dense(3), (4,)),
    "batch_norm": (pn.batch_norm(), (4,)),
    "layer_norm": (pn.layer_norm(), (4,)),
    "local_response_norm": (pn.local_response_norm(), (6, 6, 3)),
    "dropout": (pn.dropout(0.5), (4,)),
    "conv": (pn.conv(5, (3, 2)), (6, 6, 3)),
    "max_pool": (pn.max_pool(2), (6, 6, 3)),
    "avg_pool": (pn.avg_pool(2), (6, 6, 3)),
    "embedding": (pn.embedding(5, 3), (2,)),
}


def package():
    names = [info.name for info in pkgutil.walk_packages(pn.__path__, "purenet.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def makers(module):
    """The functions of a file of layers that give a Layer."""
    if not module.__name__.startswith("purenet.layers."):
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
        if name not in GOLDEN:
            found.append(f"the layer {name} has no row in golden_params.json")
        if name not in LAYERS:
            found.append(f"the layer {name} is not among the layers here, which are exported")
    return found


def test_every_op_and_every_layer_has_what_all_have():
    modules = package()
    assert not lacking(modules)
    assert {name for module in modules for name in makers(module)} == {*LAYERS}


def test_a_new_op_and_its_layer_are_told_what_they_lack():
    def group_normalise(x):
        return x / jnp.sqrt(jnp.square(x).mean(axis=1, keepdims=True))

    def group_norm() -> pn.Layer:
        return pn.Layer(
            lambda key, sizes: pn.Params(()), lambda p, x, train, key: (op(x), ()), ("group_norm",)
        )

    op = hand_vjp(group_normalise, lambda x: (group_normalise(x), x), lambda x, g: (g,))
    module = types.ModuleType("purenet.layers.group_norm")
    group_norm.__module__ = module.__name__
    module._group_normalise, module.group_norm = op, group_norm
    assert lacking([module]) == [
        "the op group_normalise is not in purenet.ops",
        "the op group_normalise has no case in tests/cases",
        "the layer group_norm is not exported",
        "the layer group_norm cannot be rebuilt",
        "the layer group_norm has no row in golden_params.json",
        "the layer group_norm is not among the layers here, which are exported",
    ]
    group_normalise.__module__ = "purenet.nn.activations"
    assert "the activation group_normalise cannot be rebuilt" in lacking([module])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_rebuilt_from_its_description_with_the_same_parameters(name, key):
    layer, sizes = LAYERS[name]
    described = json.loads(json.dumps(spec.describe("test", layer, {})))
    again = spec.rebuild("test", described, {})
    assert again.spec[0] == name
    with jax.enable_x64(False):
        shapes = jax.eval_shape(lambda key: again.init(key, sizes), key)
    found = {
        jax.tree_util.keystr(path): [list(a.shape), str(a.dtype)]
        for path, a in jax.tree.leaves_with_path(shapes)
    }
    assert found == GOLDEN[name]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_and_its_gradient_are_exported_and_give_the_same_numbers(name, key):
    layer, sizes = LAYERS[name]
    params = layer.init(key, sizes)
    examples = jax.random.normal(key, (2, *sizes))
    x = jnp.zeros((2, *sizes), int) if name == "embedding" else examples

    @jax.jit
    def both(weights, x):
        def loss(weights):
            y, _ = layer.apply(pn.Params(weights, params.stats), x, True, jax.random.key(1))
            return jnp.square(y).sum(), y

        return jax.grad(loss, has_aux=True)(weights)

    exported = jax.export.export(both, platforms=("cpu", "cuda", "tpu"))(params.weights, x)
    got = exported.call(params.weights, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(both(params.weights, x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
