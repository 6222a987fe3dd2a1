"""Damaged and malicious files, and a watch over whatever reads them.

A reader gives cases: files to write, how to read them, and what may come back. A case passes when
the reader refuses the files by a documented error that names them, or gives back what they may
mean. It fails by any other exception or warning, by taking too long or too much memory, and by
touching a file outside its folder. Every case follows from the seed, the reader and its number.
"""

import contextlib
import gzip
import io
import json
import os
import random
import signal
import struct
import sys
import time
import traceback
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax

MEMORY = 64 << 20  # bytes beyond the size of the files
SECONDS = 2.0  # of processor time
REFUSALS = (ValueError, FileNotFoundError)  # what every reader documents for files


class Case(NamedTuple):
    """`check` raises AssertionError for what the files cannot mean; `memory` is what they may."""

    files: dict[Path, bytes]
    read: Callable[[], Any]
    check: Callable[[Any], None]
    memory: int = 0  # bytes that honest data takes once decompressed


class Failure(NamedTuple):
    number: int
    kind: str
    detail: str


class Outcome(NamedTuple):
    cases: int
    refused: int
    failures: list[Failure]
    slowest: float  # seconds of processor time
    memory: int  # bytes beyond the size of the files


# the watch
class TooLong(BaseException):
    pass


_allowed: Path | None = None  # the folder of the case that is being read
_strays: list[str] = []
_hooked: list[bool] = []
_NEVER = ("pickle.", "subprocess.", "os.system", "os.exec", "os.spawn", "socket.", "ctypes.dlopen")
_PATHS = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
          "os.symlink", "os.chmod", "shutil.")  # fmt: skip


def _cache() -> Path | None:
    """Where JAX keeps compiled programs; beside it, tracebacks read programs (.py)."""
    folder = jax.config.jax_compilation_cache_dir
    return None if folder is None else Path(os.path.abspath(folder))


def _hook(event: str, arguments: tuple) -> None:
    if _allowed is None:
        return
    if event.startswith(_NEVER):
        _strays.append(f"{event} {arguments!r}"[:200])
    elif event.startswith(_PATHS):
        paths = [a for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
        for path in paths[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            where = Path(os.path.abspath(os.fsdecode(path)))
            own = where.suffix in (".py", ".pyc") or str(where) == os.path.abspath(sys.argv[0])
            if not own and not {_allowed, _cache()} & {where, *where.parents}:
                _strays.append(f"{event} {where}")


@contextlib.contextmanager
def watched(folder: Path):
    """Touching anything outside the folder is noted in `_strays`; too much time is TooLong."""
    global _allowed
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)

    def too_long(number, frame):
        raise TooLong(f"after {SECONDS} s in {frame.f_code.co_filename}, line {frame.f_lineno}")

    before = signal.signal(signal.SIGPROF, too_long)
    _strays.clear()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _allowed = folder
    try:
        yield
    finally:
        _allowed = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(name: str, make: Callable, folder: Path, numbers, seed: int = 0) -> Outcome:
    """Try the cases of these numbers; `make(folder)` gives the function from chance to a case."""
    case_of = make(folder)
    refused, failures, slowest, memory = 0, [], 0.0, 0
    mine = not tracemalloc.is_tracing()
    if mine:
        tracemalloc.start()
    try:
        for number in numbers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of NumPy, about what is done to its arrays
                case = case_of(random.Random(f"{seed} {name} {number}"))
            was_refused, failure, seconds, extra = _try(case, folder)
            refused += was_refused
            slowest, memory = max(slowest, seconds), max(memory, extra)
            if failure is not None:
                failures.append(Failure(number, *failure))
    finally:
        if mine:
            tracemalloc.stop()
    return Outcome(len(numbers), refused, failures, slowest, memory)


def _try(case: Case, folder: Path):
    for path, content in case.files.items():
        path.write_bytes(content)
    result, error = None, None
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        with warnings.catch_warnings(), watched(folder):
            warnings.simplefilter("error")
            result = case.read()
    except (Exception, TooLong) as caught:
        error = caught
    seconds = time.process_time() - began
    extra = tracemalloc.get_traced_memory()[1] - before - sum(map(len, case.files.values()))
    extra -= case.memory
    refused, failure = isinstance(error, REFUSALS), None
    if isinstance(error, TooLong) or seconds > SECONDS:
        failure = "too long", str(error or f"{seconds:.1f} s")
    elif error is not None and not refused:
        failure = _where(error)
    elif refused and str(folder) not in str(error):
        failure = "an error without the file's name", f"{type(error).__name__}: {error}"
    elif _strays:
        failure = "outside its folder", "; ".join(_strays)
    elif extra > MEMORY:
        failure = "too much memory", f"{extra >> 20} MiB"
    elif error is None:
        try:
            case.check(result)
        except Exception as wrong:
            failure = "a wrong result", ": ".join(_where(wrong))
    return refused, failure, seconds, extra


def _where(error: BaseException) -> tuple[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[1:]][-4:]
    return type(error).__name__, f"{' > '.join(lines)}: {str(error)[:200]}"


def kinds(failures: list[Failure]) -> list[str]:
    """A line for each kind of failure: how often, the first number, what."""
    count = Counter((f.kind, f.detail.split(": ")[0]) for f in failures)
    first: dict[tuple, Failure] = {}
    for f in failures:
        first.setdefault((f.kind, f.detail.split(": ")[0]), f)
    return [f"{n} x {first[k].kind}, first in case {first[k].number}: {first[k].detail}"
            for k, n in count.most_common()]  # fmt: skip


# chance
EXTREMES = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63,
            2**64 - 1, 10**12)  # fmt: skip
TOKENS = (b"NaN", b"-Infinity", b"1e999", b"-1", b"1" * 5000, b"\0", b'"', b"\xef\xbb\xbf", b"{",
          b"[" * 3000, b"../../x", b"/etc/passwd", b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04",
          b"\x1f\x8b\x08", b"\n", b",", b"\r", b"|O", b"\x80\x04.", b"\xff\xfe", b"x" * 70_000,
          b"None", b"null", b"true", b"\xe9", "\u0663".encode())  # fmt: skip


def likely(rng: random.Random, share: float) -> bool:
    return rng.random() < share


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The bytes after one accident, seldom several."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        content = rng.choice(_ACCIDENTS)(rng, content)
    return content


def _piece(rng, content) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    longest = rng.choice((4, 16, 64, 100_000))
    return start, min(len(content), start + rng.randrange(longest + 1))


def _flip(rng, content):
    if not content:
        return b"\0"
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(rng, content):
    start, end = _piece(rng, content)
    filling = rng.choice((b"\0", b"\xff", b" ", b"0", b"9", None))
    size = min(end - start, 64)
    new = rng.randbytes(size) if filling is None else filling * size
    return content[:start] + new + content[start + size :]


def _truncate(rng, content):
    return content[: rng.randrange(len(content) + 1)]


def _remove(rng, content):
    start, end = _piece(rng, content)
    return content[:start] + content[end:]


def _insert(rng, content):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randrange(1, 40)) + content[at:]


def _token(rng, content):
    at, token = rng.randrange(len(content) + 1), rng.choice(TOKENS)
    over = rng.choice((0, len(token)))
    return content[:at] + token + content[at + over :]


def _repeat(rng, content):
    start, end = _piece(rng, content)
    at = rng.choice((end, rng.randrange(len(content) + 1)))
    return content[:at] + content[start:end] * rng.choice((1, 1, 2, 20)) + content[at:]


def _move(rng, content):
    start, end = _piece(rng, content)
    rest = content[:start] + content[end:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + content[start:end] + rest[at:]


def _number(rng, content):
    """A number of 1 to 8 bytes, in either order, set to an extreme."""
    form = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<i", ">i"))
    size = struct.calcsize(form)
    if len(content) < size:
        return content
    signed = form[-1].islower() and form != "B"
    value = -rng.choice((1, 2, 2**31)) if signed else rng.choice(EXTREMES) % 2 ** (8 * size)
    at = rng.randrange(len(content) - size + 1)
    return content[:at] + struct.pack(form, value) + content[at + size :]


def _digits(rng, content):
    """Some digits replaced by another number."""
    places = [i for i, byte in enumerate(content[:20_000]) if 48 <= byte < 58]
    if not places:
        return _flip(rng, content)
    at = end = rng.choice(places)
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    value = rng.choice((*EXTREMES, -1, 10**30, "1e400", "1.5", "0x10", "007", ""))
    return content[:at] + str(value).encode() + content[end:]


def _nothing_left(rng, content):
    return rng.choice((b"", rng.randbytes(rng.randrange(1, 200)), bytes(len(content))))


_ACCIDENTS = (_flip, _flip, _flip, _set, _truncate, _remove, _insert, _token, _repeat, _move,
              _number, _number, _digits, _digits)  # fmt: skip
_ACCIDENTS = (*_ACCIDENTS * 3, _nothing_left)


# JSON
class Raw(NamedTuple):
    """Text that stands in JSON as it is."""

    text: str


STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63,
    10**12, 10**20, 10**30, -(2**63), 0.5, -0.5, 1.5, 1e308, 1e-300, "", "x", "3", "relu", "\0",
    "../../x", "/etc/passwd", "\ud800", "x" * 1000, "\u202e", [], {}, [[]], [1], [1, 2], [[1, 2]],
    ["a", 1], [None], {"a": 1}, {"": None}, {"function": "relu"}, Raw("NaN"), Raw("Infinity"),
    Raw("-Infinity"), Raw("1" * 5000), Raw("[" * 3000 + "]" * 3000), Raw("[" * 200 + "]" * 200),
    Raw('{"a":' * 150 + "1" + "}" * 150), Raw("1e400"), Raw("{"), Raw(""), Raw("-0"), Raw("1.0"),
)  # fmt: skip


def written(value, twice: str | None = None) -> str:
    """JSON text; `twice` is a key that every object begins with once more."""
    raws: list[str] = []

    def plain(part):
        if isinstance(part, Raw):
            raws.append(part.text)
            return f"@raw {len(raws) - 1}@"
        if isinstance(part, dict):
            return {k: plain(v) for k, v in part.items()}
        if isinstance(part, (list, tuple)):
            return [plain(v) for v in part]
        return part

    text = json.dumps(plain(value))
    for i, raw in enumerate(raws):
        text = text.replace(f'"@raw {i}@"', raw)
    return text if twice is None else text.replace("{", "{" + json.dumps(twice) + ": 3, ")


def changed(rng: random.Random, value: Any, strange: tuple = STRANGE) -> Any:
    """A JSON value with one part, seldom several, of another kind, missing, moved or added."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        value = _changed(rng, value, strange)
    return value


def _changed(rng, value, strange):
    holders: list[Any] = [[value]]
    places = [(holders[0], 0)]
    for holder in holders:
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, part in [*items]:
            if holder is not holders[0]:
                places.append((holder, key))
            if isinstance(part, (dict, list)):
                holder[key] = part = part.copy()
                holders.append(part)
    holder, key = rng.choice(places)
    what = rng.randrange(10)
    if what < 6:
        holder[key] = rng.choice(strange)
    elif what == 6 and holder is not holders[0]:
        del holder[key]
    elif what == 7:
        other, there = rng.choice(places)
        holder[key] = other[there] if not isinstance(other[there], (dict, list)) else {}
        if isinstance(holder, dict) and likely(rng, 0.5):
            holder[rng.choice(("x", "", "format", "layer", "a" * 300, "\0"))] = holder.pop(key)
    elif what == 8 and isinstance(holder, list):
        holder *= rng.choice((2, 3, 10))
    elif isinstance(holder[key], str):
        holder[key] = damaged(rng, holder[key].encode("utf-8", "replace")).decode("latin-1")
    else:
        holder[key] = [holder[key]]
    return holders[0][0]


def changed_text(rng: random.Random, value: Any) -> str:
    value = changed(rng, value)
    keys = list(value) if isinstance(value, dict) else []
    return written(value, rng.choice(keys) if keys and likely(rng, 0.05) else None)


# archives
@cache
def bomb(form: str) -> bytes:
    """1 GiB of zeros in about 1 MiB: "gzip" with a right checksum, or "deflate" alone."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = piece * 1024 + packer.flush()
    if form == "deflate":
        return body
    sum_ = 0
    for _ in range(1024):
        sum_ = zlib.crc32(bytes(1 << 20), sum_)
    return b"\x1f\x8b\x08" + bytes(7) + body + struct.pack("<II", sum_, 1 << 30)


NAMES = ("../x.npy", "../../../../tmp/x.npy", "/etc/passwd.npy", "C:\\x.npy", "a/../../x.npy",
         "x" * 20_000 + ".npy", "w.txt", "", ".npy", "metadata.json", "metadata.json.npy",
         "w\n.npy", "é.npy", "a/", "w.npy/")  # fmt: skip


def crafted_zip(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """The members in an archive that somebody who means harm has made."""
    parts = [*members.items()]
    what = rng.randrange(9)
    if what == 0:
        parts[rng.randrange(len(parts))] = (rng.choice(NAMES), rng.choice(parts)[1])
    elif what == 1:
        parts.append((rng.choice((*NAMES, *members)), rng.choice(parts)[1]))
    elif what == 2:
        del parts[rng.randrange(len(parts))]
    elif what == 3:
        rng.shuffle(parts)
    packing = rng.choice((0, 8, 12, 14)) if what == 4 else 0
    comment = rng.randbytes(rng.choice((1, 100, 65_535))) if what == 5 else b""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", packing) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, part in parts:
            archive.writestr(zipfile.ZipInfo(name), part, packing)
        archive.comment = comment
    found = bytearray(content.getvalue())
    if what >= 6:  # lies in the directory, or before a member
        at = _directory_entry(rng, found)
        if at >= 0:
            offset, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2),
                                       (32, 2), (42, 4)))  # fmt: skip
            both = offset in (20, 24) and likely(rng, 0.5)
            value = (rng.choice(EXTREMES) % 2 ** (8 * size)).to_bytes(size, "little")
            for place in (20, 24) if both else (offset,):
                found[at + place : at + place + size] = value
    return bytes(found)


def _directory_entry(rng, content) -> int:
    places, at = [], content.find(b"PK\x01\x02")
    while at >= 0:
        places.append(at)
        at = content.find(b"PK\x01\x02", at + 1)
    return rng.choice(places) if places else -1


def zip_bomb(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """One member inflates to 1 GiB, and the directory admits it or not."""
    name, body = rng.choice([*members]), bomb("deflate")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for other, part in members.items():
            archive.writestr(zipfile.ZipInfo(other), body if other == name else part)
    found = bytearray(content.getvalue())
    size = rng.choice((1 << 30, len(body), len(members[name]), 2**32 - 1))
    start = found.find(name.encode()) - 30
    entry = found.find(b"PK\x01\x02")
    while found[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry = found.find(b"PK\x01\x02", entry + 1)
    for at, method, length in ((start, 8, 22), (entry, 10, 24)):
        if likely(rng, 0.8):
            found[at + method] = 8
        found[at + length : at + length + 4] = size.to_bytes(4, "little")
    return bytes(found)


def gzipped(rng: random.Random, content: bytes) -> bytes:
    """Packed at some level, in one part or two."""
    if likely(rng, 0.2):
        cut = rng.randrange(len(content) + 1)
        return gzip.compress(content[:cut], 1, mtime=0) + gzip.compress(content[cut:], 9, mtime=0)
    return gzip.compress(content, rng.randrange(10), mtime=0)


def npy(
    shape="(2,)", descr="<f8", content=b"", order="False", version=b"\x01\x00", more=""
) -> bytes:
    """An array of NumPy's with any header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, {more}}}"
    text = header.encode("latin-1", "replace") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text) % 2**16) + text + content


def crafted_npy(rng: random.Random, array: bytes) -> bytes:
    """An array whose header lies, or that is a pickle."""
    body = array[128:] if len(array) > 128 else array
    shapes = ("()", "(2,)", "(3, 4)", "(4, 3)", "(-1,)", "(0,)", "(1000000000000,)", f"({2**63},)",
              f"({2**32 - 1}, {2**32 - 1})", "(" + "1, " * 70 + ")", "(2.0,)", "[2]", "2",
              "__import__('os').system('true')", "(1" + "0" * 30 + ",)", "(0, 9999999999999)",
              f"({2**62}, 4, 0)", "(" + "9" * 19 + ",)" )  # fmt: skip
    descrs = ("<f8", ">f8", "<f4", "|O", "O", "|V8", "<U1000000", "|S9", "<m8[s]", "<f3", "|b1",
              "<i8", "<c16", "|u1", "<f0", "<f16", "<c32", "|b8", [("a", "<f8")],
              "numpy.float64")  # fmt: skip
    if likely(rng, 0.1):  # what numpy.save makes of objects
        return npy("(1,)", "|O", b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    return npy(
        rng.choice(shapes),
        rng.choice(descrs),
        rng.choice((body, b"", bytes(1000))),
        rng.choice(("False", "False", "True", "x")),
        rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\xff\xff")),
        rng.choice(("", "", "'more': 1, ")),
    )
