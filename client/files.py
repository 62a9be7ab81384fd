"""Sinks of a server's archives: a file that appears whole or not at all, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from pybuild.client.filesend import ArchiveSink
from pybuild.exporter.atomicfile import Part, open_in_place, place_of
from pybuild.image.layer.writing import write_all
from pybuild.model.errors import UsageError

_STDOUT = 1


def archive_opener(dest: str) -> Callable[[Mapping[str, str]], ArchiveSink]:
    """Return a function that opens *dest*, a path or ``-``, once the server has something to send.

    Raises:
        UsageError: it can be no file, or standard output is a terminal.
    """
    if dest == "-":
        if sys.stdout.isatty():
            raise UsageError("dest file is required: refusing to write a tar file to a terminal")
        return lambda facts: _StandardOutput()
    path, is_replaceable = place_of(dest)
    return lambda facts: _WholeFile(path) if is_replaceable else _InPlace(path)


class _WholeFile:
    """Written beside its place, and renamed when it is complete."""

    def __init__(self, path: str) -> None:
        self._part = Part(path)

    def write(self, data: bytes, /) -> None:
        write_all(self._part.fd, data)

    def close(self) -> None:
        self._part.keep()

    def abort(self) -> None:
        self._part.drop()


class _InPlace:
    """A device or a pipe."""

    def __init__(self, path: str) -> None:
        self._fd = open_in_place(path)

    def write(self, data: bytes, /) -> None:
        write_all(self._fd, data)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def abort(self) -> None:
        self.close()


class _StandardOutput:
    def __init__(self) -> None:
        sys.stdout.flush()

    def write(self, data: bytes, /) -> None:
        write_all(_STDOUT, data)

    def close(self) -> None:
        """It stays open."""

    def abort(self) -> None:
        """Nothing: bytes that were written stay written."""
