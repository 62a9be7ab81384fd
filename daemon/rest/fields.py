"""A JSON object of a client, field by field: names in any case, null is absent, other kinds are refused [ENG-18]."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.jsontext import as_list, is_object, loads

_MOST_BITS = 63
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""In no path, name, variable or argument can there be one."""
_PLACES = {
    "Expecting value": "value",
    "Expecting property name enclosed in double quotes": "object key string",
}
_KINDS: tuple[tuple[type, str], ...] = (
    *((str, "string"), (bool, "bool")),
    *((list, "array"), (dict, "object")),
)


def read_object(data: bytes) -> Fields:
    """Return the object that a body is; an empty one for no body.

    Raises:
        ApiRefusal: it is not JSON, or no object.
    """
    if not data.strip():
        return Fields({})
    try:
        value: Any = loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiRefusal(400, f"invalid JSON: {_syntax(error)}") from error
    if _NUL.search(data):
        raise ApiRefusal(400, "invalid JSON: a NUL character is in a text")
    if value is None:
        return Fields({})
    if not is_object(value):
        raise _misfit(value, "", "object")
    return Fields(value)


def _syntax(error: Exception) -> str:
    """Return the fault of a text that is no JSON, in the words of Go for what is seen most."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if error.msg == "Extra data":
        return "unexpected content after JSON"
    character = error.doc[error.pos : error.pos + 1]
    if not character or error.msg not in _PLACES:
        return str(error) if character else "unexpected EOF"
    return f"invalid character '{character}' looking for beginning of {_PLACES[error.msg]}"


class Fields:
    """The fields of an object; of a field that is not there, or null, there is a zero."""

    def __init__(self, members: Mapping[str, Any], place: str = "") -> None:
        self._members = {key.lower(): value for key, value in members.items() if value is not None}
        self._place = place

    def __bool__(self) -> bool:
        return bool(self._members)

    def has(self, name: str) -> bool:
        """Return whether the field is there, and not null."""
        return name.lower() in self._members

    def whole(self) -> dict[str, Any]:
        """Return all of it, the names in lower case."""
        return dict(self._members)

    def is_given(self, name: str) -> bool:
        """Return whether the field is there and is no zero: no empty list, map or text."""
        return bool(self._members.get(name.lower()))

    def text(self, name: str, otherwise: str = "") -> str:
        value = self._members.get(name.lower(), otherwise)
        if not isinstance(value, str):
            raise self._refused(name, value, "string")
        return value

    def number(self, name: str, otherwise: int = 0) -> int:
        value = self._members.get(name.lower(), otherwise)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value.bit_length() > _MOST_BITS:
            raise self._refused(name, value, "int64")
        return value

    def flag(self, name: str) -> bool:
        value = self._members.get(name.lower(), False)
        if not isinstance(value, bool):
            raise self._refused(name, value, "bool")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of texts, None where there is none; one text is a list of it [CTR-2]."""
        value: Any = self._members.get(name.lower())
        if value is None or isinstance(value, str):
            return None if value is None else (value,)
        texts = self._items(name, value, "[]string")
        if not all(isinstance(one, str) for one in texts):
            raise self._refused(name, value, "[]string")
        return tuple(texts)

    def numbers(self, name: str) -> list[int]:
        """Return a list of numbers."""
        value: Any = self._members.get(name.lower(), [])
        items = self._items(name, value, "[]int64")
        return [Fields({"n": one}, self._at(name)).number("n") for one in items]

    def part(self, name: str) -> Fields:
        value = self._members.get(name.lower(), {})
        if not is_object(value):
            raise self._refused(name, value, "object")
        return Fields(value, self._at(name))

    def parts(self, name: str) -> list[Fields]:
        """Return a list of objects; null in it is an empty one."""
        value: Any = self._members.get(name.lower(), [])
        known: list[Fields] = []
        for one in self._items(name, value, "array"):
            if one is not None and not is_object(one):
                raise self._refused(name, one, "object")
            known.append(Fields(one or {}, self._at(name)))
        return known

    def members(self, name: str) -> dict[str, Any]:
        """Return a map as it is, its keys as they are written."""
        value: Any = self._members.get(name.lower(), {})
        if not is_object(value):
            raise self._refused(name, value, "map")
        return dict(value)

    def pairs(self, name: str) -> dict[str, str]:
        """Return a map of texts; null is an empty text."""
        pairs = self.members(name)
        for value in pairs.values():
            if value is not None and not isinstance(value, str):
                raise self._refused(name, value, "string")
        return {key: value or "" for key, value in pairs.items()}

    def maps(self, name: str) -> dict[str, Fields]:
        """Return a map of objects; null is an empty one."""
        known: dict[str, Fields] = {}
        for key, value in self.members(name).items():
            if value is not None and not is_object(value):
                raise self._refused(name, value, "object")
            known[key] = Fields(value or {}, self._at(name))
        return known

    def _items(self, name: str, value: Any, kind: str) -> list[Any]:
        items = as_list(value)
        if not items and value != []:
            raise self._refused(name, value, kind)
        return items

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def _refused(self, name: str, value: Any, kind: str) -> ApiRefusal:
        return _misfit(value, self._at(name), kind)


def _misfit(value: Any, place: str, kind: str) -> ApiRefusal:
    given = next((word for type, word in _KINDS if isinstance(value, type)), "number")
    where = f" field {place}" if place else ""
    return ApiRefusal(
        400, f"invalid JSON: json: cannot unmarshal {given} into Go struct{where} of type {kind}"
    )
