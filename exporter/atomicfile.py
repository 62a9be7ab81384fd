"""An output file that somebody has named: it gets its name when all of it was written.

Lean: a fully cached build writes its ``--iidfile`` by it.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, suppress

from pybuild.cache.disk.ownership import doubt, is_trusted, owner
from pybuild.exporter.directories import open_output
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from pybuild.model.errors import UsageError


def place_of(dest: str) -> tuple[str, bool]:
    """Return the path that *dest* leads to, and whether a new file may take that name.

    Devices, pipes and sockets are written to: a file in the place of /dev/null would hurt everybody.

    Raises:
        UsageError: no file can be there, or be made there.
    """
    path = os.path.abspath(dest)
    refuse_planted(dest)
    try:
        status = os.stat(path)
        mode = status.st_mode
    except OSError:
        status = None
        mode = stat.S_IFREG  # or the fault is reported when it is opened
    if stat.S_ISDIR(mode):
        raise _usage_error(f"output destination {dest} is a directory")
    if not stat.S_ISREG(mode):
        # Not those of /dev/stdout and of shells, which may have been made for us by somebody else.
        given = path.startswith("/proc/") or os.path.dirname(path) in ("/dev", "/dev/fd")
        if status and stat.S_ISFIFO(mode) and not given:
            _refuse_pipe_of_others(dest, status.st_uid)
        return path, False
    path = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(path)):
        above = os.path.dirname(path)
        raise _usage_error(f"output directory {above} does not exist", f"make it: mkdir -p {above}")
    return path, True


def refuse_planted(dest: str, *inside: str) -> None:
    """Refuse an output that a link of another user leads elsewhere.

    Args:
        inside: directories of *dest* that will be written to, too.

    Raises:
        UsageError: a link does.
    """
    for name in ("", *inside):
        try:
            doubtful = doubt(os.path.join(dest, name))
        except OSError:
            return  # reported when it is opened
        if doubtful.planted:
            raise _usage_error(
                f"output {dest} would be written elsewhere: {doubtful.text}",
                "remove that link, or name another place",
            )


def _refuse_pipe_of_others(dest: str, uid: int) -> None:
    if not is_trusted(uid):
        raise _usage_error(
            f"output {dest} is a pipe of {owner(uid)}", "remove it, or name another place"
        )


def _usage_error(message: str, *hints: str) -> UsageError:
    from pybuild.model.errors import UsageError

    return UsageError(message, hints=hints)


def write_whole(dest: str, text: str) -> None:
    """Write a small file; raises as `whole_file`. One that is mounted in its place is overwritten."""
    if os.path.ismount(dest):
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(dest, flags), "w", encoding="utf-8") as file:
            file.write(text)
        return
    with whole_file(os.path.abspath(dest)) as fd:
        write_all(fd, text.encode())


def is_stream(dest: str) -> bool:
    """Return whether bytes written to *dest* cannot be taken back: standard output, a pipe."""
    try:
        mode = os.stat(dest).st_mode
    except OSError:
        return dest == "-"
    return dest == "-" or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class Part:
    """A new file that gets the name *path* with `keep`, or goes with `drop`.

    Attributes:
        fd: what is written goes here.

    Raises:
        UsageError: another user's link would lead it elsewhere. OSError: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        folder, self._name = os.path.split(path)
        # In a directory that others may write to, a name they can guess could be a link of theirs.
        self._part = f"{self._name}.tmp-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._folder = open_output(folder)
        try:
            self.fd = os.open(self._part, flags, 0o666, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    def keep(self) -> None:
        """Let it take its name."""
        try:
            os.replace(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self.drop()
            raise
        self._close()

    def drop(self) -> None:
        """Let nothing of it stay; idempotent, and nothing after `keep`."""
        if self._folder >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._part, dir_fd=self._folder)
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        os.close(self._folder)
        self._folder = -1


def open_in_place(path: str) -> int:
    """Return a descriptor of *path*, which is no regular file."""
    return os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)


@contextmanager
def whole_file(dest: str) -> Generator[int]:
    """Give a descriptor to write *dest* through; it gets its name when all went well.

    Raises:
        UsageError: see `place_of`; or standard output is a terminal.
    """
    if dest == "-":
        if sys.stdout.isatty():
            raise _usage_error("dest file is required: refusing to write a tar file to a terminal")
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
    part = Part(path)
    try:
        yield part.fd
    except BaseException:
        part.drop()
        raise
    part.keep()
