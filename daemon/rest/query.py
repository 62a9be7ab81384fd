"""The parameters of a request's query [ENG-16, ENG-18]. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.jsontext import is_object, loads
from pybuild.model.platform import Platform

_UNKNOWN = "unknown operating system or architecture"
_NO = frozenset(("", "0", "no", "false", "none"))


def read_value(text: str) -> Any:
    """Return the value of a parameter that is JSON; None: it is none, or no text can hold what is in it."""
    try:
        return loads(text.encode())
    except (ValueError, RecursionError):
        return None


class Query:
    """The parameters, each as often as it was given."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str, otherwise: str = "") -> str:
        """Return the first value."""
        return self._values.get(name, [otherwise])[0]

    def texts(self, name: str) -> list[str]:
        return list(self._values.get(name, []))

    def has(self, name: str) -> bool:
        return name in self._values

    def flag(self, name: str, otherwise: bool = False) -> bool:
        """Return a switch: nothing, 0, no, false and none are off."""
        if name not in self._values:
            return otherwise
        return self.text(name).strip().lower() not in _NO

    def number(self, name: str, otherwise: int = 0) -> int:
        """Return a whole number.

        Raises:
            ApiRefusal: it is none.
        """
        text = self.text(name)
        if not text:
            return otherwise
        if not re.fullmatch(r"[+-]?\d{1,18}", text):
            raise ApiRefusal(400, f'invalid value for {name}: "{text[:100]}" is no number')
        return int(text)

    def platform(self) -> Platform | None:
        """Return the platform that is named; None: there is none.

        Raises:
            ApiRefusal: there is no such platform, in docker's words.
        """
        text = self.text("platform")
        try:
            return Platform.parse(text) if text else None
        except ValueError as error:
            why = str(error)
            if _UNKNOWN in why:
                why = f'"{text[:100]}": {_UNKNOWN}: invalid argument'
            raise ApiRefusal(400, why) from error

    def filters(self) -> list[str]:
        """Return the filters as ``key=value`` texts.

        Raises:
            ApiRefusal: they are written in neither of the two ways [ENG-16].
        """
        text = self.text("filters")
        if not text:
            return []
        value = read_value(text)
        if not is_object(value):
            raise ApiRefusal(400, "invalid filter")
        texts: list[str] = []
        for key, given in value.items():
            if is_object(given) and all(isinstance(one, bool) for one in given.values()):
                texts += [f"{key}={name}" for name, is_meant in given.items() if is_meant]
            elif isinstance(given, list) and all(isinstance(one, str) for one in given):  # pyright: ignore[reportUnknownVariableType]
                texts += [f"{key}={name}" for name in given]  # pyright: ignore[reportUnknownVariableType]
            else:
                raise ApiRefusal(400, "invalid filter")
        return texts
