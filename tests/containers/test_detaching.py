"""Keys that detach from a container [ENG-36]."""

from __future__ import annotations

import pytest

from pybuild.containers.detaching import DEFAULT, DetachKeys, parse_keys
from pybuild.model.errors import UsageError


def test_keys_are_read() -> None:
    assert parse_keys(DEFAULT) == b"\x10\x11"
    assert parse_keys("a,ctrl-@,ctrl-[,ctrl-_") == b"a\x00\x1b\x1f"


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p,ü"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid detach keys"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("pieces", "passed", "left"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10"], b"", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_the_sequence_is_held_back_until_it_is_broken(
    pieces: list[bytes], passed: bytes, left: bool
) -> None:
    keys = DetachKeys(parse_keys(DEFAULT))
    results = [keys.feed(piece) for piece in pieces]
    assert b"".join(data for data, _ in results) == passed
    assert results[-1][1] is left


def test_no_keys_hold_nothing_back() -> None:
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
