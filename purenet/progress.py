"""A progress bar: tqdm on a terminal where it is installed, plain lines otherwise."""

import sys
import time

_EVERY = 2.0  # seconds between two plain lines


class Progress:
    """Shows how far a loop is, with a few named values; writes to standard error only.

    `show` None means: only on a terminal. Plain lines appear every two seconds at most, and for
    the last advance.
    """

    def __init__(self, total: int, unit: str, show: bool | None = None):
        terminal = sys.stderr.isatty()
        self.total, self.unit = total, unit
        self.done, self.started, self.printed = 0, time.perf_counter(), 0.0
        self.lines = bool(terminal if show is None else show)
        self.bar = None
        if self.lines and terminal:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                pass
            else:
                self.bar = tqdm(total=total, unit=unit, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def advance(self, n: int, values: dict[str, str]):
        self.done += n
        text = ", ".join(f"{name} {value}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(n)
        elif self.lines:
            now = time.perf_counter()
            if self.done >= self.total or now - self.printed >= _EVERY:
                self.printed = now
                seconds = now - self.started
                print(
                    f"{self.unit} {self.done}/{self.total}, {seconds:.1f} s, {text}",
                    file=sys.stderr,
                    flush=True,
                )
