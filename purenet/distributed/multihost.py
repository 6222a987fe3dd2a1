"""Programs that run in several processes: the only code that uses `jax.distributed`.

Every process runs the same program and calls these functions in the same order. With one process
they return at once. The user calls `jax.distributed.initialize(...)` before anything is computed.

If a process dies or is stopped, the others end too: with an error from the collective as soon as
the connection breaks, or else when JAX ends them, soon after the `heartbeat_timeout_seconds` of
`initialize`. If a process is alive but never joins, the others wait; on CPUs, for as long as
`XLA_FLAGS=--xla_cpu_collective_timeout_seconds=` says. The first exchange of a program on CPUs
fails after 30 s, so processes exchange something early, before work whose time may differ.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from purenet.core.dtypes import is_key
from purenet.core.types import PyTree

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


def broadcast(tree: PyTree) -> PyTree:
    """The values of the first process, bit for bit, in every process.

    The leaves are Python numbers, random keys or arrays of numbers; arrays come back as NumPy
    arrays. Structure, shapes and dtypes must be the same in every process.

    >>> broadcast({"epochs": 3})
    {'epochs': 3}
    """
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(jax.random.key_data(a) if is_key(a) else a) for a in leaves]
    # as bytes: JAX would narrow 64 bits to 32
    held = b"".join(a.tobytes() for a in arrays)
    with _reached():
        held = multihost_utils.broadcast_one_to_all(np.frombuffer(held, np.uint8)).tobytes()
    received, start = [], 0
    for leaf, a in zip(leaves, arrays, strict=True):
        new = np.frombuffer(held[start : start + a.nbytes], a.dtype).reshape(a.shape)
        if isinstance(leaf, (bool, int, float, complex)):
            new = new.item()
        elif is_key(leaf):
            new = jax.random.wrap_key_data(jnp.asarray(new), impl=jax.random.key_impl(leaf))
        received.append(new)
        start += a.nbytes
    return jax.tree.unflatten(structure, received)


def all_gather_bytes(payload: bytes) -> list[bytes]:
    """The bytes of every process, in every process, in the order of the processes.

    >>> all_gather_bytes(b"mine")
    [b'mine']
    """
    if count() == 1:
        return [payload]
    length = np.frombuffer(len(payload).to_bytes(8, "little"), np.uint8)
    lengths = [int.from_bytes(row.tobytes(), "little") for row in _gathered(length)]
    room = max(_LEAST, 1 << (max(lengths) - 1).bit_length())
    rows = _gathered(np.frombuffer(payload.ljust(room, b"\0"), np.uint8))
    return [row[:n].tobytes() for row, n in zip(rows, lengths, strict=True)]


class PeerError(RuntimeError):
    """What another process could not do, with the text of its error.

    >>> raise PeerError("process 1 failed: OSError: the disk is gone")
    Traceback (most recent call last):
    purenet.distributed.multihost.PeerError: process 1 failed: OSError: the disk is gone
    """


def exchange(mine: bytes | Exception) -> list[bytes]:
    """`all_gather_bytes`, where a process may bring an error in place of its bytes.

    It is raised in that process as it is, and in the others as PeerError.

    >>> exchange(b"mine")
    [b'mine']
    """
    if isinstance(mine, Exception):
        all_gather_bytes(f"-{type(mine).__name__}: {mine}".encode())
        raise mine
    said = all_gather_bytes(b"+" + mine)
    for number, other in enumerate(said):
        if other.startswith(b"-"):
            raise PeerError(f"process {number} failed: {other[1:].decode()}")
    return [other[1:] for other in said]


def run_on_each(action: Callable[[], Any]) -> Any:
    """What `action()` returns in this process; an error in any process is raised as by `exchange`.

    >>> run_on_each(lambda: 3)
    3
    """
    if count() == 1:
        return action()
    try:
        found = action()
    except Exception as error:
        exchange(error)
        raise
    exchange(b"")
    return found


def broadcast_bytes(f: Callable[[], bytes]) -> bytes:
    """Call f in the first process only, and return its result in every process.

    An error of f is raised in the first process, and as RuntimeError with its text in the others.

    >>> broadcast_bytes(lambda: b"once")
    b'once'
    """
    if count() == 1:
        return f()
    said, failure = b"", None
    if first():
        try:
            said = b"+" + f()
        except Exception as error:
            said, failure = f"{type(error).__name__}: {error}".encode(), error
    said = all_gather_bytes(said)[0]
    if failure is not None:
        raise failure
    if not said.startswith(b"+"):
        raise RuntimeError(f"the first process failed: {said.decode()}")
    return said[1:]


def run_on_first(action: Callable[[], Any]) -> None:
    """Call `action()` in the first process only, while the others wait for it.

    Raises what `broadcast_bytes` raises.

    >>> run_on_first(lambda: print("once"))
    once
    """

    def silently() -> bytes:
        action()
        return b""

    broadcast_bytes(silently)


def to_local(tree: PyTree, gather: bool = False) -> PyTree:
    """Arrays that span the devices of several processes, as arrays of this process alone.

    An array of which this process holds only a part is unchanged, or gathered if `gather` is set.

    >>> to_local({"n": 3})
    {'n': 3}
    """

    def here(a):
        if not isinstance(a, jax.Array) or a.is_fully_addressable:
            return a
        if is_key(a):
            data = here(jax.random.key_data(a))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
        if a.is_fully_replicated:
            return a.addressable_data(0)
        return multihost_utils.process_allgather(a, tiled=True) if gather else a

    return jax.tree.map(here, tree)


def _gathered(row: np.ndarray) -> np.ndarray:
    with _reached():
        return multihost_utils.process_allgather(row)


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """Explain the error if another process cannot be reached."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise ConnectionError(
            f"one of {count()} processes died or timed out, so the others cannot continue: {error}"
        ) from error
