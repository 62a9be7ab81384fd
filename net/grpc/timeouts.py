"""The field ``grpc-timeout``: at most eight digits and a unit."""

from __future__ import annotations

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_S = 10**8 - 1


def parse(text: bytes) -> float:
    """Return seconds.

    Raises:
        ValueError: it is no timeout.
    """
    digits, unit = text[:-1], text[-1:].decode("latin-1")
    if unit not in _UNITS or not digits.isdigit() or len(digits) > 8:
        raise ValueError(f"malformed grpc-timeout {text!r}")
    return int(digits) * _UNITS[unit]


def format_s(seconds: float) -> bytes:
    """Return the field's value, rounded up, in the finest unit that has room for it."""
    if seconds <= 0:
        return b"1n"
    seconds = min(seconds, _MOST_S)
    for unit in "num":
        count = -int(-seconds // _UNITS[unit])
        if count < 10**8:
            return b"%d%s" % (max(count, 1), unit.encode())
    return b"%dS" % min(int(seconds) + 1, _MOST_S)
