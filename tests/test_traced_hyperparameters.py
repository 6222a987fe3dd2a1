"""Code that wants to see a traced number: the error names it, and says what to do instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

DATA = ((np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])),) * 2
SPACE = {
    "rate": sweep.loguniform(1e-3, 1e-1),
    "depth": sweep.randint(1, 4),
    "layers": {"decay": sweep.uniform(0, 1)},
    "width": 4,
}


def still(value=0.0, epoch=lambda s, d: (s, {}), evaluate=lambda s, d: {"loss": s}):
    return pn.Trainable(lambda key: 1.0 * value, epoch, evaluate)


def classifier(depth=1, metrics=None):
    return pn.supervised(net=pn.mlp(), sizes=(3, *[4] * depth, 2), optimizer=pn.sgd(0.1),
                         loss=pn.softmax_cross_entropy, batch_size=2, metrics=metrics)  # fmt: skip


def in_epoch(hyper):
    return still(epoch=lambda s, d: (s + np.sin(hyper["rate"]), {}))


TRIALS = {
    "if": (lambda h: still(1.0 if h["rate"] > 0.5 else 2.0), ["rate"]),
    "float": (lambda h: still(float(h["rate"])), ["rate"]),
    "range": (lambda h: still(sum(range(h["depth"]))), ["depth"]),
    "a list that often": (lambda h: classifier(h["depth"]), ["depth"]),
    "a width": (lambda h: classifier(metrics={"n": lambda y, t: jnp.zeros(h["depth"]).sum()}),
                ["depth"]),
    "NumPy": (lambda h: still(np.log(h["layers"]["decay"])), ["layers.decay"]),
    "in an epoch": (in_epoch, ["rate"]),
    "two": (lambda h: still(h["rate"] * int(h["depth"]) * float(h["layers"]["decay"])),
            ["depth", "layers.decay"]),
    "a comparison": (lambda h: still(max(h["rate"], h["layers"]["decay"])),
                     ["layers.decay", "rate"]),
}  # fmt: skip


def notes(error):
    """What was noted on an error, without what JAX notes on its tracebacks."""
    return [note for note in getattr(error.value, "__notes__", ()) if "JAX has removed" not in note]


@pytest.mark.parametrize("trial, names", TRIALS.values(), ids=TRIALS)
def test_the_hyperparameter_is_named_with_the_cure(trial, names):
    with pytest.raises(Exception, match=r"use jnp\.where instead of `if`") as error:
        sweep.run(trial, SPACE, DATA, 2, 1)
    text = "\n".join(notes(error))
    named, verb = " and ".join(map(repr, names)), "is" if len(names) == 1 else "are"
    assert f"fails because {named} of `hyper` {verb} traced" in text
    assert "sweep.choice([1, 2, 3])" in text


def test_a_number_that_is_only_wrong_together_with_others_is_among_them():
    calls = []

    def trial(hyper):  # fails where both are traced
        traced = [isinstance(hyper[n], jax.core.Tracer) for n in ("rate", "depth")]
        calls.append(traced)
        if all(traced):
            raise ValueError("both")
        return still()

    with pytest.raises(ValueError, match=r"because 'depth' and 'layers\.decay' and 'rate' of"):
        sweep.run(trial, SPACE, DATA, 2, 1)


def test_an_error_that_known_numbers_do_not_cure_names_none():
    for space in (SPACE, {"width": 4}):
        with pytest.raises(KeyError) as error:
            sweep.run(lambda h: still(h["ratio"]), space, DATA, 2, 1)
        assert notes(error) == []


def score(y, t):
    return float(np.mean(np.asarray(y).argmax(1) == t))


EVALUATES = still(evaluate=lambda s, d: {"loss": np.median(s)})
EPOCHS = still(epoch=lambda s, d: (s if s > 0 else -s, {}))


@pytest.mark.parametrize("trainable, message", [
    (classifier(metrics={"f1": score}), "supervised: the metric 'f1' is compiled"),
    (EVALUATES, "`evaluate` is compiled, so that its arrays are traced.*use jax.numpy"),
    (EPOCHS, "`epoch` is compiled, so that its arrays are traced.*jnp.where instead of `if`"),
])  # fmt: skip
def test_code_of_a_trainable_that_uses_numpy_is_told_so(trainable, message):
    for caller, call in {
        "sweep": lambda: sweep.run(lambda hyper: trainable, SPACE, DATA, 2, 1),
        "fit": lambda: pn.fit(trainable, DATA, 1, jax.random.key(0)),
    }.items():
        with pytest.raises(Exception, match=message) as error:
            call()
        (note,) = notes(error)
        assert note.startswith((f"{caller}: `e", "supervised: the metric"))


def test_an_init_that_uses_numpy_on_its_key_is_told_so():
    trainable = still()._replace(init=lambda key: float(jax.random.uniform(key)))
    with pytest.raises(jax.errors.ConcretizationTypeError, match="sweep: `init` is compiled"):
        sweep.run(lambda hyper: trainable, SPACE, DATA, 2, 1)
