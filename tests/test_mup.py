"""muP: initial scales, multipliers and rates by width; coordinates; a rate that transfers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import initializers, sweep
from purenet.nn.mup import width_ratios
from purenet.nn.outputs import layer_outputs

KEY, SIZES, BASE = jax.random.key(0), (5, 12, 12, 3), (5, 4, 4, 3)
CONVNETS = [pn.simple_convnet(4 * n, 3, 8 * n, classes=3) for n in (1, 3)]
IMAGE = (6, 6, 1)
WIDE = {  # network, its sizes: (net, sizes), three times as wide as the base network
    "mlp": (pn.mup(pn.mlp(batch_norm=True), BASE), SIZES),
    "convnet": (pn.mup(CONVNETS[1], (CONVNETS[0], IMAGE)), IMAGE),
}
# by place in the network: (deviation and multiplier, "adam", "sgd") of w, then of vectors
ROLES = {
    "input": (1, 1, 3, 1, 3), "hidden": (1, 1 / 3, 1, 1, 3), "output": (3**0.5, 1, 3, 1, 1),
    "norm": (None, None, None, 1, 3),
}  # fmt: skip
PLACES = {
    "mlp": {"0": "input", "1": "norm", "3": "hidden", "4": "norm", "6": "output"},
    "convnet": {"0": "input", "4": "hidden", "6": "output"},
}


def test_the_inputs_of_a_grouped_convolution_are_those_of_one_group():
    of_width = lambda c, groups: (pn.conv(c, 3, groups=groups), (5, 5, c))
    for groups, ratios in (((2, 2), (3, 3)), ((4, 12), (1, 3))):  # of the base, of the wide one
        (small, sizes), (wide, wide_sizes) = map(of_width, (4, 12), groups)
        net = pn.mup(wide, (small, sizes))
        found = width_ratios(net, net.init(KEY, wide_sizes))["w"]
        assert (found.inputs, found.outputs) == ratios


def plain(net):
    return net.spec[1]["layer"]


@pytest.mark.parametrize("name", WIDE)
def test_weights_are_drawn_and_multiplied_by_their_role(name):
    net, sizes = WIDE[name]
    drawn, as_drawn = net.init(KEY, sizes), plain(net).init(KEY, sizes)
    expected = jax.tree.map(lambda w: w, as_drawn.weights)
    effective = jax.tree.map(lambda w: w, as_drawn.weights)
    for place, role in PLACES[name].items():
        if role == "output":
            expected[place]["w"] = as_drawn.weights[place]["w"] * 3**0.5
            effective[place]["w"] = as_drawn.weights[place]["w"] / 3**0.5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), drawn.weights, expected)
    x = jax.random.normal(KEY, (2, *([sizes[0]] if name == "mlp" else sizes)))
    y = plain(net).apply(pn.Params(effective, as_drawn.stats), x, False, None)[0]
    np.testing.assert_allclose(net.apply(drawn, x, False, None)[0], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("name", WIDE)
def test_each_array_has_the_rate_of_its_role(name, kind):
    net, sizes = WIDE[name]
    ones = jax.tree.map(jnp.ones_like, net.init(KEY, sizes).weights)
    updates, _ = pn.mup_rates(net, sizes, kind).update(ones, ())
    for place, role in PLACES[name].items():
        for weight, u in updates[place].items():
            rate = ROLES[role][(1 if weight == "w" else 3) + (kind == "sgd")]
            np.testing.assert_allclose(u, jnp.full_like(u, rate), rtol=1e-6)


def test_at_the_base_width_nothing_changes():
    net = pn.mup(pn.mlp(), BASE)
    a, b = (one.init(KEY, BASE).weights for one in (net, pn.mlp()))
    updates, _ = pn.mup_rates(net, BASE, "sgd").update(a, ())
    for tree in (a, updates):
        jax.tree.map(np.testing.assert_array_equal, tree, b)


def test_a_padded_width_that_is_traced_trains_as_the_network_of_that_width():
    x, t = np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 3
    weight = lambda key, shape, fans=None: jnp.ones(shape) / (2 + jnp.arange(shape[-1]))
    net = pn.mup(pn.mlp(weight_init=weight), BASE)

    def trained(width):
        sizes = (5, width, width, 3)
        optimizer = pn.chain(pn.momentum(0.1), pn.mup_rates(net, sizes, "sgd"))
        one = pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, 3)
        state = one.epoch(one.init(KEY), (x, t))[0]
        return one.predict(state, x), one.activations(state, x)

    sizes = jnp.array([4, 8])
    found = jax.jit(jax.vmap(lambda n: trained(pn.PaddedSize(n, 8))))(sizes)
    for i, n in enumerate((4, 8)):
        y, outputs = trained(n)
        np.testing.assert_allclose(found[0][i], y, rtol=1e-5, atol=1e-6)
        for name, h in outputs.items():
            units = h.shape[-1]
            np.testing.assert_allclose(found[1][name][i, :, :units], h, rtol=1e-5, atol=1e-6)
            assert not found[1][name][i, :, units:].any()


def test_outputs_are_those_of_each_layer_with_weights():
    net, sizes = WIDE["mlp"]
    params = net.init(KEY, sizes)
    x = jax.random.normal(KEY, (2, 5))
    found = layer_outputs(pn.remat(net), sizes, params, x)
    assert list(found) == [f"{i} {kind}" for i, kind in zip(
        (0, 1, 3, 4, 6), ("dense", "batch_norm") * 2 + ("dense",), strict=True)]  # fmt: skip
    np.testing.assert_allclose(found["0 dense"], x @ params.weights["0"]["w"], rtol=1e-5)
    np.testing.assert_allclose(found["6 dense"], net.apply(params, x, False, None)[0], rtol=1e-5)
    alone = layer_outputs(pn.dense(2), 5, pn.dense(2).init(KEY, 5), x)
    assert {name: h.shape for name, h in alone.items()} == {"dense": (2, 2)}


def test_a_network_is_saved_and_summarised_with_its_base(tmp_path):
    net, sizes = WIDE["convnet"]
    params = net.init(KEY, sizes)
    pn.save_network(tmp_path / "net.npz", net, sizes, params)
    again, _, loaded = pn.load_network(tmp_path / "net.npz")[:3]
    x = jnp.ones((1, *sizes))
    np.testing.assert_array_equal(
        again.apply(loaded, x, False, None)[0], net.apply(params, x, False, None)[0]
    )
    assert pn.summary(net, sizes) == pn.summary(plain(net), sizes)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: pn.mup(3, base=4), TypeError, "mup: the network is 3, but a network such as"),
        (lambda: pn.mup(pn.mlp(weight_init=initializers.glorot_normal), BASE), ValueError,
         "mup: weight_init is .*glorot_normal.* but one scaled by fan-in"),
        (lambda: pn.mup(pn.serial(pn.dense(3, initializers.normal(0.1))), 4), ValueError,
         "mup: weight_init is .* but one scaled by fan-in"),
        (lambda: pn.mup(pn.mlp(), (5, pn.PaddedSize(2, 4), 3)), ValueError,
         "mup: base is .* but plain sizes without padding are expected"),
        (lambda: pn.mup(pn.mlp(), (5, 4, 3)).init(KEY, SIZES), ValueError,
         "mup: the weights are of .* axes, .* or `base` is of other layers"),
        (lambda: pn.mup_rates(pn.mlp(), SIZES), TypeError,
         "mup_rates: net is .* but a network made by mup, such as"),
        (lambda: pn.mup_rates(WIDE["mlp"][0], SIZES, "muon"), ValueError,
         'mup_rates: optimizer is .muon., but "adam" or "sgd" is expected'),
        (lambda: pn.mup_rates(WIDE["mlp"][0], SIZES).update({"w": jnp.ones(2)}, ()), ValueError,
         "mup_rates: the updates have the structure"),
    ],
)  # fmt: skip
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()


# coordinates and transfer
WIDTHS = [64, 96, 128, 160, 192, 256, 384, 512]


def trial(hyper, kind="adam", batch_size=100):
    width, net, optimizer = hyper["width"], pn.mlp(), getattr(pn, kind)(hyper["rate"])
    sizes, base = (64, width, width, 10), hyper["base"]
    if hyper["mup"]:
        net = pn.mup(net, (64, base, base, 10))
        optimizer = pn.chain(optimizer, pn.mup_rates(net, sizes, kind))
    return pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, batch_size)


@pytest.fixture(scope="module")
def digits():
    x, t = pn.data.digits(flatten=True)
    return x[:300], t[:300]


def first(data, count):
    return jax.tree.map(lambda a: a[:count], data)


def test_coordinates_are_flat_for_mup_and_grow_for_the_standard_parametrisation(digits, tmp_path):
    widths = sweep.padded(sweep.choice(WIDTHS), to=(512,))
    space, few = {"width": widths, "rate": 0.01, "base": 64}, first(digits, 100)
    check = lambda mup: sweep.coordinate_check(trial, {**space, "mup": mup}, few, seeds=2)
    found, usual = check(True), check(False)
    assert found.programs == 1 and found.widths.tolist() == WIDTHS
    assert found.size["2 dense"].shape == (8, 4) and found.start["2 dense"].shape == (8,)
    assert max(map(abs, found.slopes().values())) < 0.2, found.slopes()
    assert usual.slopes()["2 dense"] > 0.3 and usual.slopes()["4 dense"] > 0.4, usual.slopes()
    assert found.plot(tmp_path / "check.png").is_file()


def test_coordinates_of_sgd_follow_the_exponents_of_each_layer(digits):
    """Relative to the standard parametrisation, whose first step moves the layers below the output
    by less and less in wide networks, and the output by more and more: by powers of ½, -½ and -1.
    """
    widths = sweep.padded(sweep.choice(WIDTHS), to=(512,))
    space, few = {"width": widths, "rate": 0.1, "base": 64}, first(digits, 100)
    check = lambda mup: sweep.coordinate_check(
        functools.partial(trial, kind="sgd"), {**space, "mup": mup}, few, epochs=1, seeds=2
    )
    found, usual = check(True).slopes(), check(False).slopes()
    apart = [found[name] - usual[name] for name in ("0 dense", "2 dense", "4 dense")]
    assert apart[0] > 0.25 and apart[1] < -0.3 and apart[2] < -1, (found, usual)
    assert usual["4 dense"] > 0.5, usual


def test_coordinates_of_padded_widths_are_those_of_each_network_alone(digits):
    few = first(digits, 20)
    check = lambda width: sweep.coordinate_check(
        trial_fixed, {"width": width, "rate": 0.01}, few, epochs=1
    )
    widths = sweep.choice([8, 4])
    one, several = check(sweep.padded(widths, to=(8,))), check(widths)
    assert (one.programs, several.programs) == (1, 2) and one.widths.tolist() == [4, 8]
    by_hand = trial_fixed({"width": 8, "rate": 0.01})
    before = by_hand.init(jax.random.split(jax.random.key(0), 1)[0])
    after, _ = by_hand.epoch(before, few)
    h0, h1 = (by_hand.activations(state, few[0])["0 dense"] for state in (before, after))
    rms = lambda h: float(np.sqrt(np.mean(np.square(h))))
    expected = {"start": rms(h0), "size": rms(h1), "change": rms(h1 - h0)}
    for kind, value in expected.items():
        np.testing.assert_allclose(np.ravel(getattr(one, kind)["0 dense"])[1], value, rtol=1e-4)
    for kind in expected:
        for name, values in getattr(one, kind).items():
            np.testing.assert_allclose(values[1], getattr(several, kind)[name][1], rtol=1e-4)


def trial_fixed(hyper):
    """Without relu, which leaves some units unmoved at these widths."""
    sizes = (64, hyper["width"], 10)
    net = pn.mup(pn.mlp(pn.tanh), (64, 4, 10))
    optimizer = pn.chain(pn.adam(hyper["rate"]), pn.mup_rates(net, sizes))
    return pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, batch_size=20)


IDLE = lambda hyper: pn.Trainable(lambda key: 0.0, lambda s, data: (s, {}), lambda s, data: {})


@pytest.mark.parametrize(
    "trial, space, error, message",
    [
        (IDLE, [1], TypeError, "coordinate_check: space is .* but a dict is expected"),
        (IDLE, {"width": 8}, ValueError, "coordinate_check: 'width' is 8 in the space"),
        (IDLE, {"width": sweep.choice([8, 16]), "rate": sweep.uniform(0, 1)}, ValueError,
         r"coordinate_check: \['rate'\] is drawn, but all hyperparameters other than 'width' have"),
        (IDLE, {"width": sweep.choice([8, 16])}, ValueError,
         "coordinate_check: the trial function's Trainable has no `activations"),
    ],
)  # fmt: skip
def test_mistakes_of_a_check(trial, space, error, message):
    with pytest.raises(error, match=message):
        sweep.coordinate_check(trial, space, (np.ones((2, 64)), np.zeros(2, int)))


def test_the_best_rate_transfers(digits):
    rates = [0.25 / 4**i for i in reversed(range(5))]

    def best(width, mup):
        space = {"width": width, "rate": sweep.choice(rates), "mup": mup, "base": 32}
        result = sweep.run(
            trial, space, (digits, digits), epochs=5, seeds=2, search=sweep.grid(1), metric="loss",
            mode="min", progress=False, keep=0,
        )  # fmt: skip
        return int(np.argmin(np.abs(np.log(result.best().hyper["rate"] / rates))))

    narrow = best(32, False)  # at the base width both parametrisations are the same
    usual, mup = narrow - best(256, False), narrow - best(256, True)
    assert abs(mup) <= 1 and usual > mup, (usual, mup)


def test_the_best_rate_of_sgd_transfers_and_the_wide_network_is_better(digits):
    rates = [2.0 / 4**i for i in reversed(range(4))]

    def tried(width):
        space = {"width": width, "rate": sweep.choice(rates), "mup": True, "base": 32}
        one = functools.partial(trial, kind="sgd", batch_size=50)
        return sweep.run(
            one, space, (digits, digits), epochs=5, seeds=2, search=sweep.grid(1),
            metric="loss", mode="min", progress=False, keep=0,
        )  # fmt: skip

    narrow, wide = tried(32), tried(128)
    place = lambda result: int(np.argmin(np.abs(np.log(result.best().hyper["rate"] / rates))))
    assert abs(place(narrow) - place(wide)) <= 1
    assert wide.best().score < narrow.best().score


def test_a_point_is_transferred_as_it_was(digits):
    """With its branch, its static values, the seeds and the folds; unchanged, the same numbers."""

    def trial(hyper):
        chosen = hyper["optimizer"]
        options = {k: v for k, v in chosen.items() if k != "name"}
        optimizer = getattr(pn, chosen["name"])(hyper["rate"], **options)
        sizes = (64, hyper["width"], 10)
        net = pn.mlp(hyper["activation"])
        return pn.supervised(net, sizes, optimizer, pn.softmax_cross_entropy, 50)

    branches = [{"name": "momentum", "momentum": sweep.uniform(0, 1)}, {"name": "adam"}]
    space = {
        "width": 4, "rate": sweep.loguniform(1e-3, 1e-1), "optimizer": sweep.choice(branches),
        "activation": pn.tanh,
    }  # fmt: skip
    data = first(digits, 100)
    result = sweep.run(trial, space, data, trials=1, epochs=1, folds=2, seeds=2, progress=False)
    same = result.transfer(0, width=4)
    for part in ("train", "validation"):
        np.testing.assert_array_equal(same.curves[part]["loss"], result.curves[part]["loss"])
    assert same.best().hyper == result.best().hyper and list(same.space) == list(result.space)
    other = result.transfer(result.best(), optimizer=branches[1])
    assert other.best().hyper["optimizer.name"] == "adam"
    assert other.network()[1] == (64, 4, 10)
    message = "Result.transfer: give new values for .* but 'wide' is not one; they are width, rate"
    with pytest.raises(ValueError, match=message):
        result.transfer(wide=8)
    with pytest.raises(ValueError, match="but none was named"):
        result.transfer()
