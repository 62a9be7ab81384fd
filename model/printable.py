"""Names as terminals may see them: files, ids and commands are whatever somebody wrote."""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """Return *text* with what does not print escaped, so that no two texts look alike by it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(os.fsencode(char))[2:-1] for char in text)
