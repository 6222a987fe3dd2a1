"""Sweeps that stop trials early, several seeds, populations, plans: small, on two host devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine import layout, pool

DATA = ((np.ones(3),), (np.zeros(3),))


def learner(hyper):
    """A number that approaches `limit` at its own pace, with noise that is the trial's own; one
    whose `fails` epoch has come turns to NaN."""

    def epoch(state, data):
        key, x, n = state["key"], state["x"], state["n"] + 1
        noise = 0.01 * jax.random.normal(jax.random.fold_in(key, n))
        x = x + 0.3 * (hyper["limit"] - x) + noise
        return {"key": key, "x": jnp.where(n == hyper["fails"], jnp.nan, x), "n": n}, {}

    return pn.Trainable(
        init=lambda key: {"key": key, "x": jnp.zeros(()), "n": jnp.zeros((), jnp.int32)},
        epoch=epoch,
        evaluate=lambda state, data: {"accuracy": state["x"] + 0 * data[0].sum()},
    )


SPACE = {"limit": sweep.uniform(0.0, 1.0), "fails": -1.0}


def run(trials=27, epochs=9, trial=learner, space=SPACE, data=DATA, **options):
    return sweep.run(trial, space, data, trials, epochs, **options)


@pytest.fixture(scope="module")
def full():
    return run()


def known(result):
    """All of a result's curves, as one array."""
    return np.stack([c for metrics in result.curves.values() for c in metrics.values()])


def same_where_trained(result, full, rows=slice(None)):
    ours, theirs = known(result)[:, rows], known(full)[:, rows]
    trained = np.isfinite(ours)
    np.testing.assert_array_equal(trained[0].sum(1), result.epochs[rows])
    np.testing.assert_array_equal(ours[trained], theirs[trained])


def test_halving_trains_what_its_rungs_say_and_nothing_else(full):
    result = run(search=sweep.halving())
    assert np.bincount(result.epochs).tolist() == [0, 18, 0, 6, 0, 0, 0, 0, 0, 3]
    scores = full.curves["validation"]["accuracy"]
    second = np.argsort(-scores[:, 0], kind="stable")[:9]
    third = second[np.argsort(-scores[second, 2], kind="stable")][:3]
    assert set(np.flatnonzero(result.epochs == 9)) == set(third)
    assert set(np.flatnonzero(result.epochs >= 3)) == set(second)
    same_where_trained(result, full)
    assert sorted(set(result.status)) == ["done", "stopped"]
    assert [t.status for t in result.best(4)] == ["done"] * 3 + ["stopped"]
    assert "24 of 27 stopped early" in result.table()


@pytest.mark.parametrize(
    "search",
    [sweep.hyperband(), sweep.median_stopping(grace=2), sweep.halving(2, 2)],
    ids=lambda search: search.name,
)
@pytest.mark.parametrize("lanes, devices, block", [(3, 1, 1), (4, 2, 2), (2, 2, 1), (20, 1, 5)])
def test_stopping_depends_neither_on_memory_nor_on_devices(
    full, monkeypatch, search, lanes, devices, block
):
    """A few lanes that the trials take turns in, against lanes for all."""
    plain = run(search=search)
    few = layout.Layout(tuple(jax.local_devices())[:devices], lanes, block)
    monkeypatch.setattr("purenet.sweep.config.layout", lambda *_: few)
    result = run(search=search)
    assert "lane" in result.programs[0].layout and str(lanes) in result.programs[0].layout
    np.testing.assert_array_equal(result.epochs, plain.epochs)
    if block == 1:
        same_where_trained(result, full)
    np.testing.assert_allclose(known(result), known(plain), rtol=1e-12)


def test_free_lanes_go_to_trials_that_wait(monkeypatch):
    """Two lanes, five trials, of which those with even numbers diverge in their first epoch."""
    few = layout.Layout(tuple(jax.local_devices())[:1], 2, 1)
    monkeypatch.setattr("purenet.sweep.config.layout", lambda *_: few)
    seen = []
    advance = pool.LanePool._advance
    monkeypatch.setattr(
        pool.LanePool, "_advance", lambda self, left: seen.append(advance(self, left)) or seen[-1]
    )
    monkeypatch.setattr(pool, "_REPORT", 1e-9)  # a report an epoch

    class Given:
        def ppf(self, u):
            return np.array([1.0, -1.0, 1.0, -1.0, 1.0])[: len(u)]

    result = run(5, 4, space={"limit": 0.5, "fails": Given()})
    assert list(result.status) == ["diverged", "done", "diverged", "done", "diverged"]
    together = [sorted(report.rows.tolist()) for report in seen]
    # 0 is lost at once, 2 takes its lane while 1 goes on, then 3, then 4
    assert together[:3] == [[0, 1], [1, 2], [1, 3]] and len(together) <= 6


def test_groups_race_against_each_other():
    def either(hyper):
        return learner({**hyper, "limit": hyper["limit"] + (hyper["kind"] == "better")})

    space = {"kind": sweep.choice(["worse", "better"]), **SPACE}
    result = run(27, 9, either, space, search=sweep.halving())
    assert len(result.programs) == 2
    assert {t.hyper["kind"] for t in result.best(3)} == {"better"}
    plain = run(27, 9, either, space)
    same_where_trained(result, plain)


def test_seeds_are_ranked_by_their_mean(full):
    result = run(6, 4, seeds=3)
    assert result.trials == 18 and result.seeds == 3
    same = result.curves["validation"]["accuracy"][::3]
    np.testing.assert_array_equal(same, full.curves["validation"]["accuracy"][:6, :4])
    final = result.curves["validation"]["accuracy"][:, -1].reshape(6, 3)
    assert len(set(final.ravel())) == 18
    best = result.best()
    assert best.number == 3 * final.mean(1).argmax() and best.runs == 3
    np.testing.assert_allclose(best.score, final.mean(1).max())
    scores = final[best.number // 3]
    half = 4.302652729911275 * scores.std(ddof=1) / np.sqrt(3)  # t(2) at 97.5%
    np.testing.assert_allclose(best.interval, half)
    assert "±" in str(best) and "±" in result.table().splitlines()[0]
    assert result.rows()[4]["seed"] == 1
    again = result.replay(4).curves["validation"]["accuracy"]
    np.testing.assert_array_equal(again, result.curves["validation"]["accuracy"][4])
    halved = run(6, 4, seeds=3, search=sweep.halving(2))
    by_point = halved.epochs.reshape(6, 3)
    assert (by_point == by_point[:, :1]).all() and set(by_point[:, 0]) == {1, 2, 4}


def test_pictures_show_the_mean_of_the_seeds(monkeypatch, tmp_path):
    result, drawn = run(6, 4, seeds=3), {}
    for name in ("parallel_coordinates", "draw_slices", "pairwise"):
        keep = lambda path, columns, scores, name=name, **_: drawn.update({name: (columns, scores)})
        monkeypatch.setattr(f"purenet.sweep.results.figures.{name}", keep)
    result.plot_parallel(tmp_path / "parallel.png")
    result.plot_slices(tmp_path / "slices.png")
    result.plot_map(tmp_path / "map.png", ("limit", "fails"))
    assert len(drawn) == 3
    for columns, scores in drawn.values():
        np.testing.assert_array_equal(columns["limit"], result.hyper["limit"][::3])
        assert 3 * scores.argmax() == result.best().number
        np.testing.assert_allclose(scores.max(), result.best().score)


def test_the_weights_of_the_best_are_kept():
    result = run(keep=2)
    first, second = (t.number for t in result.best(2))
    assert sorted(result.kept) == sorted([first, second])
    for number in (first, second):
        kept = result.weights(number)["x"]
        assert float(kept) == float(result.replay(number).state["x"])
        assert float(kept) == pytest.approx(result.trial(number).score, rel=1e-12)
    other = next(i for i in range(27) if i not in (first, second))
    with pytest.raises(ValueError, match=rf"weights of trial {other} were not kept.*replay"):
        result.weights(other)
    assert run(keep=0).kept == {}


def test_stopped_trials_replay_as_far_as_they_went():
    result = run(search=sweep.halving())
    stopped = int(np.flatnonzero(result.epochs == 3)[0])
    again = result.replay(stopped)
    assert int(again.state["n"]) == 3
    ours = result.curves["validation"]["accuracy"][stopped]
    np.testing.assert_array_equal(again.curves["validation"]["accuracy"], ours)


# populations
PBT = sweep.pbt(every=2, fraction=0.25)


def test_a_population_copies_and_explores():
    result = run(12, 9, search=PBT)
    lineage = result.lineage
    assert lineage.parents.shape == (3, 12) and lineage.numbers["limit"].shape == (4, 12)
    curve = result.curves["validation"]["accuracy"]
    for r, parents in enumerate(lineage.parents):
        scores = curve[:, 2 * (r + 1) - 1]
        ranking = np.argsort(-scores, kind="stable")
        replaced = np.flatnonzero(parents != np.arange(12))
        assert set(replaced) == set(ranking[-3:]) and set(parents[replaced]) <= set(ranking[:3])
        before, after = lineage.numbers["limit"][r], lineage.numbers["limit"][r + 1]
        kept = np.setdiff1d(np.arange(12), replaced)
        np.testing.assert_array_equal(after[kept], before[kept])
        for member in replaced:
            copied = before[parents[member]]
            perturbed = np.clip(copied * np.array([0.8, 1.2]), 0, 1)
            assert after[member] in perturbed or 0 <= after[member] <= 1
            # the state was copied too: the next score is one step away from the parent's
            x, limit = scores[parents[member]], after[member]
            assert abs(curve[member, 2 * (r + 1)] - (x + 0.3 * (limit - x))) < 0.06
    assert (lineage.numbers["fails"] == -1).all()  # a constant stays what it is
    np.testing.assert_array_equal(result.hyper["limit"], lineage.numbers["limit"][-1])
    assert curve[:, -1].mean() > run(12, 9).curves["validation"]["accuracy"][:, -1].mean()


def test_a_population_is_the_same_on_any_number_of_devices():
    one, two = (run(12, 9, search=PBT, devices=n) for n in (1, 2))
    np.testing.assert_array_equal(known(one), known(two))
    np.testing.assert_array_equal(one.lineage.parents, two.lineage.parents)
    best = two.best().number
    again = two.replay(best)
    np.testing.assert_array_equal(
        again.curves["validation"]["accuracy"], two.curves["validation"]["accuracy"][best]
    )


def test_members_that_diverge_are_replaced():
    result = run(8, 9, space={"limit": sweep.uniform(0, 1), "fails": sweep.choice([3.0, -1.0])},
                 search=sweep.pbt(every=4, resample=0.0))  # fmt: skip
    first = result.lineage.numbers["fails"][0]
    assert 0 < (first == 3).sum() < 8
    parents = result.lineage.parents[0]
    assert set(np.flatnonzero(first == 3)) <= set(np.flatnonzero(parents != np.arange(8)))
    assert not set(parents) & set(np.flatnonzero(first == 3))
    assert set(result.status) == {"done"} and np.isfinite(known(result)[:, :, -1]).all()


def test_a_population_of_whole_numbers_stays_whole():
    space = {"limit": sweep.randint(1, 50), "fails": -1.0}
    moved = run(8, 6, space=space, search=sweep.pbt(every=1)).lineage.numbers["limit"]
    assert moved.dtype.kind == "i" and moved.min() >= 1 and moved.max() <= 49


@pytest.mark.parametrize("options, message", [
    ({"space": {**SPACE, "k": sweep.choice(range(99))}, "trials": 2}, "none can copy another; use"),
    ({"seeds": 2}, r"2 seed\(s\)"),
    ({"epochs": 3}, "needs 4 or more, but it has 3"),
    ({"trials": 1}, "population of 1"),
])  # fmt: skip
def test_what_no_population_can_be_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        run(**{"trials": 12, "epochs": 9, "search": PBT, **options})


def test_a_population_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("purenet.sweep.engine.compile.memory", lambda device: 10)
    with pytest.raises(ValueError, match="12 members do not fit in memory at once, but 4 do"):
        run(12, 9, search=PBT)


# plans
def test_a_plan_says_what_will_happen_and_is_followed():
    space = {**SPACE, "k": sweep.choice(["a", "b"])}
    asked = (learner, space, DATA, 20, 9)
    planned = sweep.plan(*asked, search=sweep.halving())
    result = sweep.run(*asked, search=sweep.halving(), plan=planned)
    assert len(planned.groups) == len(result.programs) == 2
    assert sum(group.trials for group in planned.groups) == 20
    assert planned.trial_epochs == result.epochs.sum() == 20 + 2 * 6 + 6 * 2
    for group, program in zip(planned.groups, result.programs, strict=True):
        assert group.static == program.static and str(group.layout) == program.layout
        assert group.fits >= group.trials and group.chunks == 1 and group.bytes_per_trial > 0
    assert {"loop", "blocks of 4"} <= set(planned.groups[0].measured)
    assert all(seconds > 0 for seconds in planned.groups[0].measured.values())
    assert result.plan["seconds"] == planned.seconds > 0 and result.seconds > 0
    assert "2 program(s), 44 trial-epochs" in str(planned)


def test_a_plan_knows_how_many_fit(monkeypatch):
    monkeypatch.setattr("purenet.sweep._plan.memory", lambda device: 1400)
    (group,) = sweep.plan(learner, SPACE, DATA, 40, 4).groups
    assert 2 <= group.fits < 40 and group.chunks > 1
    assert group.layout.width * group.chunks >= 40


def test_a_plan_is_a_plan():
    with pytest.raises(TypeError, match=r"plan is int, but the result of sweep\.plan"):
        run(plan=3)
    with pytest.raises(ValueError, match="trials is 0"):
        sweep.plan(learner, SPACE, DATA, 0)


def test_a_state_that_changes_its_shape_is_explained():
    grows = lambda hyper: pn.Trainable(
        init=lambda key: {"x": jnp.zeros(2)},
        epoch=lambda state, data: ({"x": jnp.zeros(3)}, {}),
        evaluate=lambda state, data: {"loss": state["x"].sum()},
    )
    with pytest.raises(ValueError, match=r"`epoch` returned x as float64\[3\], but `init` as"):
        run(trial=grows)
    other = lambda hyper: grows(hyper)._replace(epoch=lambda state, data: (jnp.zeros(2), {}))
    other_eval = lambda hyper: other(hyper)._replace(evaluate=lambda s, d: {"loss": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"structure .*both must match"):
        run(trial=other_eval)
