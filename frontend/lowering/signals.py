"""STOPSIGNAL: which signals Linux has [SIG-1]."""

from __future__ import annotations

import re

from pybuild.model.errors import UserError

_NAMES = frozenset(
    ("ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO")
    + ("IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS")
    + ("TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU")
    + ("XFSZ", "RTMIN", "RTMAX")
)
_REAL_TIME = frozenset([f"RTMIN+{n}" for n in range(1, 16)] + [f"RTMAX-{n}" for n in range(1, 15)])
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}\Z", re.ASCII)


def check_signal(text: str) -> None:
    """Accept a number, or a name with or without ``SIG``, in any case.

    Raises:
        UserError: it is neither.
    """
    name = text.upper().removeprefix("SIG")
    known = name in _NAMES or name in _REAL_TIME
    if not known and not (_NUMBER.match(text) and int(text) != 0):
        raise UserError(f"invalid signal: {text}")
