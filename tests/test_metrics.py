"""Every metric against scikit-learn, on ties, absent classes and one-class parts."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics as sk

import purenet as pn
from purenet import metrics as pm
from purenet.training import evaluation

N, K = 120, 4
RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, K, N)
HARD = np.eye(K)[CLASSES] * 1.5
# rounded, so that many scores are tied, and not
MANY = {
    "smooth": HARD + RNG.normal(size=(N, K)),
    "ties": np.round(HARD + RNG.normal(size=(N, K))),
    "never predicted": HARD + RNG.normal(size=(N, K)) - 20.0 * (np.arange(K) == 2),
}
TWO = (CLASSES > 1).astype(int)
SCORES = {
    "smooth": RNG.normal(size=N) + TWO,
    "ties": np.round(RNG.normal(size=N) + TWO),
    "all equal": np.full(N, 0.5),
}
REALS = RNG.normal(size=(N, 3))


def probabilities(y):
    """As the metrics have them, so that what ties for one ties for the other."""
    y = jnp.asarray(y)
    return np.asarray(jax.nn.softmax(y, axis=1) if y.ndim == 2 else jax.nn.sigmoid(y))


def predicted(y):
    return y.argmax(axis=1) if y.ndim == 2 else (y > 0).astype(int)


def macro(f):
    def of(t, y):
        average = "macro" if y.ndim == 2 else "binary"
        return f(t, predicted(y), average=average, zero_division=0)

    return of


def area(t, y):
    if y.ndim == 1:
        return sk.roc_auc_score(t, y)
    return sk.roc_auc_score(t, probabilities(y), multi_class="ovr")


def precision_area(t, y):
    if y.ndim == 1:
        return sk.average_precision_score(t, y)
    return sk.average_precision_score(np.eye(K)[t], probabilities(y), average="macro")


def calibration(t, y):
    p = probabilities(y)
    confidence = p.max(axis=1) if y.ndim == 2 else np.maximum(p, 1 - p)
    correct = predicted(y) == t
    rate, mean = sklearn.calibration.calibration_curve(correct, confidence, n_bins=15)
    sizes = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence), minlength=15)
    return np.abs(rate - mean) @ sizes[sizes > 0] / len(t)


def brier(t, y):
    return sk.brier_score_loss(t, probabilities(y), scale_by_half=y.ndim == 1)


REFERENCES = {
    "accuracy": lambda t, y: sk.accuracy_score(t, predicted(y)),
    "balanced_accuracy": lambda t, y: sk.balanced_accuracy_score(t, predicted(y)),
    "precision": macro(sk.precision_score),
    "recall": macro(sk.recall_score),
    "f1": macro(sk.f1_score),
    "auroc": area,
    "average_precision": precision_area,
    "log_loss": lambda t, y: sk.log_loss(t, probabilities(y)),
    "brier": brier,
    "calibration_error": calibration,
}
REGRESSION = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
}


def compiled(name):
    """In one program; the examples of the metrics run uncompiled."""
    return jax.jit(getattr(pm, name))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_metric_of_classes_equals_scikit_learn(name):
    metric = compiled(name)
    for kind, y in MANY.items():
        expected = REFERENCES[name](CLASSES, y)
        for t in (CLASSES, np.eye(K)[CLASSES]):
            np.testing.assert_allclose(metric(y, t), expected, rtol=1e-6, err_msg=kind)
    for kind, y in SCORES.items():
        for t in (TWO, TWO.astype(bool), TWO.astype(float)):
            expected = REFERENCES[name](TWO, y)
            np.testing.assert_allclose(metric(y, t), expected, rtol=1e-6, err_msg=kind)


def test_top_k_equals_scikit_learn_and_gives_a_tie_to_the_first():
    for k in (1, 2, 3):
        expected = sk.top_k_accuracy_score(CLASSES, MANY["smooth"], k=k)
        np.testing.assert_allclose(pm.top_k(k)(MANY["smooth"], CLASSES), expected, rtol=1e-6)
        # scikit-learn gives a tie to the last class: the same with the classes in reverse
        expected = sk.top_k_accuracy_score(K - 1 - CLASSES, MANY["ties"][:, ::-1], k=k)
        np.testing.assert_allclose(pm.top_k(k)(MANY["ties"], CLASSES), expected, rtol=1e-6)
    np.testing.assert_allclose(
        pm.top_k(1)(MANY["ties"], CLASSES), pm.accuracy(MANY["ties"], CLASSES), rtol=1e-6
    )


@pytest.mark.parametrize("name", REGRESSION)
def test_a_metric_of_real_numbers_equals_scikit_learn(name):
    metric, reference = compiled(name), REGRESSION[name]
    y = REALS + 0.3 * np.random.default_rng(1).normal(size=REALS.shape) + 5.0
    pairs = [(y, REALS + 5.0), (y[:, 0], REALS[:, 0] + 5.0), (y, np.full_like(y, 0.5))]
    for outputs, targets in [*pairs, (y, y), (np.full_like(y, 0.5),) * 2]:
        expected = reference(targets, outputs)
        np.testing.assert_allclose(metric(outputs, targets), expected, rtol=1e-6)


def test_a_class_that_does_not_occur_is_left_out_of_every_mean():
    y, t = MANY["smooth"], CLASSES % 3
    present = probabilities(y)[:, :3]
    areas = [sk.roc_auc_score(t == k, present[:, k]) for k in range(3)]
    np.testing.assert_allclose(compiled("auroc")(y, t), np.mean(areas), rtol=1e-6)
    areas = [sk.average_precision_score(t == k, present[:, k]) for k in range(3)]
    np.testing.assert_allclose(compiled("average_precision")(y, t), np.mean(areas), rtol=1e-6)
    away = y - 20.0 * (np.arange(K) == 3)  # neither predicted
    for name in ("balanced_accuracy", "precision", "recall", "f1"):
        expected = REFERENCES[name](t, away)
        np.testing.assert_allclose(compiled(name)(away, t), expected, rtol=1e-6)


def test_a_part_with_one_class_has_its_own_answers():
    y = SCORES["smooth"]
    none, every = np.zeros(N, int), np.ones(N, int)
    for t in (none, every):
        assert np.isnan(compiled("auroc")(y, t))
        for name in ("accuracy", "precision", "recall", "f1", "brier", "calibration_error"):
            got = compiled(name)(y, t)
            if name == "brier":
                expected = np.mean((probabilities(y) - t) ** 2)
            else:
                expected = REFERENCES[name](t, y)
            np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.balanced_accuracy_score(every, predicted(y))
    np.testing.assert_allclose(pm.balanced_accuracy(y, every), expected, rtol=1e-6)
    precision = compiled("average_precision")
    assert np.isnan(precision(y, none)) and precision(y, every) == 1
    assert np.isnan(compiled("auroc")(MANY["smooth"], none))
    assert compiled("recall")(y, none) == 0 and compiled("f1")(-np.abs(y), none) == 0
    assert np.isnan(pm.r2(np.ones(1), np.ones(1)))


def test_an_output_that_is_nan_is_not_ranked():
    y = SCORES["smooth"].copy()
    y[3] = np.nan
    for name in ("auroc", "average_precision", "log_loss", "brier", "calibration_error"):
        assert np.isnan(compiled(name)(y, TWO)), name
    for name in REGRESSION:
        assert np.isnan(compiled(name)(y, np.ones(N))), name


def test_probabilities_that_are_one_or_zero_lose_nothing():
    y, t = np.array([200.0, -200.0, 900.0, -np.inf]), np.array([1, 0, 1, 0])
    assert compiled("log_loss")(y, t) < 1e-80 and compiled("auroc")(y, t) == 1
    np.testing.assert_allclose(compiled("log_loss")(y[:2], 1 - t[:2]), 200, rtol=1e-12)
    assert compiled("brier")(y, t) < 1e-80


EVERY = {name: getattr(pm, name) for name in (*REFERENCES, *REGRESSION)}


@pytest.mark.parametrize("name", [*EVERY, "top_k"])
def test_a_metric_is_vmapped_in_single_precision_without_a_promotion(name):
    metric = EVERY.get(name, pm.top_k(2))
    y, t = MANY["smooth"].astype(np.float32).reshape(3, 40, K), CLASSES.reshape(3, 40)
    if name in REGRESSION:
        y, t = y[..., 0], t.astype(np.float32)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        t = t.astype(np.float32 if name in REGRESSION else np.int32)
        got = jax.jit(jax.vmap(metric))(y, t)
        assert got.dtype == jnp.float32 and got.shape == (3,)
        one = jax.jit(metric)
        alone = [one(a, b) for a, b in zip(y, t, strict=True)]
        np.testing.assert_allclose(got, np.stack(alone), rtol=1e-6)
        kind = jnp.bfloat16 if name in REGRESSION else jnp.int32
        half = one(y[0].astype(jnp.bfloat16), t[0].astype(kind))
        assert half.dtype == jnp.float32 and np.isfinite(half)
        if name not in REGRESSION and name != "top_k":
            binary = one(y[0, :, 0], t[0] > 1)
            assert binary.dtype == jnp.float32 and np.isfinite(binary)


WRONG = {
    "a column": (lambda: pm.f1(np.ones((3, 1)), np.ones(3, int)), ValueError, r"y\[:, 0\]"),
    "other lengths": (lambda: pm.f1(np.ones(3), np.ones(4, int)), ValueError, r"\(4,\), but \(3"),
    "no examples": (lambda: pm.auroc(np.ones(0), np.ones(0)), ValueError, "at least one example"),
    "floats": (lambda: pm.auroc(np.ones((3, 2)), np.ones(3)), ValueError, "integers are expected"),
    "a list": (lambda: pm.recall([1.0], np.ones(1)), TypeError, r"recall: y is \[1\.0\]"),
    "labels": (lambda: pm.brier(np.ones(1), None), TypeError, "brier: t is None"),
    "k": (lambda: pm.top_k(0), ValueError, "top_k: k is 0"),
    "k of a float": (lambda: pm.top_k(1.5), TypeError, r"top_k: k is 1\.5"),
    "nothing to rank": (lambda: pm.top_k(1)(np.ones(3), np.ones(3)), ValueError, r"\(n, classes\)"),
    "bins": (
        lambda: pm.calibration_error(np.ones(3), np.ones(3), bins=0),
        ValueError,
        "calibration_error: bins is 0",
    ),
    "bins of a float": (
        lambda: pm.calibration_error(np.ones(3), np.ones(3), bins=2.5),
        TypeError,
        r"calibration_error: bins is 2\.5",
    ),
    "n and n x 1": (lambda: pm.r2(np.ones(3), np.ones((3, 1))), ValueError, r"r2: y.*\(3, 1\)"),
    "images": (lambda: pm.mae(np.ones((1, 2, 3)), np.ones((1, 2, 3))), ValueError, "mae: y has"),
    "nothing": (lambda: pm.rmse(np.ones(0), np.ones(0)), ValueError, "at least one example"),
    "a string": (lambda: pm.rmse("y", np.ones(3)), TypeError, "rmse: y is 'y'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_told(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


# in training
CHOSEN = {
    "f1": pm.f1,
    "auroc": pm.auroc,
    "top": pm.top_k(2),
    "few bins": functools.partial(pm.calibration_error, bins=3),
}


@pytest.mark.parametrize("chunk", [1000, 50, 7])
def test_evaluation_gives_a_metric_all_outputs_at_once(key, monkeypatch, chunk):
    net = pn.serial(pn.dense(K))
    trainable = pn.supervised(net, 3, pn.sgd(0.1), pn.softmax_cross_entropy, 5, metrics=CHOSEN)
    state = trainable.init(key)
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", chunk)
    # in order of their classes: every chunk has few of them
    x, t = jnp.asarray(REALS), jnp.asarray(np.sort(CLASSES))
    y, _ = net.apply(state.params, x, False, None)
    got = jax.jit(trainable.evaluate)(state, (x, t))
    for name, metric in CHOSEN.items():
        np.testing.assert_allclose(got[name], metric(y, t), rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(got["loss"], pn.softmax_cross_entropy(y, t), rtol=1e-10)


def test_a_metric_sees_each_example_once_and_outputs_of_any_shape(key, monkeypatch):
    monkeypatch.setattr(evaluation, "_EVALUATION_CHUNK", 7)
    square = pn.Layer(
        lambda key, sizes: pn.Params(jnp.ones(())),
        lambda params, x, train, key: (params.weights * x.reshape(-1, 2), ()),
    )
    loss = lambda y, t: jnp.square(y - t.reshape(-1, 2)).mean()
    seen = {"largest": lambda y, t: jnp.abs(y).max(), "rows": lambda y, t: jnp.float32(len(y))}
    trainable = pn.supervised(square, (2, 2), pn.sgd(0.1), loss, 5, metrics=seen)
    x = jnp.arange(4.0 * 23).reshape(23, 2, 2)
    got = trainable.evaluate(trainable.init(key), (x, x))
    assert (got["largest"], got["rows"], got["loss"]) == (91, 46, 0)


def test_one_logit_an_example_trains_with_metrics_of_two_classes(key):
    net = pn.serial(pn.dense(1), lambda x: x[:, 0])
    loss = lambda y, t: jax.nn.softplus(jnp.where(t == 1, -y, y)).mean()
    metrics = {"accuracy": pn.accuracy, "auroc": pm.auroc, "log_loss": pm.log_loss}
    trainable = pn.supervised(net, 3, pn.sgd(1.0), loss, 40, metrics=metrics)
    data = (REALS, (REALS[:, 0] > 0).astype(int))
    history = pn.fit(trainable, (data, data), 5, key).history["validation"]
    np.testing.assert_allclose(history["log_loss"], history["loss"], rtol=1e-6)
    assert history["auroc"][-1] > 0.95 and history["accuracy"][-1] > 0.9
