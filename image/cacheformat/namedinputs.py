"""Named inputs of a result, as caches carry them: one short text beside its key.

It explains misses and decides nothing, so it may be missing: it is left out where it would be long,
first the lists of files, then all of it. Whoever reads it trusts nothing of it but its size.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from pybuild.model.named import Listing, NamedInputs

MAX_TEXT = 96 << 10
MAX_TOTAL = 4 << 20
"""Of one document; a cache of twenty steps has some 20 kB."""
_MAX_INFLATED = 2 << 20


def pack(inputs: NamedInputs) -> str:
    """Return it as text; equal inputs give equal text, empty where it would be too long."""
    listings = {digest: [*inputs.listings[digest]] for digest in sorted(inputs.listings)}
    for carried in (listings, {}):
        data = json.dumps(
            {"parts": inputs.parts, "listings": carried}, sort_keys=True, separators=(",", ":")
        ).encode()
        if len(data) <= _MAX_INFLATED:
            text = base64.b64encode(zlib.compress(data, 9)).decode()
            if len(text) <= MAX_TEXT:
                return text
    return ""


def unpack(text: str) -> NamedInputs | None:
    """Return the inputs that `pack` was given; None if *text* is not of its making."""
    if not 0 < len(text) <= MAX_TEXT:
        return None
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _MAX_INFLATED)
        document: dict[str, Any] = json.loads(data)
        parts: dict[str, Any] = dict(document["parts"])
        listings: dict[str, Listing] = {
            str(digest): tuple((str(path), str(look)) for path, look in entries)
            for digest, entries in document["listings"].items()
        }
        return NamedInputs(parts, listings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        return None


def within_bounds(texts: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return those of ``(key, text)``, dearest first, that fit one document together."""
    room, kept = MAX_TOTAL, dict[str, str]()
    for key, text in texts:
        if text and len(text) <= room:
            kept[key] = text
            room -= len(text)
    return kept
