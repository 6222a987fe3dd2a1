"""Ctrl-C and the signals of schedulers, at a moment when nothing is lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

# Ctrl-C, what schedulers send before they kill, and the end of a terminal; not all systems have all
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def until_interrupted() -> Iterator["InterruptFlag"]:
    """The first signal only raises a flag, so that a block can end well; a second one acts at once.

    Once nothing can be lost, `flag.deliver()` lets the signal do what it would have done; the end
    of the block does so at the latest. A signal that is ignored, as `nohup` has it, stays so. In
    other threads than the main one, which alone may handle signals, nothing happens.
    """
    flag = InterruptFlag()
    if threading.current_thread() is threading.main_thread():
        flag.watch()
    try:
        yield flag
    finally:
        flag.end()


class InterruptFlag:
    """Whether a signal came, and which."""

    def __init__(self):
        self.raised = False
        self._signal: int | None = None
        self._before: dict = {}  # the handlers that were there

    def __bool__(self):
        return self.raised

    def watch(self) -> None:
        """Take the signals over from whoever handled them."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            # None: a handler that does not belong to Python, which could not be put back
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self._raise)

    def unwatch(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def deliver(self) -> None:
        """Let the signal that came do what it would have done, and watch on if that returns."""
        if self._signal is not None:
            self.end()
            self.watch()

    def end(self) -> None:
        """Watch no longer, and let a signal that came do what it would have done; whatever handles
        Ctrl-C, that ends by KeyboardInterrupt."""
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
