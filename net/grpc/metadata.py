"""Metadata of a call: its header fields without those of HTTP/2 and gRPC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from pybuild.net.grpc.status import from_base64, to_base64

_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_RESERVED = frozenset((b"te", b"content-type", b"user-agent", b"content-length"))


class Metadata:
    """An ordered multi-map; names in lower case; values are bytes where names end in ``-bin``."""

    __slots__ = ("_items",)

    def __init__(
        self, items: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = ()
    ) -> None:
        self._items: list[tuple[str, str | bytes]] = []
        pairs = items
        if isinstance(items, Mapping):
            pairs = cast("Mapping[str, str | bytes]", items).items()
        for name, value in cast("Iterable[tuple[str, str | bytes]]", pairs):
            self.add(name, value)

    def add(self, name: str, value: str | bytes) -> None:
        """Add one pair.

        Raises:
            ValueError: a name or a value that cannot be sent.
        """
        name = name.lower()
        if _NAME.fullmatch(name) is None or name.startswith("grpc-"):
            raise ValueError(f"metadata cannot be named {name!r}")
        if name.endswith("-bin"):
            if isinstance(value, str):
                raise ValueError(f"metadata {name!r} takes bytes")
        elif isinstance(value, bytes) or _TEXT.fullmatch(value) is None:
            raise ValueError(f"metadata {name!r} cannot have the value {value!r}")
        self._items.append((name, value))

    def get(self, name: str) -> str | None:
        """Return the first value of that name; of bytes use `get_binary`."""
        return next(iter(self.get_all(name)), None)

    def get_all(self, name: str) -> list[str]:
        """Return all values of that name, in order."""
        name = name.lower()
        return [value for key, value in self._items if key == name and isinstance(value, str)]

    def get_binary(self, name: str) -> list[bytes]:
        """Return all values of a name that ends in ``-bin``, in order."""
        name = name.lower()
        return [value for key, value in self._items if key == name and isinstance(value, bytes)]

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Metadata({self._items!r})"

    def to_fields(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields."""
        return [
            (name.encode(), to_base64(value) if isinstance(value, bytes) else value.encode())
            for name, value in self._items
        ]

    @classmethod
    def from_fields(cls, fields: Iterable[tuple[bytes, bytes]]) -> Metadata:
        """Keep what belongs to the application; several binary values may share a field.

        Raises:
            ValueError: a binary value is not base64.
        """
        metadata = cls()
        for name, value in fields:
            if name[:1] == b":" or name[:5] == b"grpc-" or name in _RESERVED:
                continue
            key = name.decode("ascii")
            if key.endswith("-bin"):
                for part in value.split(b","):
                    metadata._items.append((key, from_base64(part.strip())))
            else:
                metadata._items.append((key, value.decode("utf-8", "replace")))
        return metadata
