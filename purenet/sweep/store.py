"""A sweep's results on disk: settings, one row a trial, and the curves."""

import io
import json
import os
import platform
from pathlib import Path

import jax
import jaxlib
import numpy as np

import purenet
from purenet.files import write_bytes
from purenet.sweep.result import Result

SETTINGS, TRIALS, CURVES = "settings.json", "trials.csv", "curves.npz"


def new_folder(path: str | os.PathLike) -> Path:
    """Make a folder for results, and make sure now that files can be written there later.

    Raises ValueError where results lie already: they are never overwritten. Raises OSError where
    the folder cannot be made or written.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but a folder for the results is expected.")
    if (folder / SETTINGS).exists():
        raise ValueError(f"{folder} already holds the results of a sweep; name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(f"cannot write results to {folder}: {error.strerror or error}.") from None
    return folder


def save(result: Result, folder: str | os.PathLike) -> None:
    """Write `trials.csv`, `curves.npz` (arrays "validation accuracy" and so on, a row a trial) and
    `settings.json`, each complete or absent, the settings last.
    """
    folder = Path(folder)
    result.to_csv(folder / TRIALS)
    curves = io.BytesIO()
    np.savez_compressed(
        curves,
        allow_pickle=False,
        **{f"{p} {name}": c for p, metrics in result.curves.items() for name, c in metrics.items()},
    )
    write_bytes(folder / CURVES, curves.getvalue())
    settings = {
        "format": 1,
        **result.settings,
        "seconds": round(result.seconds, 3),
        "programs": [program._asdict() for program in result.programs],
        "versions": {m.__name__: m.__version__ for m in (purenet, jax, jaxlib, np)},
        "python": platform.python_version(),
        "backend": jax.default_backend(),
    }
    write_bytes(folder / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())
