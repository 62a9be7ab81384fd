"""Hard links of a source, which its copies keep among themselves [E158]."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.files.making import clear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.executor.files.tree import Tree

Inode = tuple[int, int]


def inode_of(status: os.stat_result) -> Inode | None:
    """Return the inode of a file with several names; None where it has only one."""
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else None


class HardLinks:
    """The places in *dest* of inodes that one source had under more than one name."""

    def __init__(self, dest: Tree) -> None:
        self._dest = dest
        self._places: dict[Inode, str] = {}
        self._left: set[str] = set()  # of these, what was there and is left alone

    def clear(self) -> None:
        """Begin another source: only names within one of them belong together."""
        self._places.clear()
        self._left.clear()

    def link(
        self, inode: Inode, target: int, new: str, put: Callable[[Callable[[], None]], object]
    ) -> bool:
        """Link *new* in *target* to where the same inode is by now; False where it is nowhere.

        Args:
            put: makes an entry in the place of what is there, by the function that it is given.
        """
        first = self._places.get(inode)
        if first is None:
            return False
        with self._dest.locate(first, follow=False) as place:
            if place.status is None or not stat.S_ISREG(place.status.st_mode):
                return False
            if first in self._left:
                return _is_inode(place.status, target, new)
            try:
                put(lambda: _link(place.fd, place.name, target, new))
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                return False
        return True

    def note(
        self, inode: Inode | None, target: int, new: str, where: str, *, is_left: bool = False
    ) -> None:
        """Remember where this source is now; another name of it that was left alone comes along."""
        if inode is None:
            return
        first = self._places.get(inode)
        self._places[inode] = where
        if is_left:
            self._left.add(where)
        elif first in self._left:
            with self._dest.locate(first, follow=False) as place:
                clear(place.fd, place.name, first)
                _link(target, new, place.fd, place.name)


def _is_inode(status: os.stat_result, fd: int, name: str) -> bool:
    try:
        return os.path.samestat(status, os.stat(name, dir_fd=fd, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _link(from_fd: int, from_name: str, fd: int, name: str) -> None:
    os.link(from_name, name, src_dir_fd=from_fd, dst_dir_fd=fd, follow_symlinks=False)
