"""Rows of lanes cross between device and host, and no more than these."""

import itertools

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.sweep.engine import transfer
from purenet.sweep.engine.layout import Layout, place, sharding
from purenet.sweep.engine.program import Lanes

LANES = 70  # on each of two devices


@pytest.fixture(params=[True, False], ids=["in the host's memory", "on devices"])
def crossed(request, monkeypatch):
    """Rows that came to the host, or went from it, in arrays."""
    counted = []

    def counting(f, of):
        def run(*args, **options):
            counted.append(len(jax.tree.leaves(args[of])[-1]))
            return f(*args, **options)

        return run

    monkeypatch.setattr(transfer, "_in_host_memory", lambda layout: request.param)
    monkeypatch.setattr(jax, "device_get", counting(jax.device_get, 0))
    monkeypatch.setattr(transfer, "place", counting(place, 1))
    return None if request.param else counted


def some():
    layout = Layout(tuple(jax.local_devices()[:2]), LANES, LANES)
    width = layout.width
    row = np.arange(width, dtype=np.int32)
    flag = row % 3 == 0
    state = [np.stack([row, -row], 1).astype(np.float32)]
    whole = Lanes((row + 0.5,), row, flag, ~flag, row + 1, state)
    return layout, whole, place(layout, whole, split=True)


@pytest.mark.parametrize("wanted", [[], [3], [139, 0, 70], [*range(100), 139]])
def test_rows_are_read_in_the_order_that_they_are_asked_for(wanted, crossed):
    layout, whole, lanes = some()
    read = transfer.read_rows(layout, lanes, np.array(wanted, int))
    assert len(read) == len(wanted)
    for lane, found in zip(wanted, read, strict=True):
        jax.tree.map(
            np.testing.assert_array_equal, found, jax.tree.map(lambda a, i=lane: a[i], whole)
        )
    if crossed is not None and len(wanted) <= 4:
        assert max(crossed, default=0) <= 2  # one on each device


@pytest.mark.parametrize("where", [[], [71], [139, 0, 70], [*range(100), 139]])
def test_rows_are_written_where_they_belong_and_nowhere_else(where, crossed):
    layout, whole, lanes = some()
    rows = [jax.tree.map(lambda a, i=i: a[0] * 0 + (i % 2), whole) for i in range(len(where))]
    found = transfer.write_rows(layout, lanes, np.array(where, int), rows)
    for lane, row in zip(where, rows, strict=True):
        jax.tree.map(lambda a, b, at=lane: a.__setitem__(at, b), whole, row)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    for a in jax.tree.leaves(found):
        assert a.sharding.is_equivalent_to(sharding(layout, split=True), a.ndim)
    if crossed is not None:
        assert max(crossed, default=0) <= (2 if len(where) <= 4 else 64)  # not all 140


def test_empty_lanes_are_on_their_devices(crossed):
    layout, whole, lanes = some()
    blank = transfer.blank_lanes(layout, jax.eval_shape(lambda: whole))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b * 0), blank, whole)
    assert [a.sharding for a in jax.tree.leaves(blank)] == [
        a.sharding for a in jax.tree.leaves(lanes)
    ]
    assert not crossed  # nothing came from the host


@pytest.fixture
def moved(monkeypatch):
    """The bytes that a sweep on devices with their own memory sent to them and read from them."""
    counted = []

    def counting(f, kind):
        def run(tree, *args, **options):
            counted.extend(a.nbytes for a in jax.tree.leaves(tree) if isinstance(a, kind))
            return f(tree, *args, **options)

        return run

    monkeypatch.setattr(transfer, "_in_host_memory", lambda layout: False)
    monkeypatch.setattr(jax, "device_get", counting(jax.device_get, jax.Array))
    monkeypatch.setattr(jax, "device_put", counting(jax.device_put, np.ndarray))
    return counted


@pytest.mark.parametrize("kept", [0, 30])
def test_a_sweep_moves_the_states_that_it_keeps_once_and_little_else(kept, moved):
    widths = (20, 100, 100, 3)

    def trial(hyper):
        return pn.supervised(
            pn.mlp(), widths, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 3, metrics={}
        )

    part = np.ones((3, 20), np.float32), np.zeros(3, np.int32)
    space = {"rate": sweep.loguniform(1e-3, 1e-1)}
    sweep.run(trial, space, (part, part), 30, epochs=4, seed=0, keep=kept, devices=1)
    state = 8 * sum((i + 1) * o for i, o in itertools.pairwise(widths))
    assert kept * state <= sum(moved) < (kept + 0.2 * 30) * state
