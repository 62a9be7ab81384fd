"""Parser directives at the top of the file: ``# syntax=``, ``# escape=``, ``# check=`` [DIR]."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pybuild.frontend.syntax.ast import Directives
from pybuild.frontend.syntax.lines import SyntaxFault
from pybuild.frontend.syntax.physical import shown
from pybuild.frontend.words.gotext import SPACE

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)", re.DOTALL)
_KNOWN = ("syntax", "escape", "check")


def parse_directives(lines: Sequence[str]) -> tuple[Directives, int]:
    """Return the directives and how many lines they take [DIR-2].

    ``syntax`` and ``check`` are also found behind a ``#!`` line, ``syntax`` in other disguises too
    [DIR-5]; such lines are not counted, they are comments to the language.

    Raises:
        SyntaxFault: a directive is repeated or the escape token is no such.
    """
    values, count = _scan(lines, "#")
    escape = values.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise SyntaxFault(f"invalid escape token '{escape}' does not match ` or \\", count, count)
    lenient = values
    if lines and lines[0].startswith("#!"):
        lenient = _scan_quietly(lines[1:], "#")
    syntax = lenient.get("syntax") or _in_slashes(lines)
    return Directives(syntax=syntax, escape=escape, check=lenient.get("check")), count


def syntax_of(lines: Sequence[str]) -> str | None:
    """Return the value of ``syntax`` of a file in whatever language [DIR-5]."""
    named = _scan_quietly(_behind_shebang(lines), "#").get("syntax") or _in_slashes(lines)
    return named or _in_json(_behind_shebang(lines))


def _in_slashes(lines: Sequence[str]) -> str | None:
    return _scan_quietly(_behind_shebang(lines), "//").get("syntax")


def _in_json(lines: Sequence[str]) -> str | None:
    """Return the value of the key ``syntax`` of the object that a file begins with."""
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("{"):
        return None
    try:
        value: Any = json.JSONDecoder().raw_decode("".join(lines).lstrip())[0]
    except (ValueError, RecursionError):
        return None
    syntax: Any = value.get("syntax")
    return syntax if isinstance(syntax, str) and syntax else None


def _behind_shebang(lines: Sequence[str]) -> Sequence[str]:
    return lines[1:] if lines and lines[0].startswith("#!") else lines


def _scan(lines: Sequence[str], prefix: str) -> tuple[dict[str, str], int]:
    values: dict[str, str] = {}
    for count, line in enumerate(lines):
        text = line.strip(SPACE)
        if not text.startswith(prefix):
            return values, count
        match = _DIRECTIVE.fullmatch(text[len(prefix) :].lstrip(SPACE))
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN:
            return values, count
        if name in values:
            raise SyntaxFault(f"only one {name} parser directive can be used", count + 1, count + 1)
        values[name] = shown(match[2])
    return values, len(lines)


def _scan_quietly(lines: Sequence[str], prefix: str) -> dict[str, str]:
    try:
        return _scan(lines, prefix)[0]
    except SyntaxFault:
        return {}
