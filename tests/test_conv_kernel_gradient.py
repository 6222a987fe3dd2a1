"""The gradient of a kernel, by the side that is unrolled and in parts of the images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from purenet.nn import columns as module
from purenet.nn.columns import columns
from purenet.nn.conv import convolve
from purenet.nn.windows import Geometry, window


def geometry(size, kernel, stride=1, padding="same"):
    _, pads = window("conv", (size, size), (kernel, kernel), stride, padding, 1)
    return Geometry((size, size), (kernel, kernel), (stride, stride), pads, 1, (1, 1))


def arrays(at, images, channels, filters):
    """x and g of this geometry, float64."""
    x, g = jax.random.split(jax.random.key(0))
    return (
        jax.random.normal(x, (images, *at.sizes, channels), float),
        jax.random.normal(g, (images, *at.outputs, filters), float),
    )


def reference(at, x, g):
    """By the derivative of lax.conv."""
    layout = ("NHWC", "HWIO", "NHWC")
    y = lambda w: lax.conv_general_dilated(x, w, at.stride, at.pads, dimension_numbers=layout)
    w = jnp.zeros((*at.kernel, x.shape[3], g.shape[3]), float)
    return jax.vjp(y, w)[1](g)[0]


# the output has 3 or more rows a row of the kernel, or fewer; more or fewer filters than kw·c
@pytest.mark.parametrize("filters", [2, 6, 11])
@pytest.mark.parametrize("size, kernel, stride, padding", [
    (6, 3, 1, "same"), (8, 3, 1, 0), (7, 3, 1, 0), (5, 2, 1, 0), (9, 4, 1, "same"), (8, 3, 2, 1),
])  # fmt: skip
def test_it_is_that_of_lax_whichever_side_is_unrolled(size, kernel, stride, padding, filters):
    at = geometry(size, kernel, stride, padding)
    x, g = arrays(at, 3, 2, filters)
    dw = columns(at).kernel_cotangent(x, g)
    np.testing.assert_allclose(dw, reference(at, x, g), rtol=1e-10, atol=1e-10)


def loops(f, *args):
    """How many turns its loops have."""
    text = str(jax.make_jaxpr(lambda *args: f(*args))(*args))
    return list(map(int, re.findall(r"length=(\d+)", text)))


@pytest.mark.parametrize("images, parts", [(12, 6), (9, 9), (7, 7), (17, 1), (40, 5), (40, 20)])
def test_it_is_summed_in_parts_where_all_images_would_leave_the_cache(images, parts, monkeypatch):
    at = geometry(9, 3)
    x, g = arrays(at, images, 4, 3)
    whole = columns(at).kernel_cotangent(x, g)
    assert not loops(columns(at).kernel_cotangent, x, g)
    one = (3 * 4 + 3 * 3) * 8 * 11 * 9  # bytes of an image's rows
    # one for several of the images that make a part
    monkeypatch.setattr(module, "_PART", max(1, images // parts) * one)
    monkeypatch.setattr(module, "_AT_ONCE", images * one - 1)
    form = columns(at).kernel_cotangent
    assert loops(form, x, g) == ([parts] if parts > 1 else [])
    np.testing.assert_allclose(form(x, g), whole, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(module, "_AT_ONCE", images * one)
    assert not loops(form, x, g)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parts_are_added_in_a_wider_precision(dtype, monkeypatch):
    at = geometry(9, 3)
    x, g = (abs(a).astype(dtype) for a in arrays(at, 112, 4, 3))  # sums of one sign
    exact = columns(at).kernel_cotangent(x.astype(float), g.astype(float))
    monkeypatch.setattr(module, "_AT_ONCE", 0)
    monkeypatch.setattr(module, "_PART", 8 * (3 * 4 + 3 * 3) * 2 * 11 * 9)
    form = columns(at).kernel_cotangent
    assert loops(form, x, g) == [14]
    error = abs(form(x, g).astype(float) / exact - 1).max()
    assert error < 1.5 * jnp.finfo(dtype).eps


def test_parts_have_derivatives_and_a_vmap(monkeypatch):
    at = geometry(9, 3)
    x, g = arrays(at, 12, 4, 3)
    form = lambda x, g: columns(at).kernel_cotangent(x, g)
    both = lambda x, g: jax.vjp(form, x, g)[1](reference(at, x, g))
    batch = jnp.stack([x, 2 * x])
    expected = both(x, g), jax.vmap(form, (0, None))(batch, g)
    monkeypatch.setattr(module, "_AT_ONCE", 0)
    monkeypatch.setattr(module, "_PART", 50_000)
    assert loops(form, x, g) == [6]
    for a, b in zip(jax.tree.leaves((both(x, g), jax.vmap(form, (0, None))(batch, g))),
                    jax.tree.leaves(expected), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_parts_of_images_on_a_mesh(kind, monkeypatch):
    x, w = arrays(geometry(9, 3), 12, 4, 3)[0], jnp.ones((3, 3, 4, 3))
    form = jax.grad(lambda w, x: (convolve(x, w, 0.0, 1, "same", "columns") ** 2).sum())
    expected = form(w, x)
    monkeypatch.setattr(module, "_AT_ONCE", 0)
    monkeypatch.setattr(module, "_PART", 50_000)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        w = jax.device_put(w, jax.sharding.PartitionSpec())
        x = jax.device_put(x, jax.sharding.PartitionSpec("batch"))
        assert loops(form, w, x)
        compiled = jax.jit(form).lower(w, x).compile()
        text, dw = compiled.as_text(), compiled(w, x)
    assert "all-to-all" not in text and "collective-permute" not in text
    np.testing.assert_allclose(np.asarray(dw), expected, rtol=1e-10, atol=1e-10)
