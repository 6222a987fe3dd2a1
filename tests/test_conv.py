"""Convolution: its methods against lax.conv, im2col against col2im, vmap, errors, structure."""

import chex
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from purenet.core.types import Params
from purenet.nn.conv import METHODS, choose_method, conv, convolve
from purenet.nn.conv1d import conv1d
from purenet.nn.conv_forms import block_width, spare_rows
from purenet.nn.embedding import embedding, look_up
from purenet.nn.initializers import zeros
from purenet.nn.local_response_norm import local_response_norm, local_response_normalise
from purenet.nn.windows import col2im, im2col, window

ONE_GROUP = [method for method in METHODS if method != "depthwise"]
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


def lax_conv(x, w, b, stride, padding, method=None, groups=1, dilation=(1, 1)):
    pads = padding.upper() if isinstance(padding, str) else [(p, p) for p in padding]
    layout = ("NHWC", "HWIO", "NHWC")
    return b + lax.conv_general_dilated(
        x, w, stride, pads, None, dilation, layout, feature_group_count=groups
    )


def value_and_cotangents(f, args, g=None):
    def both(*args):
        y, pull = jax.vjp(f, *args)
        uneven = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
        return y, pull(uneven if g is None else g)

    return jax.jit(both)(*args)  # one program is compiled sooner than every step of it


def methods_for(kernel, stride):
    """All that can compute such a convolution."""
    left_out = {"winograd"} if kernel != (3, 3) else set()
    left_out |= {"blocked", "winograd"} if stride not in (1, (1, 1)) else set()
    return [method for method in (*ONE_GROUP, None) if method not in left_out]


def by_every_method(args, stride, padding):
    """{method: y and all cotangents}, in one program, and those of lax.conv."""
    names = methods_for(args[1].shape[:2], stride)
    ops = {m: lambda *a, m=m: convolve(*a, stride, padding, m) for m in names}
    ops["expected"] = lambda *a: lax_conv(*a, stride, padding)

    @jax.jit
    def all_of(args):
        return [value_and_cotangents(op, args) for op in ops.values()]

    found = dict(zip(ops, all_of(args), strict=True))
    return found.pop("expected"), found


@few
@given(geometries())
def test_every_method_equals_lax_and_its_derivatives(geometry):
    size, kernel, stride, padding = geometry
    args = numbers(0, (2, *size, 2)), numbers(1, (*kernel, 2, 3)), numbers(2, (3,))
    expected, found = by_every_method(args, stride, padding)
    for got in found.values():
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-11)


# remainders of blocks and of tiles, even kernels, padding on one side, outputs of one pixel
ONE_APART = [
    ((6, 7), (3, 3), (1, 1)),
    ((9, 3), (3, 3), (2, 0)),
    ((3, 3), (3, 3), (0, 0)),
    ((5, 11), (3, 5), "same"),
    ((6, 7), (2, 4), "same"),
    ((3, 9), (1, 2), (0, 0)),
]


@pytest.mark.parametrize("size, kernel, padding", ONE_APART)
def test_every_method_of_stride_1_equals_lax_at_remainders_and_even_kernels(size, kernel, padding):
    args = numbers(0, (2, *size, 2)), numbers(1, (*kernel, 2, 3)), numbers(2, (3,))
    expected, found = by_every_method(args, (1, 1), padding)
    assert "blocked" in found and ("winograd" in found) == (kernel == (3, 3))
    for got in found.values():
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("stride, padding", [((1, 1), (1, 1)), ((3, 3), (2, 1))])
def test_every_method_agrees_in_float32(stride, padding):
    shapes = ((4, 9, 8, 3), (3, 3, 3, 5), (5,))
    args = [numbers(i, s, jnp.float32) for i, s in enumerate(shapes)]
    expected, found = by_every_method(args, stride, padding)
    for method, got in found.items():
        close = 1e-4 if method == "winograd" else 1e-5
        chex.assert_trees_all_close(got, expected, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_every_method_keeps_a_low_precision_and_is_as_exact_as_it(dtype):
    args = [numbers(i, s, dtype) for i, s in enumerate(((2, 5, 5, 3), (3, 3, 3, 2), (2,)))]
    _, found = by_every_method(args, (1, 1), (1, 1))
    wide = lambda tree: jax.tree.map(lambda a: np.asarray(a, float), tree)
    exact = value_and_cotangents(lambda *a: lax_conv(*a, (1, 1), (1, 1)), wide(args))
    most = 20 * float(jnp.finfo(dtype).eps)
    for got in found.values():
        assert all(a.dtype == dtype for a in jax.tree.leaves(got))
        chex.assert_trees_all_close(wide(got), exact, rtol=most, atol=10 * most)


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


# (channels and filters of a group, groups, size, kernel, stride, padding, dilation)
GROUPED = [
    (1, 1, 3, (7, 6), (3, 2), (2, 1), (2, 1), (2, 3)),
    (2, 3, 2, (6, 7), (2, 3), (1, 3), "same", (3, 1)),
    (3, 2, 1, (9, 5), (3, 3), (1, 1), (2, 2), (4, 2)),
    (1, 2, 3, (5, 5), (2, 2), (2, 2), (0, 1), (1, 1)),
    (2, 1, 2, (3, 4), (3, 2), (1, 1), "same", (1, 3)),
]


@pytest.mark.parametrize("c, f, groups, size, kernel, stride, padding, dilation", GROUPED)
def test_groups_and_dilation_equal_lax(c, f, groups, size, kernel, stride, padding, dilation):
    shapes = ((2, *size, c * groups), (*kernel, c, f * groups), (f * groups,))
    args = [numbers(i, shape) for i, shape in enumerate(shapes)]
    methods = ["columns", "lax", None]
    methods += ["depthwise"] if c == f == 1 else ["direct"] if groups == 1 else []

    @jax.jit
    def all_of(args):
        found = [
            value_and_cotangents(
                lambda *a, m=m: convolve(*a, stride, padding, m, groups, dilation), args
            )
            for m in methods
        ]
        expected = lambda *a: lax_conv(*a, stride, padding, None, groups, dilation)
        return found, value_and_cotangents(expected, args)

    found, expected = all_of(args)
    for got in found:
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_depthwise_keeps_a_low_precision_and_sums_in_a_wider_one(dtype):
    args = [numbers(i, s, dtype) for i, s in enumerate(((20, 9, 9, 2), (3, 3, 1, 2), (2,)))]
    static = (1, 1, "depthwise", 2)
    got = value_and_cotangents(lambda *a: convolve(*a, *static), args)
    wide = lambda tree: jax.tree.map(lambda a: np.asarray(a, float), tree)
    exact = value_and_cotangents(lambda *a: convolve(*a, *static), wide(args))
    assert all(a.dtype == dtype for a in jax.tree.leaves(got))
    most = 4 * float(jnp.finfo(dtype).eps)
    chex.assert_trees_all_close(wide(got), exact, rtol=most, atol=10 * most)


@pytest.mark.parametrize("axes", [(0, 0), (None, 0)])
def test_every_vmap_of_groups_equals_a_loop(axes):
    x, w = numbers(0, (3, 2, 5, 5, 4)), numbers(1, (3, 2, 2, 1, 4))
    in_two_ways = lambda x, w: jnp.stack(
        [convolve(x, w, 0.0, 1, 1, method, 4, 2) for method in ("columns", None)]
    )
    both = lambda x, w: value_and_cotangents(in_two_ways, (x, w))
    pick = lambda i: [a[i] if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True)]
    args = [a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True)]
    together, apart = jax.jit(
        lambda: (jax.vmap(both, axes)(*args), [both(*pick(i)) for i in range(3)])
    )()
    expected = jax.tree.map(lambda *a: jnp.stack(a), *apart)
    chex.assert_trees_all_close(together, expected, rtol=1e-10, atol=1e-11)


def test_groups_are_one_convolution_on_an_accelerator_and_none_on_a_cpu():
    x, w = numbers(0, (2, 6, 6, 4)), numbers(1, (3, 3, 2, 6))
    program = jax.jit(
        jax.grad(lambda w, x: (convolve(x, w, 0.0, 1, 0, None, 2) ** 2).sum(), (0, 1))
    )
    there, here = (
        program.trace(w, x).lower(lowering_platforms=(p,)).as_text() for p in ("cuda", "cpu")
    )
    assert there.count("stablehlo.convolution") == 3 and "convolution" not in here
    assert "feature_group_count = 2" in there and "batch_group_count = 2" in there


def test_a_convolution_of_sequences_takes_groups_and_dilation(key):
    layer, x = conv1d(4, 3, 1, "same", groups=2, dilation=3), numbers(0, (2, 9, 6))
    params = layer.init(key, (9, 6))
    w = params.weights["w"]
    expected = lax.conv_general_dilated(
        x, w[:, 0], (1,), "SAME", None, (3,), ("NWC", "WIO", "NWC"), feature_group_count=2
    )
    np.testing.assert_allclose(layer.apply(params, x, True, None)[0], expected, rtol=1e-10)


def test_initial_kernels_are_scaled_by_the_fans_of_one_group(key):
    seen = []

    def drawn(key, shape, fans=None):
        seen.append(fans)
        return zeros(key, shape)

    conv(8, (3, 2), weight_init=drawn, groups=4).init(key, (5, 5, 12))
    conv(8, (3, 2), weight_init=drawn).init(key, (5, 5, 12))
    conv(8, 3, weight_init=lambda key, shape: zeros(key, shape), groups=4).init(key, (5, 5, 12))
    assert seen == [(18, 12), None]


def test_the_output_size_is_the_textbook_rule():
    assert window("conv", (9, 8), 3, 2, "same", dilation=2) == ((5, 4), ((2, 2), (1, 2)))
    assert window("conv", (227, 227), 11, stride=4)[0] == (55, 55)
    assert window("conv", (28, 28), 5, padding=2)[0] == (28, 28)
    assert window("conv", (7, 8), 3, stride=3)[0] == (2, 2)  # the remainder is dropped
    assert window("conv", (7, 8), 3, 2, "same") == ((4, 4), ((1, 1), (0, 1)))


@pytest.mark.parametrize("method", ["columns", "blocked", "direct"])
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


def test_kernels_that_differ_are_one_grouped_convolution_on_an_accelerator():
    x, w = numbers(0, (2, 6, 6, 3)), numbers(1, (7, 3, 3, 3, 5))
    loss = lambda w: (convolve(x, w, 0.0) ** 2).sum()
    program = jax.jit(jax.vmap(jax.grad(loss)))
    there, here = (
        program.trace(w).lower(lowering_platforms=(p,)).as_text() for p in ("tpu", "cpu")
    )
    assert there.count("stablehlo.convolution") == 2 and "convolution" not in here


EACH, ONLY_IMAGES, ONLY_KERNELS = (0, 0), (0, None), (None, 0)


@pytest.mark.parametrize(
    "method, axes",
    [
        *[(m, axes) for m in ("blocked", "direct") for axes in (EACH, ONLY_IMAGES, ONLY_KERNELS)],
        ("winograd", EACH),
        (None, EACH),
    ],
)
def test_every_vmap_of_a_method_equals_a_loop(method, axes):
    x, w = numbers(0, (3, 2, 5, 5, 2)), numbers(1, (3, 3, 3, 2, 4))
    both = lambda x, w: value_and_cotangents(
        lambda x, w: convolve(x, w, jnp.zeros(4), 1, 1, method), (x, w)
    )
    args = [a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True)]
    pick = lambda i: [a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True)]
    together, apart = jax.jit(
        lambda: (jax.vmap(both, axes)(*args), [both(*pick(i)) for i in range(3)])
    )()
    expected = jax.tree.map(lambda *a: jnp.stack(a), *apart)
    chex.assert_trees_all_close(together, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("method", ONE_GROUP)
def test_second_derivatives_in_both_orders(method):
    """Forward over reverse under vmap (a Hessian), and reverse over reverse."""
    k = 3 if method == "winograd" else 2
    x = jnp.linspace(-1, 1, 16).reshape(1, 4, 4, 1)
    w = jnp.linspace(-1, 2, k * k).reshape(k, k, 1, 1)
    loss = lambda f: lambda w: (f(x, w, jnp.zeros(1), 1, 0, method) ** 3).sum()
    norm = lambda f: lambda w: (jax.grad(loss(f))(w) ** 2).sum()
    plain = lambda *a: lax_conv(*a[:3], (1, 1), (0, 0))
    for make in (lambda f: jax.hessian(loss(f)), lambda f: jax.grad(norm(f))):
        np.testing.assert_allclose(jax.jit(make(convolve))(w), jax.jit(make(plain))(w), rtol=1e-9)


def test_nested_vmaps_over_images_and_kernels():
    x, w = numbers(0, (2, 1, 4, 4, 2)), numbers(1, (3, 2, 2, 2, 2))
    op = lambda x, w: convolve(x, w, 0.0, 1, 0, "direct")
    got = jax.vmap(jax.vmap(op, (0, None)), (None, 0))(x, w)
    expected = jnp.stack([jnp.stack([op(a, b) for a in x]) for b in w])
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("method", (*ONE_GROUP, None))
def test_a_minibatch_sharded_over_devices_gives_the_same_gradient(method):
    x, w = numbers(0, (4, 4, 4, 1)), numbers(1, (3, 3, 1, 2))
    loss = lambda w, x: (convolve(x, w, 0.0, 1, 1, method) ** 2).sum()
    expected = jax.jit(jax.grad(loss))(w, x)
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        jax.grad(loss), mesh=mesh, in_specs=(spec(), spec("batch")), out_specs=spec()
    )
    np.testing.assert_allclose(jax.jit(sharded)(w, x), expected, rtol=1e-10)


@pytest.mark.parametrize("method", ["blocked", "winograd", None])
def test_a_mesh_with_explicit_axes_shards_the_output_like_the_images(method):
    x, w = numbers(0, (4, 4, 4, 1)), numbers(1, (3, 3, 1, 2))
    op = lambda w, x: convolve(x, w, 0.0, 1, 1, method)
    grad = jax.grad(lambda w, x: (op(w, x) ** 2).sum())
    expected = jax.jit(grad)(w, x)
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        w, x = jax.device_put(w, spec()), jax.device_put(x, spec("batch"))
        y, got = jax.jit(lambda w, x: (op(w, x), grad(w, x)))(w, x)
    assert jax.typeof(y).sharding.spec == spec("batch", None, None, None)
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-10)


def test_the_method_follows_the_shapes():
    chosen = lambda size, c, k, f, *more: choose_method((8, size, size, c), (k, k, c, f), *more)
    assert chosen(28, 1, 5, 30) == chosen(32, 3, 3, 64) == "blocked"
    assert chosen(227, 3, 11, 96, 4) == chosen(8, 512, 1, 64) == chosen(8, 3, 1, 64) == "columns"
    assert chosen(8, 32, 3, 32, 1, 1) == chosen(21, 64, 3, 64, 1, 1) == "winograd"
    assert chosen(8, 64, 5, 64) == chosen(16, 64, 3, 64, 2) == "direct"
    # transforms cost too much
    assert chosen(6, 16, 3, 32) == chosen(14, 32, 3, 32) == chosen(22, 64, 3, 64, 1, 1) == "direct"
    assert chosen(5, 64, 3, 64, 1, 1) == "direct"  # four tiles for 25 outputs
    assert chosen(8, 32, 3, 32, 1, 1, "bfloat16") == "direct"
    grouped = lambda c, k, f, groups, dilation=1: choose_method(
        (8, 14, 14, c), (k, k, c // groups, f), groups=groups, dilation=dilation
    )
    assert grouped(32, 3, 32, 32) == grouped(4, 5, 4, 4, 2) == "depthwise"
    assert grouped(32, 3, 64, 32) == grouped(32, 3, 32, 2) == grouped(32, 3, 32, 1, 2) == "columns"


def test_blocks_are_as_wide_as_the_kernel_allows_and_divide_the_row():
    assert [block_width(5, n, 30) for n in (24, 25, 26, 3, 1)] == [4, 5, 4, 3, 1]


def test_spare_rows_are_as_few_as_it_takes():
    count = lambda size, pad: spare_rows(
        (2, size, size, 17), (3, 3, 17, 5), ((pad, pad), (pad, pad))
    )
    assert (count(8, 1), count(9, 0)) == (1, 5)
    assert count(8, 0) == 0  # it would take 5 for 6


@pytest.mark.skipif(
    jax.default_backend() != "cpu" or not jaxlib.__version__.startswith("0.10."),
    reason="about the compiler for CPUs of jaxlib 0.10",
)
def test_lax_conv_is_kept_off_the_library_that_uses_one_core():
    """Read in the compiled program: with spare rows the convolution stays XLA's own."""
    x, w = numbers(0, (2, 8, 8, 17), jnp.float32), numbers(1, (3, 3, 17, 5), jnp.float32)
    compiled = lambda f: jax.jit(f).lower(x, w).compile().as_text()
    assert "__ynn_fusion" in compiled(lambda x, w: lax_conv(x, w, 0.0, (1, 1), (1, 1)))
    assert "__ynn_fusion" not in compiled(lambda x, w: convolve(x, w, 0.0, 1, 1, "direct"))


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
        (lambda: conv(3, 3, method="fft"), "method is 'fft', but one of 'columns', 'blocked'"),
        (
            lambda: convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), 0.0, 2, 0, "blocked"),
            r"method 'blocked' is for stride 1, dilation 1 and one group, but .* stride \(2, 2\)",
        ),
        (
            lambda: convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 3, 1, 2)), 0.0, 1, 0, "winograd"),
            r"'winograd' is for stride 1.* and kernels of 3x3, but the kernel is \(2, 3,",
        ),
        (
            lambda: convolve(
                jnp.ones((1, 4, 4, 2)), jnp.ones((2, 2, 1, 4)), 0.0, 1, 0, "depthwise", 2
            ),
            r"'depthwise' is for groups of one channel and one filter, but .*\(2, 2, 1, 4\)",
        ),
        (
            lambda: convolve(
                jnp.ones((1, 4, 4, 2)), jnp.ones((2, 2, 1, 2)), 0.0, 1, 0, "direct", 2
            ),
            r"'direct' is for one group, but .* 2 groups",
        ),
        (lambda: conv(3, 3, dilation=0), r"conv: dilation is 0, but an integer of at least 1"),
        (lambda: conv(3, 3, groups=2), "conv: groups is 2, but there are 3 filters"),
        (
            lambda: conv(4, 3, groups=2).init(None, (5, 5, 3)),
            "groups is 2, but there are 3 channels",
        ),
        (
            lambda: conv(4, 3, dilation=3).init(None, (6, 8, 3)),
            r"height 7 .* \(6 \+ 0 \+ 0 - 7\)/1",
        ),
        (
            lambda: convolve(jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 4, 2)), 0.0, groups=2),
            r"w has shape \(3, 3, 4, 2\), .* 2 channels, filters\), .* in 2 groups",
        ),
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
