"""Every promise of every optimizer, over one table; the references are loops in NumPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import purenet as pn
from purenet import schedules
from purenet.core.types import Params
from purenet.optim import optimizers as optimizers
from purenet.optim import transforms

STEPS = 50
TRIALS = 40
TARGET = 3.0


# references: (t, g, w, memory, **options) -> u for one array; `memory` is a dict of its own


def sgd(t, g, w, memory, rate):
    return -rate * g


def momentum(t, g, w, memory, rate, momentum):
    memory["v"] = momentum * memory.get("v", 0) - rate * g
    return memory["v"]


def nesterov(t, g, w, memory, rate, momentum):
    memory["v"] = momentum * memory.get("v", 0) - rate * g
    return momentum * memory["v"] - rate * g


def adagrad(t, g, w, memory, rate, eps, eps_root, initial_accumulator):
    memory["h"] = memory.get("h", initial_accumulator) + g**2
    return -rate * g / (np.sqrt(memory["h"] + eps_root) + eps)


def rmsprop(t, g, w, memory, rate, decay, eps, eps_root):
    memory["h"] = decay * memory.get("h", 0) + (1 - decay) * g**2
    return -rate * g / (np.sqrt(memory["h"] + eps_root) + eps)


def adadelta(t, g, w, memory, rate, decay, eps):
    memory["h"] = decay * memory.get("h", 0) + (1 - decay) * g**2
    d = np.sqrt(memory.get("s", 0) + eps) / np.sqrt(memory["h"] + eps) * g
    memory["s"] = decay * memory.get("s", 0) + (1 - decay) * d**2
    return -rate * d


def moments(g, memory, b1, b2):
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
    return memory["m"], memory["v"]


def adam(t, g, w, memory, rate, b1, b2, eps, eps_root):
    m, v = moments(g, memory, b1, b2)
    return -rate * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)


def adamw(t, g, w, memory, rate, b1, b2, eps, eps_root, weight_decay):
    decay = weight_decay * w if w.ndim >= 2 else 0
    return adam(t, g, w, memory, rate, b1, b2, eps, eps_root) - rate * decay


def nadam(t, g, w, memory, rate, b1, b2, eps, eps_root):
    m, v = moments(g, memory, b1, b2)
    ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return -rate * ahead / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)


def lion(t, g, w, memory, rate, b1, b2, weight_decay):
    m = memory.get("m", 0)
    memory["m"] = b2 * m + (1 - b2) * g
    decay = weight_decay * w if w.ndim >= 2 else 0
    return -rate * (np.sign(b1 * m + (1 - b1) * g) + decay)


def radam(t, g, w, memory, rate, b1, b2, eps, eps_root, weight_decay):
    m, v = moments(g, memory, b1, b2)
    step = m / (1 - b1**t)
    last = 2 / (1 - b2) - 1
    now = last - 2 * t * b2**t / (1 - b2**t)
    if now > 5:
        r = np.sqrt((now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now))
        step = r * step / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return -rate * (step + (weight_decay * w if w.ndim >= 2 else 0))


def averaged(w, memory, s, z):
    """The step of the average of the iterates, of which z is the latest."""
    memory["z"], memory["total"] = z, memory.get("total", 0) + s**2
    return s**2 / memory["total"] * (z - w)


def schedule_free_sgd(t, g, w, memory, rate, b1, weight_decay):
    z = memory.get("z", w)
    y = (1 - b1) * z + b1 * w
    decay = weight_decay * y if w.ndim >= 2 else 0
    g = g + y - w  # the gradient of the parabola at y, from that at w
    return averaged(w, memory, rate, z - rate * (g + decay))


def schedule_free_adamw(t, g, w, memory, rate, b1, b2, eps, eps_root, weight_decay):
    z = memory.get("z", w)
    y = (1 - b1) * z + b1 * w
    decay = weight_decay * y if w.ndim >= 2 else 0
    _, v = moments(g + y - w, memory, 0, b2)
    move = (g + y - w) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + decay
    return averaged(w, memory, rate * np.sqrt(1 - b2**t), z - rate * move)


def clipped_sgd(t, g, w, memory, rate, limit):
    return -rate * np.minimum(np.maximum(g, -limit), limit)


def decayed_sgd(t, g, w, memory, rate, strength):
    return -rate * (g + strength * w if w.ndim >= 2 else g)


class Case(NamedTuple):
    make: Callable  # (**options) -> Optimizer
    reference: Callable
    options: dict  # every numeric option, most of them not at its default
    rate: (
        float | Callable
    )  # one that solves the parabola in 1500 steps, with the other options as here


def muon(t, g, w, memory, rate, b1, b2, eps, weight_decay):
    m = memory["m"] = b1 * memory.get("m", 0 * g) + (1 - b1) * g
    if g.ndim != 2:
        v = memory["v"] = b2 * memory.get("v", 0 * g) + (1 - b2) * g**2
        return -rate * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    x = b1 * m + (1 - b1) * g
    x = x / np.sqrt((x**2).sum())
    for _ in range(5):  # on the singular values: p(s) = 3.4445 s - 4.775 s³ + 2.0315 s⁵
        left, s, right = np.linalg.svd(x, full_matrices=False)
        x = (left * (3.4445 * s - 4.775 * s**3 + 2.0315 * s**5)) @ right
    return -rate * (0.2 * np.sqrt(max(g.shape)) * x + weight_decay * w)


ADAM = {"rate": 0.03, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}
CASES = {
    "sgd": Case(optimizers.sgd, sgd, {"rate": 0.1}, 0.1),
    "momentum": Case(optimizers.momentum, momentum, {"rate": 0.02, "momentum": 0.8}, 0.02),
    "nesterov": Case(optimizers.nesterov, nesterov, {"rate": 0.02, "momentum": 0.8}, 0.02),
    "adagrad": Case(
        optimizers.adagrad,
        adagrad,
        {"rate": 0.1, "eps": 1e-3, "eps_root": 1e-4, "initial_accumulator": 0.1},
        1.0,
    ),
    "rmsprop": Case(
        optimizers.rmsprop,
        rmsprop,
        {"rate": 0.03, "decay": 0.8, "eps": 1e-2, "eps_root": 1e-2},
        0.03,
    ),
    "adadelta": Case(optimizers.adadelta, adadelta, {"rate": 0.9, "decay": 0.8, "eps": 1e-3}, 1.0),
    "adam": Case(optimizers.adam, adam, ADAM, 0.03),
    "adamw": Case(optimizers.adamw, adamw, {**ADAM, "weight_decay": 0.3}, 0.03),
    "nadam": Case(optimizers.nadam, nadam, ADAM, 0.03),
    "lion": Case(
        optimizers.lion, lion, {"rate": 0.1, "b1": 0.8, "b2": 0.9, "weight_decay": 0.3}, 0.004
    ),
    "muon": Case(
        pn.muon,
        muon,
        {"rate": 0.05, "b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
        schedules.cosine(0.1, 1500),  # its steps do not become smaller by themselves
    ),
    "radam": Case(pn.radam, radam, {**ADAM, "weight_decay": 0.3}, 0.03),
    "schedule_free_sgd": Case(
        pn.schedule_free_sgd,
        schedule_free_sgd,
        {"rate": 0.1, "b1": 0.8, "weight_decay": 0.3},
        schedules.warmup(0.3, 1500),  # so that the first iterates count for less in the average
    ),
    "schedule_free_adamw": Case(
        pn.schedule_free_adamw,
        schedule_free_adamw,
        {**ADAM, "weight_decay": 0.3},
        schedules.warmup(0.03, 1500),
    ),
    "clip": Case(
        lambda rate, limit: pn.chain(pn.clip(limit), optimizers.sgd(rate)),
        clipped_sgd,
        {"rate": 0.1, "limit": 0.5},
        0.1,
    ),
    "add_weight_decay": Case(
        lambda rate, strength: pn.chain(pn.add_weight_decay(strength), optimizers.sgd(rate)),
        decayed_sgd,
        {"rate": 0.1, "strength": 0.3},
        0.1,
    ),
}
NAMED = {
    name: case
    for name, case in CASES.items()
    if hasattr(optimizers, name) and "limit" not in case[2]
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def initial(dtype=jnp.float64):
    key = jax.random.key(1)
    weights = {"w": jax.random.normal(key, (4, 3)), "b": jnp.array([1.0, -2.0, 0.5])}
    return jax.tree.map(lambda w: w.astype(dtype), weights)


NOISE = {
    "w": np.random.default_rng(2).normal(size=(STEPS, 4, 3)),
    "b": np.random.default_rng(3).normal(size=(STEPS, 3)),
}


def slopes(optimizer, weights, state, noise):
    """The gradient of a noisy parabola, where the optimizer wants it."""
    if hasattr(optimizer, "gradient_at"):
        weights = optimizer.gradient_at(state, weights)
    return jax.tree.map(lambda w, n: (w - TARGET + n).astype(w.dtype), weights, noise)


def train(optimizer, weights, noise):
    """The weights after every step on a noisy parabola, and the last state."""

    def step(carry, noise):
        weights, state = carry
        grads = slopes(optimizer, weights, state, noise)
        updates, state = optimizer.update(grads, state, weights)
        weights = pn.apply_updates(weights, updates)
        return (weights, state), weights

    (_, state), curve = lax.scan(step, (weights, optimizer.init(weights)), noise)
    return curve, state


def train_reference(reference, options, steps=STEPS):
    """As `train`, in NumPy; `rate` may be a list, one a step."""
    curve = {}
    for name, w in initial().items():
        w, memory, curve[name] = np.array(w), {}, []
        for i in range(steps):
            now = {k: v[i] if isinstance(v, list) else v for k, v in options.items()}
            w = w + reference(i + 1, w - TARGET + NOISE[name][i], w, memory, **now)
            curve[name].append(w)
        curve[name] = np.stack(curve[name])
    return curve


def close(got, expected, rtol=1e-12, atol=1e-12):
    chex.assert_trees_all_close(got, expected, rtol=rtol, atol=atol)


# promises of every optimizer


def test_equals_reference(case):
    curve, state = jax.jit(lambda w: train(case.make(**case.options), w, NOISE))(initial())
    close(curve, train_reference(case.reference, case.options))
    counts = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.int32]
    assert [int(count) for count in counts] == [STEPS]


@pytest.mark.parametrize("name", [n for n in NAMED if n != "add_weight_decay"])
def test_defaults(name):
    defaults = {
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9},
        "adagrad": {"eps": 1e-8, "eps_root": 0.0, "initial_accumulator": 0.0},
        "rmsprop": {"decay": 0.9, "eps": 1e-8, "eps_root": 0.0},
        "adadelta": {"rate": 1.0, "decay": 0.95, "eps": 1e-6},
        "adamw": {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "weight_decay": 0.01},
        "lion": {"b1": 0.9, "b2": 0.99, "weight_decay": 0.0},
    }
    defaults["adam"] = defaults["nadam"] = {
        k: v for k, v in defaults["adamw"].items() if k != "weight_decay"
    }
    options = {"rate": 0.1, **defaults.get(name, {})}
    optimizer = (
        getattr(optimizers, name)() if name == "adadelta" else getattr(optimizers, name)(0.1)
    )
    weights = initial()
    state, got = optimizer.init(weights), []
    for i in range(3):
        grads = {k: w - TARGET + NOISE[k][i] for k, w in weights.items()}
        updates, state = optimizer.update(grads, state, weights)
        weights = pn.apply_updates(weights, updates)
        got.append(weights)
    expected = train_reference(NAMED[name].reference, options, steps=3)
    close(jax.tree.map(lambda *a: np.stack(a), *got), expected)


def test_forty_values_of_each_number_trace_once_and_equal_a_loop(case):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(options):
        return jax.vmap(lambda options: train(case.make(**options), initial(), NOISE)[0])(options)

    chex.clear_trace_counter()
    for option, value in case.options.items():
        values = np.linspace(0.2 * value, value, TRIALS)
        trials = {k: np.full(TRIALS, v) for k, v in case.options.items()} | {option: values}
        curves = sweep(trials)
        for i in (0, 7, TRIALS - 1):
            one = jax.tree.map(lambda curve, i=i: curve[i], curves)
            close(one, train_reference(case.reference, {**case.options, option: values[i]}))
        differs = max(np.abs(np.asarray(a[0] - a[-1])).max() for a in curves.values())
        assert differs > 1e-6, f"{option} changes nothing"


def test_schedule_is_the_rate_of_each_step(case):
    rates = [0.1 * 0.9**t for t in range(STEPS)]
    options = {**case.options, "rate": lambda step: 0.1 * 0.9**step}
    curve, _ = jax.jit(lambda w: train(case.make(**options), w, NOISE))(initial())
    close(curve, train_reference(case.reference, {**options, "rate": rates}))


def test_solves_a_parabola(case):
    options = {**case.options, "rate": case.rate}
    options |= {k: 0.0 for k in ("weight_decay", "strength") if k in options}
    still = jax.tree.map(lambda w: jnp.zeros((1500, *w.shape)), initial())
    curve, _ = jax.jit(lambda w: train(case.make(**options), w, still))(initial())
    end = jax.tree.map(lambda curve: curve[-1], curve)
    close(end, jax.tree.map(lambda w: jnp.full_like(w, TARGET), end), rtol=0, atol=5e-3)


RATES = {
    "number": 0.1,
    "float64 array": np.float64(0.1) * np.ones(()),
    "float32 array": np.ones((), np.float32),
    "bfloat16 array": jnp.ones((), jnp.bfloat16),
    "schedule": schedules.cosine(0.1, 10),
}


def check_types(make, options, weights, rate):
    traced = {} if callable(rate) else {"rate": jnp.asarray(rate)}
    fixed = {**options, "rate": rate}

    def run(weights, traced):
        optimizer = make(**{**fixed, **traced})
        before = optimizer.init(weights)
        updates, after = optimizer.update(weights, before, weights)
        train(optimizer, weights, jax.tree.map(lambda n: n[:2], NOISE))  # scan checks its carry
        return before, after, weights, updates, pn.apply_updates(weights, updates)

    before, after, weights, updates, new = jax.eval_shape(run, weights, traced)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_trees_all_equal_shapes_and_dtypes(weights, updates, new)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((before, after, updates, new)))
    return before


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES.keys())
def test_state_and_updates_keep_structure_and_dtype(case, rate):
    for dtype in (jnp.float32, jnp.bfloat16):
        state = check_types(case.make, case.options, initial(dtype), rate)
        assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim} <= {jnp.dtype(dtype)}
        alone = {leaf.dtype for leaf in jax.tree.leaves(state) if not leaf.ndim}
        assert alone <= {jnp.dtype(jnp.int32), jnp.dtype(float)}  # counts and sums of all steps
    mixed = {"w": initial(jnp.bfloat16)["w"], "b": initial(jnp.float32)["b"]}
    check_types(case.make, case.options, mixed, rate)
    with jax.enable_x64(False):
        check_types(case.make, case.options, initial(jnp.float32), rate)


def test_second_step_neither_compiles_again_nor_needs_its_donated_input(case):
    optimizer = case.make(**case.options)

    @chex.assert_max_traces(n=1)
    def step(weights, state, noise):
        grads = slopes(optimizer, weights, state, noise)
        updates, state = optimizer.update(grads, state, weights)
        return pn.apply_updates(weights, updates), state

    chex.clear_trace_counter()
    step = jax.jit(step, donate_argnums=(0, 1))
    weights = initial()
    state = optimizer.init(weights)
    for i in range(3):
        old = weights
        weights, state = step(weights, state, jax.tree.map(lambda n, i=i: n[i], NOISE))
        assert old["w"].is_deleted()
    expected = train_reference(case.reference, case.options, steps=3)
    close(weights, jax.tree.map(lambda curve: curve[-1], expected))


def test_init_refuses_params_and_names_the_weights(case):
    optimizer = case.make(**case.options)
    for wrong in (Params(initial()), {"encoder": Params(initial())}):
        with pytest.raises(TypeError, match=r"Params.*pass params\.weights"):
            optimizer.init(wrong)
    with pytest.raises(TypeError, match=r"pass params\.weights"):
        optimizer.update(initial(), optimizer.init(initial()), Params(initial()))


def test_no_two_slots_share_a_buffer(case):
    optimizer = case.make(**case.options)
    if getattr(optimizer, "gradient_at", None) is None:  # those are the last of a chain
        optimizer = pn.chain(optimizer, pn.exponential_moving_average(0.9))
    leaves = jax.tree.leaves(optimizer.init(initial()))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)


# arithmetic


def test_bfloat16_is_not_calculated_with():
    """In bfloat16 0.999 is 1, which would leave nothing of a gradient in the second moment."""
    weights = initial(jnp.bfloat16)
    grads = jax.tree.map(lambda w: w * 1.5, weights)
    for make in (optimizers.adam, optimizers.nadam, optimizers.rmsprop, optimizers.adadelta):
        optimizer = make(0.1)
        low, _ = optimizer.update(grads, optimizer.init(weights), weights)
        wide = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        high, _ = optimizer.update(wide, optimizer.init(wide), wide)
        low = jax.tree.map(lambda u: u.astype(jnp.float32), low)
        close(low, high, rtol=2**-8, atol=0)


def test_float32_first_step_of_adam_is_the_rate():
    """1 - b2 and 1 - b2**t are rounded alike, whichever floats are switched on."""
    for x64 in (True, False):
        with jax.enable_x64(x64):
            g = jnp.array([3.0, -0.1], jnp.float32)
            optimizer = optimizers.adam(0.5)
            updates, _ = optimizer.update(g, optimizer.init(g))
            np.testing.assert_allclose(updates, [-0.5, 0.5], rtol=1e-6)


def test_radam_divides_from_the_sixth_step_on_in_float32_too():
    """ρₜ is t less a little: the difference of two numbers of 2000 would not tell it from 5."""
    g = jnp.float32(2.0)
    for b2, length in ((0.999, 5.994163751656718), (0.9999, 5.999416637501653)):
        last = (1 + b2) / (1 - b2)
        r = ((length - 4) * (length - 2) * last / ((last - 4) * (last - 2) * length)) ** 0.5
        optimizer = pn.radam(1.0, b2=jnp.float32(b2))
        state, update = optimizer.init(g), jax.jit(optimizer.update)
        for expected in (-2.0,) * 5 + (-r,):
            got, state = update(g, state, g)
            np.testing.assert_allclose(got, expected, rtol=1e-4)
    for b2, divides in ((0.65, False), (0.7, True)):  # averages of 4.7 and 5.7 gradients in the end
        optimizer = pn.radam(1.0, b2=b2)
        state = optimizer.init(g)._replace(count=jnp.int32(99))
        got, _ = optimizer.update(g, state, g)
        assert (abs(float(got) / float(optimizer.update(2 * g, state, g)[0]) - 1) < 1e-3) is divides


def test_gradients_wider_than_the_weights():
    weights, grads = initial(jnp.bfloat16), initial(jnp.float32)
    optimizer = optimizers.adam(0.1)
    updates, state = optimizer.update(grads, optimizer.init(weights), weights)
    chex.assert_trees_all_equal_dtypes(weights, updates, state.mean, state.square)


def test_apply_updates_keeps_the_dtype_of_the_weights():
    new = pn.apply_updates(initial(jnp.bfloat16), initial(jnp.float64))
    chex.assert_trees_all_equal_dtypes(new, initial(jnp.bfloat16))
    close(pn.apply_updates(2.0, jnp.float32(1.0)), 3.0)


def test_weak_scalars_are_calculated_in_float64():
    weights = jnp.asarray(1.0)
    assert weights.weak_type
    optimizer = optimizers.sgd(0.1)
    updates, _ = optimizer.update(jnp.asarray(1 / 3), optimizer.init(weights), weights)
    np.testing.assert_allclose(updates, -0.1 / 3, rtol=1e-15)


def test_update_does_not_need_weights_unless_it_decays():
    for make in (
        optimizers.sgd,
        optimizers.momentum,
        optimizers.adagrad,
        optimizers.adam,
        optimizers.nadam,
        optimizers.lion,
    ):
        optimizer = make(0.1)
        with_weights = optimizer.update(initial(), optimizer.init(initial()), initial())
        close(optimizer.update(initial(), optimizer.init(initial())), with_weights)
    optimizer = optimizers.adamw(0.1, weight_decay=0.0)
    plain = optimizers.adam(0.1)
    close(
        optimizer.update(initial(), optimizer.init(initial()))[0],
        plain.update(initial(), plain.init(initial()))[0],
    )


def test_empty_tree_of_weights():
    optimizer = pn.chain(pn.clip_by_global_norm(1.0), optimizers.adamw(0.1))
    updates, _ = optimizer.update({}, optimizer.init({}), {})
    assert updates == {}


def test_inside_shard_map_state_varies_like_its_weights():
    mesh = jax.make_mesh((2,), ("trials",), axis_types=(AxisType.Auto,))
    rates = jnp.array([0.01, 0.02])
    spec = PartitionSpec("trials")

    def trial(rate):
        weights = jax.tree.map(lambda w: w + 0 * rate[0], initial())
        curve, _ = train(optimizers.adamw(rate[0]), weights, NOISE)
        return jax.tree.map(lambda curve: curve[None], curve)

    curves = jax.jit(jax.shard_map(trial, mesh=mesh, in_specs=spec, out_specs=spec))(rates)
    options = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "weight_decay": 0.01}
    for i, rate in enumerate((0.01, 0.02)):
        one = jax.tree.map(lambda curve, i=i: curve[i], curves)
        close(one, train_reference(adamw, {"rate": rate, **options}))


# chain and its pieces


def test_chain_runs_in_order():
    optimizer = pn.chain(pn.clip(1.0), optimizers.sgd(0.5))
    updates, _ = optimizer.update(jnp.array([9.0, 0.5]), optimizer.init(jnp.zeros(2)))
    assert updates.tolist() == [-0.5, -0.25]
    optimizer = pn.chain(optimizers.sgd(0.5), pn.clip(1.0))
    updates, _ = optimizer.update(jnp.array([9.0, 0.5]), optimizer.init(jnp.zeros(2)))
    assert updates.tolist() == [-1.0, -0.25]


def test_chain_takes_foreign_pairs_and_chains():
    class Foreign(NamedTuple):
        init: Callable
        update: Callable

    double: Any = Foreign(
        lambda weights: "nothing", lambda updates, state, weights=None: (2 * updates, state)
    )
    optimizer = pn.chain(pn.chain(double, optimizers.sgd(1.0)), double)
    state = optimizer.init(jnp.zeros(2))
    updates, new = optimizer.update(jnp.ones(2), state, jnp.zeros(2))
    assert updates.tolist() == [-4.0, -4.0]
    assert new[0][0] == new[1] == "nothing" and int(new[0][1].count) == 1


def test_clip_keeps_nan_and_dtype():
    g = jnp.array([jnp.nan, 5.0, -5.0, 0.1], jnp.bfloat16)
    updates, _ = pn.clip(jnp.float64(1.0)).update(g, ())
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updates.astype(float), g.at[1:3].set([1, -1]).astype(float))


def test_clip_by_global_norm():
    grads = {"w": jnp.array([[3.0, 0.0]]), "b": jnp.array([-4.0])}
    clipped = lambda limit, grads: pn.clip_by_global_norm(limit).update(grads, ())[0]
    close(clipped(1.0, grads), {"w": jnp.array([[0.6, 0.0]]), "b": jnp.array([-0.8])})
    close(clipped(5.0, grads), grads)
    close(clipped(50.0, grads), grads, rtol=0, atol=0)
    limits = jnp.linspace(0, 8, TRIALS)
    norms = jax.vmap(lambda limit: jnp.hypot(*[a.sum() for a in clipped(limit, grads).values()]))
    close(norms(limits), jnp.minimum(limits, 5.0))
    low = jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)
    chex.assert_trees_all_equal_dtypes(low, clipped(jnp.float64(1.0), low))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_clip_by_global_norm_of_zero_is_zero(dtype):
    zero = {"w": jnp.zeros((2, 2), dtype)}
    f = lambda limit: pn.clip_by_global_norm(limit).update(zero, ())[0]
    for limit in (1.0, jnp.float32(0.0)):
        chex.assert_trees_all_equal(f(limit), zero)
    g = jax.grad(lambda g: pn.clip_by_global_norm(1.0).update(g, ())[0].sum())(jnp.zeros(2, dtype))
    assert np.isfinite(g.astype(float)).all()


def test_clip_by_global_norm_spreads_nan():
    updates, _ = pn.clip_by_global_norm(1.0).update([jnp.ones(2), jnp.array([jnp.nan])], ())
    assert all(np.isnan(leaf).all() for leaf in updates)


MASKS = {
    "tree": {"w": False, "b": True},
    "NumPy bools": {"w": np.False_, "b": np.True_},
    "function": lambda weights: jax.tree.map(lambda w: w.ndim == 1, weights),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_mask_chooses_what_decays(mask):
    zero = jax.tree.map(jnp.zeros_like, initial())
    expected = {"w": zero["w"], "b": initial()["b"]}
    updates, _ = pn.add_weight_decay(0.5, mask).update(zero, (), initial())
    close(updates, jax.tree.map(lambda w: 0.5 * w, expected))
    for make in (optimizers.adamw, optimizers.lion):
        optimizer = make(0.1, weight_decay=0.5, mask=mask)
        updates, _ = optimizer.update(zero, optimizer.init(zero), initial())
        close(updates, jax.tree.map(lambda w: -0.05 * w, expected))


def test_decay_of_kernels_not_of_vectors_under_vmap():
    """A trial axis is not one of the weight's own axes."""
    weights = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), initial())
    zero = jax.tree.map(jnp.zeros_like, weights)
    decay = lambda g, w: pn.add_weight_decay(0.5).update(g, (), w)[0]
    close(jax.vmap(decay)(zero, weights), {"w": 0.5 * weights["w"], "b": zero["b"]})


def test_scale_by_schedule_counts_from_zero():
    optimizer = pn.chain(optimizers.sgd(1.0), pn.scale_by_schedule(lambda step: 1.0 + step))
    state = optimizer.init(jnp.zeros(1))
    seen = []
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones(1), state)
        seen.append(float(updates[0]))
    assert seen == [-1.0, -2.0, -3.0]
    updates, _ = pn.scale_by_schedule(-1.0).update(
        jnp.ones(1), transforms.ScheduleState(jnp.int32(0))
    )
    assert updates.tolist() == [-1.0]


def test_moving_average_of_the_weights():
    optimizer = pn.chain(optimizers.sgd(0.1), pn.exponential_moving_average(0.8))
    weights = initial()
    close(pn.averaged_weights(optimizer.init(weights)), weights, rtol=0, atol=0)
    curve, state = jax.jit(lambda w: train(optimizer, w, NOISE))(weights)
    close(curve, train_reference(sgd, {"rate": 0.1}))  # the updates pass unchanged
    for name, w in weights.items():
        average = np.array(w)
        for after in np.asarray(curve[name]):
            average = 0.8 * average + 0.2 * after
        close(pn.averaged_weights(state)[name], average)
    nested = {"opt": pn.chain(pn.clip(1.0), optimizer).init(weights), "step": 3}
    close(pn.averaged_weights(nested), weights)


def test_moving_average_keeps_dtype_traces_once_and_survives_donation():
    def step(weights, state, decay):
        optimizer = pn.chain(optimizers.sgd(0.1), pn.exponential_moving_average(decay))
        updates, state = optimizer.update(weights, state, weights)
        return pn.apply_updates(weights, updates), state

    optimizer = pn.chain(optimizers.sgd(0.1), pn.exponential_moving_average(0.5))
    for dtype in (jnp.float32, jnp.bfloat16):
        chex.clear_trace_counter()
        jitted = jax.jit(chex.assert_max_traces(n=1)(step), donate_argnums=(0, 1))
        weights = initial(dtype)
        state = before = optimizer.init(weights)
        shapes = jax.eval_shape(lambda state: state, before)
        for decay in (0.5, 0.6, 0.7):
            weights, state = jitted(weights, state, decay)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)
    decays = jnp.linspace(0, 0.99, TRIALS)
    weights = initial()
    _, states = jax.vmap(lambda d: step(weights, optimizer.init(weights), d))(decays)
    expected = weights["w"] * (decays + (1 - decays) * 0.9)[:, None, None]
    close(pn.averaged_weights(states)["w"], expected)


# errors

ZERO = jnp.zeros((2, 2))
ERRORS = {
    "negative rate": (lambda: optimizers.sgd(-0.1), r"sgd: rate is -0\.1.*of at least 0"),
    "NaN rate": (lambda: optimizers.adam(float("nan")), "adam: rate is nan"),
    "infinite rate": (lambda: optimizers.lion(np.inf), "lion: rate is inf"),
    "NumPy rate": (lambda: optimizers.adagrad(np.float32(-1)), r"adagrad: rate is -1\.0"),
    "momentum": (
        lambda: optimizers.momentum(0.1, 1.0),
        r"momentum: momentum is 1\.0.*0 to below 1",
    ),
    "nesterov": (lambda: optimizers.nesterov(0.1, -1), "nesterov: momentum is -1"),
    "adagrad": (
        lambda: optimizers.adagrad(0.1, initial_accumulator=-1.0),
        "adagrad: initial_accumulator is -1",
    ),
    "rmsprop decay": (lambda: optimizers.rmsprop(0.1, decay=1.5), r"rmsprop: decay is 1\.5"),
    "rmsprop eps": (lambda: optimizers.rmsprop(0.1, eps=-1e-8), "rmsprop: eps is -1e-08"),
    "adadelta decay": (lambda: optimizers.adadelta(decay=1), "adadelta: decay is 1,"),
    "adadelta eps": (lambda: optimizers.adadelta(eps=-1), "adadelta: eps is -1"),
    "adam b1": (lambda: optimizers.adam(0.1, b1=1.0), r"adam: b1 is 1\.0"),
    "adamw b2": (lambda: optimizers.adamw(0.1, b2=-0.5), r"adamw: b2 is -0\.5"),
    "adamw decay": (lambda: optimizers.adamw(0.1, weight_decay=-1), "adamw: weight_decay is -1"),
    "nadam eps_root": (lambda: optimizers.nadam(0.1, eps_root=-1), "nadam: eps_root is -1"),
    "lion b2": (lambda: optimizers.lion(0.1, b2=2), "lion: b2 is 2"),
    "clip": (lambda: pn.clip(0), "clip: limit is 0.*above 0"),
    "norm": (lambda: pn.clip_by_global_norm(-1.0), r"clip_by_global_norm: limit is -1\.0"),
    "decay": (lambda: pn.add_weight_decay(-1), "add_weight_decay: strength is -1"),
    "average decay": (
        lambda: pn.exponential_moving_average(1.0),
        r"exponential_moving_average: decay is 1\.0",
    ),
    "adamw without weights": (
        lambda: optimizers.adamw(0.1).update(ZERO, optimizers.adamw(0.1).init(ZERO)),
        r"adamw: `update` needs the weights; call update\(grads, state, params\.weights\)",
    ),
    "lion without weights": (
        lambda: optimizers.lion(0.1, weight_decay=jnp.zeros(())).update(
            ZERO, optimizers.lion(0.1).init(ZERO)
        ),
        "lion: `update` needs the weights",
    ),
    "decay without weights": (
        lambda: pn.chain(pn.add_weight_decay(0.1)).update(ZERO, ((),)),
        "add_weight_decay: `update` needs the weights",
    ),
    "average without weights": (
        lambda: pn.exponential_moving_average(0.9).update(ZERO, transforms.AverageState(ZERO)),
        "exponential_moving_average: `update` needs the weights",
    ),
    "mask with another structure": (
        lambda: pn.add_weight_decay(0.1, {"v": True}).update({"w": ZERO}, (), {"w": ZERO}),
        "add_weight_decay: the mask has the structure .*'v'.*'w'",
    ),
    "mask of numbers": (
        lambda: pn.add_weight_decay(0.1, lambda w: {"w": 0.5}).update({"w": ZERO}, (), {"w": ZERO}),
        r"add_weight_decay: a leaf of the mask is 0\.5.*True or False",
    ),
    "no average": (
        lambda: pn.averaged_weights(optimizers.adam(0.1).init(ZERO)),
        r"averaged_weights: the state holds 0 averages.*exponential_moving_average\(decay\)",
    ),
    "two averages": (
        lambda: pn.averaged_weights([transforms.AverageState(ZERO)] * 2),
        "averaged_weights: the state holds 2 averages",
    ),
}


@pytest.mark.parametrize("call, message", ERRORS.values(), ids=ERRORS.keys())
def test_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_chain_refuses_what_is_no_pair():
    with pytest.raises(TypeError, match=r"chain: argument 1 is .*such as sgd\(0\.1\)"):
        pn.chain(*[optimizers.sgd(0.1), optimizers.adam])


def test_arrays_are_never_looked_at():
    """The same wrong values in a jax array pass: looking would fail on traced ones."""
    pn.chain(optimizers.adamw(jnp.array(-1.0), b1=jnp.array(2.0)), pn.clip(jnp.array(-1.0)))
    jax.vmap(lambda rate: optimizers.sgd(rate).update(ZERO, optimizers.sgd(rate).init(ZERO))[0])(
        jnp.array([-1.0])
    )
