"""Lanes made, read and written where they are: only the rows that are asked for cross to the host.

The states of all trials of a sweep may be as large as the memory of the devices.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.types import PyTree
from purenet.sweep.engine.layout import Layout, on_every_device, place, sharding
from purenet.sweep.engine.program import Lanes

_ROWS = 32  # that a device sends or receives at once
_FEW = 4  # that it sends or receives one by one: less work than empty ones up to _ROWS


def _in_host_memory(layout: Layout) -> bool:
    """Whether the host can read the lanes without copying them."""
    return layout.devices[0].platform == "cpu"


def blank_lanes(layout: Layout, shapes: Lanes) -> Lanes:
    """Empty lanes, all numbers 0.

    >>> from purenet.sweep.engine.layout import layout as laid_out
    >>> where, integer = laid_out(2, jax.devices()[:1]), jax.ShapeDtypeStruct((2,), np.int32)
    >>> blank_lanes(where, Lanes((), *[integer] * 4, [])).epochs.tolist()
    [0, 0]
    """
    if _in_host_memory(layout):
        return place(layout, jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes), split=True)
    zeros = lambda: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return jax.jit(zeros, out_shardings=sharding(layout, split=True))()


def read_rows(layout: Layout, tree: PyTree, lanes: np.ndarray) -> list[Any]:
    """For each of these lanes, its row of every array, in the host's memory.

    >>> from purenet.sweep.engine.layout import layout as laid_out
    >>> where = laid_out(4, jax.devices()[:1])
    >>> [int(row) for row in read_rows(where, place(where, np.arange(4), True), np.array([3, 1]))]
    [3, 1]
    """
    if _in_host_memory(layout):
        on, rows = np.divmod(lanes, layout.lanes)
        parts = {d: _shards(tree, layout.devices[d]) for d in set(on.tolist())}
        return [
            jax.tree.map(lambda a, row=row: a[row].copy(), parts[d])
            for d, row in zip(on.tolist(), rows.tolist(), strict=True)
        ]
    found: list[Any] = [None] * len(lanes)
    for which, slots, rows in _turns(layout, lanes):
        block = jax.device_get(_gathered(layout, tree, place(layout, rows, split=True)))
        for i, slot in zip(which, slots, strict=True):
            found[i] = jax.tree.map(lambda a, slot=slot: a[slot].copy(), block)
    return found


def _shards(tree, device):
    """What a CPU device holds of every array, as the host sees it."""
    here = lambda a: next(s.data for s in a.addressable_shards if s.device == device)
    return jax.tree.map(lambda a: np.asarray(here(a)), tree)


def write_rows(layout: Layout, lanes: Lanes, where: np.ndarray, rows: list[Lanes]) -> Lanes:
    """The lanes, with these rows in the lanes `where`; the old arrays are gone.

    >>> from purenet.sweep.engine.layout import layout as laid_out
    >>> at, row = laid_out(4, jax.devices()[:1]), Lanes((), *[np.int32(7)] * 4, [])
    >>> lanes = place(at, jax.tree.map(lambda a: np.arange(4, dtype=np.int32), row), split=True)
    >>> write_rows(at, lanes, np.array([2]), [row]).epochs.tolist()
    [0, 1, 7, 3]
    """
    for which, slots, places in _turns(layout, where):
        blank = lambda a, n=len(places): np.zeros((n, *a.shape[1:]), a.dtype)
        incoming = jax.tree.map(blank, lanes)
        for i, slot in zip(which, slots, strict=True):
            jax.tree.map(lambda whole, one, slot=slot: _put(whole, slot, one), incoming, rows[i])
        lanes = _scattered(layout, lanes, *place(layout, (places, incoming), split=True))
    return lanes


def _put(whole, slot, one):
    whole[slot] = one


def _turns(layout: Layout, lanes: np.ndarray) -> Iterator[tuple]:
    """Lanes in turns of as many on each device: which of them, their slots in the arrays that are
    sent, and for every slot the row of its own device; an empty slot has one past the last."""
    device, row = np.divmod(np.asarray(lanes), layout.lanes)
    order = np.argsort(device, kind="stable")
    rank = np.empty(len(lanes), int)
    rank[order] = np.arange(len(lanes)) - np.searchsorted(device[order], device[order])
    most = 1 if rank.max(initial=0) < _FEW else min(_ROWS, layout.lanes)
    turn, slot = np.divmod(rank, most)
    slot += device * most
    for now in range(turn.max(initial=-1) + 1):
        (which,) = np.nonzero(turn == now)
        rows = np.full(len(layout.devices) * most, layout.lanes, np.int32)
        rows[slot[which]] = row[which]
        yield which, slot[which], rows


@functools.partial(jax.jit, static_argnums=0)
def _gathered(layout: Layout, tree, rows):
    take = lambda tree, rows: jax.tree.map(lambda a: a.at[rows].get(mode="clip"), tree)
    return on_every_device(layout, take, (True, True))(tree, rows)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _scattered(layout: Layout, lanes, rows, incoming):
    def put(lanes, rows, incoming):
        return jax.tree.map(lambda a, b: a.at[rows].set(b, mode="drop"), lanes, incoming)

    return on_every_device(layout, put, (True, True, True))(lanes, rows, incoming)
