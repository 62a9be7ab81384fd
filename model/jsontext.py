"""JSON of strangers, whose texts must be text."""

from __future__ import annotations

import json


def loads(data: bytes) -> object:
    """Read a JSON value.

    JSON can write half of a surrogate pair (``"\\ud800"``), which no encoding can: whoever prints such
    a value later fails far from here, so it is refused.

    Raises:
        ValueError: not JSON, or half of a pair in it. RecursionError: nested too deeply.
    """
    value: object = json.loads(data)
    if b"\\ud" in data or b"\\uD" in data:
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value
