"""Attributes of what a COPY makes: owner, mode, times and extended ones [CP-20..CP-22]."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files import modes
from pybuild.executor.files.content import copy_xattrs
from pybuild.executor.files.making import give
from pybuild.executor.files.present import Look
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.executor.files.owners import Ids
    from pybuild.image.layer.ownership import OwnershipNotes


class CopiedAttributes:
    """The attributes of each copy: its source's, but for those that the COPY gives.

    Args:
        owner: given to everything; None keeps the source's.
        mode: octal or symbolic; None keeps the source's.
        mtime_ns: given to everything, when not None.
    """

    def __init__(
        self,
        owner: Ids | None,
        mode: int | str | None,
        mtime_ns: int | None,
        ledger: OwnershipNotes | None,
    ) -> None:
        self._owner = owner
        self._change: Callable[[int, bool], int] | None = None
        if isinstance(mode, int):
            self._change = lambda _old, _is_dir: mode
        elif mode is not None:
            self._change = _mode_function(mode)
        self._mtime_ns = mtime_ns
        self._ledger = ledger

    def give(self, where: str, source: int, target: int, status: os.stat_result) -> None:
        """Give them to a file or directory; owner first, as chown drops set-uid bits."""
        give(where, target, self._ids(status), ledger=self._ledger)
        os.fchmod(target, self._mode(status))
        copy_xattrs(source, target)
        os.utime(target, ns=self._times(status))

    def give_name(self, where: str, fd: int, name: str, status: os.stat_result) -> None:
        """Give them to a symbolic link, a device or a FIFO, which is not opened."""
        give(where, fd, self._ids(status), name, ledger=self._ledger)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, self._mode(status), dir_fd=fd)
        os.utime(name, ns=self._times(status), dir_fd=fd, follow_symlinks=False)

    def date_contents(self, fd: int, status: os.stat_result) -> None:
        """Give the times to a directory that keeps all else, access time too."""
        mtime_ns = self._mtime_ns
        if mtime_ns is None:
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            os.utime(fd, ns=(mtime_ns, mtime_ns))

    def look(self, status: os.stat_result) -> Look:
        """Return those that can be compared with what is there."""
        return Look(self._ids(status), self._mode(status), self._times(status)[0])

    def _ids(self, status: os.stat_result) -> Ids:
        return (status.st_uid, status.st_gid) if self._owner is None else self._owner

    def _mode(self, status: os.stat_result) -> int:
        mode = stat.S_IMODE(status.st_mode)
        if self._change is None:
            return mode
        return self._change(mode, stat.S_ISDIR(status.st_mode))

    def _times(self, status: os.stat_result) -> tuple[int, int]:
        time = status.st_mtime_ns if self._mtime_ns is None else self._mtime_ns
        return time, time


def _mode_function(text: str) -> Callable[[int, bool], int]:
    try:
        return modes.parse(text)
    except ValueError as error:
        raise Fault(USER, str(error)) from error
