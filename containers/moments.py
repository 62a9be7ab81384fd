"""Times as people and clients write them: RFC 3339, seconds since the epoch, or so long ago. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from pybuild.frontend.syntax.healthchecks import parse_duration
from pybuild.model.errors import UsageError, UserError

_SECOND_NS = 1_000_000_000


def read_moment(text: str, now: int) -> int | None:
    """Return a time in nanoseconds since the epoch; None for none.

    Args:
        now: what a duration counts back from, in nanoseconds, too.

    Raises:
        UsageError: it is no time.
    """
    if not text or text == "0":
        return None
    try:
        if re.fullmatch(r"\d+(\.\d{1,9})?", text):
            seconds, _, rest = text.partition(".")
            return int(seconds) * _SECOND_NS + int(f"{rest:0<9}")
        if re.match(r"\d{4}-", text):
            return _of_date(text)
        return now - parse_duration(text)
    except (ValueError, OverflowError, UserError) as error:
        raise UsageError(
            f'invalid time "{text}": expected 2026-01-31T12:00:00, 1700000000 or 10m'
        ) from error


def _of_date(text: str) -> int:
    """Return the time of a date, to the nanosecond, which Python's own does not keep."""
    match = re.fullmatch(r"(.*:\d\d)\.(\d{1,9})(.*)", text)
    whole, part = (match[1] + match[3], match[2]) if match else (text, "")
    given = datetime.fromisoformat(whole)
    given = given if given.tzinfo else given.astimezone()
    return int(given.timestamp()) * _SECOND_NS + int(f"{part:0<9}")
