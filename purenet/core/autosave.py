"""When to save a long run again."""

import time

SHARE = 0.05  # at most this fraction of the time is spent on saving


class Autosave:
    """A save is due when it would take less than SHARE of the time since the last one began.

    Two saves are at least `every` seconds apart; the first is due after that time too.

    >>> saves = Autosave(every=60.0)
    >>> saves.is_due()
    False
    """

    def __init__(self, every: float = 0.0):
        self.every = every
        self.due = time.perf_counter() + every

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.perf_counter() >= self.due

    def saved(self, began: float) -> None:
        """Record that a save, begun at that `time.perf_counter()`, has just ended."""
        ended = time.perf_counter()
        self.due = ended + max(self.every, (ended - began) / SHARE)
