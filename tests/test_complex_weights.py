"""Complex numbers are refused by everything that would train them wrongly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.core.types import Optimizer

REAL = {"w": jnp.ones(2)}
COMPLEX = {"w": jnp.ones(2) * (1 + 2j)}
MAKERS = {
    **{
        maker.__name__: lambda maker=maker: maker(0.1)
        for maker in (
            pn.sgd, pn.momentum, pn.nesterov, pn.adagrad, pn.rmsprop, pn.adadelta, pn.adam,
            pn.adamw, pn.nadam, pn.lion, pn.muon, pn.radam, pn.clip,
            pn.clip_by_global_norm, pn.add_weight_decay, pn.schedule_free_sgd,
            pn.schedule_free_adamw, pn.reduce_on_plateau, pn.scale_by_schedule,
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimizer_refuses_complex_weights_and_gradients(name):
    optimizer = MAKERS[name]()
    message = rf"{name}: the weights\['w'\] have dtype complex128, but real floats.*two weights"
    with pytest.raises(TypeError, match=message):
        optimizer.init(COMPLEX)
    state = optimizer.init(REAL)
    with pytest.raises(TypeError, match=message):
        optimizer.update(REAL, state, COMPLEX)
    with pytest.raises(TypeError, match=rf"{name}: the gradients\['w'\] have dtype complex128"):
        optimizer.update(COMPLEX, state, REAL)
    with pytest.raises(TypeError, match=message):
        pn.chain(optimizer).init(COMPLEX)


def test_no_optimizer_is_forgotten():
    step = {pn.chain, pn.apply_updates, pn.exponential_moving_average, pn.averaged_weights}
    files = ("optimizers", "muon", "radam", "schedule_free", "plateau", "transforms")
    homes = [f"purenet.optim.{file}" for file in files]
    public = [f for f in vars(pn).values() if getattr(f, "__module__", "") in homes]
    assert {f.__name__ for f in public if f not in step} == {*MAKERS}


def test_what_only_adds_takes_complex_weights_with_an_optimizer_made_for_them():
    down = lambda g, state, w=None: (jax.tree.map(lambda g: -0.1 * g.conj(), g), state)
    optimizer = pn.chain(Optimizer(lambda w: (), down), pn.exponential_moving_average(0.5))
    loss = lambda w: (jnp.abs(w["w"]) ** 2).sum()
    state = optimizer.init(COMPLEX)
    updates, state = optimizer.update(jax.grad(loss)(COMPLEX), state, COMPLEX)
    np.testing.assert_allclose(pn.apply_updates(COMPLEX, updates)["w"], 0.8 * COMPLEX["w"])
    np.testing.assert_allclose(pn.averaged_weights(state)["w"], 0.9 * COMPLEX["w"])


def test_both_parts_as_real_weights_descend():
    loss = lambda w: jnp.abs(w["re"] + 1j * w["im"] - (1 + 2j)) ** 2
    optimizer, w = pn.adam(0.1), {"re": jnp.array(0.0), "im": jnp.array(0.0)}
    state = optimizer.init(w)

    def body(_, carry):
        w, state = carry
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        return pn.apply_updates(w, updates), state

    w, _ = jax.lax.fori_loop(0, 300, body, (w, state))
    np.testing.assert_allclose([w["re"], w["im"]], [1, 2], atol=1e-2)
