"""Whatever widths, depth and batch size are drawn: one padded program trains as the network that
is built with them, and every optimizer leaves padding at 0.

A draw costs the compilation of the small network alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from test_padded import all_zero, numbers, split

import purenet as pn

PaddedSize = pn.PaddedSize
CAPACITY, DEPTH, BATCH = 6, 3, 12
X = np.random.default_rng(0).normal(size=(24, 4))
T = np.random.default_rng(1).integers(0, 3, 24).astype(np.int32)
few = settings(max_examples=3, deadline=None, derandomize=True, phases=list(Phase)[:3])
WIDTHS = st.lists(st.integers(1, CAPACITY), min_size=DEPTH, max_size=DEPTH)


def close(got, expected):
    """Equal but for rounding: to 1e-6 in float32, to 1e-12 in float64."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        tolerance = 1e-6 if a.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# training
def penalty(weights):
    return pn.l2(1e-2)(weights) + pn.l1(1e-3)(weights)


# before batch_norm, the gradient of b is 0 but for rounding, which a small eps would blow up
KINDS = {
    np.float64: (
        {"activation": pn.softplus, "batch_norm": True, "dropout": 0.2, "embed": pn.periodic(2)},
        pn.adam(0.01, eps=1e-2),
    ),
    np.float32: ({"activation": pn.sigmoid, "batch_norm": True, "dropout": 0.2}, pn.sgd(0.05)),
}


def training(dtype, sizes, batch_size, **depth):
    arguments, optimizer = KINDS[dtype]
    net = pn.mlp(**arguments, **depth)
    return net, pn.supervised(
        net, sizes, optimizer, pn.softmax_cross_entropy, batch_size, penalty=penalty
    )


def trained(net, trainable, state):
    """Two epochs: (the state, what an epoch says, what is measured, and the outputs after each)."""
    data = X.astype(jax.tree.leaves(state.params)[0].dtype), T

    def one(state, _):
        state, told = trainable.epoch(state, data)
        y, _ = net.apply(state.params, data[0], False, None)
        return state, (told, trainable.evaluate(state, data), y)

    return jax.lax.scan(one, state, length=2)


@functools.cache
def padded_training(dtype):
    """One program for all sizes: the first state, the last one, and the curves."""

    @jax.jit
    def run(widths, depth, batch_size, seed):
        sizes = (4, *[PaddedSize(width, CAPACITY) for width in widths], 3)
        batch_size = PaddedSize(batch_size, BATCH)
        built = training(dtype, sizes, batch_size, depth=PaddedSize(depth, DEPTH))
        state = built[1].init(jax.random.key(seed))
        return state, *trained(*built, state)

    return run


@pytest.mark.parametrize("dtype", KINDS)
@few
@given(WIDTHS, st.integers(1, DEPTH), st.integers(1, BATCH), st.integers(0, 99))
@example([CAPACITY] * DEPTH, DEPTH, BATCH, 0)
def test_it_trains_as_the_network_of_those_sizes(dtype, widths, depth, batch_size, seed):
    with jax.enable_x64(dtype == np.float64):
        run = padded_training(dtype)
        start, end, curves = run(*jax.tree.map(jnp.array, (widths, depth, batch_size, seed)))
        assert run._cache_size() == 1
        net, small = training(dtype, (4, *widths[:depth], 3), batch_size)
        like = numbers(jax.eval_shape(small.init, jax.random.key(0)))
        (params, opt_state), padding = split(numbers(start), like)
        assert all_zero(padding)
        begun = start._replace(params=params, opt_state=opt_state)
        other, expected = jax.jit(functools.partial(trained, net, small))(begun)
        last, padding = split(numbers(end), like)
        assert all_zero(padding)  # the optimizer's memory too
        close((curves, last), (expected, numbers(other)))
        moves = jax.tree.map(lambda a, b: abs(a - b).max(), params.weights, last[0].weights)
        assert max(jax.tree.leaves(moves)) > 1e-3


# optimizers
every = lambda weights: jax.tree.map(lambda _: True, weights)
OPTIMIZERS = {
    "sgd": pn.sgd(0.1),
    "momentum": pn.momentum(0.03),
    "nesterov": pn.nesterov(0.03),
    "adagrad": pn.adagrad(0.03),
    "rmsprop": pn.rmsprop(0.01),
    "adadelta": pn.adadelta(),
    "adam": pn.adam(0.01),
    "adamw": pn.adamw(0.01, weight_decay=0.1, mask=every),
    "nadam": pn.nadam(0.01),
    "lion": pn.lion(0.003, weight_decay=0.1),
    "muon": pn.muon(0.01, weight_decay=0.1),
    "radam": pn.radam(0.01, b2=0.9, weight_decay=0.1),
    "schedule_free_sgd": pn.schedule_free_sgd(0.1, weight_decay=0.1),
    "schedule_free_adamw": pn.schedule_free_adamw(0.01, weight_decay=0.1),
    "clip": pn.chain(pn.clip(0.5), pn.adamw(0.01, weight_decay=0.1)),
    "clip_by_global_norm": pn.chain(pn.clip_by_global_norm(0.1), pn.momentum(0.03)),
    "add_weight_decay": pn.chain(pn.add_weight_decay(0.1), pn.sgd(0.1)),
    "scale_by_schedule": pn.chain(pn.adam(0.1), pn.scale_by_schedule(lambda t: 1 / (1 + t))),
    "reduce_on_plateau": pn.chain(pn.adam(0.1), pn.reduce_on_plateau()),
    "exponential_moving_average": pn.chain(pn.sgd(0.1), pn.exponential_moving_average(0.9)),
}


def test_no_optimizer_is_forgotten():
    modules = {name: getattr(getattr(pn, name), "__module__", "") for name in pn.__all__}
    exported = {name for name, module in modules.items() if module.startswith("purenet.optim.")}
    assert exported - {"chain", "apply_updates", "averaged_weights", "mup_rates"} == {*OPTIMIZERS}


@jax.jit
def optimized(weights, gradients):
    """What every optimizer makes of the weights, and remembers, after these gradients."""

    def of(optimizer):
        def step(carry, gradients):
            weights, state = carry
            updates, state = optimizer.update(gradients, state, weights)
            return (pn.apply_updates(weights, updates), state), None

        return jax.lax.scan(step, (weights, optimizer.init(weights)), gradients)[0]

    return {name: of(optimizer) for name, optimizer in OPTIMIZERS.items()}


@few
@given(st.integers(1, CAPACITY), st.integers(1, CAPACITY), st.integers(0, 99))
@example(CAPACITY, CAPACITY, 0)
def test_every_optimizer_leaves_padding_alone(inputs, units, seed):
    rng = np.random.default_rng(seed)
    wide = {"w": np.zeros((5, CAPACITY, CAPACITY)), "b": np.zeros((5, CAPACITY))}
    wide["w"][:, :inputs, :units] = rng.normal(size=(5, inputs, units))
    wide["b"][:, :units] = rng.normal(size=(5, units))
    small = {"w": wide["w"][:, :inputs, :units], "b": wide["b"][:, :units]}
    ends = []
    for tree in (wide, small):  # the first are the weights, the others gradients
        first, others = (jax.tree.map(lambda a, i=i: a[i], {"0": tree}) for i in (0, slice(1, 5)))
        ends.append(optimized(first, others))
    for name, expected in ends[1].items():
        inside, padding = split(ends[0][name], expected)
        assert all_zero(padding), name
        close(inside, expected)
