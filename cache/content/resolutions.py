"""Resolutions: the digest that each image reference was last resolved to, one small file each.

Kept apart from the records because the fully cached path reads them and must not open a database.
A resolution holds until ``--pull`` or ``pybuild pull`` asks the registry again [FROM-18].
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import Any

from pybuild.cache.disk.plainfile import plain
from pybuild.model.descriptor import Descriptor
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

MOST = 10_000
_SOMETIMES = ("00",)  # of the digests in names: one of 256


class Resolutions:
    """``<root>/refs/<digest of reference and platform>``."""

    def __init__(self, root: str) -> None:
        self._dir = os.path.join(root, "refs")

    def path(self, reference: Reference, platform: Platform) -> str:
        """The file that holds this resolution, whether it exists or not."""
        name = hashlib.sha256(f"{reference}|{platform}".encode()).hexdigest()
        return os.path.join(self._dir, name)

    def get(self, reference: Reference, platform: Platform) -> Descriptor | None:
        """The manifest that was found, or None when never asked, or the file is damaged."""
        try:
            with open(self.path(reference, platform), "rb", opener=plain) as file:
                value: Any = json.load(file)
            return Descriptor.from_json(value["manifest"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, reference: Reference, platform: Platform, manifest: Descriptor) -> None:
        """Remember, atomically; losing it costs one question to the registry, so no fsync."""
        import tempfile

        with suppress(FileExistsError):
            os.makedirs(self._dir, 0o700)
        value = {
            "reference": str(reference),
            "platform": str(platform),
            "manifest": manifest.to_json(),
        }
        fd, temporary = tempfile.mkstemp(dir=self._dir, prefix=".tmp-")
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(value, file)
            path = self.path(reference, platform)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        if os.path.basename(path).startswith(_SOMETIMES):
            self._thin_out()

    def _thin_out(self) -> None:
        """Forget the oldest where there are too many: a registry of a client's own has as many as it likes."""
        ages: list[tuple[int, str]] = []
        with os.scandir(self._dir) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # others thin out, too
                    ages.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(ages)[: max(0, len(ages) - MOST)]:
            with suppress(FileNotFoundError):
                os.unlink(path)
