"""Amounts as people read them."""

from __future__ import annotations


def human_bytes(count: float) -> str:
    """``512B``, ``3.42kB``, ``29.13MB``: powers of 1000, as docker prints them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}B" if unit == "B" else f"{count:.2f}{unit}"
        count /= 1000
    return f"{count:.2f}TB"
