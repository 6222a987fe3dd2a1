"""supervised(augment=) and supervised(weights=)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn

N = 24
RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, N)
X = RNG.normal(size=(N, 4)) + np.eye(3, 4)[T]


def make(**options):
    settings = {"net": pn.mlp(dropout=0.2), "sizes": (4, 5, 3), "optimizer": pn.sgd(0.1),
                "batch_size": 8, "loss": pn.softmax_cross_entropy} | options  # fmt: skip
    return pn.supervised(**settings)


def trained(trainable, data=(X, T), epochs=2):
    def run(state):
        for _ in range(epochs):
            state, metrics = trainable.epoch(state, data)
        return state.params, metrics

    return jax.jit(run)(trainable.init(jax.random.key(0)))


# augmentation
@pytest.mark.parametrize("microbatches", [1, 2])
def test_an_augmentation_that_does_nothing_changes_no_bit(microbatches):
    plain = trained(make(microbatches=microbatches))
    augmented = make(microbatches=microbatches, augment=lambda key, x: x)
    chex.assert_trees_all_equal(trained(augmented), plain)


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("x64", [False, True])
def test_every_minibatch_is_augmented_with_a_key_of_its_own(microbatches, x64):
    """The network keeps the noise that it sees: each step's is new, and none of it in inference."""
    with jax.enable_x64(x64):
        net = pn.Layer(
            lambda key, sizes: pn.Params({"w": jnp.zeros(1)}, jnp.zeros((0,))),
            lambda params, x, train, key: (x * params.weights["w"], params.stats),
        )
        seen = []
        loss = lambda y, t: (y * 0).sum()

        def augment(key, x):
            noise = jax.random.uniform(key, x.shape, x.dtype)
            jax.debug.callback(lambda a: seen.append(np.asarray(a).ravel()), noise)
            return x + noise

        trainable = make(net=net, loss=loss, metrics={}, augment=augment, microbatches=microbatches)
        state = trainable.init(jax.random.key(0))
        x = X.astype(np.float32)
        state, _ = trainable.epoch(state, (x, T))
        state, _ = trainable.epoch(state, (x, T))
        jax.effects_barrier()
        noises = np.concatenate(seen)
        assert len(seen) == 6 * microbatches and len(np.unique(noises)) > 0.99 * noises.size
        trainable.evaluate(state, (x, T))
        jax.effects_barrier()
        assert len(seen) == 6 * microbatches


def test_the_strength_may_be_traced():
    def loss(strength):
        trainable = make(augment=lambda key, x: x + strength * jax.random.normal(key, x.shape))
        state = trainable.init(jax.random.key(0))
        return trainable.epoch(state, (X, T))[1]["loss"]

    lanes = jax.jit(jax.vmap(loss))(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(lanes[0], trained(make(), epochs=1)[1]["loss"], rtol=1e-12)
    assert lanes[1] != lanes[0]


@pytest.mark.parametrize(
    "augment, found",
    [
        (lambda key, x: x[:, :2], r"float64 \(8, 2\)"),
        (lambda key, x: x.astype(jnp.float32), r"float32 \(8, 4\)"),
        (lambda key, x: None, "None"),
    ],
)
def test_another_shape_or_dtype_is_refused(augment, found):
    message = rf"augment returned .*{found}, but the shape and dtype of x, float64 \(8, 4\)"
    with pytest.raises(ValueError, match=message):
        trained(make(augment=augment))
    with pytest.raises(TypeError, match="augment is 3"):
        make(augment=3)


# weights
CLASS = np.array([1.0, 4.0, 0.5])


def weighted_loss(weights, t=T):
    """The step written out: one full batch, no dropout."""
    trainable = make(net=pn.mlp(), batch_size=N)
    state = trainable.init(jax.random.key(0))

    def loss(w):
        y, _ = pn.mlp().apply(pn.Params(w, state.params.stats), X, True, None)
        alone = -jnp.take_along_axis(jax.nn.log_softmax(y), T[:, None], 1)[:, 0]
        return (weights * alone).sum() / weights.sum()

    value, grads = jax.value_and_grad(loss)(state.params.weights)
    return value, jax.tree.map(lambda w, g: w - 0.1 * g, state.params.weights, grads)


KINDS = {
    "an array": (CLASS, T),
    "a list": (list(CLASS), T),
    "a function": (lambda t: jnp.asarray(CLASS)[t], T),
    "one-hot rows": (CLASS, np.eye(3)[T]),
}


@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize("weights, t", KINDS.values(), ids=KINDS)
def test_a_weighted_step_is_the_step_written_out(weights, t, microbatches):
    trainable = make(net=pn.mlp(), batch_size=N, weights=weights, microbatches=microbatches)
    trainable.check((X, t))
    value, expected = weighted_loss(CLASS[T])
    params, metrics = trained(trainable, (X, t), epochs=1)
    chex.assert_trees_all_close(params.weights, expected, rtol=1e-9)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-10)


def test_example_weights_are_a_column_of_the_targets_and_zeros_leave_examples_out():
    rows = np.arange(N) % 3 != 0
    y = RNG.normal(size=(N, 1))
    t = np.concatenate([y, rows[:, None]], axis=1)
    settings = {"net": pn.dense(1), "sizes": 4, "metrics": {}, "batch_size": N}
    loss = lambda y, t: pn.mean_squared_error(y, t[:, :1])
    weighted = make(**settings, loss=loss, weights=lambda t: t[:, 1])
    plain = make(**settings | {"batch_size": int(rows.sum())}, loss=pn.mean_squared_error)
    got, expected = trained(weighted, (X, t), 1), trained(plain, (X[rows], y[rows]), 1)
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-12)


def test_evaluation_in_chunks_has_the_weighted_loss_and_unweighted_metrics(monkeypatch):
    from purenet.training import evaluation

    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", 7)
    weighted, plain = make(net=pn.mlp(), weights=CLASS), make(net=pn.mlp())
    state = plain.init(jax.random.key(0))
    got, unweighted = weighted.evaluate(state, (X, T)), plain.evaluate(state, (X, T))
    np.testing.assert_allclose(got["loss"], weighted_loss(CLASS[T])[0], rtol=1e-10)
    assert got["accuracy"] == unweighted["accuracy"] and got["loss"] != unweighted["loss"]


def test_a_minibatch_without_weight_changes_nothing_and_has_the_loss_0():
    trainable = make(net=pn.mlp(), weights=[0.0, 0.0, 0.0])
    params, metrics = trained(trainable)
    chex.assert_trees_all_equal(params, trainable.init(jax.random.key(0)).params)
    assert metrics["loss"] == 0


def test_class_weights_may_be_traced_and_binary_classes_have_two():
    y = jnp.asarray(X[:, 0])
    bits = (T > 0).astype(int)

    def loss(weight):
        trainable = pn.supervised(
            pn.Layer(lambda key, sizes: pn.Params(()), lambda p, x, train, key: (x, ())),
            (), pn.sgd(0.1), pn.sigmoid_binary_cross_entropy, 8, weights=[1.0, weight],
        )  # fmt: skip
        return trainable.evaluate(trainable.init(jax.random.key(0)), (y, bits))["loss"]

    alone = np.logaddexp(0, np.where(bits == 1, -y, y))
    for weight, got in zip([1.0, 3.0], jax.jit(jax.vmap(loss))(jnp.array([1.0, 3.0])), strict=True):
        np.testing.assert_allclose(got, np.average(alone, weights=np.where(bits == 1, weight, 1)))


@pytest.mark.parametrize(
    "options, t, error, message",
    [
        ({"weights": 3}, T, TypeError, "weights is 3, but one number per class, or a function"),
        ({"weights": [1.0, -1.0]}, T, ValueError, r"weights is -1.0, but a finite number of at l"),
        ({"weights": [1.0, 2.0]}, T, ValueError, r"weights has shape \(2,\).*\(3,\) is expected"),
        ({"weights": lambda t: t[:3]}, T, ValueError, r"weights\(t\) has shape \(3,\).*\(8,\)"),
        ({"weights": CLASS, "loss": lambda y, t: y.mean()}, T / 2, ValueError,
         r"class weights need class numbers.*float64 \(8,\).*weights\(t\)"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_explained(options, t, error, message):
    with pytest.raises(error, match=message):
        trained(make(**options), (X, t))
