"""The values of plain YAML, as people and tools write it into specifications: maps, lists and text.

A reader of blocks, quoted and plain scalars, and flow lists and maps on one line. Every scalar is text,
but for ``null``. Anchors, tags, several documents and folded text are refused: an honest error is better than a
wrong device. Python has no reader of its own, and nothing else here needs one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

Value = str | list["Value"] | dict[str, "Value"] | None

_KEY = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'\[\]{},&*!|>%@`#-][^#]*?|-[^\s#][^#]*?)\s*:(?:\s+|$)"""
)
_FLOW = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\[\]{},]|:(?=[\s\[{"'])|[^\[\]{},:\s](?:[^\[\]{},:]|:(?!\s))*)"""
)
_MARK = ("&", "*", "!", "|", ">", "%", "@", "`")
_MOST_DEEP = 50


class _Line(NamedTuple):
    number: int
    indent: int
    text: str

    def wrong(self, why: str) -> ValueError:
        return ValueError(f"line {self.number}: {why}: {self.text[:60]}")


def read_yaml(text: str) -> Value:
    """Return the value of a document.

    Raises:
        ValueError: it is none, or no plain one.
    """
    reader = _Reader(list(_lines(text)))
    value = reader.block(0) if reader.lines else None
    if reader.lines:
        raise reader.lines[0].wrong("not where a value can be")
    return value


def _lines(text: str) -> Iterator[_Line]:
    begun = False
    for number, line in enumerate(text.splitlines(), 1):
        rest = _uncommented(line).rstrip()
        if rest == "---" and not begun:
            begun = True
            continue
        if not rest.strip():
            continue
        begun = True
        stripped = rest.lstrip(" ")
        made = _Line(number, len(rest) - len(stripped), stripped)
        if stripped.startswith("\t"):
            raise made.wrong("a tab cannot indent")
        if rest in ("---", "..."):
            raise made.wrong("one document is read, and no more")
        yield made


def _uncommented(line: str) -> str:
    """Return *line* without its comment: one begins at a ``#`` after a space, outside of quotes."""
    quote = ""
    skip = False
    for at, char in enumerate(line):
        if skip:
            skip = False
        elif quote:
            skip = char == "\\" and quote == '"'
            quote = "" if char == quote else quote
        elif char in "\"'" and (at == 0 or line[at - 1] in " [{,:"):
            quote = char
        elif char == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at]
    return line


class _Reader:
    """Takes lines from the front of *lines*."""

    def __init__(self, lines: list[_Line]) -> None:
        self.lines = lines[::1]

    def block(self, deep: int) -> Value:
        """The value that begins with the next line, of all lines that are indented as it is."""
        first = self.lines[0]
        if deep > _MOST_DEEP:
            raise first.wrong("too deep")
        if _is_item(first.text):
            return self._list(first.indent, deep)
        if _KEY.match(first.text):
            return self._map(first.indent, deep)
        return _scalar(self.lines.pop(0))

    def _list(self, indent: int, deep: int) -> Value:
        items: list[Value] = []
        while self.lines and self.lines[0].indent == indent and _is_item(self.lines[0].text):
            line = self.lines.pop(0)
            rest = line.text[1:].lstrip()
            if rest:
                begin = line.indent + len(line.text) - len(rest)
                self.lines.insert(0, _Line(line.number, begin, rest))
                items.append(self.block(deep + 1))
            else:
                items.append(self._below(indent, deep))
        self._ends(indent)
        return items

    def _map(self, indent: int, deep: int) -> Value:
        members: dict[str, Value] = {}
        while self.lines and self.lines[0].indent == indent:
            line = self.lines[0]
            match = _KEY.match(line.text)
            if match is None:
                raise line.wrong("no key")
            self.lines.pop(0)
            key = _text(match[1], line)
            if key in members:
                raise line.wrong("twice")
            rest = line.text[match.end() :]
            if rest:
                members[key] = _scalar(line._replace(text=rest))
            elif self.lines and self.lines[0].indent == indent and _is_item(self.lines[0].text):
                members[key] = self._list(indent, deep + 1)
            else:
                members[key] = self._below(indent, deep)
        self._ends(indent)
        return members

    def _below(self, indent: int, deep: int) -> Value:
        if self.lines and self.lines[0].indent > indent:
            return self.block(deep + 1)
        return None

    def _ends(self, indent: int) -> None:
        if self.lines and self.lines[0].indent > indent:
            raise self.lines[0].wrong("indented more than what it belongs to")


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _scalar(line: _Line) -> Value:
    """The value that is written on one line."""
    if line.text[0] in "[{":
        tokens = _tokens(line)
        value = _flow(tokens, line, 0)
        if tokens:
            raise line.wrong("more than a value")
        return value
    if line.text[0] in "\"'" or not (": " in line.text or line.text.endswith(":")):
        return _null(line.text, line)
    raise line.wrong("a second key")


def _tokens(line: _Line) -> list[str]:
    """The words of a flow value, the first one last."""
    tokens: list[str] = []
    at = 0
    while at < len(line.text):
        match = _FLOW.match(line.text, at)
        if match is None:
            raise line.wrong("no value")
        tokens.append(match[1].rstrip())
        at = match.end()
        if not line.text[at:].strip():
            break
    return tokens[::-1]


def _flow(tokens: list[str], line: _Line, deep: int) -> Value:
    token = tokens.pop() if tokens else ""
    if token not in ("[", "{"):
        if token in ("", "]", "}", ",", ":"):
            raise line.wrong("no value, or one that does not end on its line")
        return _null(token, line)
    if deep > _MOST_DEEP:
        raise line.wrong("too deep")
    items: list[Value] = []
    members: dict[str, Value] = {}
    end = "]" if token == "[" else "}"
    while tokens and tokens[-1] != end:
        if token == "[":
            items.append(_flow(tokens, line, deep + 1))
        else:
            key = _text(tokens.pop(), line)
            if not tokens or tokens.pop() != ":":
                raise line.wrong("no value")
            members[key] = _flow(tokens, line, deep + 1)
        if tokens and tokens[-1] == ",":
            tokens.pop()
        elif tokens and tokens[-1] != end:
            raise line.wrong("no comma")
    if not tokens:
        raise line.wrong("does not end on its line")
    tokens.pop()
    return items if token == "[" else members


def _null(text: str, line: _Line) -> Value:
    return None if text in ("~", "null", "Null", "NULL") else _text(text, line)


def _text(text: str, line: _Line) -> str:
    """The text that a scalar stands for."""
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise line.wrong("cannot be read") from error
        if isinstance(value, str):
            return value
    if text.startswith("'"):
        if len(text) < 2 or not text.endswith("'") or "'" in text[1:-1].replace("''", ""):
            raise line.wrong("cannot be read")
        return text[1:-1].replace("''", "'")
    if text.startswith(_MARK):
        raise line.wrong("only plain YAML is read")
    return text
