"""When a long run is due to be saved again."""

import time

SHARE = 0.05  # of the time, at most, is spent on saving


class Autosave:
    """A save is due when less than SHARE of the time since the last one began would go into it.

    Two saves are at least `every` seconds apart, and the first is due after as long.

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
        """A save that began then, by `time.perf_counter`, has just ended."""
        ended = time.perf_counter()
        self.due = ended + max(self.every, (ended - began) / SHARE)
