"""Recurrent layers, GRU and LSTM, with backpropagation through time by hand.

The inputs' share of all gates is one product before the scan, and the gradients of the weights are
one product each after it; in between, the backward pass is one reversed scan. The gates of the
forward pass are kept: recomputing those of a GRU from its states took 1.2 to 1.3 times the CPU time
of automatic differentiation, where keeping them takes 0.7 to 0.8 times.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from purenet.core.dtypes import cast, common_dtype, widen
from purenet.core.types import Array, Layer
from purenet.core.validate import Boolean, Finite, PositiveInteger, declared, expect, require
from purenet.core.vjp import hand_vjp
from purenet.nn.activations import sigmoid
from purenet.nn.base import WeightInit, expect_shape, init_weights, named, shape, stateless
from purenet.nn.initializers import lecun_normal

EXAMPLES = {
    "gru_states": (((2, 3, 4), (4, 6), (2, 6), (6,), (2,)), ()),
    "lstm_states": (((2, 3, 4), (4, 8), (2, 8), (8,)), ()),
    "gru_states_padded": (((2, 3, 4), (4, 6), (2, 6), (6,), (2,), np.array([2, 3])), ()),
    "lstm_states_padded": (((2, 3, 4), (4, 8), (2, 8), (8,), np.array([3, 1])), ()),
}


# forward
def _gru_states(x: Array, w: Array, u: Array, b: Array, c: Array) -> jax.Array:
    """The states of a gated recurrent unit at all times, from h₀ = 0.

        r, z = σ(x W + b + h U),  n = tanh(x Wₙ + bₙ + r (h Uₙ + c)),  h' = n + z (h - n)

    Shapes: x (n, t, i), w (i, 3k), u (k, 3k), b (3k,), c (k,) -> (n, t, k); the columns of w, u and
    b are those of r, z and n, in this order. States are float32 or wider between the steps.
    With cotangents g, and d that of h', from the last time to the first, aₙ the sum inside of tanh:
    daₙ = d (1 - z)(1 - n²), dm = daₙ r for m = h Uₙ + c, da_r = daₙ m r (1 - r), da_z = d (h - n)
    z (1 - z), and dh = g + d z + (da_r, da_z, dm) Uᵀ. Then dx = da Wᵀ, dW = Σ xᵀ da, db = Σ da,
    dU = Σ hᵀ (da_r, da_z, dm) and dc = Σ dm.
    Raises ValueError for other shapes.
    Source: Cho et al. (2014), with r after the product as in cuDNN: Chung et al. (2014).

    >>> x, zeros = jnp.ones((1, 2, 1)), jnp.zeros((1, 3))
    >>> gru_states(x, jnp.array([[0.0, 0.0, 100.0]]), zeros, zeros[0], zeros[0, :1]).tolist()
    [[[0.5], [0.75]]]
    """
    return _gru_states_fwd(x, w, u, b, c)[0]


def _lstm_states(x: Array, w: Array, u: Array, b: Array) -> jax.Array:
    """The states of a long short-term memory at all times, from h₀ = c₀ = 0.

        i, f, o = σ(x W + b + h U),  g = tanh(x W + b + h U),  c' = f c + i g,  h' = o tanh(c')

    Shapes: x (n, t, j), w (j, 4k), u (k, 4k), b (4k,) -> (n, t, k); the columns of w, u and b are
    those of i, f, g and o, in this order. States are float32 or wider between the steps.
    With d the cotangent of h' and e that of c', from the last time to the first, s = tanh(c'):
    e gets d o (1 - s²); da = (e g i (1 - i), e c f (1 - f), e i (1 - g²), d s o (1 - o)); before
    the step they are da Uᵀ + (the cotangent of the output) and e f. Then dx = da Wᵀ, dW = Σ xᵀ da,
    db = Σ da and dU = Σ hᵀ da.
    Raises ValueError for other shapes.
    Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers, Schmidhuber & Cummins
    (2000).

    >>> x, zeros = jnp.ones((1, 2, 1)), jnp.zeros((1, 4))
    >>> w = jnp.array([[100.0, 100.0, 100.0, 100.0]])  # all gates open: it counts
    >>> jnp.arctanh(lstm_states(x, w, zeros, zeros[0])).round(4).tolist()
    [[[1.0], [2.0]]]
    """
    return _lstm_states_fwd(x, w, u, b)[0]


def _prepared(caller, gates, x, *weights):
    """x and the weights in one dtype, and the inputs' share of the gates: (t, n, gates k)."""
    w, u, b, *rest = weights
    k = jnp.shape(u)[0] if jnp.ndim(u) else 0
    require(
        jnp.ndim(x) == 3
        and jnp.shape(w) == (x.shape[2], gates * k)
        and jnp.shape(u) == (k, gates * k)
        and jnp.shape(b) == (gates * k,)
        and all(jnp.shape(a) == (k,) for a in rest)
        and x.shape[1] > 0,
        f"{caller}: x has shape {jnp.shape(x)} and the weights {', '.join(map(_shown, weights))}, "
        f"but (batch, time, features) with at least one time, and for k units (features, {gates}k),"
        f" (k, {gates}k), ({gates}k,){', (k,)' if rest else ''} are expected.",
    )
    dtype = common_dtype((x, *weights))
    x, w, u, b, *rest = cast((x, w, u, b, *rest), dtype)
    x = x.astype(dtype)  # integers too
    return x, w, u, b, *rest, _widely("nti,ih->tnh", x, w) + widen(b)[None, None]


def _shown(a):
    return str(jnp.shape(a))


def _widely(product, a, b):
    """A product in the dtype of its factors, as float32 or wider."""
    return widen(jnp.einsum(product, a, b))


def _start(a, units):
    return jnp.zeros_like(a[0, :, :units])


# backward, by hand
def _gru_states_fwd(x, w, u, b, c):
    x, w, u, b, c, a = _prepared("gru", 3, x, w, u, b, c)
    k = u.shape[0]

    def step(h, a):
        s = _widely("nk,kh->nh", h.astype(u.dtype), u)
        r, z = jnp.split(sigmoid.plain(a[:, : 2 * k] + s[:, : 2 * k]), 2, axis=1)
        m = s[:, 2 * k :] + widen(c)[None]
        n = jnp.tanh(a[:, 2 * k :] + r * m)
        new = n + z * (h - n)
        return new, (h, r, z, n, m, new)

    _, (*kept, states) = lax.scan(step, _start(a, k), a)  # each (t, n, k)
    return states.swapaxes(0, 1).astype(x.dtype), (x, w, u, kept)


def _gru_states_bwd(residuals, g):
    x, w, u, (h, r, z, n, m) = residuals
    k = u.shape[0]

    def step(d, now):
        g, h, r, z, n, m = now
        d = d + g.astype(d.dtype)
        dn = d * (1 - z) * (1 - n * n)
        dm = dn * r
        ds = jnp.concatenate([dm * m * (1 - r), d * (h - n) * z * (1 - z), dm], axis=1)
        return d * z + _widely("nh,kh->nk", ds.astype(u.dtype), u), (ds, dn)

    now = (g.swapaxes(0, 1), h, r, z, n, m)
    _, (ds, dn) = lax.scan(step, jnp.zeros_like(h[0]), now, reverse=True)
    da = jnp.concatenate([ds[..., : 2 * k], dn], axis=2)  # (t, n, 3k), as ds
    return *_of_weights(x, w, h, da, ds), ds[..., 2 * k :].sum((0, 1))


def _of_weights(x, w, h, da, ds):
    """The cotangents of x, w, u and b, one product each."""
    narrow = da.astype(x.dtype)
    dx = jnp.einsum("tnh,ih->nti", narrow, w)  # (t, n, h)(h, i) -> (n, t, i)
    dw = _widely("nti,tnh->ih", x, narrow)
    du = _widely("tnk,tnh->kh", h.astype(x.dtype), ds.astype(x.dtype))
    return dx, dw, du, da.sum((0, 1))


def _lstm_states_fwd(x, w, u, b):
    x, w, u, b, a = _prepared("lstm", 4, x, w, u, b)
    k = u.shape[0]

    def step(before, a):
        h, c = before
        i, f, g, o = jnp.split(a + _widely("nk,kh->nh", h.astype(u.dtype), u), 4, axis=1)
        i, f, g, o = sigmoid.plain(i), sigmoid.plain(f), jnp.tanh(g), sigmoid.plain(o)
        new_c = f * c + i * g
        s = jnp.tanh(new_c)
        return (o * s, new_c), (h, c, i, f, g, o, s, o * s)

    start = _start(a, k)
    _, (*kept, states) = lax.scan(step, (start, start), a)  # each (t, n, k)
    return states.swapaxes(0, 1).astype(x.dtype), (x, w, u, kept)


def _lstm_states_bwd(residuals, g):
    x, w, u, (h, c, i, f, g_, o, s) = residuals

    def step(later, now):
        d, e = later
        y, c, i, f, g, o, s = now
        d = d + y.astype(d.dtype)
        e = e + d * o * (1 - s * s)
        of_c = (e * g * i * (1 - i), e * c * f * (1 - f), e * i * (1 - g * g))
        da = jnp.concatenate([*of_c, d * s * o * (1 - o)], axis=1)
        return (_widely("nh,kh->nk", da.astype(u.dtype), u), e * f), da

    zeros = jnp.zeros_like(h[0])
    now = (g.swapaxes(0, 1), c, i, f, g_, o, s)
    _, da = lax.scan(step, (zeros, zeros), now, reverse=True)  # (t, n, 4k)
    return _of_weights(x, w, h, da, da)


gru_states = hand_vjp(_gru_states, _gru_states_fwd, _gru_states_bwd)
lstm_states = hand_vjp(_lstm_states, _lstm_states_fwd, _lstm_states_bwd)


# sequences of several lengths, padded at their ends to one
def _gru_states_padded(
    x: Array, w: Array, u: Array, b: Array, c: Array, lengths: Array
) -> jax.Array:
    """The states of a gated recurrent unit, of sequences that end at different times.

        y[i, t] = gru_states(x[i, : lengths[i]])[t] for t < lengths[i], 0 beyond

    Shapes: lengths (n,) of integers, from 0 to t (all above are t); the others, x (n, t, i), w, u,
    b and c, as in `gru_states` -> (n, t, k). Whatever x holds beyond the lengths has no effect,
    NaN neither, and gets the gradient 0. The last state of each is `y[jnp.arange(n), lengths - 1]`.
    With cotangent g: those of `gru_states`, of g set to 0 beyond the lengths.
    Raises ValueError for other shapes, TypeError for lengths that are not integers.
    Source: Cho et al. (2014), as `gru_states`.

    >>> x, zeros = jnp.ones((2, 2, 1)), jnp.zeros((1, 3))
    >>> w, lengths = jnp.array([[0.0, 0.0, 100.0]]), jnp.array([1, 2])
    >>> gru_states_padded(x, w, zeros, zeros[0], zeros[0, :1], lengths)[..., 0].tolist()
    [[0.5, 0.0], [0.5, 0.75]]
    """
    return _gru_states_padded_fwd(x, w, u, b, c, lengths)[0]


def _lstm_states_padded(x: Array, w: Array, u: Array, b: Array, lengths: Array) -> jax.Array:
    """The states of a long short-term memory, of sequences that end at different times.

        y[i, t] = lstm_states(x[i, : lengths[i]])[t] for t < lengths[i], 0 beyond

    Shapes: lengths (n,) of integers, from 0 to t (all above are t); the others, x (n, t, j), w, u
    and b, as in `lstm_states` -> (n, t, k). Whatever x holds beyond the lengths has no effect, NaN
    neither, and gets the gradient 0. The last state of each is `y[jnp.arange(n), lengths - 1]`.
    With cotangent g: those of `lstm_states`, of g set to 0 beyond the lengths.
    Raises ValueError for other shapes, TypeError for lengths that are not integers.
    Source: Hochreiter & Schmidhuber (1997), as `lstm_states`.

    >>> x, zeros = jnp.ones((2, 2, 1)), jnp.zeros((1, 4))
    >>> w, lengths = jnp.array([[100.0, 100.0, 100.0, 100.0]]), jnp.array([1, 2])
    >>> y = lstm_states_padded(x, w, zeros, zeros[0], lengths)
    >>> jnp.arctanh(y).round(4)[..., 0].tolist()
    [[1.0, 0.0], [1.0, 2.0]]
    """
    return _lstm_states_padded_fwd(x, w, u, b, lengths)[0]


# Nothing up to some time depends on what comes later. So the padding is set to 0, all sequences run
# to the end, and the states beyond the end of each are set to 0, as are their cotangents.
def _up_to(lengths, a):
    """a (n, t, ...) with 0 beyond the lengths."""
    before = jnp.arange(a.shape[1])[None] < lengths[:, None]
    return jnp.where(before[:, :, None], a, jnp.zeros((), a.dtype))


def _check_gru(x, w, u, b, c, lengths):
    _check_lengths("gru_states_padded", x, lengths)


def _check_lstm(x, w, u, b, lengths):
    _check_lengths("lstm_states_padded", x, lengths)


def _check_lengths(caller, x, lengths):
    whole = jnp.issubdtype(jnp.result_type(lengths), jnp.integer)
    expect(whole, f"{caller}: lengths", lengths, "an array of integers")
    fits = jnp.ndim(x) == 3 and jnp.shape(lengths) == jnp.shape(x)[:1]
    such = f"(n,), a length for each sequence of x {jnp.shape(x)},"
    expect_shape(fits, f"{caller}: lengths", lengths, such)


def _gru_states_padded_fwd(x, w, u, b, c, lengths):
    y, residuals = _gru_states_fwd(_up_to(lengths, x), w, u, b, c)
    return _up_to(lengths, y), (residuals, lengths)


def _lstm_states_padded_fwd(x, w, u, b, lengths):
    y, residuals = _lstm_states_fwd(_up_to(lengths, x), w, u, b)
    return _up_to(lengths, y), (residuals, lengths)


def _gru_states_padded_bwd(kept, g):
    residuals, lengths = kept
    return *_gru_states_bwd(residuals, _up_to(lengths, g)), None


def _lstm_states_padded_bwd(kept, g):
    residuals, lengths = kept
    return *_lstm_states_bwd(residuals, _up_to(lengths, g)), None


gru_states_padded = hand_vjp(
    _gru_states_padded, _gru_states_padded_fwd, _gru_states_padded_bwd, check=_check_gru
)
lstm_states_padded = hand_vjp(
    _lstm_states_padded, _lstm_states_padded_fwd, _lstm_states_padded_bwd, check=_check_lstm
)


# the layers
@declared
def gru(
    units: PositiveInteger, last: Boolean = False, weight_init: WeightInit = lecun_normal
) -> Layer:
    """A gated recurrent unit: (n, time, features) -> its states (n, time, units).

        r, z = σ(x W + b + h U),  n = tanh(x Wₙ + bₙ + r (h Uₙ + c)),  h' = n + z (h - n)

    With `last=True` only the last state, (n, units). The first is 0. Weights {"w": (features, 3
    units), "u": (units, 3 units), "b": (3 units,), "c": (units,)}; biases start at 0.
    Raises ValueError unless an example is (time, features), and for params of another network.
    Source: Cho et al. (2014), with r after the product as in cuDNN: Chung et al. (2014).

    >>> net = gru(4, last=True)
    >>> params = net.init(jax.random.key(0), (7, 3))
    >>> net.apply(params, jnp.ones((5, 7, 3)), True, None)[0].shape
    (5, 4)
    """

    def init(key, sizes):
        w, u, b = _initial("gru", weight_init, key, sizes, units, gates=3)
        return {"w": w, "u": u, "b": b, "c": jnp.zeros_like(b[:units])}

    def apply(weights, x, train, key):
        del train, key
        y = gru_states(x, *named("gru", "weights", weights, "w", "u", "b", "c"))
        return y[:, -1] if last else y

    arguments = {"units": units, "last": last, "weight_init": weight_init}
    return stateless(init, apply, spec=("gru", arguments))


@declared
def lstm(
    units: PositiveInteger,
    last: Boolean = False,
    forget_bias: Finite = 1.0,
    weight_init: WeightInit = lecun_normal,
) -> Layer:
    """A long short-term memory: (n, time, features) -> its states (n, time, units).

        i, f, o = σ(x W + b + h U),  g = tanh(x W + b + h U),  c' = f c + i g,  h' = o tanh(c')

    With `last=True` only the last state, (n, units). The first is 0, as is the first memory c.
    Weights {"w": (features, 4 units), "u": (units, 4 units), "b": (4 units,)}; the bias of f starts
    at `forget_bias`, which may be traced, the others at 0.
    Raises ValueError unless an example is (time, features), and for params of another network.
    Source: Hochreiter & Schmidhuber (1997); Jozefowicz, Zaremba & Sutskever (2015) for the bias.

    >>> net = lstm(4)
    >>> params = net.init(jax.random.key(0), (7, 3))
    >>> net.apply(params, jnp.ones((5, 7, 3)), True, None)[0].shape
    (5, 7, 4)
    """

    def init(key, sizes):
        w, u, b = _initial("lstm", weight_init, key, sizes, units, gates=4)
        return {"w": w, "u": u, "b": b.at[units : 2 * units].set(forget_bias)}

    def apply(weights, x, train, key):
        del train, key
        y = lstm_states(x, *named("lstm", "weights", weights, "w", "u", "b"))
        return y[:, -1] if last else y

    arguments = {
        "units": units,
        "last": last,
        "forget_bias": forget_bias,
        "weight_init": weight_init,
    }
    return stateless(init, apply, spec=("lstm", arguments))


def _initial(caller, weight_init, key, sizes, units, gates):
    """Every gate's own matrix is drawn, with its fans; the biases are 0."""
    sizes = shape(sizes)
    require(
        len(sizes) == 2,
        f"{caller}: one example has shape {sizes}, but (time, features) is expected.",
    )
    keys = jax.random.split(key, 2 * gates)
    drawn = [
        init_weights(caller, weight_init, k, (sizes[1] if i < gates else units, units))
        for i, k in enumerate(keys)
    ]
    w, u = jnp.concatenate(drawn[:gates], axis=1), jnp.concatenate(drawn[gates:], axis=1)
    return w, u, jnp.zeros(gates * units, w.dtype)
