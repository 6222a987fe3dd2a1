"""The lock of a sweep's folder: one process at a time."""

import errno
import os
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"
_FLAGS = ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # follow no link, and wait for no FIFO


class Lock:
    """A file that is locked while it is open; the lock ends when the process does, even by a crash.

    Raises BlockingIOError if another process holds the lock, ValueError if the file is not a
    regular one, OSError if it cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = Lock(Path(folder))
    ...     lock.check()
    ...     lock.close()
    """

    def __init__(self, folder: Path):
        self.path = folder / _NAME
        flags = os.O_RDWR | os.O_CREAT
        for name in _FLAGS:
            flags |= getattr(os, name, 0)
        try:
            self._file: int | None = os.open(self.path, flags, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._no_file() from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise self._no_file()
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise BlockingIOError(
                f"{folder} is in use: another process runs the sweep there; wait for it to end, or "
                "choose another folder."
            ) from None
        except BaseException:
            self.close()
            raise

    def _no_file(self) -> ValueError:
        return ValueError(
            f"{self.path} is a link, a FIFO or a device, but a regular file is expected; remove it."
        )

    def check(self) -> None:
        """Raise OSError if the folder is no longer the one that was locked, because it was deleted,
        and perhaps created again by another process."""
        assert self._file is not None
        try:
            same = os.path.samestat(os.fstat(self._file), os.lstat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            raise OSError(errno.ESTALE, "the folder was deleted or replaced while the sweep ran")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
