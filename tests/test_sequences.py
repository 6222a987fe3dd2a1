"""Recurrent layers and attention against independent references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import ops

rng = np.random.default_rng(0)
normal = lambda *shape: rng.normal(size=shape)
sigmoid = lambda x: 1 / (1 + np.exp(-x))


def test_gru_is_the_formula_step_by_step():
    x, w, u, b, c = normal(2, 4, 3), normal(3, 6), normal(2, 6), normal(6), normal(2)
    h, states = np.zeros((2, 2)), []
    for t in range(4):
        a, s = x[:, t] @ w + b, h @ u
        r, z = sigmoid(a[:, :2] + s[:, :2]), sigmoid(a[:, 2:4] + s[:, 2:4])
        n = np.tanh(a[:, 4:] + r * (s[:, 4:] + c))
        h = (1 - z) * n + z * h
        states.append(h)
    np.testing.assert_allclose(ops.gru_states(x, w, u, b, c), np.stack(states, 1), rtol=1e-12)


def test_lstm_is_the_formula_step_by_step():
    x, w, u, b = normal(2, 4, 3), normal(3, 8), normal(2, 8), normal(8)
    h, c, states = np.zeros((2, 2)), np.zeros((2, 2)), []
    for t in range(4):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    np.testing.assert_allclose(ops.lstm_states(x, w, u, b), np.stack(states, 1), rtol=1e-12)


def test_the_last_state_and_the_bias_of_the_forget_gate(key):
    x = jnp.asarray(normal(2, 4, 3))
    biases = jax.vmap(lambda f: pn.lstm(2, forget_bias=f).init(key, (4, 3)).weights["b"])
    np.testing.assert_array_equal(
        biases(jnp.array([0.0, 3.0])), [[0] * 8, [0, 0, 3, 3, 0, 0, 0, 0]]
    )
    for layer in (pn.gru, pn.lstm):
        params = layer(2).init(key, (4, 3))
        every, last = (layer(2, last=o).apply(params, x, True, None)[0] for o in (False, True))
        np.testing.assert_array_equal(every[:, -1], last)


@pytest.mark.parametrize("name, shapes", [("gru", [(3, 6), (2, 6), (6,), (2,)]),
                                          ("lstm", [(3, 8), (2, 8), (8,)])])  # fmt: skip
def test_padded_sequences_are_each_alone_whatever_is_in_the_padding(name, shapes):
    op, padded = (getattr(ops, f"{name}_states{end}") for end in ("", "_padded"))
    x, weights, lengths = normal(4, 5, 3), [normal(*s) for s in shapes], np.array([3, 5, 0, 9])
    dirty = np.where(np.arange(5)[:, None] < lengths[:, None, None], x, np.nan)
    weigh = jnp.cos(jnp.arange(40.0)).reshape(4, 5, 2)

    @jax.jit
    def everything(x, weights):
        f = lambda x, weights: (padded(x, *weights, lengths) * weigh).sum()
        y, gradients = padded(x, *weights, lengths), jax.grad(f, (0, 1))(x, weights)
        alone = lambda x, weights: sum(
            (op(x[i : i + 1, :n], *weights) * weigh[i : i + 1, :n]).sum()
            for i, n in enumerate((3, 5, 0, 5)) if n
        )  # fmt: skip
        return y, gradients, jax.grad(alone, (0, 1))(x, weights)

    y, found, expected = everything(dirty, weights)
    for i, n in enumerate(lengths):
        if n:
            np.testing.assert_allclose(y[i, :n], op(x[i : i + 1, :n], *weights)[0], rtol=1e-12)
        assert not y[i, n:].any() and not found[0][i, n:].any()
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def full_matrix(q, k, v, mask, causal):
    z = jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[-1])
    hidden = ~mask[:, None, None] | (causal & (np.arange(7)[None] > np.arange(7)[:, None]))
    return jnp.einsum("nhts,nshe->nthe", jax.nn.softmax(jnp.where(hidden, -jnp.inf, z)), v)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_blocks_is_that_of_the_full_matrix(causal):
    arrays = tuple(jnp.asarray(normal(2, 7, 2, 3)) for _ in range(3))
    mask = np.array([[True] * 7, [True] * 4 + [False] * 3])
    weigh = jnp.cos(jnp.arange(84.0)).reshape(2, 7, 2, 3)
    of_jax = lambda *a: jax.nn.dot_product_attention(*a, mask=mask[:, None, None], is_causal=causal)

    def both(f):
        return jax.value_and_grad(lambda a: (f(*a) * weigh).sum())(arrays)

    @jax.jit
    def each():
        full = both(lambda *a: full_matrix(*a, mask, causal))
        return full, both(of_jax), both(lambda *a: ops.attend(*a, mask, causal, 2))

    full, reference, got = map(jax.tree.leaves, each())
    for a, b, c in zip(full, reference, got, strict=True):
        np.testing.assert_allclose(c, a, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(c, b, rtol=1e-5, atol=1e-5)  # its softmax is float32


@pytest.mark.parametrize("causal", [False, True])
def test_the_memory_of_attention_grows_with_the_length_not_with_its_square(causal):
    def temporary(length):
        x = jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
        loss = lambda a: jnp.square(ops.attend(*a, True, causal)).sum()
        return jax.jit(jax.grad(loss)).lower((x,) * 3).compile().memory_analysis()

    short, long = (temporary(n).temp_size_in_bytes for n in (1024, 2048))
    assert long < 2.2 * short  # 4 times for a square
    assert long < 2048 * 2048 * 4 / 2  # one matrix of scores would be twice this


X, ROWS = jnp.ones((2, 3, 4)), jnp.ones((2, 3, 1, 4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ops.gru_states(X, X, X, X, X), r"gru: x has shape \(2, 3, 4\).*\(k, 3k\)"),
        (lambda: ops.lstm_states(X[0], X[0], X[0], X[0]), r"lstm: x has shape \(3, 4\).*time"),
        (
            lambda: ops.gru_states_padded(X, X, X, X, X, np.array([1])),
            r"gru_states_padded: lengths has shape \(1,\), but \(n,\).*\(2, 3, 4\)",
        ),
        (
            lambda: ops.lstm_states_padded(X, X, X, X, lengths=np.array([[1, 2]])),
            r"lstm_states_padded: lengths has shape \(1, 2\)",
        ),
        (lambda: pn.gru(2).init(jax.random.key(0), 4), r"gru: one example has shape \(4,\)"),
        (lambda: pn.lstm(2).init(jax.random.key(0), (4, 4, 1)), r"lstm: one example has shape"),
        (lambda: pn.attention(3).init(jax.random.key(0), (3, 4)), r"divisible by 3 heads"),
        (lambda: ops.attend(ROWS, ROWS, X), r"attention: q, k and v have shapes"),
        (lambda: ops.attend(ROWS, ROWS, ROWS, jnp.array(True)), r"mask has shape \(\).*\(2, 3\)"),
        (lambda: ops.attend(ROWS, ROWS, ROWS, True, True, 0), r"attend: block is 0"),
    ],
)
def test_wrong_shapes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_lengths_of_floats_are_refused():
    with pytest.raises(TypeError, match=r"gru_states_padded: lengths is .*an array of integers"):
        ops.gru_states_padded(X, X, X, X, X, jnp.ones(2))


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match=r"attention: mask is .*an array of bools"):
        ops.attend(ROWS, ROWS, ROWS, jnp.ones((2, 3)))
