"""Compiled programs kept on disk: a command that is run again starts without compiling."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

import jax

_BYTES = 2**29  # what the folder may hold when a command starts
_SECONDS = 0.1  # of compiling, below which a program is not worth a file


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves the cache off."""
    parser.add_argument("--no-cache", action="store_true",
        help="compile anew: neither read nor keep compiled programs, which are otherwise in "
        f"purenet/programs of your cache folder, at most {_BYTES // 2**20} MiB")  # fmt: skip


def folder() -> Path | None:
    """Where compiled programs are kept: `purenet/programs` in the user's folder for caches. None
    for a user without a home."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA")
    else:
        root = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(root or Path.home() / ".cache", "purenet", "programs")
    except RuntimeError:  # no HOME, and nobody's home in the system's list of users
        return None


def use(path: Path | None) -> None:
    """Keep compiled programs in a folder, unless JAX's own settings name one or leave it off.

    JAX decides which program a file is for: by the program, the versions, the devices and the flags
    of the compiler. The oldest files go first where the folder has grown too large. A folder that
    cannot be written is not used.
    """
    if path is None or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        shrink(path, _BYTES)
    except OSError:
        return
    if os.access(path, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(path))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)


def shrink(path: Path, most: int) -> None:
    """Remove the oldest files of a folder until the others have at most so many bytes.

    Files that another process removes meanwhile are gone all the same.
    """
    files = []
    for file in path.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            files.append((status.st_mtime, status.st_size, file))
    held = 0
    for _, size, file in sorted(files, reverse=True):
        held += size
        if held > most:
            file.unlink(missing_ok=True)
