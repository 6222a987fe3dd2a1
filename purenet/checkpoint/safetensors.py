"""safetensors, a format that many libraries share: arrays by name and texts, in one file.

The library of that name reads and writes it. The format has no checksums, so purenet stores them
among its texts.
"""

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from purenet.core.extras import extra
from purenet.core.files import open_file
from purenet.core.tree import short
from purenet.core.validate import require

_DTYPES = {
    "BOOL": np.bool_, "I8": np.int8, "U8": np.uint8, "I16": np.int16, "U16": np.uint16,
    "I32": np.int32, "U32": np.uint32, "I64": np.int64, "U64": np.uint64, "F16": np.float16,
    "F32": np.float32, "F64": np.float64, "C64": np.complex64, "BF16": jnp.bfloat16,
}  # fmt: skip
NATIVE = frozenset({"bfloat16"})  # dtypes beyond NumPy's own that the library returns

_ENTRY = "purenet"


def write(arrays: dict[str, np.ndarray], text: str) -> bytes:
    """The bytes of a file.

    Raises ValueError for dtypes that the format lacks, ModuleNotFoundError without the library.

    >>> len(write({"w": np.zeros(3)}, "{}")) > 24
    True
    """
    known = {np.dtype(dtype) for dtype in _DTYPES.values()}
    for name, array in arrays.items():
        reserved = name == "__metadata__"
        what = "a reserved name" if reserved else f"an array of {array.dtype}"
        require(
            array.dtype.newbyteorder("=") in known and not reserved,
            f"save: the leaf {name} has {what}, which safetensors does not support; save to a path "
            "that ends in .npz.",
        )
    sums = {name: _sum(array) for name, array in arrays.items()}
    entry = json.dumps([text, zlib.crc32(text.encode()), sums])
    return _library().numpy.save(arrays, {_ENTRY: entry})


class Reader:
    """An open file: its `text`, the `names` of its arrays, and each by `header` and `read`.

    Raises ValueError, naming `caller`, for a file that is damaged or was not written by `write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     _ = path.write_bytes(write({"w": np.ones(2)}, "{}"))
    ...     with opened("load", path) as file:
    ...         file.text, file.names, file.read("w").tolist()
    ('{}', ['w'], [1.0, 1.0])
    """

    native = NATIVE

    def __init__(self, caller: str, content: Any):
        self.caller, self.content = caller, content
        entry: Any = (content.metadata() or {}).get(_ENTRY)
        require(
            entry is not None,
            f"{caller} is a safetensors file without the entry {_ENTRY!r}, so `save` did not write "
            "it; read it with the safetensors library.",
        )
        try:
            self.text, expected, sums = json.loads(entry)
            self.sums = dict(sums)
            found = zlib.crc32(self.text.encode())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            text = f"{caller} is damaged: its entry {_ENTRY!r} is {short(entry)}."
            raise ValueError(text) from error
        text = f"{caller} is damaged: the checksum of its metadata does not match."
        require(found == expected, text)
        self.names = list(content.keys())

    def header(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """(dtype, shape) from the file's header; nothing is allocated yet. Raises ValueError for an
        unknown type."""
        with _damage(self.caller):
            found = self.content.get_slice(name)
            dtype, shape = found.get_dtype(), tuple(found.get_shape())
        text = f"{self.caller}: the leaf {short(name)} has the unknown type {dtype!r}."
        require(dtype in _DTYPES, text)
        return np.dtype(_DTYPES[dtype]), shape

    def read(self, name: str) -> np.ndarray:
        """The array. Raises ValueError if its checksum does not match."""
        with _damage(self.caller):
            array = self.content.get_tensor(name)
        text = f"{self.caller} is damaged: the checksum of the leaf {name} does not match."
        require(self.sums.get(name) == _sum(array), text)
        return array


@contextlib.contextmanager
def opened(caller: str, path: Path) -> Iterator[Reader]:
    """A reader of the file.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or of another format,
    ModuleNotFoundError without the library.

    >>> with opened("load", Path("no-such-file.safetensors")):
    ...     pass
    Traceback (most recent call last):
    FileNotFoundError: load: there is no file no-such-file.safetensors.
    """
    library = _library()
    open_file(path, caller).close()  # raises at once if something is wrong with the path
    caller = f"{caller}: {path}"
    with _damage(caller):
        content = library.safe_open(path, framework="np")
    with content as content:
        yield Reader(caller, content)


def _sum(array: np.ndarray) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


@contextlib.contextmanager
def _damage(caller: str):
    try:
        yield
    except _library().SafetensorError as error:
        raise ValueError(f"{caller} is damaged, or not a safetensors file ({error}).") from error


def _library():
    need = "paths that end in .safetensors, rather than .npz, need safetensors"
    extra("safetensors.numpy", need, "safetensors")
    import safetensors

    return safetensors
