"""Standard input as a context or a Dockerfile: looked at before it is read to its end [CTX-1]."""

from __future__ import annotations

import hashlib
import os
import sys

from pybuild.model.errors import EnvironmentFault, UsageError, UserError

_PIECE = 1 << 20
_HEAD = 512
MAX_TEXT_BYTES = 64 << 20


class StandardInput:
    """Reads by the descriptor: a reader that is left behind in `sys.stdin` holds a lock that the
    interpreter's exit needs. Every method may wait for ever."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._head = b""

    def is_archive(self) -> bool:
        """Whether a tar is coming, compressed or not; nothing is lost by asking."""
        from pybuild.executor.files.archives import is_archive  # seldom needed in a check

        while len(self._head) < _HEAD and (piece := os.read(self._fd, _PIECE)):
            self._head += piece
        return is_archive(self._head)

    def text(self) -> bytes:
        """Return all of it.

        Raises:
            UserError: it is too large for a Dockerfile.
        """
        data = bytearray(self._head)
        while piece := os.read(self._fd, _PIECE):
            data += piece
            if len(data) > MAX_TEXT_BYTES:
                raise UserError("failed to read standard input: larger than 64 MiB")
        return bytes(data)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most *size*; none at the end."""
        piece, self._head = self._head[:size], self._head[size:]
        return piece or os.read(self._fd, size)

    def close(self) -> None:
        """Leave it open: our caller closes it."""

    def copy_to(self, path: str) -> tuple[str, int]:
        """Write all of it to the new file *path*; return its sha256, hex, and its size.

        Raises:
            EnvironmentFault: there is no room for it.
        """
        disk = os.statvfs(os.path.dirname(path))
        limit = disk.f_bavail * disk.f_frsize * 19 // 20
        digest, size = hashlib.sha256(), 0
        piece = self._head
        with open(path, "xb", buffering=0, opener=_private) as file:
            while piece or (piece := os.read(self._fd, _PIECE)):
                size += len(piece)
                if size > limit:
                    raise EnvironmentFault(
                        f"failed to read standard input: it goes on after {limit} bytes"
                    )
                digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
                piece = b""
        return digest.hexdigest(), size


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def copy_archive(path: str) -> None:
    """Keep the archive on standard input in the new file *path*.

    Raises:
        UsageError: it is a terminal.
        EnvironmentFault: there is no room for it.
    """
    if sys.stdin.isatty():
        raise UsageError("refusing to read an archive from a terminal", hints=["name a file"])
    StandardInput().copy_to(path)
