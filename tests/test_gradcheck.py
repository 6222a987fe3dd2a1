"""Numerical gradients, the check of one operation, and `purenet check` over all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purenet import cli, gradcheck, mlp, ops, serial
from purenet.core.types import Params
from purenet.core.vjp import hand_vjp
from purenet.gradcheck import _check as gradcheck_check
from purenet.gradcheck import (
    check,
    numerical,
    numerical_gradient,
    numerical_gradient_two_layer,
    report,
    table,
)
from purenet.gradcheck.cases import cases
from purenet.nn.activations import relu, sigmoid, tanh
from purenet.nn.dense import dense
from purenet.nn.losses import mean_squared_error, softmax_cross_entropy


def one_by_one(f, x, h):
    """The textbook's loop."""
    gradient = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[place] += h
        below[place] -= h
        gradient[place] = (f(above) - f(below)) / (2 * h)
    return gradient


# numerical gradients
@pytest.mark.parametrize("block", [1, 3, 7, 12, 100, None])
def test_blocks_equal_one_entry_at_a_time(block, key):
    x = np.array(jax.random.normal(key, (3, 4)))
    f = lambda x: (jnp.sin(x) * jnp.arange(12.0).reshape(3, 4)).sum() + x[0, 0] * x[2, 3]
    got = numerical_gradient(f, x, block=block)
    np.testing.assert_allclose(got, one_by_one(f, x, 1e-4), rtol=1e-9, atol=1e-10)


def test_any_tree_and_what_is_not_a_real_number_is_passed_on():
    tree = {
        "w": (jnp.array([[1.0, 2.0]]), np.array([3.0])),
        "number": 4.0,
        "n": np.array([2, 3]),
        "on": np.array(True),
        "key": jax.random.key(0),
        "nothing": jnp.zeros((0, 3)),
    }

    def f(p):
        noise = jax.random.uniform(p["key"])
        total = (p["n"][1] * p["w"][0] ** 2).sum() + p["w"][1][0] * p["number"] + 0 * noise
        return jnp.where(p["on"], total, 0) + p["nothing"].sum()

    got = numerical_gradient(f, tree)
    assert (got["n"], got["on"], got["key"]) == (None, None, None)
    assert got["nothing"].shape == (0, 3)
    np.testing.assert_allclose(got["w"][0], [[6.0, 12.0]], rtol=1e-9)
    np.testing.assert_allclose(got["w"][1], [4.0], rtol=1e-9)
    np.testing.assert_allclose(got["number"], 3.0, rtol=1e-9)


def test_the_input_is_not_modified():
    tree = {"a": np.arange(5.0), "b": np.ones((2, 2))}
    for leaf in tree.values():
        leaf.flags.writeable = False
    before = {name: leaf.copy() for name, leaf in tree.items()}
    numerical_gradient(lambda p: (p["a"] ** 2).sum() * p["b"].sum(), tree, block=2)
    for name, leaf in tree.items():
        np.testing.assert_array_equal(leaf, before[name])


def test_the_step_is_the_one_that_was_taken():
    """Rounding moves 1000.1 + 0.01 by 0.3% of the step in float32."""
    got = numerical_gradient(lambda x: 4 * x, np.float32(1000.1), h=1e-2)
    assert got == 4.0 and got.dtype == jnp.float32
    assert np.isnan(numerical_gradient(lambda x: 4 * x, np.float32(1e8), h=1e-2))


def test_float32_is_best_near_a_hundredth(key):
    x = jax.random.normal(key, (20,), jnp.float32)
    errors = [
        float(abs(numerical_gradient(lambda x: jnp.sin(x).sum(), x, h) - jnp.cos(x)).max())
        for h in (1e-4, 1e-2)
    ]
    assert errors[1] < 1e-3 < errors[0]


def test_it_can_be_compiled_with_a_traced_step():
    gradient = jax.jit(lambda x, h: numerical_gradient(lambda x: (x**3).sum(), x, h))
    np.testing.assert_allclose(gradient(jnp.array([1.0, 2.0]), 1e-3), [3 + 1e-6, 12 + 1e-6])


def two_layers(sizes, n, activation=sigmoid):
    """(a function of the weights, the weights, x, t)."""
    i, j, k = sizes
    rng = np.random.default_rng(0)
    net = mlp(activation)
    first = {"w": rng.normal(size=(i, j)), "b": rng.normal(size=j)}
    last = {"w": rng.normal(size=(j, k)), "b": rng.normal(size=k)}
    x, t = rng.normal(size=(n, i)), rng.integers(0, k, n)
    outputs = lambda w: net.apply(Params(w), jnp.asarray(x), True, None)[0]
    return outputs, {"0": first, "2": last}, x, jnp.asarray(t)


def test_39760_parameters_fit_in_memory():
    outputs, weights, _, t = two_layers((784, 50, 10), 100)
    gradient = jax.jit(
        lambda w: numerical_gradient(lambda w: softmax_cross_entropy(outputs(w), t), w)
    )
    memory = gradient.lower(weights).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 64 * 2**20


ERRORS = {
    "a vector": (lambda x: x, jnp.ones(3), {}, r"f returns float64\[3\], but one real number"),
    "a pair": (lambda x: (x.sum(), x), jnp.ones(3), {}, r"returns float64\[\], float64\[3\]"),
    "an integer": (lambda x: x.argmax(), jnp.ones(3), {}, r"f returns int64\[\]"),
    "nothing real": (lambda x: x.sum() / 2, jnp.arange(3), {}, "holds int64.*astype"),
    "no leaf": (lambda x: jnp.zeros(()), (), {}, "holds no leaves"),
    "complex": (lambda x: x.real.sum(), 1j * jnp.ones(3), {}, "holds complex128"),
    "no step": (jnp.sum, jnp.ones(3), {"h": 0.0}, "h is 0.0, but a finite number above 0"),
    "a step back": (jnp.sum, jnp.ones(3), {"h": -1e-4}, "h is -0.0001"),
    "no block": (jnp.sum, jnp.ones(3), {"block": 0}, "block is 0, but at least 1"),
}


@pytest.mark.parametrize("f, tree, options, message", ERRORS.values(), ids=ERRORS.keys())
def test_mistakes_are_explained(f, tree, options, message):
    with pytest.raises(ValueError, match=f"numerical_gradient.*{message}"):
        numerical_gradient(f, tree, **options)


# the network of two layers
@pytest.mark.parametrize("activation, numbers", [(sigmoid, 1), (relu, 1_000_000)])
def test_rank_one_equals_brute_force(activation, numbers, monkeypatch):
    monkeypatch.setattr(numerical, "_NUMBERS", numbers)
    outputs, weights, x, t = two_layers((7, 5, 3), 4, activation)
    expected = numerical_gradient(lambda w: softmax_cross_entropy(outputs(w), t), weights)
    got = jax.jit(lambda w: numerical_gradient_two_layer(w, x, t, activation))(weights)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)
    jax.tree.map(close, got, expected)


def test_rank_one_with_another_loss_and_a_serial_network(key):
    net = serial(dense(3), tanh, dense(2))
    weights = net.init(key, 4).weights
    x, t = jnp.arange(20.0).reshape(5, 4) / 20, jnp.ones((5, 2))
    f = lambda w: mean_squared_error(net.apply(Params(w), x, True, None)[0], t)
    fast = lambda w: numerical_gradient_two_layer(w, x, t, tanh, mean_squared_error, 1e-5)
    got = jax.jit(fast)(weights)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)
    jax.tree.map(close, got, numerical_gradient(f, weights, 1e-5))


@pytest.mark.parametrize("sizes, inputs", [((4, 5), 4), ((4, 5, 5, 3), 4), ((4, 5, 3), 6)], ids=str)
def test_rank_one_explains_what_it_takes(sizes, inputs, key):
    weights = mlp(sigmoid).init(key, sizes).weights
    with pytest.raises(ValueError, match=rf"two_layer.*\(2, {inputs}\).*two dense layers"):
        numerical_gradient_two_layer(weights, jnp.ones((2, inputs)), jnp.zeros(2, int))


# the check of one operation
def product(wrong=lambda dw: dw):
    """x @ w with a rule by hand, whose dw goes through `wrong`."""

    def plain(x, w):
        return x @ w

    def backward(residuals, g):
        x, w = residuals
        return g @ w.T, wrong(x.T @ g)

    return hand_vjp(plain, lambda x, w: (plain(x, w), (x, w)), backward)


def test_a_right_rule(key):
    found = check(product(), [jax.random.normal(key, (5, 3)), jax.random.normal(key, (3, 4))])
    assert found.automatic.error < 1e-12 and found.numerical.error < 1e-8


@pytest.mark.parametrize("entry", [(0, 0), (1, 2), (2, 3)])
def test_one_percent_in_one_entry_is_found_and_located(entry, key):
    op = product(lambda dw: dw.at[entry].multiply(1.01))
    found = check(op, [jax.random.normal(key, (5, 3)), jax.random.normal(key, (3, 4))])
    for worst in (found.automatic, found.numerical):
        assert worst.error == pytest.approx(0.01, rel=1e-3)
        assert (worst.argument, worst.entry) == ("w", entry)
    assert str(found.automatic) == f"0.01 at w[{entry[0]}, {entry[1]}]"


def test_a_small_gradient_beside_a_large_one_is_not_lost():
    """The bias below has a gradient a thousandth of the weights'."""
    plain = lambda x, b: 1000 * (x**2).sum() + (b * b).sum()
    rule = hand_vjp(
        plain, lambda *a: (plain(*a), a), lambda a, g: (2000 * g * a[0], 2 * g * a[1] * 1.01)
    )
    found = check(rule, [jnp.ones(3), jnp.ones(2)])
    assert found.automatic == found.numerical._replace(error=found.automatic.error)
    assert found.automatic.argument == "b"
    assert all(worst.error > 1e-4 for worst in (found.automatic, found.numerical))


def test_a_wrong_reference_is_found_by_differences():
    plain = lambda x: (x * jax.lax.stop_gradient(x)).sum()
    found = check(hand_vjp(plain, lambda x: (plain(x), x), lambda x, g: (g * x,)), [jnp.ones(3)])
    assert found.automatic.error == 0 and found.numerical.error == pytest.approx(0.5)


def test_nan_is_an_error():
    plain = lambda x: x.sum()
    op = hand_vjp(plain, lambda x: (plain(x), x), lambda x, g: (jnp.full_like(x, jnp.nan),))
    assert check(op, [jnp.ones(3)]).automatic.error == np.inf


def test_a_rule_that_forgets_the_cotangent_is_found():
    plain = lambda x: x.sum()
    op = hand_vjp(plain, lambda x: (plain(x), x), lambda x, g: (jnp.ones_like(x),))
    assert check(op, [jnp.ones(3)]).automatic.error > 0.1


def test_what_differences_cannot_follow_is_left_out():
    args = [jnp.ones((3, 4)), 0.4, jax.random.key(0)]
    assert check(ops.drop, args).numerical.argument == "rate"
    assert check(ops.drop, args, nondifferentiable=(1,)).numerical.error < 1e-8


def test_check_explains_what_it_takes():
    with pytest.raises(ValueError, match=r"check: mean has no \.plain.*hand_vjp"):
        check(jnp.mean, [jnp.ones(3)])
    with pytest.raises(ValueError, match=r"check: tanh got int64.*real numbers"):
        check(ops.tanh, [jnp.arange(3)])


# the check of all operations
@pytest.fixture(scope="module")
def everything():
    """`purenet check`, once: (exit status, what it printed, the gradients it compared)."""
    compared, printed = [], []
    compare = gradcheck_check._compare

    def record(gradients, names):
        compared.append((gradients, names))
        return compare(gradients, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradcheck_check, "_compare", record)
        patch.setattr("builtins.print", lambda text: printed.append(text))
        status = cli.main(["check"])
    return status, "\n".join(printed), compared


def test_every_operation_has_a_case():
    assert set(cases(0)) == {name for name, op in vars(ops).items() if hasattr(op, "plain")}


def test_the_command_passes(everything):
    status, printed, _ = everything
    assert status == 0, printed
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[2:-2]] == list(cases(0))
    assert all(line.endswith("ok") for line in lines[2:-2])
    assert lines[-1] == f"all {len(cases(0))} operations: ok"


def test_one_percent_in_any_entry_of_any_operation_would_be_found(everything):
    """Every entry in turn, down to a ten-thousandth of the largest, in float64 by both ways."""
    tolerance, tried = gradcheck.TOLERANCES["float64"], 0
    for (by_hand, *_), names in everything[2]:
        if by_hand[0].dtype != np.float64:
            continue
        by_hand = [np.array(g) for g in by_hand]
        maximize = max(abs(g).max() for g in by_hand)
        for g, name in zip(by_hand, names, strict=True):
            for place in np.ndindex(g.shape):
                if abs(g[place]) < 1e-4 * maximize:
                    continue
                right = g[place]
                reference = [a.copy() for a in by_hand]
                g[place] *= 1.01
                worst = gradcheck_check._worst(by_hand, reference, names)
                g[place] = right
                assert (worst.argument, worst.entry) == (name, place)
                assert worst.error > 50 * tolerance.numerical > tolerance.automatic
                tried += 1
    assert tried > 1000


def test_the_command_names_a_broken_rule(monkeypatch, capsys):
    affine = ops.affine.plain

    def backward(residuals, g):
        x, w = residuals
        return g @ w.T, (x.T @ g).at[1, 2].multiply(1.01), g.sum(0)

    broken = hand_vjp(affine, lambda x, w, b: (affine(x, w, b), (x, w)), backward)
    monkeypatch.setattr(ops, "affine", broken)
    some = {name: several for name, several in cases(0).items() if name in ("tanh", "affine")}
    monkeypatch.setattr(gradcheck_check, "cases", lambda seed: some)
    assert cli.main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[2:4]] == ["ok", "FAILED"]
    assert "affine, float64, automatic: 0.01 at w[1, 2]" in lines
    assert "affine, float64, numerical: 0.01 at w[1, 2]" in lines
    assert lines[-1] == "1 of 2 operations: FAILED"


def test_float64_is_checked_where_x64_is_off():
    with jax.enable_x64(False):
        (row,) = report(seed=1, names=["tanh"])
        assert jnp.ones(1).dtype == jnp.float32
    assert row.dtype == "float64" and row.numerical.error < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_lies_near_a_kink_or_a_tie(seed):
    for name, several in cases(seed).items():
        for case in several:
            x = case.args[0]
            if name == "pool_max":
                assert np.diff(np.sort(x.ravel())).min() > 0.05
            elif name != "local_response_normalise":
                assert abs(x).min() > 0.1


def test_the_report_explains_what_it_takes(capsys):
    with pytest.raises(ValueError, match="report: dtype is bfloat16, but float64 or float32"):
        report(jnp.bfloat16)
    with pytest.raises(ValueError, match=r"report: 'cosh' unknown.*tanh"):
        report(names=["cosh"])
    with pytest.raises(ValueError, match="seed is -1"):
        report(seed=-1)
    assert cli.main(["check", "--seed", "-1"]) == 2
    assert capsys.readouterr().err == ("purenet check: --seed is -1, but at least 0 is expected.\n")


def test_the_table_puts_reports_side_by_side():
    rows = [report(dtype, names=["relu"]) for dtype in ("float64", "float32")]
    heads, kinds, line, limits, summary = table(*rows).splitlines()
    assert heads.split() == ["float64"] * 2 + ["float32"] * 2
    assert kinds.split()[-4:] == ["automatic", "numerical"] * 2
    assert line.split()[0] == "relu" and line.endswith("ok")
    assert len(limits.split()) == 5 and summary == "all 1 operations: ok"
