"""What `jax.export` makes of every layer, network and loss, once, works for batches of any size.

It lowers for every platform: that needs neither the device nor its compiler.
"""

import importlib.util
import os

import chex
import jax
import jax.numpy as jnp
import pytest
from every_network import LOSSES, NETWORKS, covered, inputs
from jax import export

KEY = jax.random.PRNGKey(0)
PLATFORMS = ("cpu", "cuda", "tpu", "rocm")


def test_the_table_has_every_layer_network_and_loss():
    assert not covered()


def exported(f, x, *others):
    """f as a file would hold it, with a symbolic batch in place of that of x."""
    (batch,) = export.symbolic_shape("b")
    like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
    x = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    artefact = export.export(jax.jit(f), platforms=PLATFORMS)(x, *jax.tree.map(like, others))
    if importlib.util.find_spec("flatbuffers") is None:  # which serialising needs
        return artefact.call
    return export.deserialize(artefact.serialize()).call


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_the_same_when_exported_for_any_batch(name):
    net, sizes = NETWORKS[name]
    params = jax.jit(lambda key: net.init(key, sizes))(jax.random.key(0))

    def everything(x, weights, stats, key):
        def loss(weights, x):
            y, new = net.apply(type(params)(weights, stats), x, True, key)
            return (y * jnp.cos(y)).sum(), (y, new)

        places = 0 if jnp.issubdtype(x.dtype, jnp.integer) else (0, 1)
        gradient, (y, new) = jax.grad(loss, places, has_aux=True)(weights, x)
        return y, new, gradient, net.apply(type(params)(weights, stats), x, False, None)[0]

    loaded = exported(everything, inputs(name, 2), *params, KEY)
    if name == "alexnet" and "--xla_cpu_use_fusion_emitters=false" in os.environ["XLA_FLAGS"]:
        # the older emitter takes 25 s for its overlapping pools when exported, the other one 1 s
        loaded = jax.jit(loaded, compiler_options={"xla_cpu_use_fusion_emitters": True})
    x = inputs(name, 3)
    expected = jax.jit(everything)(x, *params, KEY)
    chex.assert_trees_all_close(loaded(x, *params, KEY), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_when_exported_for_any_batch(name):
    both = jax.value_and_grad(LOSSES[name])
    loaded = exported(both, jnp.zeros((2, 4)))
    y = jnp.sin(jnp.arange(12.0)).reshape(3, 4)
    chex.assert_trees_all_close(loaded(y), both(y), rtol=1e-12)
