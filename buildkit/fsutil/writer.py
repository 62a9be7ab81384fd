"""Makes a directory hold exactly the tree that comes in, touching only what differs.

What is there already counts as unchanged when type, size, modification time and link target are
those of its entry: then only mode and owner are put right. The directory itself is the only
record of what was received. A file gets its modification time after its last byte, and is always
a new inode, so whatever moment we die at, the next transfer sees what is whole and what is not,
and a file that is unchanged keeps its inode and times, by which indexes know it.

Its content came from strangers, and where it is a user's output somebody else may change it while
we work: nothing is opened, or given a mode, through a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from pybuild.buildkit.fsutil.attributes import is_own, own_attributes, set_own
from pybuild.buildkit.fsutil.opendirs import OpenDirs, open_up
from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import BadEntry, shown
from pybuild.image.layer import confined
from pybuild.image.layer.writing import write_all
from pybuild.model.files import body_state

if TYPE_CHECKING:
    import hashlib

    from pybuild.model.files import FileIndex

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """A `receiver.Sink` that writes below *root*; blocking, one thread at a time.

    Args:
        strict: the files there may be of another directory that only looks alike. Then a file
            also counts as changed when its time is of whole seconds, as archives and tools that
            pin times make them.
        fresh: no file there counts as unchanged, whatever its time says.
        index: gets the digest of each file as it is written, so that nobody has to read it again
            (`filereading.body_state`), and asked about those that stay.
        merge: leave files there alone that were not sent; a directory in the way of something
            else is then an error.
        own: give files their owners. Without, all belong to our own user, and the bits
            that lend an owner's powers stay only where the owner does.

    Attributes:
        skipped: sockets, which mean nothing elsewhere.
        written: files written. removed: entries deleted that the peer has no more.
        foreign: entries with an owner other than root.
    """

    def __init__(
        self,
        root: str,
        *,
        strict: bool = False,
        fresh: bool = False,
        index: FileIndex | None = None,
        merge: bool = False,
        own: bool = True,
    ) -> None:
        self._dirs = OpenDirs(root)
        self._is_root = os.geteuid() == 0
        self._owns = own and self._is_root
        self._keeps_powers = own
        self._merges = merge
        self._is_strict = strict
        self._is_fresh = fresh
        self._index = index
        self._digests: dict[int, hashlib._Hash] = {}  # pyright: ignore[reportPrivateUsage]
        # Directories from the root to where the last entry was, each with the names in it that
        # the peer has not mentioned so far; None for a new directory, which is empty.
        self._levels: list[tuple[bytes, dict[bytes, None] | None]] = [
            (b"", self._names(self._dirs.get(b"")))
        ]
        self._made: list[tuple[Stat, int]] = []
        self._links: list[Stat] = []
        self._expected: dict[int, tuple[Stat, int]] = {}
        self._open: dict[int, int] = {}
        self.skipped = 0
        self.written = 0
        self.removed = 0
        self.foreign = 0

    # --- the list ---------------------------------------------------------------------------------

    def entry(self, id: int, stat_: Stat, mode: int) -> bool:
        path = stat_.path
        if mode & 0o6000 and not self._keeps_powers:
            mode = self._without_powers(stat_, mode)
        if self._owns and (stat_.uid or stat_.gid):
            self.foreign += 1
        folder, _, name = path.rpartition(b"/")
        levels = self._levels
        while levels[-1][0] != folder:
            self._leave()
        names = levels[-1][1]
        there: os.stat_result | None = None
        if names and name in names:
            del names[name]
            there = os.stat(name, dir_fd=self._dir(folder), follow_symlinks=False)
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFDIR:
            self._directory(folder, name, stat_, mode, there)
            return False
        if kind == stat.S_IFREG and not stat_.linkname:
            if there is not None and self._is_same_file(folder, name, stat_, there):
                self._look(folder, name, stat_, mode, there)
                if self._index is not None:
                    self._index.get(there)  # it is still in use
                return False
            if there is not None and stat.S_ISDIR(there.st_mode):
                self._remove(folder, name)
            self._expected[id] = (stat_, mode)
            return True
        if kind != stat.S_IFLNK and stat_.linkname:
            self._links.append(stat_)  # its target's data may still be on the way
        elif there is None or not self._is_same_special(folder, name, stat_, mode, there):
            if there is not None:
                self._remove(folder, name)
            self._special(folder, name, stat_, mode)
        return False

    def listed(self) -> None:
        while self._levels:
            self._leave()

    def _leave(self) -> None:
        """Delete files of a directory that were not mentioned."""
        path, names = self._levels.pop()
        if self._merges:
            return
        for name in names or ():
            self._remove(path, name)
            self.removed += 1

    def _directory(
        self, folder: bytes, name: bytes, entry: Stat, mode: int, there: os.stat_result | None
    ) -> None:
        fd = self._dir(folder)
        names: dict[bytes, None] | None = None
        if there is not None and not stat.S_ISDIR(there.st_mode):
            os.unlink(name, dir_fd=fd)
            there = None
        if there is None:
            os.mkdir(name, 0o700, dir_fd=fd)
        else:
            if there.st_mode & 0o700 != 0o700 and not self._is_root:
                confined.change_mode(fd, name, stat.S_IFDIR, 0o700)
            names = self._names(self._dir(entry.path))
        self._levels.append((entry.path, names))
        self._made.append((entry, mode))

    def _is_same_file(self, folder: bytes, name: bytes, entry: Stat, there: os.stat_result) -> bool:
        same = (
            stat.S_ISREG(there.st_mode)
            and there.st_size == entry.size
            and there.st_mtime_ns == entry.mtime_ns
        )
        if not same or self._is_fresh:
            return False
        if self._is_strict and entry.mtime_ns % 1_000_000_000 == 0:
            return False
        # Who changes an attribute leaves the time alone.
        attributes = own_attributes(b"/proc/self/fd/%d/%s" % (self._dir(folder), name))
        return attributes == {name: value for name, value in entry.xattrs.items() if is_own(name)}

    def _is_same_special(
        self, folder: bytes, name: bytes, entry: Stat, mode: int, there: os.stat_result
    ) -> bool:
        if stat.S_IFMT(there.st_mode) != stat.S_IFMT(mode):
            return False
        if there.st_mtime_ns != entry.mtime_ns:
            return False
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=self._dir(folder)) == entry.linkname
        if there.st_rdev != os.makedev(entry.devmajor, entry.devminor):
            return stat.S_ISFIFO(mode)
        return there.st_mode == mode

    def _look(
        self, folder: bytes, name: bytes, entry: Stat, mode: int, there: os.stat_result
    ) -> None:
        """Put right mode and owner of an unchanged file."""
        same_owner = (there.st_uid, there.st_gid) == (entry.uid, entry.gid)
        if there.st_mode == mode and (same_owner or not self._owns):
            return
        fd = os.open(name, _READ, dir_fd=self._dir(folder))
        try:
            opened = os.fstat(fd)
            if not (stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, there)):
                raise BadEntry(f"{shown(entry.path)} is another file than a moment ago")
            self._own(fd, entry, there)
            os.fchmod(fd, stat.S_IMODE(mode))
        finally:
            os.close(fd)

    def _special(self, folder: bytes, name: bytes, entry: Stat, mode: int) -> None:
        fd = self._dir(folder)
        if stat.S_ISLNK(mode):
            os.symlink(entry.linkname, name, dir_fd=fd)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif stat.S_ISSOCK(mode):
            self.skipped += 1
            return
        else:
            try:
                device = os.makedev(entry.devmajor, entry.devminor)
                os.mknod(name, stat.S_IFMT(mode) | 0o600, device, dir_fd=fd)
            except PermissionError:
                path = shown(b"/".join((folder, name)) if folder else name)
                raise PermissionError(
                    errno.EPERM, f"only root can make the device {path}"
                ) from None
        if self._owns and (entry.uid or entry.gid):
            os.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            confined.change_mode(fd, name, stat.S_IFMT(mode), stat.S_IMODE(mode))
        stamp = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=stamp, dir_fd=fd, follow_symlinks=False)

    # --- data -------------------------------------------------------------------------------------

    def data(self, id: int, pieces: list[memoryview]) -> None:
        fd = self._open.get(id)
        if fd is None:
            fd = self._create(id)
        # One piece for the kernel, and one for the digest: both let others run meanwhile.
        data = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if id in self._digests:
            self._digests[id].update(data)
        write_all(fd, data)

    def _create(self, id: int) -> int:
        entry, mode = self._expected[id]
        folder, _, name = entry.path.rpartition(b"/")
        parent = self._dir(folder)
        # With its last permissions at once, unless the umask is against it: a call less in the end.
        try:
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        self._open[id] = fd
        if self._index is not None and not entry.xattrs:
            self._digests[id] = body_state([])
        return fd

    def end(self, id: int) -> None:
        fd = self._open.get(id)
        if fd is None:
            fd = self._create(id)
        entry, mode = self._expected.pop(id)
        del self._open[id]
        try:
            if self._owns and (entry.uid or entry.gid):
                os.fchown(fd, entry.uid, entry.gid)
            for name, value in entry.xattrs.items():
                set_own(fd, name, value)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            there = os.fstat(fd)
            if there.st_mode != mode:
                os.fchmod(fd, stat.S_IMODE(mode))
                there = os.fstat(fd)
            digest = self._digests.pop(id, None)
            if digest is not None and self._index is not None:
                self._index.put(there, digest.digest())
        finally:
            os.close(fd)
        self.written += 1

    # --- the end ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Do the work that had to wait for all files: hard links, then attributes of directories."""
        for link in self._links:
            self._link(link)
        self._links.clear()
        for entry, mode in reversed(self._made):
            fd = self._dir(entry.path)
            there = os.fstat(fd)
            same_owner = (there.st_uid, there.st_gid) == (entry.uid, entry.gid)
            self._own(fd, entry, there)
            for name in own_attributes(fd):
                if name not in entry.xattrs:
                    os.removexattr(fd, name)
            for name, value in entry.xattrs.items():
                set_own(fd, name, value)
            if there.st_mode != mode or not same_owner:
                os.fchmod(fd, stat.S_IMODE(mode))
            if there.st_mtime_ns != entry.mtime_ns:
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        self._made.clear()

    def _link(self, entry: Stat) -> None:
        folder, _, name = entry.path.rpartition(b"/")
        first_folder, _, first_name = entry.linkname.rpartition(b"/")
        parent = self._dir(folder)
        first = self._dir(first_folder)
        # The cache of descriptors holds more than two.
        target = os.stat(first_name, dir_fd=first, follow_symlinks=False)
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if os.path.samestat(target, there):
                return
            self._remove(folder, name)
        except FileNotFoundError:
            pass
        os.link(first_name, name, src_dir_fd=first, dst_dir_fd=parent, follow_symlinks=False)

    def close(self) -> None:
        """Let go of everything; a half-written file stays recognizable as such."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        self._dirs.close()

    # --- help -------------------------------------------------------------------------------------

    def _dir(self, path: bytes) -> int:
        return self._dirs.get(path)

    def _names(self, fd: int) -> dict[bytes, None]:
        return {os.fsencode(name): None for name in sorted(os.listdir(fd))}

    def _remove(self, folder: bytes, name: bytes) -> None:
        path = folder + b"/" + name if folder else name
        if self._merges:
            status = os.stat(name, dir_fd=self._dir(folder), follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise BadEntry(f"{shown(path)}, but a directory of that name is in the way")
        self._dirs.forget(path)
        parent = self._dir(folder)
        try:
            confined.remove(parent, name)
        except PermissionError:
            open_up(parent, name)
            confined.remove(parent, name)

    def _without_powers(self, entry: Stat, mode: int) -> int:
        same = (entry.uid, entry.gid) == (os.geteuid(), os.getegid())
        return mode if same else mode & ~0o6000

    def _own(self, fd: int, entry: Stat, there: os.stat_result) -> None:
        if self._owns and (there.st_uid, there.st_gid) != (entry.uid, entry.gid):
            os.fchown(fd, entry.uid, entry.gid)
