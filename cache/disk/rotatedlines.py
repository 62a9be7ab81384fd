"""The lines of a file that goes round: read to the end of what is there, and again when there is more."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE_BYTES = 1 << 16


class RotatedLines:
    """A reader of the files *names*, the oldest first, of which the last one is written to.

    Args:
        folder: the directory that they are in, open.
    """

    def __init__(self, folder: int, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._fd = -1
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def skip(self) -> None:
        """Leave out all that is there so far."""
        self.close()
        self._rest = b""
        try:
            self._fd = self._open(self._names[-1])
            os.lseek(self._fd, 0, os.SEEK_END)
        except FileNotFoundError:
            pass  # nothing was written so far

    def read(self) -> list[bytes]:
        """Return lines that were not read yet; none: there are no more at the moment."""
        while True:
            data = os.read(self._fd, _PIECE_BYTES) if self._fd >= 0 else b""
            if not data:
                newer = self._next()
                if newer < 0:
                    return []
                # It is written to no more, but may have been after we had read its end.
                while piece := os.read(self._fd, _PIECE_BYTES) if self._fd >= 0 else b"":
                    data += piece
                self.close()
                self._fd = newer
            *whole, self._rest = (self._rest + data).split(b"\n")
            if whole:
                return whole

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)

    def _next(self) -> int:
        """Return the file after the one that is read, open; -1: there is none."""
        identity = _identity(os.fstat(self._fd)) if self._fd >= 0 else None
        while True:
            present = [(name, one) for name in self._names if (one := self._look(name)) is not None]
            known = [one for _, one in present]
            at = known.index(identity) + 1 if identity in known else 0
            if at >= len(present):
                return -1
            name, expected = present[at]
            try:
                newer = self._open(name)
            except FileNotFoundError:
                continue
            if _identity(os.fstat(newer)) == expected:
                return newer
            os.close(newer)  # the files went round meanwhile

    def _look(self, name: str) -> tuple[int, int] | None:
        try:
            return _identity(os.stat(name, dir_fd=self._folder, follow_symlinks=False))
        except FileNotFoundError:
            return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
