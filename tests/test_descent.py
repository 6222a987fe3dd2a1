"""A population whose members walk down their own hypergradients."""

import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine.layout import Layout

DATA = (np.zeros(2), np.zeros(2))
SPACE = {
    "rate": sweep.loguniform(1e-4, 1.0),
    "share": sweep.uniform(0.0, 2.0),
    "shift": sweep.normal(0.0, 1.0),
    "count": sweep.randint(1, 9),
    "fixed": 0.5,
}


def miss_of(hyper):
    return (
        (jnp.log10(hyper["rate"]) + 2) ** 2
        + (hyper["share"] - 0.5) ** 2
        + (hyper["shift"] + hyper["fixed"]) ** 2
    )


def bowl(hyper):
    """The loss of an epoch is a function of the hyperparameters alone."""
    miss = miss_of(hyper)
    return pn.Trainable(
        lambda key: jnp.zeros(()), lambda s, d: (s + miss, {}), lambda s, d: {"loss": s}
    )


def run(trials=8, epochs=6, trial=bowl, search=None, **options):
    search = sweep.descent(every=2, step=0.1) if search is None else search
    return sweep.run(trial, SPACE, DATA, trials, epochs, 3, search=search, **options)


def stepped(before, step):
    """The hyperparameters after a step down the bowl: only `rate`, `share` and `shift` move."""
    rate, share, shift = (before[name].astype(float) for name in ("rate", "share", "shift"))
    wide = np.log(1e4), 2.0, 12**0.5
    slopes = np.array([
        2 * (np.log10(rate) + 2) / np.log(10) * wide[0],
        2 * (share - 0.5) * wide[1],
        2 * (shift + 0.5) * wide[2],
    ])  # fmt: skip
    down = step * slopes / np.linalg.norm(slopes, axis=0)
    moved = {
        "rate": np.clip(rate * np.exp(-wide[0] * down[0]), 1e-4, 1.0),
        "share": np.clip(share - wide[1] * down[1], 0.0, 2.0),
        "shift": shift - wide[2] * down[2],
    }
    return before | moved


def test_a_step_is_that_of_the_hypergradient_and_falls():
    found = run(search=sweep.descent(every=2, step=0.1, resample=0.0)).lineage
    assert (found.parents != np.arange(8)).any(axis=1).all()  # the worst restart
    for exchange, step in enumerate([0.1, 0.05]):
        copied = {n: c[exchange][found.parents[exchange]] for n, c in found.numbers.items()}
        for name, expected in stepped(copied, step).items():
            np.testing.assert_allclose(found.numbers[name][exchange + 1], expected, rtol=1e-5)


def test_it_ends_lower_than_where_it_began():
    moved = run(epochs=40, search=sweep.descent(every=1, step=0.2)).lineage.numbers
    first, last = (miss_of({n: c[i] for n, c in moved.items()}) for i in (0, -1))
    assert last.max() < 0.01 < 0.1 < first.min()


class Enough(Exception):
    """The process dies."""


def same(one, other):
    for name, numbers in one.lineage.numbers.items():
        np.testing.assert_array_equal(numbers, other.lineage.numbers[name])
    np.testing.assert_array_equal(one.lineage.parents, other.lineage.parents)
    for name, curve in one.curves["validation"].items():
        np.testing.assert_array_equal(curve, other.curves["validation"][name])


def test_it_resumes_with_the_same_bits_and_replays(tmp_path):
    def dying(progress):
        seen.append(progress)
        if len(seen) == 4:
            raise Enough

    seen, plain = [], run()
    with pytest.raises(Enough):
        run(path=tmp_path, on_report=dying)
    same(run(path=tmp_path), plain)
    replayed = plain.replay(plain.best()).curves["validation"]["loss"]
    np.testing.assert_array_equal(replayed, plain.curves["validation"]["loss"][plain.best().number])


def test_lanes_that_train_together_walk_as_alone(monkeypatch):
    alone = run()
    together = lambda trials, devices: Layout(tuple(devices)[:1], trials, block=trials)
    monkeypatch.setattr("purenet.sweep.config.layout", together)
    found = run(devices=1)
    assert "vmap" in found.programs[0].layout
    for name, numbers in alone.lineage.numbers.items():
        np.testing.assert_allclose(found.lineage.numbers[name], numbers, rtol=1e-9)


def test_a_member_without_a_finite_hypergradient_stays():
    def steep(hyper):  # the derivative of the root at 0 is infinite, and 0 times that is NaN
        odd = jnp.sqrt(jnp.where(hyper["count"] > 4, 0.0, hyper["share"]) * 1.0)
        return bowl(hyper)._replace(evaluate=lambda s, d: {"loss": s + odd})

    found = run(trial=steep, search=sweep.descent(every=2, fraction=0.1, resample=0.0)).lineage
    stays = found.parents[0] == np.arange(8)
    odd = (found.numbers["count"][0] > 4) & stays
    moved = found.numbers["rate"][1] != found.numbers["rate"][0]
    assert odd.any() and not moved[odd].any()
    assert moved[stays & ~odd].all()


@pytest.mark.parametrize("options, message", [
    ({"search": sweep.descent(every=2, metric="f1")}, r"\['loss'\], but 'f1' is to be made small"),
    ({"search": sweep.descent(every=4)}, "descent: with an exchange every 4 epochs a"),
    ({"trials": 1}, "descent: a population of 1 has no other member"),
    ({"seeds": 2}, r"descent: a member of a population is a single run, but there are 2 seed"),
    ({"patience": 1}, "descent: the members of a population copy each other"),
], ids=lambda value: str(value)[:20])  # fmt: skip
def test_a_mistake_is_told_before_anything_is_compiled(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_where_nothing_can_move():
    space = {"rate": 0.1, "share": sweep.choice([0.1, 0.2]), "shift": 0.0, "fixed": 0.5}
    with pytest.raises(ValueError, match="descent: no hyperparameter can move"):
        sweep.run(bowl, space, DATA, 4, 4, search=sweep.descent(every=2))
