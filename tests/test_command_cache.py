"""Compiled programs that commands keep for the next one."""

import os

import forks
import jax
import pytest

from purenet import cli
from purenet._commands import cache

JOB = ("-m", "purenet.cli", "sweep", "--trials", "2", "--epochs", "1", "--images", "100")


@pytest.fixture
def no_cache_yet(monkeypatch):
    """JAX as users have it: with no folder for compiled programs."""
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_second_of_two_commands_compiles_nothing(tmp_path):
    """What the first leaves in the user's cache folder is all that the second needs."""
    counted = (
        "import sys, os, jax; from purenet import cli; from purenet._commands import cache;"
        "cache._SECONDS = 0; seen = [];"
        "jax.config.update('jax_compilation_cache_dir', None);"
        f"os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r};"
        "jax.monitoring.register_event_listener(lambda name, **_: seen.append(name));"
        f"status = cli.main({list(JOB[2:])!r});"
        "print('missed', seen.count('/jax/compilation_cache/cache_misses')); sys.exit(status)"
    )
    first, second = (
        forks.run("-c", counted, cwd=tmp_path, config={"jax_enable_x64": False}) for _ in range(2)
    )
    assert first.code == second.code == 0, second.err
    assert "missed 0\n" not in first.out and "missed 0\n" in second.out
    kept = tmp_path / "purenet" / "programs"
    assert any(kept.iterdir())
    assert kept.stat().st_mode & 0o077 == 0


def test_a_folder_that_jax_was_given_is_left_alone(no_cache_yet, tmp_path):
    cache.use(tmp_path / "ours")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "ours")
    cache.use(tmp_path / "another")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "ours")


def test_without_a_folder_that_can_be_made_there_is_no_cache(no_cache_yet, tmp_path):
    (tmp_path / "file").touch()
    cache.use(tmp_path / "file" / "programs")
    assert jax.config.jax_compilation_cache_dir is None


def test_a_user_without_a_home_has_no_cache(no_cache_yet, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", nowhere)
    assert cli.main(["check", "--seed", "-1"]) == 2
    assert jax.config.jax_compilation_cache_dir is None


def test_no_cache_leaves_it_off(no_cache_yet, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(["check", "--seed", "-1", "--no-cache"]) == 2
    assert jax.config.jax_compilation_cache_dir is None and not any(tmp_path.iterdir())
    assert cli.main(["check", "--seed", "-1"]) == 2
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "purenet" / "programs")


def test_the_oldest_files_go_first(tmp_path):
    for age, name in enumerate(["new", "middle", "old"]):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    cache.shrink(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    cache.shrink(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 2
