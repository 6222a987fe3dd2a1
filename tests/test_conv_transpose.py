"""Transposed convolution: against lax and the transpose of `convolve`; its sizes and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_conv import numbers, value_and_cotangents

import purenet as pn
from purenet.nn.conv import convolve
from purenet.nn.conv_transpose import conv_transpose, convolve_transposed, enlarged
from purenet.nn.initializers import zeros

# (size, channels, kernel, filters, stride, padding)
SHAPES = [
    ((3, 4), 2, (3, 2), 3, (2, 1), (1, 0)),
    ((4, 3), 3, (4, 4), 2, (2, 2), (1, 1)),
    ((2, 5), 1, (2, 3), 2, (3, 2), "same"),
    ((5, 6), 5, (3, 3), 5, (1, 1), (2, 2)),
    ((1, 1), 2, (5, 5), 1, (1, 1), "valid"),
]


def by_lax(x, w, b, stride, padding):
    """lax.conv of pixels `stride` apart, with the kernel turned around: no rule of ours."""
    kernel = w.shape[:2]
    outputs = enlarged(x.shape[1:3], kernel, stride, padding)
    ends = []
    for size, k, s, out in zip(x.shape[1:3], kernel, stride, outputs, strict=True):
        cut = (size - 1) * s + k - out  # below 0 where "same" adds pixels that nothing reaches
        low = max(cut, 0) // 2
        ends.append((k - 1 - low, k - 1 - (cut - low)))
    layout = ("NHWC", "HWIO", "NHWC")
    return b + lax.conv_general_dilated(x, w[::-1, ::-1], (1, 1), ends, stride, None, layout)


@pytest.mark.parametrize("size, c, kernel, f, stride, padding", SHAPES)
def test_it_is_the_transpose_of_convolve_by_every_method(size, c, kernel, f, stride, padding):
    args = numbers(0, (2, *size, c)), numbers(1, (*kernel, c, f)), numbers(2, (f,))
    methods = ["columns", "direct", "lax", None]
    methods += ["blocked", "winograd"] if (kernel, stride) == ((3, 3), (1, 1)) else []
    outputs = enlarged(size, kernel, stride, padding)

    @jax.jit
    def everything(args):
        x, w, _ = args
        forwards = lambda y: convolve(y, w.swapaxes(2, 3), 0.0, stride, padding)
        (pulled,) = jax.vjp(forwards, jnp.zeros((2, *outputs, f)))[1](x)
        found = [
            value_and_cotangents(lambda *a, m=m: convolve_transposed(*a, stride, padding, m), args)
            for m in methods
        ]
        return pulled, found, value_and_cotangents(lambda *a: by_lax(*a, stride, padding), args)

    pulled, found, expected = everything(args)
    np.testing.assert_allclose(found[0][0], pulled + args[2], rtol=1e-10, atol=1e-12)
    for got in found:
        chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-11)


def test_it_makes_the_size_from_which_a_convolution_makes_the_input():
    for stride in (1, 2, 3):
        for padding in (0, 1, "same"):
            y = convolve_transposed(
                jnp.ones((1, 4, 5, 2)), jnp.ones((3, 4, 2, 3)), 0.0, stride, padding
            )
            back = jax.eval_shape(
                lambda y, s=stride, p=padding: convolve(y, jnp.ones((3, 4, 3, 2)), 0.0, s, p), y
            )
            assert back.shape == (1, 4, 5, 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_low_precision_is_kept_and_is_as_exact_as_it(dtype):
    args = [numbers(i, s, dtype) for i, s in enumerate(((2, 3, 3, 3), (3, 3, 3, 2), (2,)))]
    got = value_and_cotangents(lambda *a: convolve_transposed(*a, 2, 1), args)
    wide = lambda tree: jax.tree.map(lambda a: np.asarray(a, float), tree)
    exact = value_and_cotangents(lambda *a: by_lax(*a, (2, 2), (1, 1)), wide(args))
    assert all(a.dtype == dtype for a in jax.tree.leaves(got))
    most = 20 * float(jnp.finfo(dtype).eps)
    chex.assert_trees_all_close(wide(got), exact, rtol=most, atol=10 * most)


def test_a_vmap_over_kernels_is_one_convolution_elsewhere_and_none_on_a_cpu():
    x, w = numbers(0, (2, 3, 3, 6)), numbers(1, (7, 3, 3, 6, 5))
    loss = lambda w: (convolve_transposed(x, w, 0.0, 2) ** 2).sum()
    program = jax.jit(jax.vmap(jax.grad(loss)))
    there, here = (
        program.trace(w).lower(lowering_platforms=(p,)).as_text() for p in ("tpu", "cpu")
    )
    assert there.count("stablehlo.convolution") == 2 and "convolution" not in here


def test_initial_kernels_are_scaled_by_the_inputs_of_one_output(key):
    seen = []

    def drawn(key, shape, fans=None):
        seen.append((shape, fans))
        return zeros(key, shape)

    layer = conv_transpose(3, 4, stride=2, weight_init=drawn, bias=False)
    assert set(layer.init(key, (5, 5, 8)).weights) == {"w"}
    assert seen == [((4, 4, 8, 3), (32, 48))]


def test_an_encoder_and_its_decoder_have_the_same_sizes(key):
    net = pn.serial(
        pn.conv(4, 3, 2, "same"), pn.relu, pn.conv_transpose(2, 3, 2, "same"), pn.tanh
    )  # fmt: skip
    y, _ = net.apply(net.init(key, (8, 6, 2)), jnp.ones((3, 8, 6, 2)), True, None)
    assert y.shape == (3, 8, 6, 2)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: conv_transpose(3, 0), r"conv_transpose: kernel is 0, but an integer"),
        (lambda: conv_transpose(3, 3, padding="full"), r"conv_transpose: padding is 'full'"),
        (lambda: conv_transpose(3, 3, method="fft"), "conv_transpose: method is 'fft'"),
        (lambda: conv_transpose(3, 3).init(None, 9), r"conv_transpose: .*\(1, 9\).*reshape"),
        (
            lambda: conv_transpose(3, 3, padding=2).init(None, (2, 1, 1)),
            r"images \(2, 1\) .* the padding 2 leaves \(0, -1\).*use less",
        ),
        (
            lambda: convolve_transposed(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 2, 3)), 0.0),
            r"conv_transpose: w has shape \(3, 3, 2, 3\), but \(height, width, 3 channels",
        ),
        (
            lambda: convolve_transposed(
                jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), jnp.zeros(3)
            ),
            r"conv_transpose: b has shape \(3,\), but \(2,\)",
        ),
        (
            lambda: convolve_transposed(
                jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), 0.0, 2, 0, "winograd"
            ),
            r"conv_transpose: method 'winograd' is for stride 1.* stride \(2, 2\)",
        ),
    ],
)
def test_errors_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
