"""Values as JSON and back, by the types that their classes state: what crosses between machines.

Both sides are ours, but the other one may be broken, of another version or in wrong hands. So nothing is
made that was not asked for: whoever reads says of which type the value is, a class is one that the
reader's own types name, and everything that does not fit is refused.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from pybuild.model.digest import Digest, canonical_json

T = TypeVar("T")

_TYPE = "is"  # no field has that name
_MOST_DEPTH = 32


class Unreadable(ValueError):
    """A message is not what it should be."""


def write(value: object) -> bytes:
    """Return *value* as canonical JSON."""
    return canonical_json(_encode(value))


def read(kind: type[T], data: bytes) -> T:
    """Return the value of the class *kind* that *data* is.

    Raises:
        Unreadable: it is none.
    """
    try:
        value = json.loads(data.decode("utf-8", "surrogateescape"))  # as `canonical_json` writes it
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {error}") from None
    return cast("T", _decode(kind, value, 0))


def _encode(value: Any) -> Any:
    kind: type[Any] = value.__class__
    if names := names_of(kind):
        return {name: _encode(getattr(value, name)) for name in names}
    match value:
        case Enum():
            return value.value
        case bool() | int() | float() | str() | None:
            return value
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return {str(name): _encode(one) for name, one in value.items()}  # pyright: ignore
        case _ if is_dataclass(value):
            out: dict[str, Any] = {_TYPE: type(value).__name__}
            for field in fields(value):
                item = getattr(value, field.name)
                if field.default is MISSING or item != field.default:
                    out[field.name] = _encode(item)
            return out
        case tuple() | list():
            return [_encode(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            raise TypeError(f"{type(value).__name__} does not cross between machines")


def _decode(kind: Any, value: Any, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        raise Unreadable("nested too deep")
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), value, depth)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, depth)
    if origin is not None and issubclass(origin, Mapping):
        _, of = typing.get_args(kind)
        return {name: _decode(of, one, depth + 1) for name, one in _fields_of(value).items()}
    if _is_made(kind):
        return _made(kind, value, depth)
    return _plain(kind, value)


def _is_made(kind: Any) -> bool:
    return is_dataclass(kind) or bool(names_of(kind))


def _plain(kind: Any, value: Any) -> Any:
    if kind is type(None):
        fits = value is None
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind in (str, bool):
        fits = isinstance(value, kind)
    else:
        return _from_text(kind, value)
    if not fits:
        raise Unreadable(f"expected {kind.__name__}, got {type(value).__name__}")
    return float(value) if kind is float else value


def _from_text(kind: Any, value: Any) -> Any:
    if not isinstance(value, str):
        raise Unreadable(f"expected a text, got {type(value).__name__}")
    try:
        if kind is bytes:
            return base64.b64decode(value, validate=True)
        if kind is Digest:
            return Digest.parse(value)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(value)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    raise TypeError(f"{kind} does not cross between machines")


def _one_of(kinds: tuple[Any, ...], value: Any, depth: int) -> Any:
    """Return the value of that one of *kinds* which it names, or else of the first that it fits."""
    if isinstance(value, dict) and _TYPE in value:
        name = cast("dict[str, Any]", value)[_TYPE]
        for kind in kinds:
            if getattr(kind, "__name__", "") == name:
                return _decode(kind, value, depth)
        raise Unreadable(f"unexpected {name!r}")
    for kind in kinds:
        try:
            return _decode(kind, value, depth + 1)
        except Unreadable:
            continue
    raise Unreadable(f"it fits none of {len(kinds)} types")


def _tuple(kinds: tuple[Any, ...], value: Any, depth: int) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise Unreadable("expected a list")
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], item, depth + 1) for item in items)
    if len(items) != len(kinds):
        raise Unreadable(f"expected {len(kinds)} values, got {len(items)}")
    return tuple(_decode(kind, item, depth + 1) for kind, item in zip(kinds, items, strict=True))


def _made(kind: type[Any], value: Any, depth: int) -> Any:
    given = dict(_fields_of(value))
    if given.pop(_TYPE, kind.__name__) != kind.__name__:
        raise Unreadable(f"expected {kind.__name__}")
    hints = _hints(kind)
    unknown = given.keys() - hints.keys()
    if unknown:
        raise Unreadable(f"{kind.__name__} has no {min(unknown)!r}")
    values = {name: _decode(hints[name], one, depth + 1) for name, one in given.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{kind.__name__}: {error}") from None
    except Exception as error:
        raise Unreadable(f"{kind.__name__} refuses it: {error}") from error


def _fields_of(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"expected an object, got {type(value).__name__}")
    return cast("dict[str, Any]", value)


_KNOWN: dict[type[Any], dict[str, Any]] = {}


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a class's fields, which are looked up once."""
    known = _KNOWN.get(kind)
    if known is None:
        hints = typing.get_type_hints(kind)
        names = [f.name for f in fields(kind)] if is_dataclass(kind) else names_of(kind)
        known = _KNOWN[kind] = {name: hints[name] for name in names}
    return known


def names_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a class of named tuples; none of any other."""
    names: tuple[str, ...] = getattr(kind, "_fields", ())
    return names
