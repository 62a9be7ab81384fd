"""Reading JSON that anybody may have written: wrong shapes become empty ones, never errors."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse(text: str | bytes) -> Any:
    """Return the value; None if *text* is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_object(value: object) -> bool:
    """Return whether *value* is an object."""
    return isinstance(value, dict)


def as_object(value: object) -> dict[str, Any]:
    """Return *value* if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def as_list(value: object) -> list[Any]:
    """Return *value* if it is an array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def as_number(value: object, otherwise: float = 0.0) -> float:
    """Return *value* if it is a finite number, else *otherwise*."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return float(value) if -1e300 < value < 1e300 else otherwise
