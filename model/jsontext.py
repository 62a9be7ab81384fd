"""JSON that anybody may have written: texts that must be text, and shapes that may be wrong. Lean."""

from __future__ import annotations

from pybuild.model import lightjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def loads(data: bytes) -> object:
    """Read a JSON value.

    JSON can write half of a surrogate pair (``"\\ud800"``), which no encoding can: whoever prints such
    a value later fails far from here, so it is refused.

    Raises:
        ValueError: not JSON, or half of a pair in it. RecursionError: nested too deeply.
    """
    value: object = lightjson.loads(data)
    if b"\\ud" in data or b"\\uD" in data:
        lightjson.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def parse(text: str | bytes) -> Any:
    """Return the value; None if *text* is not JSON."""
    try:
        return lightjson.loads(text)
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
