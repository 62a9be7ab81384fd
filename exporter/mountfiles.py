"""Files that cache mounts are exported to and imported from."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, BinaryIO

from pybuild.cache.disk.atomic import fault
from pybuild.exporter.atomicfile import whole_file
from pybuild.model.errors import UserError


@contextmanager
def exported_file(path: str) -> Generator[BinaryIO]:
    """Give a file to write; it gets its name when all went well."""
    try:
        with whole_file(path) as fd, os.fdopen(os.dup(fd), "wb") as file:
            yield file
    except OSError as error:
        raise fault(error, "cannot export", path) from error


def opened_archive(path: str) -> IO[bytes]:
    """Open an archive to be read from its beginning, twice: there it says how it is compressed."""
    try:
        if path != "-":
            return open(path, "rb")
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        return file
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
