"""Layers at the edges of what they accept: one axis, one unit, no index, defaults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import ops


def test_one_axis_is_enough_where_only_the_last_counts():
    x = jnp.array([0.0, jnp.log(3.0)])
    np.testing.assert_allclose(ops.softmax(x), [0.25, 0.75], rtol=1e-12)
    y = ops.local_response_normalise(jnp.array([1.0, 2.0]), 1.0, 1.0, 1.0, 1)
    np.testing.assert_allclose(y, [0.5, 0.4], rtol=1e-12)


def test_one_unit_is_a_layer():
    assert pn.dense(1).init(jax.random.key(0), 3).weights["w"].shape == (3, 1)
    assert pn.embedding(1, 1).init(jax.random.key(0), 3).weights["w"].shape == (1, 1)


def test_the_defaults_of_local_response_normalisation_are_those_of_its_paper():
    _, arguments = pn.local_response_norm().spec
    assert arguments == {"n": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}


def test_rows_that_are_looked_up_several_times_get_the_sum_of_their_gradients():
    indices = jnp.array([[[2, 0], [2, 1], [2, 2]]])  # (1, 3, 2) -> (1, 3, 2, 4)
    g = jnp.arange(24.0).reshape(1, 3, 2, 4)
    table = jnp.ones((5, 4))
    got = jax.grad(lambda table: (ops.look_up(table, indices) * g).sum())(table)
    expected = np.zeros((5, 4))
    np.add.at(expected, np.asarray(indices), np.asarray(g))
    np.testing.assert_allclose(got, expected)


def test_indices_are_checked_where_they_are_known():
    layer = pn.embedding(3, 2)
    params = layer.init(jax.random.key(0), 4)
    apply = lambda indices: layer.apply(params, indices, False, None)[0]
    for indices in ([0, 2], np.zeros((0,), int), np.zeros((2, 0), int)):
        assert apply(jnp.asarray(indices, int)).shape == (*np.shape(indices), 2)
    for wrong in ([0, 3], [-1, 2]):
        for of in (jnp.array, np.array):
            with pytest.raises(ValueError, match=rf"from {wrong[0]} to {wrong[1]}, but the table"):
                apply(of(wrong))
        outside = [not 0 <= i < 3 for i in wrong]
        traced = jax.jit(apply)(jnp.array(wrong))
        assert jnp.isnan(traced).all(axis=1).tolist() == outside
