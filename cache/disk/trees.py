"""Delete trees that nobody vouches for."""

from __future__ import annotations

import os
from collections.abc import Callable

Stop = Callable[[], bool]

# Directories held open at once. Deeper ones are moved up first, so neither descriptors nor
# Python's stack nor PATH_MAX bound the depth of what a step may have made.
_DEPTH = 24


class Stopped(Exception):
    """Asked to stop; the rest of the tree is still there."""


def remove_tree(path: str, stop: Stop = lambda: False, folder: int | None = None) -> int:
    """Delete *path*, whatever it is; return the bytes that the disk got back.

    Args:
        folder: an open directory that *path* is a name in; else the one that *path* says, which
            must not be a link.

    Never follows a link, never leaves the tree. Directories of any mode and any depth go. Files of
    other users need their privileges. A file with other names elsewhere gives nothing back.

    Raises:
        Stopped: *stop* said so. OSError: something could not be removed; all else was.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    parent = os.open(os.path.dirname(path) or ".", flags) if folder is None else os.dup(folder)
    try:
        name = os.path.basename(path)
        try:
            return unlink(name, parent)
        except FileNotFoundError:
            return 0
        except (IsADirectoryError, PermissionError):
            pass
        removal = _Removal(parent, stop)
        removal.run(name)
        return removal.freed
    finally:
        os.close(parent)


def unlink(name: str, parent: int | None = None) -> int:
    """Delete a file; return the bytes of its blocks if this was its last name. Raises OSError."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    os.unlink(name, dir_fd=parent)
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


class _Removal:
    """One deletion; *top* is the directory that deep directories are moved up to."""

    def __init__(self, top: int, stop: Stop) -> None:
        self._top = top
        self._stop = stop
        self._queue: list[str] = []
        self._error: OSError | None = None
        self.freed = 0

    def run(self, name: str) -> None:
        self._queue.append(name)
        while self._queue:
            self._directory(self._top, self._queue.pop(), 0)
        if self._error is not None:
            raise self._error

    def _directory(self, parent: int, name: str, depth: int) -> None:
        if self._stop():
            raise Stopped
        try:
            # Most directories at the end of a walk are empty.
            blocks = os.stat(name, dir_fd=parent, follow_symlinks=False).st_blocks
            os.rmdir(name, dir_fd=parent)
            self.freed += blocks * 512
            return
        except FileNotFoundError:
            return
        except OSError:
            pass
        try:
            fd = _open_directory(parent, name)
        except FileNotFoundError:
            return
        except OSError as error:
            self._error = error
            return
        try:
            if depth < _DEPTH:
                self._empty(fd, depth)
            else:
                self._raise_up(fd)
            blocks = os.fstat(fd).st_blocks
        finally:
            os.close(fd)
        try:
            os.rmdir(name, dir_fd=parent)
            self.freed += blocks * 512
        except FileNotFoundError:
            pass
        except OSError as error:
            self._error = error

    def _empty(self, fd: int, depth: int) -> None:
        with os.scandir(fd) as entries:
            listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in listed:
            if is_directory:
                self._directory(fd, name, depth + 1)
            else:
                self._unlink(fd, name)

    def _raise_up(self, fd: int) -> None:
        with os.scandir(fd) as entries:
            listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in listed:
            if not is_directory:
                self._unlink(fd, name)
                continue
            upper = f"trash.{os.urandom(8).hex()}"
            try:
                os.close(_open_directory(fd, name))  # moving needs write permission on it
                os.rename(name, upper, src_dir_fd=fd, dst_dir_fd=self._top)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._error = error
            else:
                self._queue.append(upper)

    def _unlink(self, fd: int, name: str) -> None:
        try:
            self.freed += unlink(name, fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._error = error


def _open_directory(parent: int, name: str) -> int:
    """Open a directory of any mode for listing and changing, without following a link."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, os.O_PATH | flags, dir_fd=parent)
    try:
        handle_path = f"/proc/self/fd/{handle}"
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            os.chmod(handle_path, 0o700)
        return os.open(handle_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)
