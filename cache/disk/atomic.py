"""The one way of writing: to ``tmp/``, flushed as the policy says, renamed into place.

Everything that the store writes goes through a `Disk`, so that a test can fail the N-th write,
rename or flush and then look at what is left. SQLite writes by itself; `Disk.gate` stands before
it. Nothing here knows what a blob or a record is.
"""

from __future__ import annotations

import errno
import os

from pybuild.image.layer.writing import write_all
from pybuild.model.lightlib import contextmanager

TYPE_CHECKING = False  # not typing's: its import costs more than this whole room
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Literal

    from pybuild.model.errors import EnvironmentFault

    Durability = Literal["each", "named"]
    Warn = Callable[[str], None]


class Disk:
    """The file system, as far as the store changes it. Every method may raise OSError.

    Attributes:
        durability: "each" flushes every blob before it gets its name; "named" before something that
            lasts names it, so a power failure may cost blobs (found damaged when read), no image.
    """

    def __init__(self, durability: Durability = "each") -> None:
        self.durability: Durability = durability

    def create(self, path: str, mode: int = 0o600) -> int:
        """Make a new file and return a descriptor for writing; it must not exist."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        os.fchmod(fd, mode)  # whatever the umask
        return fd

    def append(self, path: str) -> int:
        """Open, or make, a file for writing at its end."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write all of *data*."""
        write_all(fd, data)

    def flush(self, fd: int) -> None:
        os.fsync(fd)

    def flush_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def flush_file_system(self, path: str) -> None:
        """Write everything that the file system of *path* holds back (syncfs)."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.flush_file_system_of(fd)
        finally:
            os.close(fd)

    def flush_file_system_of(self, fd: int) -> None:
        """The same, for the file system of an open directory."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode)
        os.chmod(path, mode)  # whatever the umask

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def gate(self, what: str) -> None:
        """Called before each write that others do for us; *what* is ``sqlite``."""


def write_file(disk: Disk, tmp: str, path: str, data: bytes, mode: int, flush: bool) -> None:
    """Make *path* hold *data*: wholly or not at all, also for somebody who reads meanwhile."""
    fd = disk.create(tmp, mode)
    try:
        try:
            disk.write(fd, data)
            if flush:
                disk.flush(fd)
        finally:
            os.close(fd)
        disk.rename(tmp, path)
    except BaseException:
        discard(tmp)
        raise
    if flush:
        disk.flush_dir(os.path.dirname(path))


def make_parents(path: str, mode: int = 0o755) -> None:
    """Make the directories above *path* that are not there; others may not write to them, whatever
    the umask. Raises OSError."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_parents(parent, mode)
        try:
            os.mkdir(parent, mode)
        except FileExistsError:
            if not os.path.isdir(parent):
                raise


def discard(path: str) -> None:
    """Remove a temporary file if that is possible; what stays is garbage that the next one finds."""
    try:
        os.unlink(path)
    except OSError:
        pass


@contextmanager
def faults(doing: str, root: str) -> Generator[None]:
    """Turn an OSError of the block into an `EnvironmentFault` that names the way out."""
    try:
        yield
    except OSError as error:
        raise fault(error, doing, root) from error


def fault(error: OSError, doing: str, root: str) -> EnvironmentFault:
    """Return the fault that *error* is for the store at *root* while *doing* something."""
    from pybuild.model.errors import EnvironmentFault

    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = mount_point(root)
        return EnvironmentFault(
            f"{doing}: {reason} on the file system at {where} (store {root})",
            hints=("run pybuild prune", "put the store elsewhere with PYBUILD_ROOT"),
        )
    if error.errno == errno.EROFS:
        return EnvironmentFault(
            f"{doing}: {reason} (store {root})",
            hints=("put the store elsewhere with PYBUILD_ROOT",),
        )
    name = f": {os.fsdecode(error.filename)}" if error.filename else ""
    hints = ("name a directory of your own with --root or PYBUILD_ROOT",)
    return EnvironmentFault(
        f"{doing}{name}: {reason}",
        hints=hints if error.errno in (errno.EACCES, errno.ENOENT, errno.EPERM) else (),
    )


def mount_point(path: str) -> str:
    """Return the mount point of the file system that holds *path*."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
