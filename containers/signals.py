"""Signals as people write them: a number, or a name with or without ``SIG``."""

from __future__ import annotations

from pybuild.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C part; signal.py imports enum


def signal_number(text: str) -> int:
    """Return the number of a signal [CTR-31].

    Raises:
        UsageError: there is no such signal.
    """
    if text.isdecimal() and len(text) < 4 and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    known = getattr(signal, "SIG" + name, None) if name.isalnum() else None
    if isinstance(known, int):
        return int(known)
    for base, first in (("RTMIN", signal.SIGRTMIN), ("RTMAX", signal.SIGRTMAX)):
        sign, digits = name[len(base) : len(base) + 1], name[len(base) + 1 :]
        if name.startswith(base) and sign in ("+", "-") and digits.isdecimal() and len(digits) < 3:
            number = int(first) + int(sign + digits)
            if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
                return number
    raise UsageError(f"invalid signal: {text}")
