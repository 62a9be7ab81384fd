"""Locks between processes and threads, by flock: the kernel lets go when a process dies; and facts that tell its number from another's."""

from __future__ import annotations

import fcntl
import os

from pybuild.model.lightlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from pybuild.cache.disk.atomic import Disk


@contextmanager
def locked(path: str, *, shared: bool = False, wait: bool = True) -> Generator[None]:
    """Hold the lock file *path*, waiting for it, or else BlockingIOError where it is not to be had.

    Each use opens the file anew: a lock belongs to an open file, so threads that shared one
    descriptor would not exclude each other, and the first to finish would free the lock of all.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


@contextmanager
def tried(path: str) -> Generator[bool]:
    """Hold the lock file *path* alone if nobody else has it; tell whether."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


class LiveFile:
    """A file that is locked as long as its maker lives, and is removed when it lets go.

    Attributes:
        path: ``<folder>/<pid>-<random><suffix>``; the pid is for people, nobody relies on it.
    """

    def __init__(self, disk: Disk, folder: str, suffix: str = "") -> None:
        self._disk = disk
        self._pid = os.getpid()
        while True:
            name = f"{self._pid}-{os.urandom(8).hex()}"
            self.path = os.path.join(folder, name + suffix)
            self.fd = disk.append(self.path)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            # Somebody who cleans up may have taken the file for dead before it was locked.
            if same_file(self.fd, self.path):
                break
            os.close(self.fd)
        self.name = name

    def close(self) -> None:
        """Let go. In a child process this does nothing to the parent's lock."""
        if self.fd < 0:
            return
        if os.getpid() == self._pid:
            try:
                os.unlink(self.path)
            except OSError:
                pass
        os.close(self.fd)
        self.fd = -1


def is_alive(path: str) -> bool:
    """Return whether the maker of the `LiveFile` at *path* lives; when in doubt, it does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def bury(path: str, folder: int | None = None) -> bool:
    """Remove the `LiveFile` at *path* if its maker is dead; tell whether it is gone.

    Args:
        folder: an open directory that *path* is in.
    """
    try:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if same_file(fd, path, folder):
            os.unlink(path, dir_fd=folder)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def same_file(fd: int, path: str, folder: int | None = None) -> bool:
    try:
        status = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(fd))


def boot_id() -> str | None:
    """Return the id of this boot of the machine; None if the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or None
    except OSError:
        return None


def born(pid: int) -> int:
    """Return when a process began, in ticks of the kernel since its boot; 0: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
