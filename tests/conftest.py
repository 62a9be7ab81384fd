"""Options and fixtures of all tests."""

from __future__ import annotations

import functools
import gc
import os
import re
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import skips
from tests.ownnetwork import enter_own_network, machines_network

# The same examples in each run; a loaded machine is no failure.
settings.register_profile("pybuild", database=None, deadline=None, derandomize=True)
settings.load_profile("pybuild")

# A shell's background job ignores Ctrl-C, one under nohup a hangup: and so would every program that a
# test means to stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SLOW_MODULE = re.compile(r"^pytestmark = (?:\[[^\]]*\b)?pytest\.mark\.slow\b", re.MULTILINE)
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what comes out into tests/golden, then read the diff",
    )
    parser.addoption(
        "--part", default="1/1", metavar="K/N", help="run only every Nth file, from the Kth on"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what other parts have, and of a fast run modules that are slow as a whole: they are not imported."""
    if not collection_path.match("test_*.py"):
        return None
    if not _is_of_part(collection_path, config):
        return True
    if config.getoption("markexpr") != "not slow":
        return None
    return True if SLOW_MODULE.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the tests of a process in a network of their own: no bridge, rule or port of theirs is anybody else's."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("numprocesses", 0):
        return  # its workers do
    if os.geteuid() == 0 and "PYBUILD_TESTS_NETWORK" not in os.environ:
        enter_own_network()


def _is_of_part(path: Path, config: pytest.Config) -> bool:
    first, count = map(int, str(config.getoption("part")).split("/"))
    return count == 1 or _numbers()[path] % count == first - 1


@functools.cache
def _numbers() -> dict[Path, int]:
    """Return the place of each test file among all of them."""
    return {path: at for at, path in enumerate(sorted(Path(__file__).parent.rglob("test_*.py")))}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect ten thousand tests without looking for garbage meanwhile, and never look at them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: quick ones fill the end, where a long one would run alone."""
    # Files that were named are collected whatever the part.
    items[:] = [item for item in items if _is_of_part(item.path, config)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    # The last ones, of stress and security, are the longest.
    items.sort(key=lambda item: -place[item.path] if item.path in slow else place[item.path] + 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run what asks servers elsewhere in the machine's network, with all of its fixtures."""
    if item.get_closest_marker("network") is None:
        return (yield)
    with machines_network():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.geteuid() != 0 and item.get_closest_marker("root"):
        pytest.skip("needs root")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[-1]) for report in skipped]  # after file and line
    if lines := skips.summary(reasons):
        terminalreporter.section(f"{len(reasons)} skipped: why")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file, or write that file with ``--update-golden``."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no {path.name} for {path.parent.name}: run with --update-golden"
        assert text == path.read_text(encoding="utf-8")

    return check
