"""Signals as people write them: a number, or a name with or without ``SIG``."""

from __future__ import annotations

import re
import signal

from pybuild.model.errors import UsageError

_REAL_TIME = re.compile(r"RTM(IN|AX)(?:([+-])(\d{1,2}))?\Z")


def signal_number(text: str) -> int:
    """Return the number of a signal [CTR-31].

    Raises:
        UsageError: there is no such signal.
    """
    if text.isdecimal() and len(text) < 4 and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    try:
        return int(signal.Signals["SIG" + name])
    except KeyError:
        pass
    if known := _REAL_TIME.match(name):
        first = signal.SIGRTMIN if known[1] == "IN" else signal.SIGRTMAX
        number = int(first) + int(f"{known[2] or ''}{known[3] or 0}")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    raise UsageError(f"invalid signal: {text}")
