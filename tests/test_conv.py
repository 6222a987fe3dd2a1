"""Convolution: its two methods against lax.conv, im2col against col2im, vmap, errors, structure."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from purenet.core.types import Params
from purenet.nn.conv import METHODS, choose_method, conv, convolve
from purenet.nn.embedding import embedding, look_up
from purenet.nn.initializers import zeros
from purenet.nn.local_response_norm import local_response_norm, local_response_normalise
from purenet.nn.windows import col2im, im2col, window

few = settings(max_examples=6, deadline=None, derandomize=True)


@st.composite
def geometries(draw):
    """(image size, kernel, stride, padding) where at least one window fits."""
    small = lambda least, most: st.tuples(*[st.integers(least, most)] * 2)
    kernel, stride = draw(small(1, 3)), draw(small(1, 3))
    padding = draw(st.one_of(small(0, 2), st.just("same")))
    pads = (0, 0) if padding == "same" else padding
    size = tuple(max(n, k - 2 * p) for n, k, p in zip(draw(small(1, 6)), kernel, pads, strict=True))
    return size, kernel, stride, padding


def numbers(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def lax_conv(x, w, b, stride, padding):
    pads = padding.upper() if isinstance(padding, str) else [(p, p) for p in padding]
    return b + lax.conv_general_dilated(
        x, w, stride, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_cotangents(f, args, g=None):
    def both(*args):
        y, pull = jax.vjp(f, *args)
        uneven = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
        return y, pull(uneven if g is None else g)

    return jax.jit(both)(*args)  # one program is compiled sooner than every step of it


@few
@given(geometries())
def test_both_methods_equal_lax_and_its_derivatives(geometry):
    size, kernel, stride, padding = geometry
    args = numbers(0, (2, *size, 2)), numbers(1, (*kernel, 2, 3)), numbers(2, (3,))
    expected = value_and_cotangents(lambda *a: lax_conv(*a, stride, padding), args)
    for method in METHODS:
        got = value_and_cotangents(lambda *a, m=method: convolve(*a, stride, padding, m), args)
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("stride, padding", [(1, 0), (2, "same"), (3, (2, 1))])
def test_both_methods_agree_in_float32(stride, padding):
    shapes = ((4, 9, 8, 3), (3, 3, 3, 5), (5,))
    args = [numbers(i, s, jnp.float32) for i, s in enumerate(shapes)]
    got = [
        value_and_cotangents(lambda *a, m=m: convolve(*a, stride, padding, m), args)
        for m in METHODS
    ]
    chex.assert_trees_all_close(*got, rtol=1e-5, atol=1e-5)


@few
@given(geometries())
def test_col2im_is_the_transpose_of_im2col(geometry):
    size, *where = geometry
    x = numbers(0, (2, *size, 2))
    other = numbers(1, jax.eval_shape(lambda x: im2col(x, *where), x).shape)
    columns, (back,) = value_and_cotangents(lambda x: im2col(x, *where), (x,), other)
    images, (pulled,) = value_and_cotangents(lambda c: col2im(c, x.shape, *where), (other,), x)
    np.testing.assert_allclose((columns * other).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(images, back, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(pulled, columns, rtol=1e-12, atol=1e-14)


def test_the_output_size_is_the_textbook_rule():
    assert window("conv", (227, 227), 11, stride=4)[0] == (55, 55)
    assert window("conv", (28, 28), 5, padding=2)[0] == (28, 28)
    assert window("conv", (7, 8), 3, stride=3)[0] == (2, 2)  # the remainder is dropped
    assert window("conv", (7, 8), 3, 2, "same") == ((4, 4), ((1, 1), (0, 1)))


@pytest.mark.parametrize("method", METHODS)
def test_kernels_that_differ_run_as_products_of_columns_that_are_made_once(method):
    """Under vmap over w, with the minibatch shared: no convolution, no columns a trial."""
    trials, n, c, f = 7, 2, 3, 5
    x, w = numbers(0, (n, 6, 6, c)), numbers(1, (trials, 3, 3, c, f))
    loss = lambda w: (convolve(x, w, jnp.zeros(f), 1, 0, method) ** 2).sum()
    text = jax.jit(jax.vmap(jax.grad(loss))).lower(w).as_text()
    assert "convolution" not in text
    for columns in (9 * c, 3 * c):  # of a whole window, for y; of one row of the kernel, for dw
        assert f"{n}x4x4x{columns}xf64" in text
        assert f"{trials}x{n}x4x4x{columns}" not in text
        assert f"{n}x{trials}x4x4x{columns}" not in text


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_every_vmap_of_the_direct_method_equals_a_loop(axes):
    x, w = numbers(0, (3, 2, 5, 5, 2)), numbers(1, (3, 3, 3, 2, 4))
    both = lambda x, w: value_and_cotangents(
        lambda x, w: convolve(x, w, jnp.zeros(4), 2, 1, "direct"), (x, w)
    )
    args = [a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True)]
    pick = lambda i: [a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True)]
    expected = jax.tree.map(lambda *a: jnp.stack(a), *[both(*pick(i)) for i in range(3)])
    chex.assert_trees_all_close(jax.jit(jax.vmap(both, axes))(*args), expected, rtol=1e-10)


@pytest.mark.parametrize("method", ["columns", "direct"])
def test_second_derivatives_in_both_orders(method):
    """Forward over reverse under vmap (a Hessian), and reverse over reverse."""
    x, w = jnp.linspace(-1, 1, 16).reshape(1, 4, 4, 1), jnp.linspace(-1, 2, 4).reshape(2, 2, 1, 1)
    loss = lambda f: lambda w: (f(x, w, jnp.zeros(1), 1, 0, method) ** 3).sum()
    norm = lambda f: lambda w: (jax.grad(loss(f))(w) ** 2).sum()
    for make in (lambda f: jax.hessian(loss(f)), lambda f: jax.grad(norm(f))):
        np.testing.assert_allclose(make(convolve)(w), make(convolve.plain)(w), rtol=1e-10)


def test_nested_vmaps_over_images_and_kernels():
    x, w = numbers(0, (2, 1, 4, 4, 2)), numbers(1, (3, 2, 2, 2, 2))
    op = lambda x, w: convolve(x, w, 0.0, 1, 0, "direct")
    got = jax.vmap(jax.vmap(op, (0, None)), (None, 0))(x, w)
    expected = jnp.stack([jnp.stack([op(a, b) for a in x]) for b in w])
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_minibatch_sharded_over_devices_gives_the_same_gradient(method):
    x, w = numbers(0, (4, 4, 4, 1)), numbers(1, (3, 3, 1, 2))
    loss = lambda w, x: (convolve(x, w, 0.0, 1, 1, method) ** 2).sum()
    expected = jax.grad(loss)(w, x)
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        jax.grad(loss), mesh=mesh, in_specs=(spec(), spec("batch")), out_specs=spec()
    )
    np.testing.assert_allclose(sharded(w, x), expected, rtol=1e-10)


def test_the_method_follows_the_shapes():
    assert choose_method(1, 5) == choose_method(3, 11) == choose_method(512, 1) == "columns"
    assert choose_method(16, 3) == choose_method(5, 5) == "direct"


def test_the_layer_without_bias_is_the_layer_with_a_zero_bias(key):
    x = numbers(0, (2, 5, 5, 3))
    for layer in (conv(4, 3, padding="same", bias=False), conv(4, 3, padding="same")):
        params = layer.init(key, (5, 5, 3))
        y, stats = layer.apply(params, x, True, None)
        assert stats == () and y.shape == (2, 5, 5, 4)
        expected = lax_conv(x, params.weights["w"], 0.0, (1, 1), "same")
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)


def test_parameters_and_description(key):
    layer = conv(30, (5, 3), weight_init=zeros, method="direct")
    weights = layer.init(key, (28, 28, 1)).weights
    assert {name: a.shape for name, a in weights.items()} == {"w": (5, 3, 1, 30), "b": (30,)}
    assert set(conv(30, 5, bias=False).init(key, (28, 28, 1)).weights) == {"w"}
    name, arguments = layer.spec
    assert name == "conv" and conv(**arguments).spec == layer.spec


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: conv(3, 3).init(None, 784), r"conv: .*\(1, 784\).*reshape.*\(28, 28, 1\)"),
        (lambda: conv(3, 5).init(None, (4, 9, 1)), r"\(4 \+ 0 \+ 0 - 5\)/1 \+ 1 is below 1"),
        (lambda: conv(3, 0), r"conv: kernel is 0, but an integer of at least 1"),
        (lambda: conv(3, (3, 3, 3)), r"kernel is \(3, 3, 3\), .*two of them \(height, width\)"),
        (lambda: conv(3, 3, stride=1.5), r"conv: stride is 1\.5"),
        (lambda: conv(3, 3, padding=-1), r"conv: padding is -1, .*at least 0"),
        (lambda: conv(3, 3, padding="full"), r'is .full., but .*"same" or "valid"'),
        (lambda: conv(3, 3, method="fft"), "method is 'fft', but one of 'columns', 'direct'"),
        (lambda: conv(0, 3), "conv: filters is 0, but at least 1 is expected"),
        (
            lambda: convolve(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 1, 2)), 0.0),
            r"w has shape \(3, 3, 1, 2\), .* 3 channels.*\(1, 4, 4, 3\)",
        ),
        (
            lambda: convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), jnp.zeros(3)),
            r"b has shape \(3,\), but \(2,\), one number for each filter",
        ),
        (
            lambda: col2im(jnp.ones((1, 2, 2, 4)), (1, 4, 4, 1), 2),
            r"\(1, 2, 2, 4\).*\(1, 3, 3, 4\)",
        ),
        (lambda: im2col(jnp.ones((4, 4)), 2), r"im2col: .*\(4, 4\)"),
    ],
)
def test_errors_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


# local response normalisation
def test_local_response_normalisation_is_the_formula():
    x = np.asarray(numbers(0, (2, 2, 2, 6)))
    expected = np.empty_like(x)
    for i in range(6):
        energy = (x[..., max(0, i - 2) : i + 3] ** 2).sum(-1)
        expected[..., i] = x[..., i] / (2.0 + 1e-4 * energy) ** 0.75
    layer = local_response_norm()
    got, stats = layer.apply(layer.init(None, (2, 2, 6)), jnp.asarray(x), True, None)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert stats == () and local_response_norm(**layer.spec[1]).spec == layer.spec


def test_local_response_normalisation_takes_traced_numbers_and_keeps_the_dtype():
    x = numbers(0, (1, 2, 2, 4), jnp.bfloat16)
    assert local_response_normalise(x, 2.0, 1e-4, 0.75, 3).dtype == jnp.bfloat16
    apply = lambda k: local_response_norm(3, k=k).apply(Params(()), x, True, None)[0]
    assert jax.jit(jax.vmap(apply))(jnp.array([1.0, 2.0])).shape == (2, *x.shape)


def test_local_response_normalisation_wants_an_odd_window():
    with pytest.raises(ValueError, match=r"n is 4.*odd"):
        local_response_norm(n=4)


# embedding
def test_embedding_looks_up_rows_and_sums_their_gradients(key):
    layer = embedding(5, 3)
    params = layer.init(key, 4)
    indices = jnp.array([[0, 4, 4, 1]])
    rows = layer.apply(params, indices, True, None)[0]
    np.testing.assert_array_equal(rows, params.weights["w"][indices])
    grads = jax.grad(lambda w: look_up(w, indices).sum())(params.weights["w"])
    np.testing.assert_array_equal(grads[:, 0], [1, 1, 0, 0, 2])


def test_an_index_outside_the_table_is_an_error_or_nan_where_traced(key):
    layer = embedding(5, 3)
    params = layer.init(key, 2)
    for indices in (jnp.array([[0, 5]]), jnp.array([[0, -1]])):
        with pytest.raises(ValueError, match=r"reach from .* has rows 0 to 4"):
            layer.apply(params, indices, True, None)
        y = jax.jit(lambda p, i: layer.apply(p, i, True, None)[0])(params, indices)
        assert jnp.isnan(y[0, 1]).all() and jnp.isfinite(y[0, 0]).all()
        grads = jax.grad(lambda w, i=indices: look_up(w, i)[0, 0].sum())(params.weights["w"])
        np.testing.assert_array_equal(grads[:, 0], [1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"of float64 .*astype\(int\)"):
        layer.apply(params, jnp.ones((1, 2)), True, None)
