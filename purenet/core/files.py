"""Files that are complete or absent, and errors that name them."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from purenet.core.validate import expect, require

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

_LONGEST = 48  # characters of a file's name in that of its temporary file
_NO_FSYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP)  # of some systems' folders


def as_path(caller: str, path: str | os.PathLike) -> Path:
    """The path. Raises TypeError if it is not a string or a path, ValueError if it is empty.

    >>> as_path("save", "a.npz").suffix
    '.npz'
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    expect(isinstance(name, str), f"{caller}: the path", path, "a string or a Path")
    require(name != "", f"{caller}: the path is empty; name a file or a folder.")
    return Path(name)


def writable(caller: str, path: str | os.PathLike) -> Path:
    """The path, if a file can be written there; called before its content is computed.

    Raises FileNotFoundError if its folder does not exist, IsADirectoryError if it is a folder, and
    what `as_path` raises.

    >>> writable("save", "no-such-folder/a.npz")
    Traceback (most recent call last):
    FileNotFoundError: save: no-such-folder/a.npz: there is no folder no-such-folder.
    """
    found = as_path(caller, path)
    text = f"{caller}: {found}: there is no folder {found.parent}."
    require(found.parent.is_dir(), text, FileNotFoundError)
    text = f"{caller}: {found} is a folder, but a file is expected."
    require(not found.is_dir(), text, IsADirectoryError)
    return found


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file atomically: a temporary file beside it, then a rename.

    Any number of threads, processes and machines may write the same path: the last rename wins.
    File and folder are flushed to disk. Temporary files of killed writers of this path are removed.
    Raises OSError if the folder is missing or not writable.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(f"{folder}/a", b"content")
    ...     Path(folder, "a").read_bytes()
    b'content'
    """
    path = Path(path)
    remove_leftovers(path)
    with _temporary(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:  # Windows does not rename open files
            file.close()
        os.replace(file.name, path)  # while it is locked, so that it is not taken for a leftover
    _flush_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of writers of `path` that were killed.

    A running writer holds a lock on its file. Without file locks, nothing is removed.

    >>> remove_leftovers(Path("no-such-folder/a"))
    """
    if fcntl is None:
        return
    pattern = re.compile(re.escape(_start(path)) + r"[0-9a-f]{16}\.tmp")
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed
        names = [name for name in os.listdir(path.parent) if pattern.fullmatch(name)]
    for name in names:
        with contextlib.suppress(OSError):  # its writer is running, or it is gone already
            file = os.open(path.with_name(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path.with_name(name))
            finally:
                os.close(file)


def _start(path: Path) -> str:
    return f".{path.name[:_LONGEST]}."


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path`, locked and open, which is removed unless it is renamed."""
    while True:
        name = path.with_name(f"{_start(path)}{secrets.token_hex(8)}.tmp")
        with open(name, "xb") as file:
            if not _locked(file):
                continue  # taken for a leftover before it was locked
            try:
                yield file
            except BaseException:
                name.unlink(missing_ok=True)
                raise
            return


def _locked(file: IO[bytes]) -> bool:
    """Lock a new file, and return whether it still exists."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, on which nothing is removed
    return os.path.exists(file.name)


def _flush_folder(folder: Path) -> None:
    """Flush a folder: a rename is on disk only when its folder is."""
    if fcntl is None:
        return
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def open_file(path: Path, caller: str) -> IO[bytes]:
    """The file, opened to read bytes; never a FIFO or a device, which could block the reader.

    Raises FileNotFoundError if there is no file, ValueError if it is not a regular file.

    >>> open_file(Path("no-such-file"), "idx")
    Traceback (most recent call last):
    FileNotFoundError: idx: there is no file no-such-file.
    """
    require(not path.is_dir(), f"{caller}: {path} is a directory, but a file is expected.")
    # without O_NONBLOCK a FIFO keeps `open` waiting for a writer
    opener = lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        file = open(path, "rb", opener=opener)  # noqa: SIM115
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{caller}: there is no file {path}.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{caller}: {path} is a FIFO or a device, but a regular file is expected.")
    return file
