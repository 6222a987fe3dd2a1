"""IDX, the format of MNIST's files: one array of numbers, raw or gzipped.

What the file says is checked before it is believed: no size that a header claims is allocated.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from purenet.core.files import as_path, open_file

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_AXES = 64  # as many as an array of NumPy can have
_DEFLATE_RATIO = 1032  # the most that deflate can expand: 258 bytes from 2 bits
_CHUNK = 1 << 20


def idx(path: str | os.PathLike) -> np.ndarray:
    """The array in one IDX file, raw or gzipped: its first bytes decide which, not its name.

    Any shape; dtype uint8, int8, int16, int32, float32 or float64, in native byte order.
    Raises FileNotFoundError where there is no file; ValueError with the file, the byte and what
    was expected there when it is empty, foreign, truncated, too long or damaged. Memory is bounded
    by what the file holds, whatever its header claims. Raises TypeError for what is no path.
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
        stream = gzip.GzipFile(fileobj=file) if packed else file
        unpacked = " once decompressed" if packed else ""

        magic = _read(path, stream, 0, 4)
        if not magic:
            raise ValueError(f"idx: {path} is empty{unpacked}; an IDX file is expected.")
        if magic[:2] != b"\0\0"[: len(magic)]:
            raise ValueError(
                f"idx: {path}, byte 0{unpacked}: found {magic.hex(' ')}, but an IDX file starts "
                "with 00 00, its element type and its number of axes."
            )
        if len(magic) < 4:
            raise ValueError(
                f"idx: {path}, byte {len(magic)}{unpacked}: the file ends in its header, where "
                "4 bytes of magic number are expected."
            )
        kind, axes = magic[2], magic[3]
        if kind not in _IDX_TYPES:
            known = ", ".join(f"0x{code:02X}" for code in _IDX_TYPES)
            raise ValueError(
                f"idx: {path}, byte 2{unpacked}: the element type is 0x{kind:02X}, expected one "
                f"of {known}."
            )
        if not 1 <= axes <= _IDX_AXES:
            raise ValueError(
                f"idx: {path}, byte 3{unpacked}: the number of axes is {axes}, expected 1 to "
                f"{_IDX_AXES}."
            )

        start = 4 + 4 * axes
        header = _read(path, stream, 4, 4 * axes)
        if len(header) < 4 * axes:
            raise ValueError(
                f"idx: {path}, byte {4 + len(header)}{unpacked}: the file ends in its header, "
                f"which for {axes} axes is {start} bytes long."
            )
        sizes = tuple(int(size) for size in np.frombuffer(header, ">u4"))
        if 0 in sizes:
            raise ValueError(
                f"idx: {path}, byte {4 + 4 * sizes.index(0)}{unpacked}: the shape {sizes} holds no "
                "element; positive sizes are expected."
            )
        dtype = np.dtype(_IDX_TYPES[kind])
        claimed = math.prod(sizes) * dtype.itemsize  # Python's integers: cannot overflow

        # compare before reading: no claim makes us unpack or hold more than the file can contain
        promise = f"the header promises the shape {sizes} of {dtype.name}, {claimed} bytes of data"
        if packed and claimed > on_disk * _DEFLATE_RATIO:
            raise ValueError(
                f"idx: {path}, byte {start}{unpacked}: {promise}, but {on_disk} bytes of gzip "
                "cannot hold so many."
            )
        short = not packed and claimed > on_disk - start
        content = bytearray() if short else _read(path, stream, start, claimed + 1)
        if len(content) < claimed:
            found = on_disk - start if short else len(content)
            raise ValueError(
                f"idx: {path}, byte {start + found}{unpacked}: {promise}, but the file has {found}."
            )
        if len(content) > claimed:
            raise ValueError(
                f"idx: {path}, byte {start + claimed}{unpacked}: data goes on after the {claimed} "
                f"bytes that the shape {sizes} of {dtype.name} takes; the end of the file is "
                "expected."
            )
    return np.frombuffer(content, dtype).reshape(sizes).astype(dtype.newbyteorder("="), copy=False)


def _read(path: Path, stream: IO[bytes] | gzip.GzipFile, start: int, count: int) -> bytearray:
    """At most `count` bytes, in pieces: `read(count)` would allocate them all beforehand."""
    content = bytearray()
    try:
        while len(content) < count:
            piece = stream.read(min(_CHUNK, count - len(content)))
            if not piece:
                break
            content += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"idx: {path}, byte {start + len(content)} once decompressed: the gzip data is "
            f"damaged ({error})."
        ) from error
    return content
