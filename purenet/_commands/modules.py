"""What `my_module:name` on the command line names."""

import difflib
import importlib
import os
import sys
import traceback
from typing import Any

from purenet.core.validate import require


def is_reference(text: str) -> bool:
    """Whether a text has the form my_module:name.

    >>> is_reference("my_module:trial"), is_reference("table.csv"), is_reference("C:\\\\table.csv")
    (True, False, False)
    """
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), name))


def referred(option: str, text: str) -> Any:
    """The object that `my_module:name` names; modules are found from the current folder, as by
    `python -m`.

    Raises ValueError for a text of another form, a module that is missing or fails, and a name that
    the module does not have.

    >>> referred("--space", "string:digits")
    '0123456789'
    """
    require(
        is_reference(text),
        f"{option} is {text}, but a module and a name in it are expected, such as my_module:name.",
    )
    module, _, name = text.partition(":")
    found = _imported(option, module)
    if not hasattr(found, name):
        public = [known for known in vars(found) if not known.startswith("_")]
        close = difflib.get_close_matches(name, public, n=1)
        hint = f"; did you mean {module}:{close[0]}?" if close else "."
        raise ValueError(f"{option}: {module} ({found.__file__}) has no {name!r}{hint}")
    return getattr(found, name)


def function(option: str, text: str) -> Any:
    """The function that `my_module:name` names. Raises what `referred` raises, and ValueError for
    anything but a function.

    >>> function("trial", "math:sqrt")(4)
    2.0
    """
    found = referred(option, text)
    kind = type(found).__name__
    require(callable(found), f"{option}: {text} is a {kind}, but a function is expected.")
    return found


def value(option: str, text: str) -> Any:
    """The value that `my_module:name` names; a function without arguments is called for it.

    >>> value("--data", "string:digits"), len(value("--data", "os:getcwd")) > 0
    ('0123456789', True)
    """
    found = referred(option, text)
    return found() if callable(found) else found


def origin(error: BaseException) -> str:
    """Where in one's own files an error arose, " (my_module.py, line 3)", or nothing.

    >>> origin(ValueError("never raised"))
    ''
    """
    here = os.getcwd() + os.sep
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename.startswith(here) and "site-packages" not in frame.filename
              and not frame.filename.startswith(_OURS)]  # fmt: skip
    return f" ({frames[-1].filename[len(here) :]}, line {frames[-1].lineno})" if frames else ""


_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _imported(option: str, module: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        own = error.name is not None and f"{module}.".startswith(f"{error.name}.")
        require(not own, f"{option}: there is no module {error.name} in {folder}.")
        raise ValueError(
            f"{option}: {module} cannot be imported: {error}{origin(error)}"
        ) from error
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{option}: {module} cannot be imported: {what}{origin(error)}") from error
