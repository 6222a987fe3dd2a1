"""`purenet report`: the page of a sweep's folder, also while the sweep runs."""

import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from purenet._commands.closing import PAGE
from purenet.core.extras import extra
from purenet.core.files import as_path
from purenet.core.validate import require
from purenet.sweep.results.load import load
from purenet.sweep.results.result import Result
from purenet.sweep.storage.lock import Lock
from purenet.sweep.storage.reading import CURVES, read_settings

_RELOAD = 10  # seconds between two looks at a sweep that runs


def add_report(commands: Any, help_format: Any) -> ArgumentParser:
    """Add the command to those of the parser; returns its own."""
    report = commands.add_parser(
        "report",
        help="write a page about the sweep in a folder, and keep it up to date while it runs",
        description="Write report.html, a page for a browser that needs no network: brush axes, "
        "compare learning curves, sort trials. While the sweep is running, the page is written "
        "again every few seconds, until the sweep ends or Ctrl-C, and loads itself again. Needs "
        "plotly: pip install 'purenet[report]'.",
        formatter_class=help_format,
    )
    report.add_argument("folder", metavar="FOLDER", help="folder of the sweep")
    report.add_argument("--out", metavar="FILE", help="the page; defaults to FOLDER/report.html")
    report.add_argument("--once", action="store_true", help="do not wait for a sweep that runs")
    return report


def write_pages(options: Namespace) -> int:
    """Write the page, and again as long as the sweep in the folder runs.

    Raises FileNotFoundError for a folder without a sweep, ValueError for one that is damaged,
    OSError if the page cannot be written, ModuleNotFoundError without plotly.
    """
    folder = as_path("purenet report", options.folder)
    page = Path(folder / PAGE if options.out is None else options.out)
    read_settings(folder)
    written: float | None = None
    while True:
        running = not options.once and is_running(folder)  # before reading: the end is not missed
        if not (folder / CURVES).exists():
            require(running, f"{folder} holds no results yet.", FileNotFoundError)
        elif written != (now := (folder / CURVES).stat().st_mtime_ns) or not running:
            load(folder).to_html(page, folder.resolve().name, _RELOAD if running else None)
            if written is None:
                follows = "; the sweep is running, and the page follows it" if running else ""
                print(f"{page}{follows}", flush=True)
            written = now
        if not running:
            return 0
        wait_while_running(folder)


def is_running(folder: Path) -> bool:
    """Whether a process trains the sweep in this folder."""
    try:
        Lock(folder).close()
    except BlockingIOError:
        return True
    except OSError:  # such as of a folder that cannot be written
        return False
    return False


def wait_while_running(folder: Path) -> None:
    """Wait until it is time to look again, or the sweep has ended."""
    for _ in range(_RELOAD):
        time.sleep(1)
        if not is_running(folder):
            return


def require_report() -> None:
    """Raise ModuleNotFoundError, with the command that installs it, if plotly is missing."""
    extra("plotly.offline", "--report: the page needs plotly", "report")


def write_page(result: Result, folder: Path) -> list[str]:
    """Write the page of a sweep that has ended: its name, or nothing and a line on standard error
    where plotly is missing."""
    try:
        result.to_html(folder / PAGE, folder.resolve().name)
    except ModuleNotFoundError as error:
        print(f"no report: {error}", file=sys.stderr)
        return []
    return [PAGE]
