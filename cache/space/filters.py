"""Filters as people write them to choose records [CMD-4, GC-2]."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pybuild.cache.space.usage import TYPES, UsageRecord
from pybuild.model import regex
from pybuild.model.amounts import parse_duration
from pybuild.model.errors import UsageError

Predicate = Callable[[UsageRecord], bool]

_FILTER = re.compile(r"([a-z-]+)(?:(==|=|!=|~=)(.*))?\Z", re.DOTALL)
_FLAGS: dict[str, Predicate] = {
    "inuse": lambda record: record.in_use,
    "mutable": lambda record: record.mutable,
    "immutable": lambda record: not record.mutable,
    "shared": lambda record: record.shared,
    "private": lambda record: not record.shared,
}
_TEXTS: dict[str, Callable[[UsageRecord], Sequence[str]]] = {
    "id": lambda record: (record.id, shown_id(record.id)),  # the second is what `du` lists
    "type": lambda record: (record.type,),
    "description": lambda record: (record.description,),
    "parents": lambda record: record.parents,
}


def shown_id(id: str) -> str:
    """Return an id as lists show it."""
    return id.removeprefix("sha256:").removeprefix("sha256-")[:25]


def parse_filters(
    texts: Sequence[str], now: float, *, by_others: bool = False
) -> tuple[Predicate, bool]:
    """Return a predicate of the records that every filter picks, and whether one names internals.

    Known: ``until=<duration or time>``, ``id``, ``type``, ``description``, ``parents`` with ``=``,
    ``!=`` or ``~=`` (a regular expression), and the bare ``inuse``, ``mutable``, ``immutable``,
    ``shared``, ``private``.

    Args:
        by_others: they come from a client, whose regular expressions must end.

    Raises:
        UsageError: an unknown filter or a wrong value.
    """
    search = _search_in_bounds if by_others else _search
    chosen = [_parse(part, now, search) for text in texts for part in _split(text)]
    internal = any(re.match(r"type==?(?:internal|frontend)\Z", text) for text in texts)
    return lambda record: all(predicate(record) for predicate in chosen), internal


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _search(value: str, text: str) -> Callable[[str], bool]:
    """Return a test of whether a text has *value*, a pattern, in it."""
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise UsageError(f'invalid filter "{text}": {error}') from error
    return lambda attribute: pattern.search(attribute) is not None


def _search_in_bounds(value: str, text: str) -> Callable[[str], bool]:
    """As `_search`, in a time that grows with the text alone, whatever the pattern."""
    where = f'filter "{text}"'
    regex.search(value, "", where)
    return lambda attribute: regex.search(value, attribute, where)


def _parse(text: str, now: float, search: Callable[[str, str], Callable[[str], bool]]) -> Predicate:
    match = _FILTER.match(text)
    if not match:
        raise UsageError(f'invalid filter "{text}"')
    name, operator, value = match[1], match[2], match[3] or ""
    if name in ("until", "unused-for") and operator in ("=", "=="):
        before = parse_moment(value, now)
        return lambda record: record.last_used <= before
    if name in _FLAGS:
        return _flag(text, _FLAGS[name], operator, value)
    if name not in _TEXTS or operator is None:
        known = ", ".join(sorted({"until", *_FLAGS, *_TEXTS}))
        raise UsageError(f'unknown filter "{text}"', hints=(f"known: {known}",))
    if name == "type" and operator != "~=" and value not in TYPES:
        known = ", ".join(sorted(TYPES))
        raise UsageError(f'unknown record type "{value}"', hints=(f"known: {known}",))
    texts = _TEXTS[name]
    if operator == "~=":
        is_in = search(value, text)
        return lambda record: any(map(is_in, texts(record)))
    if operator == "!=":
        return lambda record: value not in texts(record)
    return lambda record: value in texts(record)


def _flag(text: str, flag: Predicate, operator: str | None, value: str) -> Predicate:
    expected = {"": True, "true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if expected is None or operator not in (None, "=", "==", "!="):
        raise UsageError(f'invalid filter "{text}": "{value}" is neither true nor false')
    if operator == "!=":
        expected = not expected
    return lambda record: flag(record) is expected


def parse_moment(value: str, now: float) -> float:
    """Return the moment that ``until=`` says: a time, or a duration before *now*.

    Raises:
        UsageError: neither.
    """
    if "T" in value or value.count("-") == 2:
        from datetime import UTC, datetime

        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise UsageError(f'invalid time "{value}"') from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    return now - parse_duration(value)
