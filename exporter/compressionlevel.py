"""The compression level of layers, as attributes of outputs and caches give it [OUT-10]."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.errors import UsageError

_LEVELS = {"estargz": 9, "gzip": 9, "zstd": 22}


def compression_level(attrs: Mapping[str, str], subject: str) -> int | None:
    """Return the level of ``compression-level``; None leaves it to us.

    Raises:
        UsageError: the compression has no such level.
    """
    text = attrs.get("compression-level")
    if not text:
        return None
    most = _LEVELS.get(attrs.get("compression", "gzip"))
    if not text.isdecimal() or len(text) > 9 or (most is not None and int(text) > most):
        expected = "a number" if most is None else f"0 to {most}"
        raise UsageError(f'{subject} attribute compression-level="{text}": expected {expected}')
    return int(text)
