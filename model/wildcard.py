"""Wildcards of source policies: ``*`` is any text, and what it stood for can be written elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pybuild.model.errors import UserError

_GROUP = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


def groups(pattern: str, text: str) -> list[str] | None:
    """Return *text* and what each ``*`` of *pattern* stands for; None where they do not match.

    As for regular expressions the first one takes as much as it can. Time is bounded whatever the
    pattern: the pieces between are looked for from the end.

    Raises:
        UserError: two of them in a row.
    """
    if "**" in pattern:
        raise UserError(f'source policy: invalid wildcard "{pattern}": "**"')
    first, *pieces = pattern.split("*")
    if not pieces:
        return [text] if text == pattern else None
    if not text.startswith(first) or not text[len(first) :].endswith(pieces[-1]):
        return None
    end = len(text) - len(pieces.pop())
    groups: list[str] = []
    for piece in reversed(pieces):
        at = text.rfind(piece, len(first), end)
        if at < 0:
            return None
        groups.append(text[at + len(piece) : end])
        end = at
    groups.append(text[len(first) : end])
    return [text, *reversed(groups)]


def expand(template: str, groups: Sequence[str | None]) -> str:
    """Write ``$1``, ``${1}`` and ``$$`` of *template* as Go's regular expressions do."""

    def group(name: str) -> str | None:
        return groups[int(name[:9])] if name.isdecimal() and int(name[:9]) < len(groups) else None

    return expand_with(template, group)


def expand_with(template: str, group: Callable[[str], str | None]) -> str:
    """Do that with groups that may have names; what there is not is empty."""

    def text(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return "$" if name is None else group(name) or ""

    return _GROUP.sub(text, template)
