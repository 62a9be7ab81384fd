"""Keeps credentials out of what is recorded for everybody to read."""

from __future__ import annotations

import re

_MASK = "xxxxx"
_USER = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)@")


def without_secrets(url: str) -> str:
    """Mask the user and password of a URL; the user of ssh is no secret."""

    def mask(found: re.Match[str]) -> str:
        scheme, user = found.groups()
        if ":" in user:
            return f"{scheme}://{_MASK}:{_MASK}@"
        return found[0] if scheme.lower() == "ssh" else f"{scheme}://{_MASK}@"

    return _USER.sub(mask, url, count=1)
