"""The last builds, one small JSON file each in ``<root>/builds/``; what is in it is its writer's.

Written whole or not at all; another process may remove what we are about to read.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress

from pybuild.cache.disk.atomic import discard, faults, write_file
from pybuild.cache.disk.plainfile import plain
from pybuild.model.jsontext import as_object, is_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from pybuild.cache.store import Store

MAX_BUILDS = 100
_MAX_BYTES = 16 << 20
# When it began in milliseconds, so that names sort by time, and what people call it.
_NAME = re.compile(r"[0-9a-f]{11}-[0-9a-f]{8}\Z")


class Builds:
    """The builds that one store remembers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folder = os.path.join(store.root, "builds")

    @staticmethod
    def new_id() -> str:
        """Return a name for a new build."""
        return os.urandom(4).hex()

    def put(self, id: str, at: float, value: Mapping[str, Any]) -> None:
        """Keep a build that began at *at*, and forget those that are too many.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        store = self.store
        name = f"{int(at * 1000) & 0xFFF_FFFF_FFFF:011x}-{id}"
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        with faults("cannot write it", store.root):
            with suppress(FileExistsError):
                store.disk.mkdir(self._folder, 0o700)
            path = os.path.join(self._folder, name)
            write_file(store.disk, store.scratch("build"), path, data, 0o600, flush=False)
        for old in self._names()[:-MAX_BUILDS]:
            discard(os.path.join(self._folder, old))

    def latest(self) -> Iterator[dict[str, Any]]:
        """Yield the builds, the latest first; what is broken is passed over."""
        for name in reversed(self._names()):
            value = self._read(name)
            if value is not None:
                yield value

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if _NAME.match(name))
        except OSError:
            return []

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with open(os.path.join(self._folder, name), "rb", opener=plain) as file:
                value = parse(file.read(_MAX_BYTES))
        except OSError:
            return None
        return as_object(value) if is_object(value) else None
