"""Functions of times. They are in UTC unless a text says otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pybuild.bake.hcl.functions.builtin import Builtin
from pybuild.bake.hcl.values import Value, ValueProblem, to_text, to_whole

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_VERBS = re.compile(
    r"'(?:[^']|'')*'|YYYY|YY|MMMM|MMM|MM|M|DD|D|EEEE|EEE|hh|h|HH|H|AA|aa|mm|m|ss|s|ZZZZZ|ZZZZ|ZZZ|Z|[A-Za-z]+|.",
    re.DOTALL,
)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _offset(at: datetime, colon: str) -> str:
    minutes = int((at.utcoffset() or timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"


_PARTS: dict[str, Callable[[datetime], str]] = {
    "YYYY": lambda at: f"{at.year:04d}",
    "YY": lambda at: f"{at.year % 100:02d}",
    "MMMM": lambda at: _MONTHS[at.month - 1],
    "MMM": lambda at: _MONTHS[at.month - 1][:3],
    "MM": lambda at: f"{at.month:02d}",
    "M": lambda at: str(at.month),
    "DD": lambda at: f"{at.day:02d}",
    "D": lambda at: str(at.day),
    "EEEE": lambda at: _DAYS[at.weekday()],
    "EEE": lambda at: _DAYS[at.weekday()][:3],
    "hh": lambda at: f"{at.hour:02d}",
    "h": lambda at: str(at.hour),
    "HH": lambda at: f"{(at.hour - 1) % 12 + 1:02d}",
    "H": lambda at: str((at.hour - 1) % 12 + 1),
    "AA": lambda at: "AM" if at.hour < 12 else "PM",
    "aa": lambda at: "am" if at.hour < 12 else "pm",
    "mm": lambda at: f"{at.minute:02d}",
    "m": lambda at: str(at.minute),
    "ss": lambda at: f"{at.second:02d}",
    "s": lambda at: str(at.second),
    "ZZZZZ": lambda at: _offset(at, ":"),
    "ZZZZ": lambda at: _offset(at, ""),
    "ZZZ": lambda at: "UTC" if not at.utcoffset() else _offset(at, ""),
    "Z": lambda at: "Z" if not at.utcoffset() else _offset(at, ":"),
}


def _time(text: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise ValueProblem(f'not a valid RFC3339 timestamp: "{text}"')
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueProblem(f'not a valid RFC3339 timestamp: "{text}": {error}') from error


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S") + _PARTS["Z"](at)


def _format_date(form: Value, time: Value) -> str:
    at = _time(to_text(time))

    def replace(match: re.Match[str]) -> str:
        verb = match[0]
        if verb.startswith("'") and len(verb) > 1:
            return verb[1:-1].replace("''", "'")
        if verb in _PARTS:
            return _PARTS[verb](at)
        if verb == "'" or verb[0].isalpha() and verb.isascii():
            raise ValueProblem(f'invalid date format verb "{verb}"')
        return verb

    return _VERBS.sub(replace, to_text(form))


def _from_unix(value: Value) -> datetime:
    try:
        return datetime.fromtimestamp(to_whole(value), UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueProblem(f"no such time: {error}") from error


def _format_timestamp(form: Value, time: Value) -> Value:
    if not isinstance(time, str):
        at = _from_unix(time)
        return str(int(at.timestamp())) if form == "X" else _format_date(form, _rfc3339(at))
    if form == "X":
        return str(int(_time(time).timestamp()))
    return _format_date(form, time)


def _time_add(time: Value, duration: Value) -> Value:
    text = to_text(duration)
    unsigned = text.lstrip("+-")
    matches = list(_DURATION.finditer(unsigned))
    if "".join(match[0] for match in matches) != unsigned or not (matches or unsigned == "0"):
        raise ValueProblem(f'invalid duration "{text}"', hints=["as in 1h30m, 10s or -1.5h"])
    seconds = sum(float(match[1]) * _SECONDS[match[2]] for match in matches)
    return _rfc3339(
        _time(to_text(time)) + timedelta(seconds=-seconds if text.startswith("-") else seconds)
    )


def _parts(value: Value) -> Value:
    at = _from_unix(value)
    year, week, _ = at.isocalendar()
    return {
        "year": at.year,
        "year_day": at.timetuple().tm_yday,
        "day": at.day,
        "month": at.month,
        "month_name": _MONTHS[at.month - 1],
        "weekday": at.isoweekday() % 7,
        "weekday_name": _DAYS[at.weekday()],
        "hour": at.hour,
        "minute": at.minute,
        "second": at.second,
        "rfc3339": _rfc3339(at),
        "iso_year": year,
        "iso_week": week,
    }


TIME_FUNCTIONS: dict[str, Builtin] = {
    "formatdate": Builtin(_format_date, 2, 2),
    "formattimestamp": Builtin(_format_timestamp, 2, 2),
    "timeadd": Builtin(_time_add, 2, 2),
    "unixtimestampparse": Builtin(_parts, 1, 1),
}
