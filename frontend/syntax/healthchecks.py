"""The numbers of HEALTHCHECK [HC-2]."""

from __future__ import annotations

import re

from pybuild.frontend.words.gotext import quote
from pybuild.model.errors import UserError

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)", re.ASCII)
_MAX_NS = 2**63 - 1


def interval_ns(name: str, text: str | None) -> int:
    """Return the nanoseconds of ``--<name>=<text>``; 0, the default, when absent or zero.

    Raises:
        UserError: no duration, or one below a millisecond.
    """
    if not text:
        return 0
    value = parse_duration(text)
    if value and value < 1_000_000:
        raise UserError(f'Interval "{name}" cannot be less than 1ms')
    return value


def parse_duration(text: str) -> int:
    """Return nanoseconds for Go's ``1h2m3.5s``; only zero may lack its unit."""
    body = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if body == "0":
        return 0
    from decimal import Decimal

    total = Decimal(0)
    at = 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None or len(part[1]) > 64:
            break
        if not part[2]:
            raise UserError(f"time: missing unit in duration {quote(text)}")
        if part[2] not in _UNITS_NS:
            raise UserError(f"time: unknown unit {quote(part[2])} in duration {quote(text)}")
        total += Decimal(part[1]) * _UNITS_NS[part[2]]
        at = part.end()
    if at < len(body) or not body or total > _MAX_NS:
        raise UserError(f"time: invalid duration {quote(text)}")
    return -int(total) if text.startswith("-") else int(total)


def retries(text: str | None) -> int:
    """Return the count of ``--retries``, 0 when absent."""
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,10}", text, re.ASCII) or abs(int(text)) >= 2**31:
        raise UserError(f"--retries is not a number that fits: {quote(text)}")
    if int(text) < 0:
        raise UserError(f"--retries cannot be negative ({int(text)})")
    return int(text)
