"""Files are complete or absent, however many processes write them; no reader blocks."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from purenet import data
from purenet.checkpoint import load
from purenet.core import files

SAVES = 250  # of each writer
WRITERS = 4


def content(writer: int) -> bytes:
    return bytes([writer]) * (1000 + writer)


def write_many(path, first: int = 0) -> None:
    for i in range(SAVES):
        files.write_bytes(path, content(first + i % 3))


def is_whole(found: bytes) -> bool:
    return bool(found) and found == content(found[0])


def read_until(path: Path, over: threading.Event, damaged: list) -> None:
    while not over.is_set():
        found = path.read_bytes()
        if not is_whole(found):
            damaged.append(len(found))


def check_left(path: Path) -> None:
    assert is_whole(path.read_bytes())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_threads_that_save_to_one_path_lose_and_damage_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda file: None)
    path, over = tmp_path / "a", threading.Event()
    errors, damaged = [], []

    def write(first):
        try:
            write_many(path, first)
        except BaseException as error:  # also what a thread would swallow
            errors.append(error)

    files.write_bytes(path, content(0))
    reader = threading.Thread(target=read_until, args=(path, over, damaged))
    writers = [threading.Thread(target=write, args=(3 * i,)) for i in range(WRITERS)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert not errors and not damaged
    check_left(path)


def test_processes_that_save_to_one_path_lose_and_damage_nothing(tmp_path):
    path, over, damaged = tmp_path / "a", threading.Event(), []
    code = (
        f"import os, sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]}\n"
        "os.fsync = lambda file: None\n"
        "import test_files as t\n"
        f"t.write_many({str(path)!r}, int(sys.argv[1]))"
    )
    files.write_bytes(path, content(0))
    reader = threading.Thread(target=read_until, args=(path, over, damaged))
    reader.start()
    writers = [subprocess.Popen([sys.executable, "-c", code, str(3 * i)]) for i in range(2)]
    try:
        write_many(path, 30)
        write_many(path, 60)
    finally:
        codes = [writer.wait(600) for writer in writers]
        over.set()
        reader.join()
    assert codes == [0, 0] and not damaged
    check_left(path)


def test_the_file_and_its_folder_are_flushed_to_disk(tmp_path, monkeypatch):
    flushed, fsync, replace = [], os.fsync, os.replace

    def watched(file):
        flushed.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    def renamed(a, b):
        flushed.append("renamed")
        replace(a, b)

    monkeypatch.setattr(files.os, "fsync", watched)
    monkeypatch.setattr(files.os, "replace", renamed)
    files.write_bytes(tmp_path / "a", b"content")
    temporary, *others = flushed
    assert temporary.startswith(f"{tmp_path}/.a.") and others == ["renamed", str(tmp_path)]


def test_a_disk_that_fails_is_an_error_and_a_folder_that_cannot_be_flushed_is_none(
    tmp_path, monkeypatch
):
    fsync, numbers = os.fsync, iter([None, errno.EINVAL, None, errno.EIO])

    def failing(file):
        if number := next(numbers):
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(files.os, "fsync", failing)
    files.write_bytes(tmp_path / "a", b"content")
    with pytest.raises(OSError, match="Input/output error"):
        files.write_bytes(tmp_path / "a", b"content")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_what_killed_writers_left_is_removed_and_what_living_ones_write_is_not(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    dead, alive = (tmp_path / f".a.{digit * 16}.tmp" for digit in "01")
    others = [tmp_path / name for name in (".a.backup", ".a.0.tmp", f".b.{'0' * 16}.tmp")]
    for path in (dead, alive, *others):
        path.write_bytes(b"half of")
    with alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.write_bytes(tmp_path / "a", b"content")
    assert not dead.exists() and alive.exists() and all(path.exists() for path in others)


def test_a_new_file_that_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    locked, count = files._locked, []

    def late(file):
        count.append(1)
        if len(count) == 1:  # another process looks before the file is locked
            files.remove_leftovers(tmp_path / "a")
        return locked(file)

    monkeypatch.setattr(files, "_locked", late)
    files.write_bytes(tmp_path / "a", b"content")
    assert len(count) == 2
    assert (tmp_path / "a").read_bytes() == b"content" and os.listdir(tmp_path) == ["a"]


def test_a_file_has_the_permissions_that_a_new_file_has(tmp_path):
    files.write_bytes(tmp_path / "a", b"content")
    (tmp_path / "b").write_bytes(b"content")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    for letter in "aé😀":
        path = tmp_path / (letter * (255 // len(letter.encode())))
        files.write_bytes(path, b"content")
        assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    "name, read",
    [
        ("a.npz", lambda path: load(path, {})),
        ("a.idx", data.idx),
        ("a.csv", data.csv),
        ("a.safetensors", lambda path: load(path, {})),
    ],
)
def test_readers_do_not_wait_for_a_fifo(tmp_path, name, read):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is a FIFO or a device"):
        read(tmp_path / name)


def test_a_device_is_no_file():
    with pytest.raises(ValueError, match="/dev/zero is a FIFO or a device, but a regular file is"):
        data.csv("/dev/zero")
