"""The lock of a sweep's folder: one process at a time, and only in the folder that it locked."""

import errno
import os
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"
_FLAGS = ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # it leads nowhere else, and nobody waits for it


class Lock:
    """A file that is locked while it is open; the lock goes with the process, however it ends.

    Raises BlockingIOError where another process has it, ValueError for what is no regular file,
    OSError where there can be none.

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
                "name another folder."
            ) from None
        except BaseException:
            self.close()
            raise

    def _no_file(self) -> ValueError:
        return ValueError(
            f"{self.path} is a link, a FIFO or a device, but a regular file is expected; remove it."
        )

    def check(self) -> None:
        """Raises OSError where the folder is not the one that was locked: it has been deleted, and
        perhaps begun anew by another process."""
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
