"""The folder of `purenet sweep`, the options it was started with, and how it is resumed."""

import json
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from purenet.core.files import write_bytes
from purenet.core.json_text import json_bytes, read_json
from purenet.distributed import multihost
from purenet.sweep.storage.reading import SETTINGS

_FOLDER = "sweep-results"
_COMMAND = "command.json"  # the options below
_OPTIONS = (
    "data", "data_dir", "images", "search", "trials", "epochs", "rate", "weight_decay", "seed"
)  # fmt: skip


def results_folder(options: Namespace) -> Path:
    """The folder of the results: new, or with --resume that of the same sweep.

    Raises ValueError for a folder of another sweep, or with --resume of none; OSError if nothing
    can be written there.
    """
    if options.out == "":
        raise ValueError("--out is empty; name a folder, or leave it out.")
    folder = _named_folder(options)
    started = (folder / SETTINGS).exists()
    if started and not options.resume:
        raise ValueError(
            f"{folder} already holds the results of a sweep. Choose another --out, or resume that "
            "sweep with --resume."
        )
    if not options.resume:
        folder.mkdir(parents=True, exist_ok=True)
    elif not started and not (folder / _COMMAND).exists():
        raise ValueError(f"{folder} holds no sweep to resume. Leave out --resume.")
    content = json_bytes(_stored_form(options), indent=2)
    if started:
        _check_same_options(folder, json.loads(content))
    else:
        write_bytes(folder / _COMMAND, content)
    return folder


def stored_arguments(options: Namespace) -> list[str]:
    """The arguments that the sweep in the folder was started with, in every process.

    Raises ValueError if their file is damaged.
    """
    path = _named_folder(options) / _COMMAND
    content = multihost.broadcast_bytes(lambda: json_bytes(_stored(path)))
    found = [(name, json.loads(content).get(name)) for name in _OPTIONS]
    return [part for name, v in found if v is not None for part in _as_arguments(name, v)]


def resume_command(folder: Path, options: Namespace) -> str:
    """The command that resumes the sweep in a folder."""
    process = [] if options.process is None else ["--process", *options.process]
    return shlex.join(["purenet", "sweep", "--resume", "--out", str(folder), *process])


def remove_unstarted(folder: Path) -> None:
    """Remove what was written for a sweep that was refused before it started."""
    if not (folder / SETTINGS).exists():
        (folder / _COMMAND).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


# pieces
def _named_folder(options) -> Path:
    return Path(options.out or (_FOLDER if options.resume else _unused(_FOLDER)))


def _unused(name: str) -> Path:
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    return path


def _stored(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _stored_form(options) -> dict[str, Any]:
    """The options that decide what a sweep computes, by name."""
    asked = {name: getattr(options, name) for name in _OPTIONS}
    if options.data_dir is not None:  # so that it can be resumed from anywhere
        asked["data_dir"] = str(Path(options.data_dir).absolute())
    return asked


def _check_same_options(folder: Path, asked: dict[str, Any]) -> None:
    """Raise ValueError unless the sweep was started with these options; its data may have moved."""
    stored = _stored(folder / _COMMAND)
    changed = [name for name in stored if name in asked and stored[name] != asked[name]]
    changed = [name for name in changed if name != "data_dir"]
    if changed:
        before = " ".join(" ".join(_as_arguments(name, stored[name])) for name in changed)
        arguments = [_as_arguments(name, asked[name]) for name in changed]
        now = " and ".join(f"{flag} is {' '.join(values)}" for flag, *values in arguments)
        raise ValueError(
            f"{folder} was started with {before}, but {now} now. Use the same settings, or choose "
            "another --out."
        )


def _as_arguments(name: str, value: Any) -> list[str]:
    """An option as it is typed."""
    values = value if isinstance(value, list) else [value]
    return ["--" + name.replace("_", "-"), *map(str, values)]
