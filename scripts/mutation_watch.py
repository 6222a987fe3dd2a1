"""Plugins of pytest for scripts/mutate: which test runs, which fails, which lines each executes."""

import collections
import os
import sys
from collections.abc import Callable, Iterator

import pytest


class Watch:
    """Runs the tests named by `order`; tells {"started": test} and {"failed": test}."""

    def __init__(self, tell: Callable[[dict], object], order: list[str] | None = None):
        self.tell, self.order = tell, order

    def pytest_collection_modifyitems(self, items):
        if self.order is not None:
            known = {item.nodeid: item for item in items}
            items[:] = [known[name] for name in self.order if name in known]

    def pytest_collectreport(self, report):
        if report.failed:
            self.tell({"failed": report.nodeid})

    def pytest_runtest_logstart(self, nodeid, location):
        self.tell({"started": nodeid})

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.tell({"failed": report.nodeid})


class Reach(Watch):
    """Runs every test; knows how long each took, and which lines below `package` it executed, those
    of its fixtures included."""

    def __init__(self, tell: Callable[[dict], object], package: str):
        super().__init__(tell)
        self.package = package
        self.lines: dict[str, set] = collections.defaultdict(set)
        self.seconds: collections.Counter = collections.Counter()
        self.fixtures: dict[str, list[str]] = {}
        self.owner = ""

    def pytest_runtest_logstart(self, nodeid, location):
        super().pytest_runtest_logstart(nodeid, location)
        self.owner = nodeid
        if "jax" in sys.modules:  # what was traced for another test would not be seen
            sys.modules["jax"].clear_caches()

    def pytest_runtest_setup(self, item):
        self.fixtures[item.nodeid] = [f"fixture {name}" for name in item.fixturenames]

    def pytest_runtest_logreport(self, report):
        super().pytest_runtest_logreport(report)
        self.seconds[report.nodeid] += report.duration
        if report.when == "teardown":
            self.owner = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef) -> Iterator[None]:
        before, self.owner = self.owner, f"fixture {fixturedef.argname}"
        yield
        self.owner = before

    def trace(self, frame, event, argument):
        name = frame.f_code.co_filename
        if not name.startswith(self.package):
            return None
        add = lambda frame: self.lines[self.owner].add((name, frame.f_lineno))

        def local(frame, event, argument):
            add(frame)
            return local

        add(frame)
        return local

    def reached(self) -> dict[str, list]:
        """For each test its seconds, and {file: lines}; test "" is what importing executes."""
        found = {}
        for test in ("", *self.fixtures):
            lines = self.lines[test].union(*(self.lines[f] for f in self.fixtures.get(test, ())))
            files = collections.defaultdict(list)
            for name, line in sorted(lines):
                files[os.path.relpath(name)].append(line)
            found[test] = [self.seconds[test], files]
        return found
