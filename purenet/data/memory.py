"""Memory for arrays that come and go: used again, since the system takes long to give new pages."""

import collections
import math
import weakref

import numpy as np

_ALIGNED = 64  # bytes: a CPU's devices use what lies so without a copy


class Memory:
    """Gives arrays, in the memory of earlier ones that nothing refers to any more.

    They hold any numbers.

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
            # not NumPy's, which asks for huge pages: the system may take long to make room for them
            room = np.frombuffer(bytearray(size + _ALIGNED), np.uint8)
        lent = _Lent(room)
        weakref.finalize(lent, free.append, room).atexit = False
        first = -room.ctypes.data % _ALIGNED
        return np.asarray(lent)[first : first + size].view(dtype).reshape(shape)


class _Lent:
    """What all views of an array hold, those of devices too, so that it is gone after the last."""

    def __init__(self, room: np.ndarray):
        self.__array_interface__ = room.__array_interface__
