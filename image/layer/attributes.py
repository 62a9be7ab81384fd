"""Owners, modes, times and extended attributes of what a layer brings [IMG-15].

One object per delta: it knows what may be left out where a user namespace or the file system does
not allow it, and counts that.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.image.layer import overlayfs, ownership
from pybuild.image.layer.descent import OPEN_DIR
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.image.layer.tarreader import Member

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Attributes:
    """Sets attributes by descriptor; directories' times are for the caller, at the end."""

    def __init__(self, *, userxattr: bool, record_owners: bool) -> None:
        self._own = overlayfs.namespace(userxattr)
        self._in_userns = userxattr
        self._ledger = ownership.OwnershipNotes(notes_owners=record_owners) if userxattr else None

    def finish(self, root_dir: str) -> None:
        """Write down what the files of the delta cannot carry."""
        if self._ledger is not None:
            self._ledger.save(root_dir)

    def set_file(self, fd: int, member: Member) -> None:
        """Give a file all that its entry says; the order matters.

        chown drops set-uid bits and capabilities.
        """
        self.set_directory(fd, member)
        os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))

    def set_directory(self, fd: int, member: Member) -> None:
        """Do the same, but for the times."""
        if self._ledger is not None and self._ledger.notes_owners:
            self.chown(fd, member.uid, member.gid)
        else:
            # Most things are made as they should be, and looking costs a fifth of changing.
            made = os.fstat(fd)
            if (made.st_uid, made.st_gid) != (member.uid, member.gid):
                os.fchown(fd, member.uid, member.gid)
            elif made.st_mode & 0o7777 == member.mode and not member.xattrs:
                return
        if member.xattrs:
            self._set_xattrs(fd, member.xattrs)
        os.fchmod(fd, member.mode)

    def set_leaf(self, fd: int, base: bytes, member: Member) -> None:
        """Do the same for what cannot be opened: links, devices, FIFOs."""
        self._chown_at(fd, base, member.uid, member.gid)
        if member.kind != b"2":
            os.chmod(base, member.mode, dir_fd=fd)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(base, ns=times, dir_fd=fd, follow_symlinks=False)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        """Set a descriptor's owner."""
        if self._ledger is None:
            os.fchown(fd, uid, gid)
        else:
            self._ledger.give(fd, None, uid, gid)

    def _chown_at(self, fd: int, name: bytes, uid: int, gid: int) -> None:
        if self._ledger is None:
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        else:
            self._ledger.give(fd, os.fsdecode(name), uid, gid)

    def device(self, fd: int, name: bytes, mode: int, number: int) -> None:
        """Make a device or FIFO; in a user namespace, a file that stands for the device."""
        if self._ledger is None or stat.S_ISFIFO(mode):
            os.mknod(name, mode, number, dir_fd=fd)
        else:
            ownership.make_node(fd, os.fsdecode(name), mode, number)

    def _set_xattrs(self, fd: int, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            disk = overlayfs.to_disk(name, self._own)
            if disk is None:
                continue
            try:
                os.setxattr(fd, disk, value)
            except OSError as error:
                denied = error.errno == errno.EPERM and self._in_userns
                if error.errno != errno.ENOTSUP and not denied:
                    raise

    def copy_directory(self, fd: int, below: bytes) -> int:
        """Make a directory look like the one stored at *below*; return that one's time in ns."""
        source = os.open(below, OPEN_DIR)
        try:
            status = os.fstat(source)
            self.chown(fd, *self._owner(below, status))
            self._copy_xattrs(source, fd)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
        finally:
            os.close(source)
        return status.st_mtime_ns

    def _owner(self, below: bytes, status: os.stat_result) -> ownership.Ids:
        """Return whose *below* is, a path in another delta."""
        if self._ledger is None or not self._ledger.notes_owners:
            return status.st_uid, status.st_gid
        if not ownership.can_carry(status.st_mode):
            return (0, 0)  # Only its own delta's list knows; links that are linked to are rare.
        return ownership.read_owner(os.fsdecode(below)) or (0, 0)

    def _copy_xattrs(self, source: int, fd: int) -> None:
        for disk, _ in overlayfs.to_image(os.listxattr(source), self._own):
            os.setxattr(fd, disk, os.getxattr(source, disk))

    def copy_up(self, fd: int, name: bytes, below: bytes) -> None:
        """Make *name* in *fd* a copy of what is stored at *below*, which is no directory."""
        status = os.lstat(below)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        if stat.S_ISREG(status.st_mode):
            source = os.open(below, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                file = os.open(name, CREATE, 0o600, dir_fd=fd)
                try:
                    while data := os.read(source, 1 << 20):
                        write_all(file, data)
                    self.chown(file, *self._owner(below, status))
                    self._copy_xattrs(source, file)
                    os.fchmod(file, stat.S_IMODE(status.st_mode))
                    os.utime(file, ns=times)
                finally:
                    os.close(file)
            finally:
                os.close(source)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(below), name, dir_fd=fd)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=fd)
        self._chown_at(fd, name, *self._owner(below, status))
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=fd)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)
