"""Comments above an instruction that are about its step: ``# pybuild: keep=/report.xml max-age=7d``. Pure.

Other builders read a comment, and nothing more.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

MARK = "pybuild:"
MAX_AGE = "max-age"
PROBE = "probe"


def mentions(lines: Sequence[str], name: str) -> bool:
    """Return whether a comment may say something of that name; most files have none."""
    return any(MARK in line and name in line for line in lines)


def notes_above(lines: Sequence[str], line: int) -> dict[str, list[str]]:
    """Return the words for us, ``pybuild: name=value``, in the comments directly above *line* (from 1)."""
    first = end = min(max(line - 1, 0), len(lines))
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    notes: dict[str, list[str]] = {}
    for at in range(first, end):
        mark, *words = lines[at].strip().lstrip("#").split() or [""]
        for name, is_said, value in (word.partition("=") for word in words):
            if mark == MARK and is_said:
                notes.setdefault(name, []).append(value)
    return notes


def kept_paths(lines: Sequence[str], line: int, cwd: str) -> list[str]:
    """Return the paths that the comments above a RUN want kept, absolute and in their order."""
    values = notes_above(lines, line).get("keep", [])
    paths = (path for value in values for path in value.split(",") if path)
    return [posixpath.normpath(posixpath.join("/", cwd, path)) for path in paths]
