"""Signals as people write them [CTR-31]."""

from __future__ import annotations

import signal

import pytest

from pybuild.containers.signals import signal_number
from pybuild.model.errors import UsageError

LAST = int(signal.SIGRTMAX)
FIRST = int(signal.SIGRTMIN)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9), ("1", 1), ("64", 64), ("KILL", 9), ("SIGKILL", 9), ("kill", 9), ("sigTerm", 15),
        ("RTMIN", FIRST), ("SIGRTMIN+3", FIRST + 3), ("rtmax-2", LAST - 2), ("RTMAX", LAST),
        ("RTMIN+0", FIRST), (f"RTMIN+{LAST - FIRST}", LAST), (f"RTMAX-{LAST - FIRST}", FIRST),
    ],
)  # fmt: skip
def test_a_signal_is_a_number_or_a_name(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "65", "-1", "0009", "DFL", "_DFL", "SIG_IGN", "NOPE", "KILL ", "RTMIN+x",
        "RTMIN*3", "RTMIN-1", f"RTMIN+{LAST - FIRST + 1}", "RTMAX+1", "RTMAX-99", "RTMIN+003",
    ],
)  # fmt: skip
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=f"^invalid signal: {text}$".replace("+", "[+]").replace("*", "[*]")
    ):
        signal_number(text)
