"""Whatever rows a fold has: its lane is the training on these rows alone.

What a program depends on is in a table; rows, folds, seeds and the moment of a kill are drawn, many
for each compiled program.
"""

import functools
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from crash_points import moments, put
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import purenet as pn
from purenet import sweep
from purenet.core.padded import count_of
from purenet.sweep.engine.layout import Layout

N, POINTS, EPOCHS = 14, 2, 3
RNG = np.random.default_rng(0)
T = RNG.integers(0, 3, N)
X = RNG.normal(size=(N, 4)) + np.eye(3, 4)[T]
SPACE = {"rate": sweep.uniform(0.05, 0.2), "dropout": sweep.uniform(0.1, 0.6)}


class Config(NamedTuple):
    """What a program depends on: sizes of parts and a batch, layers, lanes."""

    sizes: tuple[tuple[int, int], ...]  # (training rows, validation rows) that a fold may have
    batch_size: pn.PaddedSize | int
    batch_norm: bool
    dropout: bool
    batches: str
    seeds: int = 1
    devices: int = 1
    lanes: int = 99  # of each device; fewer than there are runs take turns
    block: int = 1  # lanes that are trained together

    def trainable(self, hyper, batch_size=None):
        dropout = hyper["dropout"] if self.dropout else None
        return pn.supervised(
            pn.mlp(pn.tanh, self.batch_norm, dropout), (4, 3, 3), pn.momentum(hyper["rate"]),
            pn.softmax_cross_entropy, batch_size or self.batch_size, batches=self.batches,
        )  # fmt: skip


CONFIGS = {
    "bootstraps": Config(((9, 3), (4, 1), (13, 7)), 4, True, True, "with_replacement"),
    "parts below the batch size": Config(
        ((1, 1), (3, 9), (12, 2)), pn.PaddedSize(5, 8), False, True, "shuffled", 2, 2, 2
    ),
    "equal sizes": Config(((8, 4),), 3, True, True, "shuffled", 2, 1, 3),
    "equal sizes below the batch size": Config(
        ((3, 2),), 7, False, False, "with_replacement", 1, 2
    ),
    "vmapped": Config(((5, 2), (11, 4)), 5, True, False, "shuffled", lanes=99, block=99),
    "vmapped, single rows": Config(
        ((1, 2), (6, 6), (2, 1)), pn.PaddedSize(2, 4), True, True, "with_replacement", 1, 2, 4, 2
    ),
}


@functools.cache
def trial_of(config: Config):
    return lambda hyper: config.trainable(hyper)


@functools.cache
def alone(config: Config):
    """The training of a network that has nothing but its data: the weights and the curves."""

    def train(hyper, key, train, validation):
        most = count_of(config.batch_size) or config.batch_size
        trainable = config.trainable(hyper, min(most, len(train[1])))

        def one(state, _):
            state, _ = trainable.epoch(state, train)
            return state, [trainable.evaluate(state, part) for part in (train, validation)]

        state, curves = jax.lax.scan(one, trainable.init(key), length=EPOCHS)
        return state.params, curves

    return jax.jit(train)


def run(config: Config, data, **options):
    lanes = lambda trials, devices: _layout(config, trials, devices)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("purenet.sweep.config.layout", lanes)
        return sweep.run(
            trial_of(config), SPACE, data, POINTS, EPOCHS, seeds=config.seeds,
            devices=config.devices, keep=POINTS, progress=False, **options,
        )  # fmt: skip


def _layout(config, trials, devices):
    lanes = max(2, min(config.lanes, -(-trials // config.devices)))
    block = min(config.block, lanes)
    return Layout(tuple(devices), -(-lanes // block) * block, block)


@st.composite
def folds_of(draw, config: Config):
    """Folds of every size there may be, and three more: any rows, some of them several times."""
    more = [draw(st.sampled_from(config.sizes)) for _ in range(3)]
    sizes = draw(st.permutations([*config.sizes, *more]))
    rows = lambda n: np.array(draw(st.lists(st.integers(0, N - 1), min_size=n, max_size=n)))
    return [(rows(train), rows(validation)) for train, validation in sizes]


def key_of(seed, point, of_point):
    """The key of a run: of a point's first seed it is that of the point."""
    key = jax.random.fold_in(jax.random.key(seed), point)
    return jax.random.fold_in(key, of_point) if of_point else key


def states(result):
    return {row: jax.tree.map(np.asarray, state.params) for row, state in result.kept.items()}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found.curves, expected.curves)
    jax.tree.map(np.testing.assert_array_equal, states(found), states(expected))


def close(found, expected):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    jax.tree.map(each, found, jax.device_get(expected))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.data())
def test_a_lane_is_the_training_on_its_rows_alone(config, data):
    folds = data.draw(folds_of(config))
    seed, kill = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 10**6))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        call = lambda name: run(config, (X, T), folds=folds, seed=seed, path=Path(folder, name))
        whole, left = moments(patched, Path(folder, "whole"), lambda: call("whole"))
        put(Path(folder, "killed"), left[kill % len(left)])
        found = call("killed")
    same(found, whole)
    parameters, count = states(found), len(folds)
    for row in range(POINTS * config.seeds * count):
        run_of_point, fold = divmod(row, count)
        point, of_point = divmod(run_of_point, config.seeds)
        hyper = {name: found.hyper[name][row] for name in SPACE}
        parts = [(X[rows], T[rows]) for rows in folds[fold]]
        params, curves = alone(config)(hyper, key_of(seed, point, of_point), *parts)
        close(parameters[row], params)
        for part, expected in zip(("train", "validation"), curves, strict=True):
            close({name: curve[row] for name, curve in found.curves[part].items()}, expected)
    if len(config.sizes) == 1:  # the shapes agree
        parts = [tuple((X[rows], T[rows]) for rows in fold) for fold in folds]
        for fold, part in enumerate(parts):
            one = run(config, part, seed=seed)
            curves = jax.tree.map(lambda a, fold=fold: a[fold::count], found.curves)
            jax.tree.map(np.testing.assert_array_equal, curves, one.curves)
