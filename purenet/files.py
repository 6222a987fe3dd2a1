"""Files that are complete or absent, and errors that name them."""

import os
from pathlib import Path
from typing import IO

from purenet.checks import told


def as_path(who: str, path: str | os.PathLike) -> Path:
    """The path. Raises TypeError for what is none, ValueError for an empty one.

    >>> as_path("save", "a.npz").suffix
    '.npz'
    """
    try:
        name = os.fspath(path)
    except TypeError:
        name = None
    if not isinstance(name, str):
        raise TypeError(f"{who}: the path is {told(path)}, but a text or a Path is expected.")
    if not name:
        raise ValueError(f"{who}: the path is empty; name a file or a folder.")
    return Path(name)


def writable(who: str, path: str | os.PathLike) -> Path:
    """The path, if a file can be there: said before the work of making it.

    Raises FileNotFoundError where there is no folder for it, IsADirectoryError where it is one, and
    what `as_path` raises.

    >>> writable("save", "no-such-folder/a.npz")
    Traceback (most recent call last):
    FileNotFoundError: save: no-such-folder/a.npz: there is no folder no-such-folder.
    """
    found = as_path(who, path)
    if not found.parent.is_dir():
        raise FileNotFoundError(f"{who}: {found}: there is no folder {found.parent}.")
    if found.is_dir():
        raise IsADirectoryError(f"{who}: {found} is a folder, but a file is to be written.")
    return found


def write_bytes(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write a file so that nobody ever sees half of it: a temporary file beside it, then a rename.

    Raises OSError where the folder is missing or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(f"{folder}/a", b"content")
    ...     Path(folder, "a").read_bytes()
    b'content'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_file(path: Path, speaker: str) -> IO[bytes]:
    """The file, to read bytes from.

    Raises, in the name of the speaker, ValueError for a directory and FileNotFoundError.

    >>> open_file(Path("no-such-file"), "idx")
    Traceback (most recent call last):
    FileNotFoundError: idx: there is no file no-such-file.
    """
    if path.is_dir():
        raise ValueError(f"{speaker}: {path} is a directory, but a file is expected.")
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{speaker}: there is no file {path}.") from error
