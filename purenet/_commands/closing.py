"""What `purenet sweep` prints at the end: the best trials, and what was written where."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from purenet.sweep.results.result import Result
from purenet.sweep.results.trials import STATUSES

PAGE = "report.html"
_SHOWN = 20
_WIDTH = 80


def print_best(result: Result) -> None:
    """Print the best trials, a line each; on a narrow terminal, broken between two words."""
    for rank, best in enumerate(result.best(_SHOWN), 1):
        line = f"Best-{rank} {best}"
        print(wrapped(line) if sys.stdout.isatty() else line)


def closing(result: Result, folder: Path, written: Sequence[str]) -> str:
    """How many trials were trained, what they are ranked by, and which files show more."""
    statuses = [str(status) for status in result.status]
    early = [f"{n} {s}" for s in STATUSES[1:] if (n := statuses.count(s))]
    of = f"{len(result) // result.runs} points x {result.runs} runs" if result.runs > 1 else ""
    notes = ", ".join(filter(None, [of, *early]))
    which = "best" if result.outcomes.objective.best else "last"
    trained = f"{len(result)} trials{f' ({notes})' if notes else ''}"
    cost = f"{result.epochs.sum()} trial-epochs in {result.seconds:.1f} s"
    shown = [f"{name} (open it in a browser)" if name == PAGE else name for name in written]
    files = ", ".join(sorted(shown, key=lambda text: not text.startswith(PAGE)))
    return "\n".join([
        wrapped(f"{trained}, {cost}, ranked by their {which} epoch"),
        wrapped(f"{folder}: {files}, and what --resume and purenet.sweep.load read"),
    ])  # fmt: skip


def wrapped(text: str) -> str:
    """A text in lines of at most 80 columns, or of the terminal's width if that is less.

    >>> wrapped("word " * 20).splitlines()[1]
    '    word word word word'
    """
    width = min(_WIDTH, shutil.get_terminal_size().columns or _WIDTH)
    return textwrap.fill(
        text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
