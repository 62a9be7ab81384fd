"""Directories of a tree that is written to, open for as long as they are likely to be needed."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from pybuild.buildkit.fsutil.receiver import BadEntry, shown
from pybuild.image.layer import confined

_MOST = 64


class OpenDirs:
    """Descriptors of the directories below *root*, none reached through a link."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fds: OrderedDict[bytes, int] = OrderedDict()

    def get(self, path: bytes) -> int:
        """Return the descriptor of *path*, "" for the root; good until many others are opened.

        Raises:
            BadEntry: it is no directory any more. OSError: it cannot be opened.
        """
        if not path:
            return self._root
        fd = self._fds.get(path)
        if fd is not None:
            self._fds.move_to_end(path)
            return fd
        try:
            fd = confined.open_beneath(self._root, path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise BadEntry(f"{shown(path)} is a directory no more") from error
            raise
        self._fds[path] = fd
        if len(self._fds) > _MOST:
            os.close(self._fds.popitem(last=False)[1])
        return fd

    def forget(self, path: bytes) -> None:
        """Let go of a directory that is to go, and of all below it."""
        for known in [k for k in self._fds if k == path or k.startswith(path + b"/")]:
            os.close(self._fds.pop(known))

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def open_up(parent: int, name: bytes) -> None:
    """Give a plain user back the powers over his own directories that their modes deny."""
    confined.change_mode(parent, name, stat.S_IFDIR, 0o700)  # else it would be gone
    for path, folders, _, fd in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
        del path
        for folder in folders:
            if stat.S_ISDIR(os.stat(folder, dir_fd=fd, follow_symlinks=False).st_mode):
                confined.change_mode(fd, folder, stat.S_IFDIR, 0o700)
