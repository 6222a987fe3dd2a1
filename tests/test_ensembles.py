"""Ensembles: the weighted mean of what several trials of a sweep predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core.ensemble import Member, ensemble
from purenet.sweep.results.greedy import greedy

X = np.linspace(-1, 1, 12)
DATA = ((X, 2 * X), (X[::2], 2 * X[::2]))
SPACE = {"slope": sweep.uniform(0.0, 4.0), "kind": sweep.choice(["a", "b"])}


def line(hyper):
    """Predicts with a slope of its own, which is not learnt."""
    error = lambda y, t: {"loss": ((y - t) ** 2).mean()}
    predict = lambda state, x: state * x
    return pn.Trainable(
        init=lambda key: hyper["slope"] * 1.0,
        epoch=lambda state, data: (state, {}),
        evaluate=lambda state, data: error(predict(state, data[0]), data[1]),
        predict=predict,
        score=error,
    )


@pytest.fixture(scope="module")
def result():
    return sweep.run(line, SPACE, DATA, 12, 1, keep=12, progress=False)


def test_the_mean_of_the_best_is_that_of_their_predictions(result):
    three = result.ensemble(3)
    slopes = [trial.hyper["slope"] for trial in result.best(3)]
    assert {*three.trials} == {trial.number for trial in result.best(3)}
    np.testing.assert_allclose(three.predict(X), np.mean(slopes) * X, rtol=1e-12)
    np.testing.assert_allclose(three.predict(X, batch_size=5), three.predict(X), rtol=1e-12)
    expected = ((np.mean(slopes) - 2) ** 2 * X**2).mean()
    assert three.score((X, 2 * X))["loss"] == pytest.approx(expected)
    assert len(three) == 3 and "3 networks" in repr(three)


def test_an_ensemble_is_a_pure_function_of_its_members(result):
    three = result.ensemble(3)
    direct = jax.jit(three.apply)(three.members, three.weights, X)
    np.testing.assert_allclose(direct, three.predict(X), rtol=1e-12)
    slope = jax.grad(lambda w: three.apply(three.members, w, jnp.ones(1)).sum())(three.weights)
    assert sorted(np.asarray(slope)) == sorted(trial.hyper["slope"] for trial in result.best(3))


def test_an_ensemble_is_shown_in_a_line_and_as_a_table(result):
    all_of_them = result.ensemble(12)
    assert repr(all_of_them).startswith("Ensemble of 12 networks (trial: weight) {")
    assert repr(all_of_them).endswith(": 0.0833, ...}") and repr(all_of_them).count(":") == 11
    html = all_of_them._repr_html_()
    assert html.count("<tr>") == 13 and f"<td>{all_of_them.trials[0]}</td><td>0.0833</td>" in html


def test_members_of_one_group_with_other_states_keep_their_weights():
    predictor = lambda numbers: lambda state, x: sum(state) * x
    states = [(1.0,), (2.0, 3.0), (4.0,)]
    members = [Member(i, 0, predictor, (), state) for i, state in enumerate(states)]
    mixed = ensemble(members, [1, 2, 1], None)
    assert mixed.trials == (0, 2, 1) and mixed.weights.tolist() == [0.25, 0.25, 0.5]
    np.testing.assert_allclose(mixed.predict(np.ones(2)), 0.25 * 1 + 0.5 * 5 + 0.25 * 4)


def test_greedy_members_are_at_least_as_good_as_the_best_alone(result):
    chosen = result.ensemble("greedy", size=6)
    validation = DATA[1]
    assert chosen.score(validation)["loss"] <= result.best().score
    assert float(chosen.weights.sum()) == pytest.approx(1.0)


def test_greedy_is_the_textbook_loop():
    rng = np.random.default_rng(0)
    y, t = rng.normal(size=(6, 20)), rng.normal(size=20)
    score = lambda y, t: -((y - t) ** 2).mean()
    total, count, best, chosen = np.zeros(20), 0, (-np.inf, []), []
    for _ in range(8):
        scores = [score((total + one) / (count + 1), t) for one in y]
        chosen = [*chosen, int(np.argmax(scores))]
        total, count = total + y[chosen[-1]], count + 1
        if max(scores) > best[0]:
            best = max(scores), chosen
    expected = np.bincount(best[1], minlength=6)
    assert greedy(jnp.asarray(y), jnp.asarray(t), score, 8).tolist() == expected.tolist()


def test_the_best_alone_predicts(result):
    best = result.best()
    for y in (result.predict(X), result.predict(X, best), result.predict(X, best.number)):
        np.testing.assert_allclose(y, best.hyper["slope"] * X, rtol=1e-12)


def test_the_runs_of_a_point_share_its_weight():
    found = sweep.run(line, SPACE, DATA[0], 3, 1, folds=2, seeds=2, keep=2, progress=False)
    two = found.ensemble(2)
    assert len(two) == 8 and np.allclose(two.weights, 1 / 8)
    chosen = found.ensemble("greedy", size=3)
    assert len(chosen) in (4, 8) and float(chosen.weights.sum()) == pytest.approx(1.0)


def test_a_network_predicts_probabilities_and_scores_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    t = (x[:, 0] > 0).astype(int)

    def trial(hyper):
        return pn.supervised(net=pn.mlp(), sizes=(3, 4, 2), optimizer=pn.sgd(hyper["rate"]),
                             loss=pn.softmax_cross_entropy, batch_size=8)  # fmt: skip

    space = {"rate": sweep.loguniform(1e-2, 1.0)}
    found = sweep.run(trial, space, ((x, t), (x, t)), 4, 3, keep=4, progress=False)
    both = found.ensemble("greedy", size=4)
    y = np.asarray(both.predict(x))
    np.testing.assert_allclose(y.sum(axis=1), 1.0)
    expected = -np.log(y[np.arange(40), t]).mean()
    score = both.score((x, t))
    assert score["loss"] == pytest.approx(expected)
    assert score["accuracy"] == (y.argmax(axis=1) == t).mean()
    alone = found.ensemble(1).score((x, t))
    assert alone["loss"] == pytest.approx(found.best().metrics["validation"]["loss"])


@pytest.mark.parametrize("call, error, message", [
    (lambda r: r.ensemble(13), ValueError, "13 points are requested"),
    (lambda r: r.ensemble("best"), TypeError, "method"),
    (lambda r: r.ensemble("greedy", size=0), ValueError, "size"),
    (lambda r: r.predict(X, 12), ValueError, "no trial 12"),
    (lambda r: r.ensemble(2).predict(X[:0]), ValueError, "no example"),
    (lambda r: r.network(), ValueError, r"no `network\(\)`, which returns"),
    (lambda r: r.network(12), ValueError, "no trial 12"),
])  # fmt: skip
def test_what_cannot_be_is_said(result, call, error, message):
    with pytest.raises(error, match=message):
        call(result)


def test_only_what_was_kept_predicts(tmp_path):
    found = sweep.run(line, SPACE, DATA, 3, 1, keep=1, path=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"run\(keep=\.\.\.\)"):
        found.ensemble(2)
    for call in (lambda r: r.ensemble(1), lambda r: r.network()):
        with pytest.raises(ValueError, match="no trial function"):
            call(sweep.load(tmp_path))


def test_a_training_that_cannot_predict_says_so():
    mute = lambda hyper: line(hyper)._replace(predict=None, score=None)
    found = sweep.run(mute, SPACE, DATA, 2, 1, keep=2, progress=False)
    with pytest.raises(ValueError, match="no `predict"):
        found.predict(X)
    with pytest.raises(ValueError, match="no `score"):
        found.ensemble("greedy")
