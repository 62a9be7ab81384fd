"""Reads single values of received ops; their bounds are decided here, once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pybuild.frontend.lowering import paths
from pybuild.model.errors import UserError

_MAX_ID = (1 << 32) - 2  # the last one means "leave it" to chown(2)
_SECOND_NS = 1_000_000_000


def text(value: str, what: str) -> str:
    """Return *value*, which the kernel or a program is going to be given.

    Raises:
        UserError: it has a NUL in it.
    """
    if "\0" in value:
        raise UserError(f"invalid definition: {what} has a NUL in it")
    return value


def texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    return tuple(text(value, what) for value in values)


def path(value: str, what: str) -> str:
    """Return *value* as an absolute, clean path; ``..`` cannot leave the root."""
    return paths.clean(text(value, what))


def mode(value: int, what: str) -> int:
    """Return permission bits."""
    if not 0 <= value <= 0o7777:
        raise UserError(f"invalid definition: {what} has the mode {value}")
    return value


def owner_id(value: int, what: str) -> int:
    if not 0 <= value <= _MAX_ID:
        raise UserError(f"invalid definition: {what} has the id {value}")
    return value


def moment(nanoseconds: int) -> tuple[int | None, int]:
    """Return a file time in seconds, and the nanoseconds beyond them; None for -1: it is not set."""
    return (None, 0) if nanoseconds == -1 else divmod(nanoseconds, _SECOND_NS)


def patterns(value: str, what: str) -> tuple[str, ...]:
    """Read a list of texts in JSON, as attributes of sources hold them."""
    if not value:
        return ()
    try:
        items: object = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"invalid definition: {what} is no JSON list") from error
    if items is None:
        return ()
    out: list[str] = []
    if not isinstance(items, list):
        raise UserError(f"invalid definition: {what} is no JSON list")
    for item in items:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(item, str):
            raise UserError(f"invalid definition: {what} is no list of texts")
        out.append(text(item, what))
    return tuple(out)


def boolean(value: str, what: str) -> bool:
    if value not in ("true", "false", ""):
        raise UserError(f'invalid definition: {what} is "{value}"')
    return value == "true"


def number(value: str, what: str, base: int = 10) -> int:
    """Read a non-negative number in ASCII digits."""
    if value.isascii() and value.isdigit() and len(value) <= 10:
        try:
            return int(value, base)
        except ValueError:
            pass
    raise UserError(f'invalid definition: {what} is "{value}"')
