"""New entries in the tree that a file op changes: directories, nodes, and their owners."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.image.layer import ownership
from pybuild.image.layer.descent import OPEN_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.owners import Ids
    from pybuild.executor.files.tree import Tree, TreePlace
    from pybuild.image.layer.ownership import OwnershipNotes

IN_THE_WAY = ("a file has that name already: remove it first, or choose another path",)


class Maker:
    """Makes directories in a tree, and remembers them so that their times can be set at the end."""

    def __init__(
        self, tree: Tree, *, mode: int = 0o755, owner: Ids | None = None, mtime_ns: int | None
    ) -> None:
        self.tree = tree
        self._mode = mode
        self._owner = owner
        self._mtime_ns = mtime_ns
        self._made: list[str] = []

    def make(self, fd: int, name: str, path: str) -> None:
        """Make the directory *name* in *fd* [CP-12]."""
        os.mkdir(name, 0o700, dir_fd=fd)
        made = os.open(name, OPEN_DIR, dir_fd=fd)
        try:
            if self._owner is not None:
                give(path, made, self._owner, ledger=self.tree.ledger)
            os.fchmod(made, self._mode)
        finally:
            os.close(made)
        self._made.append(path)

    def locate(self, path: str) -> TreePlace:
        """Return where *path* ends; directories on the way are made, the last component is not."""
        try:
            return self.tree.locate(path, make=self.make)
        except NotADirectoryError as error:
            where = error.filename if isinstance(error.filename, str) else "/" + path
            raise Fault(USER, f"cannot copy to non-directory: {where}", IN_THE_WAY) from error

    def directory(self, path: str) -> TreePlace:
        """Return the directory *path*, made with its parents where it is missing."""
        place = self.locate(path)
        try:
            if place.status is None:
                self.make(place.fd, place.name, place.path)
                place.look()
            elif not place.is_dir:
                raise Fault(USER, f"cannot copy to non-directory: /{place.path}", IN_THE_WAY)
        except BaseException:
            place.close()
            raise
        return place

    def finish(self) -> None:
        """Set the times of what was made: content that came later has changed them."""
        if self._mtime_ns is None:
            return
        for path in reversed(self._made):
            with self.tree.locate(path, follow=False) as place:
                if place.is_dir:
                    os.utime(
                        place.name,
                        ns=(self._mtime_ns, self._mtime_ns),
                        dir_fd=place.fd,
                        follow_symlinks=False,
                    )


def give(
    path: str, fd: int, owner: Ids, name: str | None = None, *, ledger: OwnershipNotes | None
) -> None:
    """Change the owner of *fd*, or of *name* in it; with a ledger, note it.

    Raises:
        Fault: environment; the user namespace has no such id.
    """
    try:
        if ledger is not None:
            ledger.give(fd, name, *owner)
        elif name is None:
            os.fchown(fd, *owner)
        else:
            os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Fault(
            ENVIRONMENT,
            f"cannot give /{path} to {owner[0]}:{owner[1]}: this build may not use that id",
            ("give your user more ids in /etc/subuid and /etc/subgid", "build as root"),
        ) from error


def make_node(fd: int, name: str, mode: int, device: int, *, ledger: OwnershipNotes | None) -> None:
    """Make a device or FIFO; with a ledger, a device is a file that stands for one."""
    if ledger is not None and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        ownership.make_node(fd, name, mode, device)
    else:
        os.mknod(name, mode, device, dir_fd=fd)


def clear(fd: int, name: str, where: str) -> None:
    """Remove what stands in the way of something new, unless it is a directory [CP-13]."""
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        raise Fault(USER, f"cannot replace to directory /{where} with file")
    os.unlink(name, dir_fd=fd)
