"""A step as one kernel: interpreted, against the plain step, for both platforms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.training import fused_step as kernels
from purenet.training.fused_step import fused_step


@pytest.fixture(autouse=True)
def single_precision():
    with jax.enable_x64(False):
        yield


LANES = np.float32([0.1, 0.3, 0.5]), np.float32([0.0, 0.01, 0.1])


def examples(n, sizes, lanes=3):
    x = jax.random.normal(jax.random.key(1), (lanes, n, sizes[0]))
    return x, jax.random.randint(jax.random.key(2), (lanes, n), 0, sizes[-1])


def plain(sizes, n, activation, rate, penalty):
    net = pn.mlp(getattr(pn, activation))
    return pn.supervised(net, sizes, pn.sgd(rate), pn.softmax_cross_entropy, n,
                         penalty=pn.l2(penalty))  # fmt: skip


def difference(platform, sizes, n, activation, steps=3):
    """The largest between the weights and the losses of the two, of three trials side by side."""
    init = lambda key: plain(sizes, n, activation, 0, 0).init(key)
    states = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(0), 3))

    def epochs(state, data, rate, penalty):
        trainable = plain(sizes, n, activation, rate, penalty)
        state, values = jax.lax.scan(lambda s, _: trainable.epoch(s, data), state, length=steps)
        return state.params.weights, values["loss"]

    def fused(state, data, rate, penalty):
        weights = state.params.weights

        def one(layers, _):
            layers, y = fused_step(platform, activation, layers, *data, rate, penalty, True)
            return layers, pn.softmax_cross_entropy(y, data[1])

        layers = [(weights[i]["w"], weights[i]["b"]) for i in weights]
        layers, losses = jax.lax.scan(one, layers, length=steps)
        return {i: {"w": w, "b": b} for i, (w, b) in zip(weights, layers, strict=True)}, losses

    both = (jax.jit(jax.vmap(f))(states, examples(n, sizes), *LANES) for f in (epochs, fused))
    gaps = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *both)
    return max(jax.tree.leaves(gaps))


@pytest.mark.parametrize(
    ("platform", "sizes", "n", "activation"),
    [
        ("tpu", (5, 3), 1, "relu"),
        ("tpu", (7, 20, 6, 4), 9, "relu"),
        ("cuda", (40, 18, 3), 5, "tanh"),
    ],
)
def test_the_kernel_computes_the_plain_step(platform, sizes, n, activation):
    assert difference(platform, sizes, n, activation) < 1e-5


def test_arrays_of_several_tiles():
    assert difference("cuda", (140, 131, 3), 130, "relu", steps=1) < 1e-5


def test_a_slope_wrong_by_one_percent_is_found(monkeypatch):
    f, back = kernels.ACTIVATIONS["relu"]
    wrong = (f, lambda y, g: 1.01 * back(y, g))
    monkeypatch.setitem(kernels.ACTIVATIONS, "relu", wrong)
    assert difference("tpu", (7, 20, 6, 4), 9, "relu") > 1e-4


def test_an_epoch_and_its_state_are_those_of_supervised():
    data = examples(20, (4, 3), lanes=1)
    data = jax.tree.map(lambda a: np.asarray(a[0]), data)
    ours = pn.fused_mlp((4, 6, 3), 0.1, 5, penalty=0.01)
    theirs = plain((4, 6, 3), 5, "relu", 0.1, 0.01)
    ours.check(data)
    train = lambda one: jax.jit(lambda key: one.epoch(one.init(key), data))(jax.random.key(0))
    ends = train(ours), train(theirs)
    assert jax.tree.structure(ends[0]) == jax.tree.structure(ends[1])
    (mine, values), (other, others) = ends
    jax.tree.map(np.testing.assert_array_equal, mine.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, values, others)


def test_a_gpu_and_a_tpu_get_the_kernel_and_a_cpu_the_plain_program():
    def epoch(rate, state, data):
        return pn.fused_mlp((4, 6, 3), rate, 5).epoch(state, data)

    state = jax.eval_shape(pn.fused_mlp((4, 6, 3), 0.1, 5).init, jax.random.key(0))
    arguments = jax.ShapeDtypeStruct((2,), jnp.float32), state, examples(20, (4, 3), lanes=1)
    arguments = *arguments[:2], jax.tree.map(lambda a: a[0], arguments[2])
    traced = jax.jit(jax.vmap(epoch, in_axes=(0, None, None))).trace(*arguments)
    text = lambda platform: traced.lower(lowering_platforms=(platform,)).as_text()
    assert "custom_call @" not in text("cpu")
    assert "tpu_custom_call" in text("tpu")
    assert "triton" in text("cuda")


MADE = functools.partial(pn.fused_mlp, rate=0.1, batch_size=5)
X, T = np.ones((6, 4), np.float32), np.zeros(6, np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MADE((4, 3), activation=pn.gelu), TypeError, "gelu, but the kernel knows only"),
        (lambda: MADE(4), TypeError, "fused_mlp: sizes is 4, but widths"),
        (lambda: MADE((4,)), ValueError, r"sizes is \(4,\), but at least two widths"),
        (lambda: MADE((4, 0)), ValueError, "fused_mlp: a size is 0, but at least 1"),
        (lambda: MADE((4, 3), rate=-1), ValueError, "fused_mlp: rate is -1, but"),
        (lambda: MADE((4, 3), penalty="a"), TypeError, "fused_mlp: penalty is 'a', but"),
        (lambda: MADE((4, 3)).check((X, np.eye(6, 3))), ValueError, "fused_mlp: x is float32"),
    ],
)
def test_errors_say_what_is_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_weights_of_another_dtype_and_other_examples_are_refused():
    trainable = MADE((4, 3))
    state = jax.eval_shape(trainable.init, jax.random.key(0))
    halves = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, jnp.bfloat16), state.params)
    with pytest.raises(TypeError, match="fused_mlp: a weight is bfloat16"):
        jax.eval_shape(trainable.epoch, state._replace(params=halves), (X, T))
    with pytest.raises(ValueError, match="fused_mlp: x is float32"):
        jax.eval_shape(trainable.epoch, state, (X[:, :2], T))
