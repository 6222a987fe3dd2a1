"""A progress bar: one line on a terminal or in a notebook, plain lines anywhere else."""

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

_REFRESH = 0.2  # seconds between two drawings of the bar
_EVERY, _RARELY = 2.0, 60.0  # seconds between two plain lines: at the start, and later
_SHARE = 0.1  # in between, the pause is this fraction of the elapsed time
_NARROW, _WIDE = 10, 30  # characters of the bar alone
_GAP = 2  # between the parts of the line


class Progress:
    """Progress of a loop, with a few named values, on standard error.

    `show` defaults to True if standard error is a terminal or in a notebook, whose file holds the
    last state of the bar alone. If it is neither and `show` is True, plain lines appear: every two
    seconds at first, every minute later, and at the end. There are no colours. The total may change
    during the loop.

    >>> with Progress(3, "epoch", show=False) as bar:
    ...     bar.advance(2, lambda: {"loss": "0.5"})
    >>> bar.done, bar.total
    (2, 3)
    """

    def __init__(self, total: int, unit: str, show: bool | None = None, done: int = 0):
        notebook = in_notebook()
        redrawn = sys.stderr.isatty() or notebook
        self.total, self.unit = total, unit
        self.done, self.printed = done, -float("inf")
        self.started, self.preparing = time.perf_counter(), False
        self.paced = done, 0.0  # the pace is measured from here: what was done then, and when
        self.shown = bool(redrawn if show is None else show)
        self.redrawn = self.shown and redrawn
        self.length = 0  # of the line on the screen
        self.replace = _notebook_line() if notebook and self.shown else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.length:
            print(file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Show what happens before the first advance, which the pace does not count."""
        self.preparing = True
        if self.redrawn:
            self._draw([text], self._seconds())
        elif self.shown:
            self._print([f"{self.unit} {self.done}/{self.total}", text])

    def advance(
        self, n: int, values: Callable[[], dict[str, str]], total: int | None = None
    ) -> None:
        """Count `n` more as done. `values` is called only when its result is shown."""
        self.done += n
        before, self.total = self.total, max(self.done, self.total if total is None else total)
        seconds = self._seconds()
        if self.preparing:
            self.paced, self.preparing = (self.done, seconds), False
        if not self.shown:
            return
        every = _REFRESH if self.redrawn else min(max(_EVERY, _SHARE * seconds), _RARELY)
        first = self.printed < 0
        changed = n > 0 or first or self.total != before
        ended = self.done >= self.total and (changed or self.redrawn)
        if not ended and seconds - max(self.printed, 0.0) < every and not (first and self.redrawn):
            return
        self.printed = seconds
        words = [f"{name} {value}" for name, value in values().items()]
        if self.redrawn:
            self._draw(words, seconds)
        else:
            self._print([*self._status(seconds), *words])

    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def _status(self, seconds: float) -> list[str]:
        parts = [f"{self.unit} {self.done}/{self.total}", f"{seconds:.1f} s"]
        done, began = self.paced
        rate = (self.done - done) / max(seconds - began, 1e-9)
        if rate:
            parts.append(f"{rate:.3g} {self.unit}s/s")
            if ahead := self.total - self.done:
                parts.append(f"{ahead / rate:.0f} s left")
        return parts

    def _print(self, words: Sequence[str]) -> None:
        print(", ".join(words), file=sys.stderr, flush=True)

    def _draw(self, words: Sequence[str], seconds: float) -> None:
        _, elapsed, *pace = self._status(seconds)
        left = pace[1:] or [elapsed]
        line = bar_line(self.done, self.total, [*words[:1], *left, *words[1:], *pace[:1]], _width())
        if self.replace is not None:
            self.replace(line)
            return
        print(f"\r{line.ljust(self.length)}", end="", file=sys.stderr, flush=True)
        self.length = len(line)


def bar_line(done: int, total: int, words: Sequence[str], width: int) -> str:
    """A bar of at least ten characters, the counts, and as many items as fit in `width`.

    Words come in order of importance; the first is shortened if even it does not fit.

    >>> bar_line(3, 4, ["best val loss 0.5", "7 s left", "alive 2/2"], 50)
    ' 75% ████████░░░  3/4  best val loss 0.5, 7 s left'
    """
    share = done / total if total else 1.0
    percent, counts = f"{100 * share:3.0f}% ", f"  {done}/{total}"
    room = width - len(percent) - _NARROW - len(counts) - _GAP
    text = ""
    for word in words:
        longer = f"{text}, {word}" if text else word
        if len(longer) <= room:
            text = longer
        elif not text:
            text = _shortened(word, room)
    wide = min(_WIDE, _NARROW + room - len(text))
    full = int(share * wide)
    solid, empty = ("█", "░") if _can_encode("█░…") else ("#", "-")
    text = text if _can_encode(text) else text.replace("…", ".")
    bar = solid * full + empty * (wide - full)
    return f"{percent}{bar}{counts}{' ' * _GAP}{text}".rstrip()[: max(width, 1)]


def _shortened(word: str, room: int) -> str:
    """best val accuracy 0.9867 (trial 12): best 0.9867 (trial 12), best 0.9867, 0.9867."""
    first, *rest = word.split()
    number = next((i for i, part in enumerate(rest) if part[0] in "-.0123456789"), None)
    if number is not None:
        rest = rest[number:]
        for text in (f"{first} {' '.join(rest)}", f"{first} {rest[0]}", rest[0]):
            if len(text) <= room:
                return text
    return f"{word[: room - 1]}…" if room > 1 else ""


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, whose output can be redrawn like a terminal's.

    >>> in_notebook()
    False
    """
    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found is not None and hasattr(found, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def _notebook_line() -> Callable[[str], None]:
    """A function that shows a line in a notebook, in place of the one that it showed before."""
    display = importlib.import_module("IPython.display").display
    handle: Any = None

    def show(line: str) -> None:
        nonlocal handle
        if handle is None:
            handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            handle.update({"text/plain": line}, raw=True)

    return show


def _width() -> int:
    """The width of a line. The last column stays free, because some terminals wrap there."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = shutil.get_terminal_size().columns
    return (columns or 80) - 1


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
