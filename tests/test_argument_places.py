"""A check looks at the argument that it is about, by its place and by its name."""

import jax
import jax.numpy as jnp
import pytest

from purenet import ops

X, C = jnp.ones((2, 3)), jnp.ones(3)
NORMS = {
    "batch_normalise": (X, C, C),
    "normalise": (X, C, C, C, C),
    "layer_normalise": (X, C, C),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_negative_eps_is_refused_by_place_and_by_name(name):
    op, args = getattr(ops, name), NORMS[name]
    for call in (lambda: op(*args, -1.0), lambda: op(*args, eps=-1.0)):
        with pytest.raises(ValueError, match=r"eps is -1\.0, but a finite number of at least 0"):
            call()
    for call in (lambda: op(*args, 1.0), lambda: op(*args, eps=1.0)):
        jax.eval_shape(call)


@pytest.mark.parametrize("channels, kernel, convolutions", [(4, 3, 0), (5, 3, 1), (5, 1, 0)])
def test_a_convolution_without_a_method_takes_that_of_its_channels_and_kernel(
    channels, kernel, convolutions
):
    x, w = jnp.ones((1, 4, 4, channels)), jnp.ones((kernel, kernel, channels, 2))
    program = jax.jit(lambda x, w: ops.convolve(x, w, 0.0)).lower(x, w).as_text()
    assert ("stablehlo.convolution" in program) == bool(convolutions)
