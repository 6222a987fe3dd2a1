"""Modules of other packages, needed only by some parts of purenet."""

import importlib
from typing import Any


def extra(module: str, need: str, name: str) -> Any:
    """The module, which the extra `name` installs; `need` says what needs which package.

    Raises ModuleNotFoundError, with the command that installs it, if it is missing.

    >>> extra("json", "records need json", "plot").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        install = f"pip install 'purenet[{name}]'"
        raise ModuleNotFoundError(f"{need}, which is not installed ({error}): {install}") from error
