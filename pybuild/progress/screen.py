"""Text for a terminal, no wider than it is."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """Columns that *text*, free of control characters, takes [Unicode annex 11]."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fit(text: str, columns: int) -> str:
    """Cut *text* so that it takes at most *columns*, and say so with an ellipsis."""
    if width(text) <= columns:
        return text
    kept = 0
    room = columns - 1
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…" if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """Fill *text* up with blanks to *columns*."""
    return text + " " * (columns - width(text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
