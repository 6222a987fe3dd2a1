"""Ctrl-C and the signals of job schedulers, handled when nothing can be lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

# Ctrl-C, what job schedulers send before they kill, and the end of a terminal; not every system
# has all of them
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def until_interrupted() -> Iterator["InterruptFlag"]:
    """The first signal only sets a flag, so that the block can finish; a second acts at once.

    When nothing can be lost, `flag.deliver()` lets the signal take its usual effect; the end of the
    block does so at the latest. A signal that is ignored, as under `nohup`, stays ignored. Outside
    the main thread, the only one that may handle signals, nothing is changed.
    """
    flag = InterruptFlag()
    if threading.current_thread() is threading.main_thread():
        flag.watch()
    try:
        yield flag
    finally:
        flag.end()


class InterruptFlag:
    """Whether a signal arrived, and which one."""

    def __init__(self):
        self.raised = False
        self._signal: int | None = None
        self._before: dict = {}  # the previous handlers

    def __bool__(self):
        return self.raised

    def watch(self) -> None:
        """Replace the handlers of the signals."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            # None: a handler outside Python, which could not be restored
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self._raise)

    def unwatch(self) -> None:
        """Restore the handlers."""
        while self._before:
            signal.signal(*self._before.popitem())

    def deliver(self) -> None:
        """Let the signal take its usual effect, and keep watching if that returns."""
        if self._signal is not None:
            self.end()
            self.watch()

    def end(self) -> None:
        """Stop watching, and let a signal that arrived take its usual effect. Ctrl-C always ends in
        KeyboardInterrupt, whatever its handler does."""
        self.unwatch()
        number, self._signal, self.raised = self._signal, None, False
        if number is None:
            return
        sys.stderr.flush()
        signal.raise_signal(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    def _raise(self, number, frame):
        self.raised, self._signal = True, number
        self.unwatch()


class Interrupts(NamedTuple):
    """The flags of one run in several processes; in a single process they are one flag.

    >>> flag = InterruptFlag()
    >>> bool(Interrupts(flag, flag).agreed)
    False
    """

    requested: InterruptFlag  # a signal arrived in this process
    agreed: InterruptFlag  # it arrived in any process, and all of them know
