"""Losses on numbers that no two formulas share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn

LOGITS = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_rows_of_labels_need_not_sum_to_one(smoothing):
    labels = jnp.array([[0.2, 0.1, 0.4], [4.0, 0.0, 1.0]])
    loss = lambda f: jax.grad(f, (0, 1))(LOGITS, labels, smoothing)
    got, expected = loss(pn.softmax_cross_entropy), loss(pn.softmax_cross_entropy.plain)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    p, t = jax.nn.softmax(LOGITS), (1 - smoothing) * labels + smoothing / 3
    loss = pn.softmax_cross_entropy(LOGITS, labels, smoothing)
    np.testing.assert_allclose(loss, -(t * jnp.log(p)).sum() / 2, rtol=1e-12)
    np.testing.assert_allclose(got[0], (p * t.sum(1, keepdims=True) - t) / 2, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_numbers_have_the_gradient_of_their_rows(smoothing):
    numbers = jnp.array([2, 0])
    rows = jnp.eye(3)[numbers]
    loss = lambda labels: jax.grad(pn.softmax_cross_entropy)(LOGITS, labels, smoothing)
    np.testing.assert_allclose(loss(numbers), loss(rows), rtol=1e-12)
