"""Files that are complete or absent, and errors that name them."""

import os
from pathlib import Path
from typing import IO


def write_bytes(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write a file so that nobody ever sees half of it: a temporary file beside it, then a rename.

    Raises OSError where the folder is missing or cannot be written.
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
    """The file, to read bytes from; an error in the name of the speaker otherwise."""
    if path.is_dir():
        raise ValueError(f"{speaker}: {path} is a directory, but a file is expected.")
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{speaker}: there is no file {path}.") from error
