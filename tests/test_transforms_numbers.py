"""What is chained before and after an optimizer, on numbers that no two formulas share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.optim.base import average, weightwise

W = jnp.array([[4.0, -3.0]])
G = jnp.array([[1.0, 5.0]])


def test_weight_decay_adds_the_strength_times_the_weight():
    updates, state = pn.add_weight_decay(0.5).update(G, (), W)
    assert updates.tolist() == [[3.0, 3.5]] and state == ()


def test_what_decays_has_two_axes_or_is_named_by_the_mask():
    weights = {"scalar": jnp.array(4.0), "bias": jnp.ones(2), "w": W, "kernel": jnp.ones((1, 1, 1))}
    zeros = {name: jnp.zeros_like(w) for name, w in weights.items()}
    decayed = lambda mask: {
        name for name, u in pn.add_weight_decay(0.5, mask).update(zeros, (), weights)[0].items()
        if u.any()
    }  # fmt: skip
    assert decayed(None) == {"w", "kernel"}
    chosen = {"scalar": True, "bias": np.bool_(True), "w": False, "kernel": np.bool_(False)}
    assert decayed(chosen) == {"scalar", "bias"}
    assert decayed(lambda weights: {name: name == "w" for name in weights}) == {"w"}


def test_a_chain_takes_one_state_for_each_and_says_otherwise():
    chain = pn.chain(pn.scale_by_schedule(2.0), pn.clip(3.0))
    state = chain.init(W)
    updates, after = chain.update(G, list(state))
    assert updates.tolist() == [[2.0, 3.0]]
    assert isinstance(after, tuple) and len(after) == 2 and int(after[0].count) == 1
    for wrong, said in (
        (state[:1], "holds 1 states, but one for each of the 2"),
        ((*state, ()), "holds 3 states"),
        ({"a": 1, "b": 2}, r"holds \{.*\}, but one for each of the 2"),
        (None, "holds None"),
    ):
        with pytest.raises(ValueError, match=f"chain: the state {said}"):
            chain.update(G, wrong)


def test_a_pair_needs_both_of_its_functions():
    class Half(NamedTuple):
        init: Any

    class Other(NamedTuple):
        update: Any

    for half in (Half(None), Other(None)):
        with pytest.raises(TypeError, match="chain: argument 1 is"):
            pn.chain(pn.clip(1.0), half)


def test_clipping_by_norm_counts_every_leaf_and_leaves_short_gradients_alone():
    grads = {"a": jnp.array([2.0]), "b": jnp.array([[6.0, 9.0]])}  # of norm 11
    short, _ = pn.clip_by_global_norm(5.5).update(grads, ())
    np.testing.assert_allclose(short["a"], [1.0])
    np.testing.assert_allclose(short["b"], [[3.0, 4.5]])
    same, _ = pn.clip_by_global_norm(12.0).update(grads, ())
    np.testing.assert_array_equal(same["b"], grads["b"])


def test_the_moving_average_is_of_the_weights_after_the_update():
    optimizer = pn.exponential_moving_average(0.75)
    state = optimizer.init(W)
    assert pn.averaged_weights(state).tolist() == W.tolist()
    updates, state = optimizer.update(G, state, W)
    assert updates.tolist() == G.tolist()
    assert pn.averaged_weights(state).tolist() == [[4.25, -1.75]]
    with pytest.raises(TypeError, match="exponential_moving_average: the state is a tuple"):
        optimizer.update(G, (), W)


def test_a_step_of_an_average_is_exact_where_nothing_changes():
    assert average(3.0, 7.0, 0.25) == 4.0 and average(0.1, 0.1, 0.3) == 0.1


class Slots(NamedTuple):
    count: Any
    first: Any
    second: Any


def test_a_rule_gets_the_schedule_the_step_and_its_slots():
    def numbers(rate, t):
        return rate, t

    def rule(rate, t, g, first, second):
        return rate * g + t, first + g, second - 2 * g

    made = weightwise("mine", Slots, lambda count: 10.0 + count, numbers, rule, 0.5)
    state = made.init(W)
    assert int(state.count) == 0 and state.first.tolist() == state.second.tolist() == [[0.5, 0.5]]
    updates, state = made.update(G, state)
    assert updates.tolist() == [[11.0, 51.0]]  # rate 10 in step 1
    updates, state = made.update(G, state)
    assert updates.tolist() == [[13.0, 57.0]]  # rate 11 in step 2
    assert int(state.count) == 2
    assert state.first.tolist() == [[2.5, 10.5]] and state.second.tolist() == [[-3.5, -19.5]]


def test_a_rule_that_decays_takes_the_rate_times_the_decay_of_each_weight():
    rule = lambda rate, g, *slots: (rate * g, *slots)
    made = weightwise("mine", Slots, 2.0, lambda rate, t: (rate,), rule, weight_decay=0.25)
    updates, _ = made.update({"w": G, "b": G[0]}, made.init({"w": W, "b": W[0]}),
                             {"w": W, "b": W[0]})  # fmt: skip
    assert updates["w"].tolist() == [[0.0, 11.5]] and updates["b"].tolist() == [2.0, 10.0]
    with pytest.raises(ValueError, match="mine: `update` needs the weights"):
        made.update({"w": G}, made.init({"w": W}))


def test_no_decay_needs_no_weights_and_an_array_of_nothing_does():
    rule = lambda rate, g, *slots: (rate * g, *slots)
    make = lambda decay: weightwise("mine", Slots, 2.0, lambda rate, t: (rate,), rule, 0.0, decay)
    for nothing in (0, 0.0):
        assert make(nothing).update(G, make(nothing).init(W))[0].tolist() == [[2.0, 10.0]]
    with pytest.raises(ValueError, match="needs the weights"):
        make(jnp.zeros(())).update(G, make(0).init(W))


def test_other_gradients_than_the_state_was_made_for_are_refused():
    made = pn.adam(0.1)
    with pytest.raises(ValueError, match="adam: "):
        made.update(jnp.ones((1, 3)), made.init(W))
    with pytest.raises(ValueError, match="clip: "):
        pn.clip(1.0).update(jnp.ones((1, 3)), (), W)
    with pytest.raises(TypeError, match="have dtype int64, but floats are expected"):
        pn.clip(1.0).update(jnp.ones((1, 3), int), ())


def test_what_does_not_decay_is_not_touched_by_a_decay_of_nothing():
    grads = jnp.array([jnp.inf, 2.0])
    updates, _ = pn.sgd(0.5).update(grads, pn.sgd(0.5).init(grads))
    assert updates.tolist() == [-jnp.inf, -1.0]  # and no inf - 0 * inf


def test_numbers_of_64_bits_keep_them():
    third = jnp.array([1 / 3])
    assert pn.clip(1.0).update(third, ())[0].tolist() == [1 / 3]
    assert pn.clip_by_global_norm(1.0).update(third, ())[0].tolist() == [1 / 3]
    assert pn.add_weight_decay(0.1, True).update(third, (), third)[0][0] == 1 / 3 + 0.1 * (1 / 3)


def test_params_are_refused_in_part_too():
    params = pn.mlp().init(jax.random.key(0), (2, 3))
    for tree in (params, {"mine": W, "network": params}, [params, W]):
        with pytest.raises(TypeError, match="sgd: got a network's Params"):
            pn.sgd(0.1).init(tree)


def test_the_defaults_of_lion_are_those_of_its_paper():
    optimizer = pn.lion(0.1)
    _, (_, moment) = optimizer.update(G, optimizer.init(W))
    np.testing.assert_allclose(moment, (1 - 0.99) * G, rtol=1e-12)
