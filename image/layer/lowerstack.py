"""Looks paths up in a stack of deltas without mounting it, by overlayfs' rules [IMG-13]."""

from __future__ import annotations

import os
import stat

from pybuild.image.layer import overlayfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class LowerStack:
    """The merged view of delta directories; paths are relative and their links not followed.

    Attributes:
        top: the directories that make up the root, the uppermost first.
    """

    def __init__(self, directories: Sequence[str], *, userxattr: bool) -> None:
        """Args:
        directories: base first.
        """
        self.top = [os.fsencode(path) for path in reversed(directories)]
        self._own = overlayfs.namespace(userxattr)
        self._noted = bool(directories) and overlayfs.is_overlay(directories[0])

    def find(self, path: bytes) -> bytes | None:
        """Return the place of the entry at *path*; the top one, for a directory."""
        here = self.top
        place: bytes | None = here[0] if here else None
        for part in path.split(b"/") if path else ():
            here, place = self._child(here, part)
            if place is None:
                return None
        return place

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in the merged directory at *path*, sorted; none where that is none."""
        here = self.top
        for part in path.split(b"/") if path else ():
            here, _ = self._child(here, part)
        return sorted(self.children(here))

    def children(self, here: list[bytes]) -> dict[bytes, tuple[list[bytes], bytes]]:
        """Return the entries of the directory that is made up of the directories *here*, by name.

        Each is the directories that make it up, the uppermost first, and its place.
        """
        names = {name for directory in here for name in os.listdir(directory)}
        entries = {name: self._child(here, name) for name in names}
        return {name: (merged, at) for name, (merged, at) in entries.items() if at is not None}

    def _child(self, here: list[bytes], name: bytes) -> tuple[list[bytes], bytes | None]:
        merged: list[bytes] = []
        for directory in here:
            path = directory + b"/" + name
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                if merged or overlayfs.is_whiteout(status, name=path, noted=self._noted):
                    break
                return [], path
            merged.append(path)
            if overlayfs.is_opaque(path, self._own, noted=self._noted):
                break
        return merged, merged[0] if merged else None
