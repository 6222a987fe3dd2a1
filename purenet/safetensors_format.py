"""safetensors, a format that many libraries share: arrays by name and texts, in one file.

The library reads and writes it. The format has no checksums, so they are kept among its texts.
"""

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from purenet.files import open_file
from purenet.leaves import short

_DTYPES = {
    "BOOL": np.bool_, "I8": np.int8, "U8": np.uint8, "I16": np.int16, "U16": np.uint16,
    "I32": np.int32, "U32": np.uint32, "I64": np.int64, "U64": np.uint64, "F16": np.float16,
    "F32": np.float32, "F64": np.float64, "C64": np.complex64, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2,
}  # fmt: skip
NATIVE = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})  # beyond NumPy's own

_TEXT, _SUMS = "purenet", "crc32"


def write(arrays: dict[str, np.ndarray], text: str) -> bytes:
    """The bytes of a file. Raises ValueError for dtypes that the format lacks."""
    known = {np.dtype(dtype) for dtype in _DTYPES.values()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("=") not in known or name == "__metadata__":
            what = "a reserved name" if name == "__metadata__" else f"an array of {array.dtype}"
            raise ValueError(
                f"save: the leaf {name} has {what}, which safetensors does not know; "
                "save to a path that ends in .npz."
            )
    sums = json.dumps(
        {_TEXT: zlib.crc32(text.encode())} | {f".{n}": _sum(a) for n, a in arrays.items()}
    )
    return _library().numpy.save(arrays, {_TEXT: text, _SUMS: sums})


class Reader:
    """What is in a file: its `text`, the `names` of its arrays, and each by `header` and `read`."""

    native = NATIVE

    def __init__(self, who: str, content):
        self.who, self.content = who, content
        texts = content.metadata() or {}
        if not {_TEXT, _SUMS} <= texts.keys():
            raise ValueError(
                f"{who} is a safetensors file without the entry {_TEXT!r}, so `save` did not write "
                "it; read it with the safetensors library."
            )
        self.text = texts[_TEXT]
        try:
            self.sums = dict(json.loads(texts[_SUMS]))
        except (ValueError, TypeError, RecursionError):
            self.sums = {}
        if self.sums.get(_TEXT) != zlib.crc32(self.text.encode()):
            raise ValueError(f"{who} is damaged: the checksum of its metadata is another.")
        self.names = list(content.keys())

    def header(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """(dtype, shape) as the file's header gives them; nothing is allocated yet."""
        with _damage(self.who):
            found = self.content.get_slice(name)
            dtype, shape = found.get_dtype(), tuple(found.get_shape())
        if dtype not in _DTYPES:
            raise ValueError(
                f"{self.who}: the leaf {short(name)} is of the unknown type {dtype!r}."
            )
        return np.dtype(_DTYPES[dtype]), shape

    def read(self, name: str) -> np.ndarray:
        """The array, if its checksum is right."""
        with _damage(self.who):
            array = self.content.get_tensor(name)
        if self.sums.get(f".{name}") != _sum(array):
            raise ValueError(f"{self.who} is damaged: the checksum of the leaf {name} is another.")
        return array


@contextlib.contextmanager
def opened(speaker: str, path: Path) -> Iterator[Reader]:
    """The file, to be looked into; ValueError with what is wrong with it otherwise."""
    library = _library()
    open_file(path, speaker).close()  # says at once what is wrong with the path
    who = f"{speaker}: {path}"
    with _damage(who):
        content = library.safe_open(path, framework="np")
    with content as content:
        yield Reader(who, content)


def _sum(array: np.ndarray) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


@contextlib.contextmanager
def _damage(who: str):
    try:
        yield
    except _library().SafetensorError as error:
        raise ValueError(f"{who} is damaged, or no safetensors file ({error}).") from error


def _library():
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"files that end in .safetensors need the library of that name ({error}); install it "
            "by pip install 'purenet[safetensors]', or use .npz."
        ) from error
    return safetensors
