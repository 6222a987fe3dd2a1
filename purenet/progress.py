"""A progress bar: tqdm on a terminal where it is installed, plain lines otherwise."""

import sys
import time

_EVERY = 2.0  # seconds between two plain lines


class Progress:
    """Shows how far a loop is, with a few named values; writes to standard error only.

    `show` None means: only on a terminal. Plain lines appear every two seconds at most, and for
    the last advance. The total may change on the way.

    >>> with Progress(3, "epoch", show=False) as bar:
    ...     bar.advance(2, {"loss": "0.5"})
    >>> bar.done, bar.total
    (2, 3)
    """

    def __init__(self, total: int, unit: str, show: bool | None = None, done: int = 0):
        terminal = sys.stderr.isatty()
        self.total, self.unit = total, unit
        self.done, self.begun = done, done
        self.started, self.printed = time.perf_counter(), 0.0
        self.lines = bool(terminal if show is None else show)
        self.bar = None
        if self.lines and terminal:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                pass
            else:
                self.bar = tqdm(total=total, initial=done, unit=f" {unit}", dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def advance(self, n: int, values: dict[str, str], total: int | None = None) -> None:
        """So many more are done; the values are shown beside the bar."""
        self.done += n
        self.total = max(self.done, self.total if total is None else total)
        text = ", ".join(f"{name} {value}" for name, value in values.items())
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(n)
        elif self.lines:
            now = time.perf_counter()
            ended = self.done >= self.total and (n > 0 or self.printed == 0.0)
            if ended or now - self.printed >= _EVERY:
                self.printed = now
                print(f"{self._standing(now - self.started)}, {text}", file=sys.stderr, flush=True)

    def _standing(self, seconds: float) -> str:
        rate = (self.done - self.begun) / max(seconds, 1e-9)
        ahead = self.total - self.done
        pace = f", {rate:.3g} {self.unit}s/s" if rate else ""
        left = f", {ahead / rate:.0f} s left" if ahead and rate else ""
        return f"{self.unit} {self.done}/{self.total}, {seconds:.1f} s{pace}{left}"
