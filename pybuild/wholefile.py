"""A file that somebody named for what we make: it gets its name when all of it was written."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager

from pybuild.model.errors import UsageError


def place_of(dest: str) -> tuple[str, bool]:
    """Return the path that *dest* leads to, and whether a new file may take that name.

    Devices, pipes and sockets are written to: a file in the place of /dev/null would hurt everybody.

    Raises:
        UsageError: no file can be there, or be made there.
    """
    path = os.path.abspath(dest)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG  # or what is wrong is said when it is opened
    if stat.S_ISDIR(mode):
        raise UsageError(f"output destination {dest} is a directory")
    if not stat.S_ISREG(mode):
        return path, False
    path = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise UsageError(f"output directory {os.path.dirname(path)} does not exist")
    return path, True


def is_stream(dest: str) -> bool:
    """Tell whether what is written to *dest* cannot be taken back: standard output, a pipe."""
    try:
        mode = os.stat(dest).st_mode
    except OSError:
        return dest == "-"
    return dest == "-" or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_part(path: str) -> tuple[str, int]:
    """Return the name and the descriptor of a new file beside *path*."""
    # In a directory that others may write to, a name they can guess could be a link of theirs.
    part = f"{path}.tmp-{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return part, os.open(part, flags, 0o666)


def open_in_place(path: str) -> int:
    """Return a descriptor of what is no regular file."""
    return os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)


@contextmanager
def whole_file(dest: str) -> Generator[int]:
    """Give a descriptor to write *dest* through; it gets its name when all went well.

    Raises:
        UsageError: see `place_of`; or standard output is a terminal.
    """
    if dest == "-":
        if sys.stdout.isatty():
            raise UsageError("dest file is required: refusing to write a tar file to a terminal")
        sys.stdout.flush()
        yield 1
        return
    path, is_replaceable = place_of(dest)
    if not is_replaceable:
        fd = open_in_place(path)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    part, fd = open_part(path)
    try:
        yield fd
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
    finally:
        os.close(fd)
