"""Descriptors of the tests' own process, which has others open too, and may close these at any moment."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress


@contextmanager
def none_left_open() -> Generator[None]:
    """Fail where the block ends with something open that was not when it began."""
    before = _open_now()
    yield
    assert {
        number: what for number, what in _open_now().items() if before.get(number) != what
    } == {}


def _open_now() -> dict[str, str]:
    found: dict[str, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found
