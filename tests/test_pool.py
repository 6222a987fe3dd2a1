"""Pooling against lax.reduce_window, ties, NaN, errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from purenet.nn import pool
from purenet.nn.pool import avg_pool, global_avg_pool, max_pool, pool_average, pool_max

few = settings(max_examples=6, deadline=None, derandomize=True)
small = lambda least, most: st.tuples(*[st.integers(least, most)] * 2)


@few
@given(small(3, 7), small(1, 3), small(1, 3), st.booleans())
def test_pooling_equals_reduce_window_and_its_derivatives(size, kernel, stride, pad):
    padding = tuple(k - 1 if pad else 0 for k in kernel)
    window = (1, *kernel, 1), (1, *stride, 1), ((0, 0), *((p, p) for p in padding), (0, 0))
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    pairs = [
        (pool_max, lambda x: lax.reduce_window(x, -jnp.inf, lax.max, *window)),
        (
            pool_average,
            lambda x: lax.reduce_window(x, 0.0, lax.add, *window) / (kernel[0] * kernel[1]),
        ),
    ]
    for op, reference in pairs:
        got = value_and_cotangent(lambda x, op=op: op(x, kernel, stride, padding), x)
        chex.assert_trees_all_close(got, value_and_cotangent(reference, x), rtol=1e-10, atol=1e-12)


def value_and_cotangent(f, x):
    def both(x):
        y, pull = jax.vjp(f, x)
        return y, pull(jnp.cos(jnp.arange(y.size)).reshape(y.shape))

    return jax.jit(both)(x)  # one program is compiled sooner than every step of it


@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (2, 1)])
def test_ties_go_to_the_first_maximum_in_row_major_order(size, stride):
    x = jnp.ones((1, 4, 4, 1))
    dx = jax.jit(jax.grad(lambda x: pool_max(x, size, stride).sum()))(x)[0, :, :, 0]
    firsts = np.zeros((4, 4))
    count = (4 - size) // stride + 1
    firsts[: count * stride : stride, : count * stride : stride] = 1
    np.testing.assert_array_equal(dx, firsts)


@few
@given(small(3, 7), small(1, 3), small(1, 3), st.booleans(), st.sampled_from([0.0, 1.0, np.nan]))
def test_the_backward_of_every_platform_is_the_same(size, kernel, stride, pad, rare):
    padding = tuple(k - 1 if pad else 0 for k in kernel)
    image = jax.random.randint(jax.random.key(0), (2, *size, 3), 0, 3)  # with ties
    x = jnp.where(image == 0, rare, image)
    y = pool_max(x, kernel, stride, padding)
    g = 1 + jnp.cos(jnp.arange(y.size)).reshape(y.shape)
    at = pool._windows("max_pool", x.shape, kernel, stride, padding)
    expected = to_the_first_maximum(at, x, g)
    by_axes, to_first = lambda g: pool._by_axes(at, x, g), lambda g: pool._to_first(at, x, y, g)
    for back in (by_axes, to_first):
        np.testing.assert_allclose(jax.jit(back)(g), expected)
    if not np.isnan(rare):
        np.testing.assert_allclose(pool._scattered(at, x, g), expected)


def to_the_first_maximum(at, x, g):
    """By hand, window by window."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (oh, ow) = at
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    x = np.pad(np.asarray(x, float), around, constant_values=-np.inf)
    dx = np.zeros_like(x)
    for n, i, j, c in np.ndindex(len(x), oh, ow, x.shape[3]):
        seen = (n, slice(i * sh, i * sh + kh), slice(j * sw, j * sw + kw), c)
        row, column = np.unravel_index(np.argmax(x[seen]), (kh, kw))  # the first; NaN above all
        dx[seen][row, column] += g[n, i, j, c]
    return dx[:, top : dx.shape[1] - bottom, left : dx.shape[2] - right]


def test_a_nan_is_the_maximum_wherever_it_is():
    for place in np.ndindex(2, 2):
        x = jnp.ones((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan)
        assert jnp.isnan(pool_max(x, 2)).all()


def test_padding_is_never_the_maximum_but_counts_in_the_mean():
    x = -jnp.ones((1, 2, 2, 1))
    np.testing.assert_array_equal(pool_max(x, 2, 2, 1), -jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(pool_average(x, 2, 2, 1), -jnp.ones((1, 2, 2, 1)) / 4)


def test_the_global_mean_is_one_window_as_large_as_the_image():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    one_window = pool_average(x, (3, 4))[:, 0, 0]
    np.testing.assert_allclose(global_avg_pool(x), one_window, rtol=1e-12)


@pytest.mark.parametrize("layer", [max_pool(3, 2), avg_pool((2, 3), padding=1)])
def test_the_layers_have_no_parameters_and_a_description(layer, key):
    params = layer.init(key, (6, 6, 2))
    assert jax.tree.leaves(params) == []
    y, stats = layer.apply(params, jnp.ones((4, 6, 6, 2)), True, None)
    assert y.shape[0] == 4 and y.shape[3] == 2 and stats == ()
    name, arguments = layer.spec
    assert {"max_pool": max_pool, "avg_pool": avg_pool}[name](**arguments).spec == layer.spec


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: max_pool(2).init(None, 100), r"max_pool: .*reshape"),
        (lambda: avg_pool(3).init(None, (2, 5, 1)), r"\(2 \+ 0 \+ 0 - 3\)/3 \+ 1 is below 1"),
        (lambda: max_pool(0), r"max_pool: size is 0"),
        (lambda: max_pool(2, stride=(1, 0)), r"max_pool: stride is \(1, 0\)"),
        (lambda: pool_max(jnp.ones((1, 4, 4, 1)), 2, 2, 2), r"padding alone.*smaller"),
        (lambda: global_avg_pool(jnp.ones((4, 4))), r"global_avg_pool: .*\(4, 4\)"),
    ],
)
def test_errors_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
