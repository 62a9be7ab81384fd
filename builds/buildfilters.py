"""The filters of ``pybuild history ls``, as docker's history has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime

from pybuild.builds.buildrecord import BuildRecord
from pybuild.model.amounts import parse_duration
from pybuild.model.errors import UsageError

Matches = Callable[[BuildRecord], bool]

_FILTER = re.compile(r"(\w+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_TEXTS: dict[str, Callable[[BuildRecord], str]] = {
    "ref": lambda record: record.ref or record.id,
    "repository": lambda record: record.attrs.get("vcs:source", record.context),
    "status": lambda record: record.status,
}
_NUMBERS: dict[str, Callable[[BuildRecord], float]] = {
    "startedAt": lambda record: record.at,
    "completedAt": lambda record: 0.0 if record.seconds is None else record.at + record.seconds,
    "duration": lambda record: record.seconds or 0.0,
}
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def parse_build_filters(texts: Iterable[str], now: float) -> Matches:
    """Return whether a build matches all of *texts*.

    Raises:
        UsageError: one is no filter.
    """
    filters = [_parsed(text, now) for text in texts]
    return lambda record: all(matches(record) for matches in filters)


def _parsed(text: str, now: float) -> Matches:
    match = _FILTER.fullmatch(text)
    key, sign, value = match.groups() if match else (text, "", "")
    if key in _TEXTS and sign in ("=", "!="):
        field, is_whole = _TEXTS[key], key == "status"
        if sign == "!=":
            return lambda record: field(record) != value
        return lambda record: field(record) == value if is_whole else value in field(record)
    if key in _NUMBERS and sign in _COMPARED:
        number, compare = _NUMBERS[key], _COMPARED[sign]
        bound = parse_duration(value) if key == "duration" else _moment(value, now)
        return lambda record: compare(number(record), bound)
    if key in _TEXTS or key in _NUMBERS:
        signs = "= or !=" if key in _TEXTS else "<, <=, > or >="
        raise UsageError(f'invalid filter "{text}": {key} is compared by {signs}')
    known = ", ".join((*_TEXTS, *_NUMBERS))
    raise UsageError(f'invalid filter "{text}"', hints=[f"filters are about {known}"])


def _moment(text: str, now: float) -> float:
    """Read a time, or how long ago it was."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return now - parse_duration(text)
