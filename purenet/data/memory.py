"""Memory for short-lived arrays, reused: new pages from the system are slow."""

import collections
import math
import weakref

import numpy as np

_ALIGNED = 64  # bytes: JAX uses arrays aligned like this on a CPU without a copy


class Memory:
    """Makes uninitialised arrays in the memory of earlier ones that nothing refers to any more.

    >>> memory = Memory()
    >>> a = memory.array((2, 3), np.dtype("float32"))
    >>> place = a.ctypes.data
    >>> a.shape, memory.array((6,), a.dtype).ctypes.data == place
    ((2, 3), False)
    >>> del a
    >>> memory.array((6,), np.dtype("float32")).ctypes.data == place
    True
    """

    def __init__(self):
        self._free: dict[int, collections.deque] = collections.defaultdict(collections.deque)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of this shape and dtype."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        try:
            room = free.pop()
        except IndexError:
            # not np.zeros, which asks for huge pages: the system may be slow to find them
            room = np.frombuffer(bytearray(size + _ALIGNED), np.uint8)
        lent = _Lent(room)
        weakref.finalize(lent, free.append, room).atexit = False
        first = -room.ctypes.data % _ALIGNED
        return np.asarray(lent)[first : first + size].view(dtype).reshape(shape)


class _Lent:
    """Held by every view of an array, those of devices too, so it is freed with the last one."""

    def __init__(self, room: np.ndarray):
        self.__array_interface__ = room.__array_interface__
