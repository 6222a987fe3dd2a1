"""npz, the format of NumPy's archives: arrays by name and one text, in a zip file.

Only what `write` writes is read: uncompressed members, and headers of one form. So nothing is
decompressed, unpickled or evaluated, no name in a file becomes a path, and the sizes that a file
claims are compared with its own before they are used.
"""

import contextlib
import errno
import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from purenet.core.files import open_file
from purenet.core.tree import short
from purenet.core.validate import require

NATIVE: frozenset[str] = frozenset()  # dtypes beyond NumPy's own that the format supports

LONGEST_TEXT = 1 << 24  # bytes

_TEXT = "metadata.json"
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<|][biufc]\d{1,2})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)
_CHUNK = 1 << 20
_LONGEST_EXTRA = 28  # bytes in the directory, of a member beyond 4 GiB
_DAMAGES = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,  # a version or a method that zipfile does not support
    RuntimeError,  # "encrypted"
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
)


def write(arrays: dict[str, np.ndarray], text: str) -> bytes:
    """The bytes of a file; the same arrays and text give the same bytes.

    >>> write({"w": np.zeros(3)}, "{}")[:2]
    b'PK'
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_TEXT), text)
        for name, array in arrays.items():
            big = array.nbytes > 1 << 30
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=big) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    # not a view: Python 3.13 may finalise what it looks into before it, and complain
    return content.getvalue()


class Reader:
    """An open file: its `text`, the `names` of its arrays, and each by `header` and `read`.

    Raises ValueError, naming `caller`, for a file that is damaged or was not written by `write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.npz")
    ...     _ = path.write_bytes(write({"w": np.ones(2)}, "{}"))
    ...     with opened("load", path) as file:
    ...         file.text, file.names, file.read("w").tolist()
    ('{}', ['w'], [1.0, 1.0])
    """

    native = NATIVE

    def __init__(self, caller: str, file: IO[bytes]):
        self.caller = caller
        self.archive = _archive(caller, file)
        on_disk = os.fstat(file.fileno()).st_size
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self.archive.infolist():
            self._check(member, on_disk)
            self.members[member.filename] = member
        places = {member.header_offset: name for name, member in self.members.items()}
        for name, member in self.members.items():
            other = places[member.header_offset]
            text = f"{caller} is damaged: the members {short(name)} and {short(other)} are one."
            require(other == name, text)  # zipfile of Python 3.13 warns and reads on
        some = short(sorted(self.members)[:3])
        require(
            _TEXT in self.members,
            f"{caller} is a zip file without {_TEXT}, so `save` did not write it; it holds {some}.",
        )
        size = self.members[_TEXT].file_size
        require(
            size <= LONGEST_TEXT,
            f"{caller}: {_TEXT} has {size} bytes, but at most {LONGEST_TEXT} are expected.",
        )
        with self._open(_TEXT) as content:
            self.text = content.read().decode()
        arrays = [name for name in self.members if name != _TEXT]
        for name in arrays:
            text = f"{caller}: the member {short(name)} is neither {_TEXT} nor an array (.npy)."
            require(name.endswith(".npy"), text)
        self.names = [name.removesuffix(".npy") for name in arrays]

    def _check(self, member: zipfile.ZipInfo, on_disk: int) -> None:
        """Check that a member's entry in the directory is one that `write` writes."""
        name, size, packed = short(member.filename), member.file_size, member.compress_size
        has, comment, extra = min(on_disk, packed), len(member.comment), len(member.extra)
        stored = member.compress_type == zipfile.ZIP_STORED
        for legal, problem in (
            (member.filename not in self.members, f"is damaged: it has two members {name}"),
            (  # a wrong length there hides the members that follow
                not comment and extra <= _LONGEST_EXTRA,
                f"is damaged: the member {name} has a comment of {comment} bytes and {extra} extra "
                "bytes in the directory, where `save` writes none",
            ),
            (stored, f": the member {name} is compressed, but `save` does not compress"),
            (size <= has, f"is damaged: the member {name} claims {size} bytes, but has {has}"),
            # zipfile would allocate all of them
            (packed <= size, f"is damaged: the member {name} claims {packed} bytes for {size}"),
        ):
            gap = "" if problem.startswith(":") else " "
            require(legal, f"{self.caller}{gap}{problem}.")

    def header(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """(dtype, shape) from the array's header; nothing is allocated yet. Raises ValueError for a
        damaged header."""
        with self._open(f"{name}.npy") as content:
            return self._header(name, content)

    def read(self, name: str) -> np.ndarray:
        """The array. Raises ValueError unless the member holds as many bytes as its header claims,
        with the right checksum."""
        with self._open(f"{name}.npy") as content:
            dtype, shape = self._header(name, content)
            array = np.empty(shape, dtype)
            view, start = array.reshape(-1).view(np.uint8).data, 0
            while start < len(view):
                piece = content.read(min(_CHUNK, len(view) - start))
                if not piece:
                    raise EOFError(f"it ends after {start} of {len(view)} bytes")
                view[start : start + len(piece)] = piece
                start += len(piece)
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _header(self, name, content):
        start = content.read(len(_MAGIC) + 2)
        require(
            len(start) == len(_MAGIC) + 2 and start.startswith(_MAGIC),
            f"found {start.hex(' ') or 'nothing'} where an array should start",
        )
        length = int.from_bytes(start[-2:], "little")
        text = content.read(length)
        match: Any = _HEADER.fullmatch(text)
        require(match is not None, f"its header is {short(text)}")
        try:
            dtype = np.dtype(match[1].decode())
        except TypeError as error:
            raise ValueError(f"its header has the type {short(match[1].decode())}") from error
        shape = tuple(int(n) for n in match[2].decode().replace(",", " ").split())
        size = math.prod(shape) * dtype.itemsize  # a Python integer, which does not overflow
        has = self.members[f"{name}.npy"].file_size - len(start) - length
        text = f"its header claims {size} bytes of {dtype.name} {shape}, but it has {has}"
        require(size == has, text)
        return dtype, shape

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        message = f"{self.caller} is damaged: the member {short(name)} cannot be read"
        with _damage(message), self.archive.open(self.members[name]) as content:
            yield content


@contextlib.contextmanager
def opened(caller: str, path: Path) -> Iterator[Reader]:
    """A reader of the file.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or of another format.

    >>> with opened("load", Path("no-such-file.npz")):
    ...     pass
    Traceback (most recent call last):
    FileNotFoundError: load: there is no file no-such-file.npz.
    """
    with open_file(path, caller) as file:
        yield Reader(f"{caller}: {path}", file)


def _archive(caller, file):
    start = file.read(4)
    found = f"starts with {start.hex(' ')}" if start else "is empty"
    text = f"{caller} {found}, but a file written by `save` starts with 50 4b (zip)."
    require(start[:2] == b"PK", text)
    with _damage(f"{caller} is damaged: its directory cannot be read"):
        return zipfile.ZipFile(file)


@contextlib.contextmanager
def _damage(message: str):
    try:
        yield
    except _DAMAGES as error:
        raise ValueError(f"{message} ({str(error) or type(error).__name__}).") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # not a bad seek: the disk fails
            raise
        raise ValueError(f"{message} ({error}).") from error
