"""Calls of a sweep by somebody who expected something else: the message is about what they did."""

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep

X, T = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
DATA = ((X, T), (X, T))
SPACE = {"rate": sweep.loguniform(1e-3, 1e-1)}


def trial(hyper):
    return pn.supervised(net=pn.mlp(), sizes=(4, 2), optimizer=pn.sgd(hyper["rate"]), batch_size=2,
                         loss=pn.softmax_cross_entropy)  # fmt: skip


def counts(distributions, trials, seed):
    """A user's own sampler, which needs to know how many."""
    return np.random.default_rng(seed).random((trials, len(distributions)))


def own_grid(distributions, trials, seed):
    """A user's own sampler, which knows how many."""
    return np.full((3, len(distributions)), 0.5)


RANGE = sweep.uniform(0, 1)
MISTAKES = {
    "a tuple with a distribution": (
        lambda: sweep.choice([("adam", RANGE), ("sgd", 0.1)]),
        TypeError, r"choice: the value \('adam', Uniform.*holds a distribution.*beside the choice",
    ),
    "a dict with a distribution": (
        lambda: sweep.choice([{"kind": "adam", "rate": RANGE}, "sgd"]),
        TypeError, "choice: the value .*'kind': 'adam'.* holds a distribution.*value as a dict",
    ),
    "a distribution deep in a list": (
        lambda: sweep.choice([["adam", ("b1", [RANGE])]]), TypeError, "holds a distribution",
    ),
    "values as arguments": (
        lambda: sweep.choice("adam", "sgd"),
        TypeError, r"choice: got 2 arguments, the first of them 'adam', but one list",
    ),
    "no trials for a sampler that counts": (
        lambda: sweep.run(trial, SPACE, DATA, epochs=1, search=counts),
        ValueError, "trials is missing, and the function counts does not know how many .*trials=",
    ),
    "no trials for AskTell": (
        lambda: sweep.AskTell(SPACE, search=counts).ask(1),
        ValueError, "trials is missing, and the function counts",
    ),
    "rounds for AskTell": (
        lambda: sweep.AskTell(SPACE, search=sweep.halving()),
        ValueError, r"AskTell: the search halving\(.*stops trials between rounds.*use sweep.run",
    ),
    "own rounds for AskTell": (
        lambda: sweep.AskTell(SPACE, sweep.Scheduler(sweep.random, lambda *sizes: iter(()))),
        ValueError, "has no rounds: use sweep.run, or its sampler alone",
    ),
    "no epochs for run": (
        lambda: sweep.run(trial, SPACE, DATA, 3), TypeError, "epochs is missing.*epochs=20",
    ),
    "no epochs for plan": (
        lambda: sweep.plan(trial, SPACE, DATA, 3), TypeError, "epochs is missing.*epochs=20",
    ),
    "a Trainable in the place of a function": (
        lambda: sweep.run(trial({"rate": 0.1}), SPACE, DATA, 3, 1),
        TypeError, r"trial is a Trainable, but a function.*lambda hyper: supervised",
    ),
    "the order of fit": (
        lambda: sweep.run(trial, DATA, SPACE, 3, 1),
        TypeError, r"space holds arrays, like data.*run\(trial, space, data, trials, epochs",
    ),
    "the arguments of fit": (
        lambda: sweep.run(trial, DATA, 1, jax.random.key(0)),
        TypeError, r"space holds arrays.* data is 1\..*unlike that of fit\(trainable, data",
    ),
    "no pair": (
        lambda: sweep.run(trial, SPACE, X, 3, 1),
        ValueError, r"data is an array of float32 \(4, 4\), but a pair \(train, validation\)",
    ),
    "examples and labels": (
        lambda: sweep.run(trial, SPACE, (X, T), 3, 1),
        ValueError, r"data is a pair of arrays, of shapes \(4, 4\) and \(4,\).*\(\(x, t\), \(x_val",
    ),
    "a pair as a range": (
        lambda: sweep.run(trial, {"rate": (1e-4, 1e-1)}, DATA, 3, 1),
        TypeError, r"'rate' is the pair \(0.0001, 0.1\).*two constants.*loguniform\(0.0001, 0.1\)",
    ),
    "a deep list as a range": (
        lambda: sweep.run(lambda h: trial(h["sgd"]), {"sgd": {"rate": [0, 1]}}, DATA, 3, 1),
        TypeError, r"'sgd.rate' is the pair \[0, 1\].*sweep.uniform\(0, 1\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, kind, message", MISTAKES.values(), ids=MISTAKES)
def test_a_misunderstanding_is_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_sampler_of_ones_own_that_knows_how_many_needs_no_trials():
    assert sweep.AskTell(SPACE, own_grid).ask(3).numbers.tolist() == [0, 1, 2]


def test_an_error_of_a_sampler_that_was_told_how_many_stays_its_own():
    def broken(distributions, trials, seed):
        return np.zeros(trials) + "a"

    with pytest.raises(TypeError, match="ufunc"):
        sweep.AskTell(SPACE, broken, trials=3)


def test_ask_and_tell_takes_a_search_without_rounds():
    for search in (sweep.random, sweep.Sampler(sweep.random, "mine", prefix=True)):
        assert sweep.AskTell(SPACE, search).ask(2).numbers.tolist() == [0, 1]


def test_a_pair_of_constants_may_be_meant():
    def betas(hyper):
        first, second = hyper["betas"]
        keep = lambda state, data: (state, {})
        return pn.Trainable(lambda key: first + second, keep, lambda s, data: {"loss": s})

    result = sweep.run(betas, {"betas": (0.9, 0.999)}, DATA, 2, 1, devices=1, keep=0)
    assert result.hyper["betas.1"].tolist() == [0.999] * 2
