"""Programs that run in several processes: the one seam to `jax.distributed`.

Every process runs the same program and calls these functions in the same order. With one process
they return at once. The user starts JAX's own way, `jax.distributed.initialize(...)`, before
anything is computed. A peer that dies ends the others too: with an error out of the collective at
once, or within `heartbeat_timeout_seconds` of `initialize` at the latest, stopped peers included.
One that lives but never arrives is waited for; on CPUs, until XLA's
`--xla_cpu_collective_timeout_seconds` have passed.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils

from purenet.types import PyTree

_LEAST = 1024  # bytes; lengths are rounded up to powers of two, so that few programs are compiled


def count() -> int:
    """How many processes there are.

    >>> count()
    1
    """
    return jax.process_count()


def first() -> bool:
    """Whether this is the process that writes files and shows progress.

    >>> first()
    True
    """
    return jax.process_index() == 0


def agreed(tree: PyTree) -> PyTree:
    """What the first process holds, to the bit, in every process.

    The leaves are Python numbers or arrays of numbers; Python numbers stay so, arrays become
    NumPy's. Structure, shapes and dtypes have to be the same in every process.

    >>> agreed({"epochs": 3})
    {'epochs': 3}
    """
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    # as bytes: JAX would make 32 bits of 64
    held = b"".join(a.tobytes() for a in arrays)
    held = multihost_utils.broadcast_one_to_all(np.frombuffer(held, np.uint8)).tobytes()
    told, start = [], 0
    for leaf, a in zip(leaves, arrays, strict=True):
        new = np.frombuffer(held[start : start + a.nbytes], a.dtype).reshape(a.shape)
        told.append(new.item() if isinstance(leaf, (bool, int, float, complex)) else new)
        start += a.nbytes
    return jax.tree.unflatten(structure, told)


def exchanged(payload: bytes) -> list[bytes]:
    """Every process's bytes, in every process, in the order of processes.

    >>> exchanged(b"mine")
    [b'mine']
    """
    if count() == 1:
        return [payload]
    length = np.frombuffer(len(payload).to_bytes(8, "little"), np.uint8)
    lengths = [int.from_bytes(row.tobytes(), "little") for row in _gathered(length)]
    room = max(_LEAST, 1 << (max(lengths) - 1).bit_length())
    rows = _gathered(np.frombuffer(payload.ljust(room, b"\0"), np.uint8))
    return [row[:n].tobytes() for row, n in zip(rows, lengths, strict=True)]


def _gathered(row: np.ndarray) -> np.ndarray:
    return multihost_utils.process_allgather(row)
