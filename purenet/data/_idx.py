"""IDX, the format of MNIST's files: one array of numbers, raw or gzipped.

Everything that a file claims is checked before it is used: no size in a header is trusted.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from purenet.core.files import as_path, open_file
from purenet.core.validate import require

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_AXES = 64  # the most that a NumPy array can have
_DEFLATE_RATIO = 1032  # the most that deflate can expand: 258 bytes from 2 bits
_CHUNK = 1 << 20


def idx(path: str | os.PathLike) -> np.ndarray:
    """The array in an IDX file, raw or gzipped, which its first bytes decide, not its name.

    Any shape; dtype uint8, int8, int16, int32, float32 or float64, in native byte order.
    Memory is bounded by what the file holds, whatever its header claims.
    Raises FileNotFoundError if there is no file; ValueError, with the file, the byte and what was
    expected there, if it is empty, foreign, truncated, too long or damaged; TypeError if `path` is
    not a path.
    Source: the IDX format as described with the MNIST database (LeCun, Cortes & Burges, 1998).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     idx(Path(folder, "labels")).tolist()
    [5, 0, 4]
    """
    path = as_path("idx", path)
    with open_file(path, "idx") as file:
        on_disk = os.fstat(file.fileno()).st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _Stream(path, gzip.GzipFile(fileobj=file) if packed else file, packed)
        dtype, sizes = _header(stream)
        start, claimed = stream.start, math.prod(sizes) * dtype.itemsize  # no overflow
        promise = f"the header declares the shape {sizes} of {dtype.name}, {claimed} bytes of data"
        # compare before reading, so that no more is decompressed or held than the file can contain
        possible = not packed or claimed <= on_disk * _DEFLATE_RATIO
        stream.require(possible, f"{promise}, but {on_disk} bytes of gzip cannot hold that many.")
        short = not packed and claimed > on_disk - start
        content = bytearray() if short else stream.read(claimed + 1)
        found = on_disk - start if short else len(content)
        stream.start = start + min(found, claimed)
        stream.require(found >= claimed, f"{promise}, but the file has {found}.")
        stream.require(
            found == claimed,
            f"data continues after the {claimed} bytes of the shape {sizes} of {dtype.name}.",
        )
    return np.frombuffer(content, dtype).reshape(sizes).astype(dtype.newbyteorder("="), copy=False)


def _header(stream: "_Stream") -> tuple[np.dtype, tuple[int, ...]]:
    """(dtype, shape) from the header."""
    magic = stream.read(4)
    stream.require(len(magic) > 0, "the file is empty; an IDX file is expected.")
    stream.require(
        magic[:2] == b"\0\0"[: len(magic)],
        f"found {magic.hex(' ')}, but an IDX file starts with 00 00, its element type and its "
        "number of axes.",
    )
    cut = "the file ends in its header, "
    stream.start = len(magic)
    stream.require(len(magic) == 4, cut + "where 4 bytes of magic number are expected.")
    kind, axes = magic[2:]
    stream.start = 2
    known = ", ".join(f"0x{code:02X}" for code in _IDX_TYPES)
    stream.require(
        kind in _IDX_TYPES, f"the element type is 0x{kind:02X}, expected one of {known}."
    )
    stream.start = 3
    stream.require(
        1 <= axes <= _IDX_AXES, f"the number of axes is {axes}, expected 1 to {_IDX_AXES}."
    )
    stream.start, end = 4, 4 + 4 * axes
    header = stream.read(4 * axes)
    stream.start = 4 + len(header)
    stream.require(stream.start == end, cut + f"which for {axes} axes is {end} bytes long.")
    sizes = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    if 0 in sizes:
        stream.start = 4 + 4 * sizes.index(0)
    stream.require(
        0 not in sizes, f"the shape {sizes} has no elements; positive sizes are expected."
    )
    return np.dtype(_IDX_TYPES[kind]), sizes


class _Stream:
    """The bytes of a file once decompressed; `start` is the position that errors report."""

    def __init__(self, path: Path, file: IO[bytes] | gzip.GzipFile, packed: bool):
        self.path, self.file, self.start = path, file, 0
        self.unpacked = " once decompressed" if packed else ""

    def require(self, legal: bool, problem: str) -> None:
        require(legal, f"idx: {self.path}, byte {self.start}{self.unpacked}: {problem}")

    def read(self, count: int) -> bytearray:
        """At most `count` bytes, in pieces: `read(count)` would allocate them all beforehand."""
        content = bytearray()
        try:
            while len(content) < count:
                piece = self.file.read(min(_CHUNK, count - len(content)))
                if not piece:
                    break
                content += piece
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.start += len(content)
            self.require(False, f"the gzip data is damaged ({error}).")
        return content
