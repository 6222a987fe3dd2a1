"""The promises of a sweep, on small networks and two host devices."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep import config
from purenet.sweep.engine import compile, layout
from purenet.sweep.engine.layout import Layout

RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, 60)
X = (RNG.normal(size=(60, 6)) + 2 * np.eye(3, 6)[T]).astype(np.float32)
DATA = ((X[:40], T[:40]), (X[40:], T[40:]))
SPACE = {"rate": sweep.loguniform(1e-3, 1.0), "decay": sweep.loguniform(1e-6, 1e-2)}


def trial(hyper):
    return pn.supervised(net=pn.mlp(), sizes=(6, 8, 3), optimizer=pn.sgd(hyper["rate"]),
                         penalty=pn.l2(hyper["decay"]), loss=pn.softmax_cross_entropy,
                         batch_size=10)  # fmt: skip


class Fixed:
    """A distribution that gives these values in order."""

    def __init__(self, values):
        self.values = values

    def ppf(self, u):
        return np.array(self.values[: len(u)])


def run(trial=trial, space=SPACE, data=DATA, trials=9, epochs=4, seed=0, **options):
    return sweep.run(trial, space, data, trials, epochs, seed, **options)


@pytest.fixture(scope="module")
def result():
    return run()


def same_curves(a, b, rows=slice(None)):
    for part, metrics in a.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_array_equal(curve[rows], b.curves[part][name][rows])


def compilations(f):
    """How many programs XLA compiled during f()."""
    count = []
    listen = lambda name, seconds, **kw: count.append(name) if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        f()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(count)


def test_the_result_has_a_row_a_trial(result):
    assert result.trials == 9 and set(result.status) == {"done"}
    assert list(result.hyper) == ["rate", "decay"]
    for part in ("train", "validation"):
        for name in ("loss", "accuracy"):
            assert result.curves[part][name].shape == (9, 4)
            assert np.isfinite(result.curves[part][name]).all()
    assert len(result.programs) == 1 and result.programs[0].trials == 9


def test_a_trial_is_what_a_loop_of_single_runs_gives(result):
    """The plain way to the same numbers: trial i's own values, key and nothing of the engine."""
    for i in (0, 5):
        trainable = trial({name: jnp.asarray(v[i]) for name, v in result.hyper.items()})
        state = jax.jit(trainable.init)(jax.random.fold_in(jax.random.key(0), i))
        train, evaluate = jax.jit(trainable.epoch), jax.jit(trainable.evaluate)
        for epoch in range(4):
            state, _ = train(state, DATA[0])
            for part, data in zip(("train", "validation"), DATA, strict=True):
                for name, value in evaluate(state, data).items():
                    got = result.curves[part][name][i, epoch]
                    np.testing.assert_allclose(got, value, rtol=1e-9)


@pytest.mark.parametrize("options", [
    {"trials": 1}, {"trials": 2}, {"trials": 20}, {"devices": 1}, {"devices": 1, "trials": 3},
    {"devices": 2, "trials": 5},
], ids=str)  # fmt: skip
def test_a_trial_does_not_depend_on_how_many_there_are_or_on_the_devices(result, options):
    other = run(**options)
    same_curves(result, other, slice(0, min(9, other.trials)))


def test_a_sweep_larger_than_memory_gives_the_same_results(result, monkeypatch):
    monkeypatch.setattr(
        "purenet.sweep.engine.compile.memory",
        lambda device: result.programs[0].bytes_per_device * 0.8,
    )
    chunked = run()
    assert "2 lane(s)" in chunked.programs[0].layout or "3 lane(s)" in chunked.programs[0].layout
    same_curves(result, chunked)


@pytest.mark.parametrize("number", [0, 8])
def test_replay_gives_the_very_same_curves(result, number):
    again = result.replay(number)
    for part, metrics in again.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_array_equal(curve, result.curves[part][name][number])
    y, _ = pn.mlp().apply(again.state.params, jnp.asarray(DATA[1][0]), False, None)
    accuracy = float((y.argmax(1) == DATA[1][1]).mean())
    np.testing.assert_allclose(accuracy, result.trial(number).score, rtol=1e-6)


def test_forty_values_a_hyperparameter_compile_once_and_other_seeds_and_ranges_not_again():
    first = compilations(lambda: run(trials=40, epochs=3))
    assert 0 < first <= 40  # init, training, and JAX's own small helpers
    wider = {"rate": sweep.uniform(0.1, 0.2), "decay": 1e-3}
    for again in (
        lambda: run(trials=40, epochs=3, seed=5),
        lambda: run(trials=40, epochs=3, space=wider),
        lambda: run(trials=40, epochs=7),
        lambda: run(trials=39, epochs=3),  # as many lanes on two devices
    ):
        assert compilations(again) == 0


def deep(hyper):
    """Deep enough that a huge rate overflows float64."""
    return pn.supervised(pn.mlp(), (6, 8, 8, 8, 8, 3), pn.sgd(hyper["rate"]),
                         pn.softmax_cross_entropy, 10)  # fmt: skip


def test_a_trial_that_diverges_hurts_nobody():
    rates = [0.1, 1e200, 0.3, 0.01, 0.2]
    tame = [0.1, 0.15, 0.3, 0.01, 0.2]
    wild, mild = (run(deep, {"rate": Fixed(r)}, trials=5) for r in (rates, tame))
    others = [0, 2, 3, 4]
    same_curves(wild, mild, others)
    assert list(wild.status) == ["done", "diverged", "done", "done", "done"]
    lost = wild.trial(1)
    assert lost.epochs < 4 and 1 not in [t.number for t in wild.best(5)]
    for curves in wild.curves.values():
        for curve in curves.values():
            assert (
                np.isfinite(curve[1, : lost.epochs]).all()
                and np.isnan(curve[1, lost.epochs :]).all()
            )
    assert "1 of 5 diverged: 1 (after epoch" in wild.table()


def late_divergence(hyper):
    """Doubles a number each epoch, from 1; the trials that `fails` names turn it to NaN."""
    nan = lambda x: jnp.where((x >= 4) & (hyper["fails"] > 0), jnp.nan, 2 * x)
    return pn.Trainable(
        init=lambda key: {"x": jnp.ones(())},
        epoch=lambda state, data: ({"x": nan(state["x"])}, {}),
        evaluate=lambda state, data: {"accuracy": state["x"] + 0 * data[0].sum()},
    )


def test_divergence_is_recorded_with_its_epoch_and_last_finite_metrics():
    data = ((np.ones(3),), (np.ones(3),))
    result = run(late_divergence, {"fails": Fixed([0.0, 1.0, 0.0])}, data, trials=3, epochs=5)
    assert list(result.status) == ["done", "diverged", "done"]
    assert list(result.epochs) == [5, 2, 5]
    assert result.trial(1).score == 4.0 and result.trial(0).score == 32.0
    assert float(result.replay(1).state["x"]) == 4.0  # the last finite state
    np.testing.assert_array_equal(result.curves["train"]["accuracy"][1], [2, 4, *[np.nan] * 3])


def test_ninety_percent_may_diverge_and_all_may():
    rates = [1e200] * 9 + [0.1]
    result = run(deep, {"rate": Fixed(rates)}, trials=10)
    assert (result.status == "diverged").sum() == 9 and result.best().number == 9
    nothing = run(deep, {"rate": Fixed([1e200] * 3)}, trials=3)
    with pytest.raises(ValueError, match=r"every trial diverged(.|\n)*3 of 3 diverged"):
        nothing.best()


def test_the_best_are_sorted_and_print_as_lines(result):
    best = result.best(4)
    assert [t.score for t in best] == sorted(result.curves["validation"]["accuracy"][:, -1])[:-5:-1]
    assert result.best() == best[0]
    rate, decay = f"{best[0].hyper['rate']:.3g}", f"{best[0].hyper['decay']:.3g}"
    assert str(best[0]) == f"(val acc:{best[0].score:.3g}) | rate:{rate}, decay:{decay}"
    lines = result.table(4).splitlines()
    header = "rank trial val acc train acc val loss train loss rate decay"
    assert lines[0].split() == header.split()
    assert [line.split()[1] for line in lines[1:]] == [str(t.number) for t in best]


def test_static_choices_are_programs_of_their_own():
    def either(hyper):
        net = pn.mlp(activation=hyper["activation"])
        sizes = (6, *hyper["hidden"], 3)
        return pn.supervised(net, sizes, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 10)

    space = {"activation": sweep.choice([pn.relu, pn.tanh]), "hidden": sweep.choice([(8,), (4, 4)]),
             "rate": sweep.loguniform(1e-2, 1.0)}  # fmt: skip
    result = run(either, space, trials=12)
    combinations = set(zip(result.hyper["activation"], result.hyper["hidden"], strict=True))
    assert len(result.programs) == len(combinations) > 1
    assert sum(p.trials for p in result.programs) == 12
    assert {p.static["activation"] for p in result.programs} <= {"relu", "tanh"}
    i = int(np.flatnonzero(result.hyper["activation"] == pn.tanh)[0])
    fixed = {**space, "activation": pn.tanh, "hidden": result.hyper["hidden"][i], "rate":
             Fixed(list(result.hyper["rate"]))}  # fmt: skip
    alone = run(either, fixed, trials=12)
    same_curves(result, alone, [i])
    assert "tanh" in str(result.trial(i))


def test_other_metrics_rank_by_their_own_sense():
    regression = functools.partial(pn.supervised, pn.mlp(), (6, 4, 1), loss=pn.mean_squared_error,
                                   batch_size=10)  # fmt: skip
    data = tuple((x, x[:, :1]) for x, _ in DATA)
    by_loss = run(
        lambda h: regression(optimizer=pn.sgd(h["rate"])),
        {"rate": sweep.loguniform(1e-4, 0.1)},
        data,
    )
    losses = by_loss.curves["validation"]["loss"][:, -1]
    assert by_loss.metric == "loss" and by_loss.best().number == losses.argmin()
    spread = lambda h: regression(
        optimizer=pn.sgd(h["rate"]), metrics={"spread": lambda y, t: y.std()}
    )
    for mode, pick in (("max", np.argmax), ("min", np.argmin)):
        result = run(
            spread, {"rate": sweep.loguniform(1e-4, 0.1)}, data, metric="spread", mode=mode
        )
        assert result.best().number == pick(result.curves["validation"]["spread"][:, -1])
    with pytest.raises(ValueError, match='mode="max" or mode="min"'):
        run(spread, {"rate": 0.1}, data, metric="spread")
    with pytest.raises(ValueError, match=r"'recall', but .*\['loss'\]"):
        run(lambda h: regression(optimizer=pn.sgd(0.1)), {}, data, metric="recall")


def test_seeds_alone_are_a_sweep():
    result = run(space={"rate": 0.1, "decay": 0.0}, trials=3)
    assert len(set(result.curves["train"]["loss"][:, 0])) == 3


def test_the_program_of_several_devices_communicates_nothing():
    asked = config.SweepConfig(trial, SPACE, DATA, 8, 2, 0)
    (program,) = asked.programs
    assert len(program.layout.devices) == 2
    key, data = jax.random.key(0), layout.place(program.layout, asked.data)
    compiled = compile.Compilation(program, (np.float64(0), np.float64(0)), key, data).result()
    for program in (compiled.start, compiled.advance):
        text = program.as_text()
        for word in (
            "all-reduce",
            "all-gather",
            "collective-permute",
            "all-to-all",
            "reduce-scatter",
        ):
            assert word not in text


def test_lanes_trained_together_agree_with_lanes_one_by_one(result, monkeypatch):
    """What an accelerator runs, one vmapped block, on the CPU."""
    together = lambda trials, devices: Layout(tuple(devices)[:1], trials, block=trials)
    monkeypatch.setattr(config, "layout", together)
    other = run()
    assert "9 together by vmap" in other.programs[0].layout
    for part, metrics in result.curves.items():
        for name, curve in metrics.items():
            np.testing.assert_allclose(curve, other.curves[part][name], rtol=1e-9)


def test_rows_go_to_files_and_come_back(result, tmp_path):
    result.to_csv(tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(9))
    for i, row in enumerate(rows):
        assert float(row["rate"]) == result.hyper["rate"][i]
        assert float(row["validation accuracy"]) == result.trial(i).score
    frame = result.to_pandas()
    assert frame.shape == (9, 8) and frame["validation accuracy"].max() == result.best().score


def test_the_picture_is_drawn(result, tmp_path):
    result.plot(tmp_path / "best.png", 4)
    assert (tmp_path / "best.png").read_bytes().startswith(b"\x89PNG")


def test_progress_tells_the_best_so_far(capsys):
    run(progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "36/36" in last and "best val accuracy" in last and "alive 9/9" in last
    run(progress=False)
    assert capsys.readouterr().err == ""


BAD = {
    "no function": ({"trial": 3}, TypeError, "trial is 3"),
    "a wrong return": ({"trial": lambda h: {"a": 1}}, TypeError, "returned dict, but a Trainable"),
    "no trial": ({"trials": 0}, ValueError, "trials is 0"),
    "negative trials": ({"trials": -2}, ValueError, "trials is -2"),
    "half a trial": ({"trials": 1.5}, TypeError, "trials is 1.5"),
    "no epoch": ({"epochs": 0}, ValueError, "epochs is 0"),
    "a negative seed": ({"seed": -1}, ValueError, "seed is -1"),
    "too many devices": ({"devices": 99}, ValueError, "there are 2; on a CPU, call"),
    "no devices": ({"devices": []}, ValueError, "devices is empty"),
    "one dataset": ({"data": DATA[0][0]}, ValueError, r"pair \(train, validation\)"),
    "empty data": ({"data": (DATA[0], (X[:0], T[:0]))}, ValueError, "empty"),
    "labels": ({"data": (DATA[0], (X, T + 1))}, ValueError, "labels run from 1 to 3"),
    "images": ({"data": ((X.reshape(60, 3, 2), T), DATA[1])}, ValueError, "flatten"),
    "a search to be called": ({"search": sweep.halving}, TypeError, r"call it: sweep\.halving\(\)"),
    "a grid to be called": ({"search": sweep.grid}, TypeError, r"call it: sweep\.grid\(\)"),
    "no search": ({"search": "random"}, TypeError, "search is 'random', but a sampler"),
    "no number of trials": ({"trials": None}, ValueError, "trials is missing; pass trials=N"),
    "a reserved name": ({"space": {"epochs": 1.0}}, ValueError, "cannot be called 'epochs'"),
}


@pytest.mark.parametrize("options, kind, message", BAD.values(), ids=BAD.keys())
def test_mistakes_are_explained_before_anything_is_compiled(options, kind, message):
    def attempt():
        with pytest.raises(kind, match=message):
            run(**options)

    run(trials=2, epochs=1)  # JAX's own helpers are compiled by now
    assert compilations(attempt) == 0


def custom(evaluate):
    return lambda hyper: pn.Trainable(lambda key: 0.0, lambda s, d: (s, {}), evaluate)


@pytest.mark.parametrize("evaluate, kind, message", [
    (lambda s, d: {"accuracy": d[0].sum(0)}, ValueError, r"'accuracy'.*shape \(6,\).*scalar"),
    (lambda s, d: 1.0, TypeError, "dict of scalars"),
    (lambda s, d: {}, TypeError, "dict of scalars"),
    (lambda s, d: {"reward": 1.0}, ValueError, "neither accuracy nor loss; say which"),
    (lambda s, d: {"loss": 1.0, f"of {len(d[0])}": 1.0}, ValueError, "'of 40'.*but.*'of 20'"),
])  # fmt: skip
def test_metrics_that_cannot_be_used_are_explained(evaluate, kind, message):
    with pytest.raises(kind, match=message):
        run(custom(evaluate), {})


def test_an_epoch_that_forgets_its_metrics_is_explained():
    forgets = lambda hyper: pn.Trainable(lambda key: 0.0, lambda s, d: s, lambda s, d: {"loss": s})
    with pytest.raises(TypeError, match=r"`epoch` returned .*a pair \(state, metrics\)"):
        run(forgets, {})


def test_a_python_branch_on_a_traced_number_is_explained():
    def branches(hyper):
        return trial({**hyper, "rate": 0.1 if hyper["rate"] > 0.5 else 0.2})

    with pytest.raises(jax.errors.TracerBoolConversionError) as error:
        run(branches)
    assert "use jnp.where instead of `if`" in "".join(error.value.__notes__)


def test_a_number_that_is_no_trial_is_explained(result):
    for call in (result.trial, result.replay):
        with pytest.raises(ValueError, match="no trial 9; trials are numbered 0 to 8"):
            call(9)
