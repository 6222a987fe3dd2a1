"""Files that are complete or absent."""

import os
from pathlib import Path


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
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
