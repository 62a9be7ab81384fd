"""Points in time between seconds since the epoch and how the protocol writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from pybuild.buildkit.pb.wellknown import Timestamp

_NANO = 1_000_000_000
# From the year 1 to 9999: the range of a Timestamp, and of other readers.
_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800


def timestamp(seconds: float) -> Timestamp:
    """Return *seconds* since the epoch as a message, to the microsecond that a float can hold."""
    return timestamp_ns(round(seconds * 1_000_000) * 1000)


def timestamp_ns(nanoseconds: int) -> Timestamp:
    """Return *nanoseconds* since the epoch as a message; what lies outside the years 1 to 9999
    becomes the nearest time inside them."""
    seconds, nanos = divmod(nanoseconds, _NANO)
    if seconds < _FIRST_S:
        seconds, nanos = _FIRST_S, 0
    elif seconds >= _END_S:
        seconds, nanos = _END_S - 1, _NANO - 1
    return Timestamp(seconds=seconds, nanos=nanos)


def seconds_of(message: Timestamp) -> float:
    """Return the seconds since the epoch; a field that is absent reads as 0."""
    return message.seconds + message.nanos / _NANO


def rfc3339(nanoseconds: int) -> str:
    """Return the time in UTC with all nine digits, as ``buildkit-current-timestamp`` has it."""
    seconds, nanos = divmod(nanoseconds, _NANO)
    moment = datetime.fromtimestamp(min(max(seconds, _FIRST_S), _END_S - 1), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
