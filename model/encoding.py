"""The part of an op that counts in its digest, as JSON-able data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pybuild.model.digest import Digest

INLINE = "inline"
"""Marks a field whose value's own fields count as if they stood in its place."""


def encode_op(op: object) -> dict[str, Any]:
    """Return the part of *op* that counts as JSON-able data: type, then fields not at their default.

    Fields that get a default later leave older digests as they were.
    """
    encoded = _encode(op)
    assert isinstance(encoded, dict)
    return encoded  # pyright: ignore[reportUnknownVariableType]


def _encode(value: Any) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case bytes():
            return {"bytes": Digest.of(value), "size": len(value)}
        case tuple():
            return [_encode(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case Mapping():
            return {str(k): _encode(v) for k, v in value.items()}  # pyright: ignore
        case _ if is_dataclass(value):
            out: dict[str, Any] = {"type": type(value).__name__}
            for f in fields(value):
                item = getattr(value, f.name)
                if not f.compare or item == f.default:
                    continue
                if INLINE in f.metadata:
                    out |= {**_encode(item), "type": out["type"]}
                else:
                    out[f.name] = _encode(item)
            return out
        case _:
            raise TypeError(f"cannot encode {type(value).__name__}")
