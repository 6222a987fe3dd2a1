"""Ctrl-C at a moment when nothing is lost."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def until_interrupted() -> Iterator["Flag"]:
    """The first Ctrl-C only raises a flag, so that a block can end well; the second interrupts."""
    flag = Flag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def raise_flag(number, frame):
        flag.raised = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, raise_flag)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class Flag:
    raised = False

    def __bool__(self):
        return self.raised
