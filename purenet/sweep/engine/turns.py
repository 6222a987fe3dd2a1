"""Turns: which device each trial goes to, and how many epochs its lane trains in a call.

A turn is an epoch of one block of lanes. All devices take their turns at the same time, and a call
ends with the last of them.
"""

import heapq

import numpy as np

from purenet.sweep.engine.layout import Layout


def turns(epochs: np.ndarray, layout: Layout) -> np.ndarray:
    """The turns of each device, if each lane trains for that many epochs.

    >>> turns(np.array([3, 1, 2, 2]), Layout(("a", "b"), lanes=2, block=1)).tolist()
    [4, 4]
    >>> turns(np.array([3, 1, 2, 2]), Layout(("a", "b"), lanes=2, block=2)).tolist()
    [3, 2]
    """
    blocks = epochs.reshape(len(layout.devices), -1, layout.block)
    return blocks.max(axis=2).sum(axis=1)


def dealt(seats: np.ndarray, rows: np.ndarray, left: np.ndarray, layout: Layout) -> np.ndarray:
    """The row of each lane, -1 for an empty one: those in `seats`, and `rows`, the longest first,
    each in the first free lane of the device that has least to do by then. `left` are the epochs
    that are left of every row.

    >>> where = Layout(("a", "b"), lanes=4, block=1)
    >>> dealt(np.full(8, -1), np.arange(5), np.array([2, 1, 1, 1, 1]), where).tolist()
    [0, 3, -1, -1, 1, 2, 4, -1]
    """
    devices = len(layout.devices)
    lanes = seats.reshape(devices, -1).copy()
    rows = rows[np.argsort(-left[rows], kind="stable")]
    if (seats < 0).all() and len(np.unique(left[rows])) == 1:  # the same for thousands at once
        place, on = np.divmod(np.arange(len(rows)), devices)
        lanes[on, place] = rows
        return lanes.ravel()
    free = [np.flatnonzero(own < 0).tolist()[::-1] for own in lanes]
    busy = turns(epochs_of(seats, left), layout).tolist()
    queue: list[tuple[int, int, int]] = [
        (busy[i], lanes.shape[1] - len(free[i]), i) for i in range(devices) if free[i]
    ]
    heapq.heapify(queue)
    for row in rows.tolist():
        done, used, device = heapq.heappop(queue)
        lanes[device, free[device].pop()] = row
        if free[device]:
            heapq.heappush(queue, (done + int(left[row]), used + 1, device))
    return lanes.ravel()


def balanced(seats: np.ndarray, left: np.ndarray, layout: Layout) -> np.ndarray:
    """The same rows, some of them moved to a device that would have nothing to do, so that all end
    as soon as possible; lanes of blocks are dealt anew, into as few blocks as possible.

    >>> where = Layout(("a", "b"), lanes=3, block=1)
    >>> balanced(np.array([0, 1, 2, -1, -1, -1]), np.array([5, 1, 3]), where).tolist()
    [-1, 1, 2, 0, -1, -1]
    """
    if layout.block > 1:
        return dealt(np.full_like(seats, -1), seats[seats >= 0], left, layout)
    lanes = seats.reshape(len(layout.devices), -1).copy()
    own = epochs_of(lanes, left)
    if own.sum(axis=1).min() > 0:  # calls end with the first device that has nothing left
        return seats
    while True:
        busy = own.sum(axis=1)
        most, least = int(busy.argmax()), int(busy.argmin())
        free = np.flatnonzero(lanes[least] < 0)
        # what is moved has to be less than the difference; half of it is best
        gap = busy[most] - busy[least]
        gain = np.where((own[most] > 0) & (own[most] < gap), -np.abs(2 * own[most] - gap), -gap)
        lane = int(gain.argmax())
        if not len(free) or gain[lane] == -gap:
            return lanes.ravel()
        for a, empty in ((lanes, -1), (own, 0)):
            a[least, free[0]], a[most, lane] = a[most, lane], empty


def epochs_of(seats: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The epochs that are left in each lane; none in an empty one.

    >>> epochs_of(np.array([1, -1, 0]), np.array([5, 3])).tolist()
    [3, 0, 5]
    """
    return np.append(left, 0)[seats]


def epochs_of_call(
    left: np.ndarray, layout: Layout, most: int, block: int, worth: float
) -> np.ndarray:
    """How many of the epochs that are `left` each lane trains in one call.

    `most` for each lane of the busiest device, on which lanes run one after the other; those of the
    others train on until it is done, for `block` epochs at most. If one of them ends before, and
    `worth` turns or more are saved by dealing the lanes anew, the call ends with it.

    >>> where = Layout(("a", "b"), lanes=2, block=1)
    >>> epochs_of_call(np.array([18, 18, 18, 0]), where, most=18, block=64, worth=1).tolist()
    [9, 9, 18, 0]
    >>> epochs_of_call(np.array([18, 18, 18, 0]), where, most=2, block=64, worth=1).tolist()
    [2, 2, 4, 0]
    """
    if layout.block > 1:  # lanes of a block go on together
        return np.minimum(left, most)
    by_device = left.reshape(len(layout.devices), -1)
    room = int(np.minimum(by_device, most).sum(axis=1).max())
    total = by_device.sum(axis=1)
    first = int(np.minimum(by_device, block).sum(axis=1).min())
    if 0 < first < room:
        rest = by_device - _shared(by_device, first, block)
        then = first + max(rest.max(), -(-rest.sum() // len(by_device)))
        if total.max() - then >= worth:
            room = first
    return _shared(by_device, room, block).ravel()


def _shared(left: np.ndarray, room: int, most: int) -> np.ndarray:
    """`room` epochs of each device, shared out to its lanes as evenly as what is left allows."""
    found = np.zeros_like(left)
    for own, lanes in zip(found, np.minimum(left, most), strict=True):
        if lanes.sum() <= room:
            own[:] = lanes
            continue
        levels = np.minimum(lanes, np.arange(most + 1)[:, None])
        own[:] = levels[np.flatnonzero(levels.sum(axis=1) <= room)[-1]]
        own[np.flatnonzero(own < lanes)[: room - own.sum()]] += 1
    return found
