"""The folder of `purenet sweep`, the options it was started with, and how to resume it."""

import json
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from purenet.core.files import write_bytes
from purenet.core.json_text import json_bytes, read_json, strict_json
from purenet.distributed import multihost
from purenet.sweep.storage.reading import SETTINGS, read_settings

_FOLDER = "sweep-results"
_COMMAND = "command.json"  # the options below
_OPTIONS = (
    "trial", "space", "data", "data_dir", "target", "task", "categorical", "ignore", "missing",
    "images", "search", "trials", "epochs", "rate", "weight_decay", "seed", "folds", "patience",
    "points",
)  # fmt: skip
_FILES = ("data_dir", "points")  # that may have moved
_SIZE = ("trials", "epochs")  # which may be increased, unless the search depends on it
_MADE_FOR = {"grid": "trials", "pbt": "epochs"}


def results_folder(options: Namespace) -> Path:
    """The folder of the results: a new one, or with --resume that of the same sweep.

    Raises ValueError for a folder of another sweep, or with --resume, of no sweep; OSError if
    nothing can be written there.
    """
    for flag, name in (("--out", options.out), ("--resume", options.resume)):
        if name == "":
            raise ValueError(f"{flag} is empty; name a folder, or leave it out.")
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
    content = multihost.broadcast_bytes(lambda: json_bytes(_stored(_named_folder(options))))
    again = options.trial is not None  # an argument that is not an option cannot be given twice
    found = [(name, json.loads(content).get(name)) for name in _OPTIONS[again:]]
    return [part for name, v in found if v is not None for part in _as_arguments(name, v)]


def given_points(options: Namespace) -> list | None:
    """The points in the file --points, or with --resume those of the sweep in the folder, in every
    process.

    Raises ValueError for a file without a list, OSError for one that cannot be read.
    """

    def read() -> bytes:
        if options.points is not None:
            return json_bytes(_points_of(Path(options.points)))
        settings = _settings(_named_folder(options)) if options.resume else {}
        return json_bytes(settings.get("points"))

    return json.loads(multihost.broadcast_bytes(read))


def resume_command(folder: Path, options: Namespace) -> str:
    """The command that resumes the sweep in a folder."""
    process = [] if options.process is None else ["--process", *options.process]
    return shlex.join(["purenet", "sweep", "--resume", "--out", str(folder), *process])


def remove_unstarted(folder: Path) -> None:
    """Remove what was written for a sweep that was rejected before it started."""
    if not (folder / SETTINGS).exists():
        (folder / _COMMAND).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


# pieces
def _named_folder(options) -> Path:
    if isinstance(options.resume, str):
        if options.out not in (None, options.resume):
            raise ValueError(
                f"--resume names {options.resume}, but --out {options.out}; name one folder."
            )
        return Path(options.resume)
    return Path(options.out or (_FOLDER if options.resume else _unused(_FOLDER)))


def _unused(name: str) -> Path:
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    return path


def _stored(folder: Path) -> dict[str, Any]:
    """The options of the sweep in a folder: those it was started with, and its current size."""
    path = folder / _COMMAND
    stored = read_json(path) if path.exists() else {}
    settings = _settings(folder)
    stored |= {name: settings[name] for name in _raisable(stored) if name in settings}
    return {name: value for name, value in stored.items() if name != "points" or not settings}


def _settings(folder: Path) -> dict[str, Any]:
    """The settings of the sweep in a folder, empty if none has started."""
    return read_settings(folder)["settings"] if (folder / SETTINGS).exists() else {}


def _raisable(options: dict[str, Any]) -> list[str]:
    fixed = _MADE_FOR.get(options.get("search", ""))
    return [name for name in _SIZE if name in options and name != fixed]


def _points_of(path: Path) -> list:
    try:
        found = strict_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--points: {path} is not a JSON file ({error}).") from error
    if not isinstance(found, list):
        raise ValueError(
            f"--points: {path} holds a {type(found).__name__}, but a list is expected, such as "
            '[{"rate": 0.1, "weight decay": 1e-6}].'
        )
    return found


def _stored_form(options) -> dict[str, Any]:
    """The options that decide what a sweep computes, by name."""
    asked = {name: getattr(options, name) for name in _OPTIONS}
    for name in _files(asked):
        if asked[name] is not None:  # so that it can be resumed from anywhere
            asked[name] = str(Path(asked[name]).absolute())
    return asked


def _check_same_options(folder: Path, asked: dict[str, Any]) -> None:
    """Raise ValueError unless the sweep was started with these options. Its files may have moved,
    and it may get more trials or epochs."""
    stored = _stored(folder)
    changed = [name for name in stored if name in asked and stored[name] != asked[name]]
    raised = [name for name in _raisable(stored) if asked[name] > stored[name]]
    changed = [name for name in changed if name not in (*_files(stored), *raised)]
    if changed:
        before = " ".join(" ".join(_as_arguments(name, stored[name])) for name in changed)
        arguments = [_as_arguments(name, asked[name]) for name in changed]
        now = " and ".join(f"{flag} is {' '.join(values)}" for flag, *values in arguments)
        raise ValueError(
            f"{folder} was started with {before}, but {now} now. Use the same settings, or choose "
            "another --out."
        )


def _files(options: dict[str, Any]) -> tuple[str, ...]:
    """The options that name files: `data` does if it is a table."""
    return _FILES if options.get("target") is None else (*_FILES, "data")


def _as_arguments(name: str, value: Any) -> list[str]:
    """An option as typed on the command line."""
    values = value if isinstance(value, list) else [value]
    if name == "trial":
        return values
    return ["--" + name.replace("_", "-"), *map(str, values)]
