"""Hints about text that is no Dockerfile: what people write, and what they meant.

Asked when an error is worded, never before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")
_GOES_ON = re.compile(r"(?:&&|\|\|?|;|,)\s*\Z")
_MERGE = re.compile(r"(?:<{7}|={7}|>{7})")
_UNKNOWN = re.compile(r"unknown instruction: (.*?)( \(did you mean .*\?\))?\Z", re.DOTALL)
_SMART = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
UNCLOSED = "unterminated heredoc"
_MOST = 200  # characters of a line that a hint shows


def is_utf16(lines: Sequence[str]) -> bool:
    return bool(lines) and lines[0].startswith(_UTF_16)


def advice(message: str, lines: Sequence[str], first: int, last: int) -> tuple[str, ...]:
    """Return hints for a fault in the lines *first* to *last*, 1-based."""
    text = lines[first - 1].strip() if 0 < first <= len(lines) else ""
    if unknown := _UNKNOWN.match(message):
        return _unknown(unknown[1], lines, first) if unknown[2] is None else ()
    if "find = in" in message:
        straight = text.translate(_SMART)
        if straight != text:
            return (f"write straight quotes: {straight[:_MOST]}",)
        return ('write no blanks around =, and quotes around a value that has some: A="b c"',)
    if message == UNCLOSED:
        return _unclosed(text, lines, first)
    if message.startswith("FROM requires"):
        words = text.split()
        if len(words) == 3 and words[2].lower() == "as":
            return (f"name the stage: FROM {words[1]} AS NAME",)
        if len(words) == 3:
            return (f"a tag stands behind a colon: FROM {words[1]}:{words[2]}",)
        if len(words) > 4 and words[2].lower() == "as":
            return (f"a stage's name is one word: AS {'-'.join(words[3:])}",)
    if message.startswith("invalid escape token"):
        return ("write # escape=\\ or # escape=`, or take the line out",)
    if message.startswith("invalid network mode"):
        return ("it is one of default, none, host",)
    if "must have two arguments" in message and len(text.split()) == 2:
        return (f"give it a value: {text[:_MOST]}=value",)
    if "to be in JSON form" in message and len(text) < _MOST:
        keyword, *words = text.split()
        quoted = ", ".join(f'"{word}"' for word in words)
        return (f"write {keyword} [{quoted}]",)
    if "requires at least two arguments" in message and len(text.split()) == 2:
        return (f"say where to: {text[:_MOST]} ./",)
    return ()


def _unknown(word: str, lines: Sequence[str], first: int) -> tuple[str, ...]:
    if _MERGE.match(word):
        return ("a merge was not finished here: keep one side, and take the marks out",)
    if word.startswith("```"):
        return ("take the fences of Markdown out",)
    if word.endswith(":") and first == 1:
        return ("this looks like YAML: name the Dockerfile with -f",)
    above = first - 1
    while above > 0 and not lines[above - 1].strip():
        above -= 1
    if not above:
        return ("a Dockerfile begins with FROM image",)
    before = lines[above - 1].rstrip()
    starts_inside = lines[first - 1][:1].isspace() or word.startswith("-") or word.islower()
    if _GOES_ON.search(before) or starts_inside:
        return (f"if line {above} goes on here, end it with \\",)
    return ()


def _unclosed(text: str, lines: Sequence[str], first: int) -> tuple[str, ...]:
    opened = re.search(r"<<(-?)([\"']?)([\w.]+)\2", text)
    if opened is None:
        return ()
    dash, _, word = opened.groups()
    for number in range(first + 1, len(lines) + 1):
        line = lines[number - 1].rstrip("\r\n")
        if line.strip() == word:
            allowed = "tabs alone may stand before it" if dash else "nothing else may stand there"
            return (f"{word} ends it only at the start of a line, {allowed}: see line {number}",)
    return (f"end it with a line that is {word} and nothing else",)
