"""``$BUILDKIT_COLORS``: the colours of progress, as people choose them for buildx."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_NAMED = {
    prefix + name: f"\x1b[{code}m"
    for prefix, first in (("", 30), ("light-", 90))
    for code, name in enumerate(_NAMES, first)
}


def chosen(text: str, roles: Mapping[str, str], colour: str) -> str:
    """Return the colour that *text* puts in the place of *colour*: ``run=green:error=255,0,0``.

    Args:
        roles: the usual colours by the names that *text* has for them; the first that fits counts.

    What is no colour there leaves the usual one.
    """
    for item in text.split(":"):
        name, _, value = item.partition("=")
        if roles.get(name) != colour:
            continue
        parts = value.split(",")
        if len(parts) == 3 and all(p.isdecimal() and int(p[:4]) < 256 for p in parts):
            return f"\x1b[38;2;{';'.join(str(int(p)) for p in parts)}m"
        return _NAMED.get(value.lower(), colour)
    return colour
