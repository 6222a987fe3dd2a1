"""Strict JSON: no NaN, no infinities, and damaged files named."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from purenet.core.files import open_file
from purenet.core.validate import require


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError, naming the file, for anything else."""
    try:
        with open_file(path, "sweep") as file:
            content = strict_json(file.read().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    kind = type(content).__name__
    text = f"{path} is damaged: it holds {kind}, not an object."
    require(isinstance(content, dict), text)
    return content


def strict_json(text: str) -> Any:
    """The content of JSON text, without Python's extensions NaN and Infinity."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def plain(value: Any) -> Any:
    """A value for files: numbers unchanged, functions by name."""
    if isinstance(value, np.generic):
        value = value.item()
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return value


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """One line of strict JSON, or several; non-finite numbers become null."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(part) for key, part in value.items()}
        value = plain(value)
        if isinstance(value, list):
            return [clean(part) for part in value]
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)

    text = json.dumps(clean(content), indent=indent, allow_nan=False)
    return (text + "\n").encode()
