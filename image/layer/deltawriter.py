"""A delta directory being filled from a stranger's archive, entry by entry [IMG-12..15].

Every path is walked inside the delta by descriptor; links on the way are resolved by us, inside the
root, as the peers do for layers made on merged ``/usr`` trees; files are created exclusively; names
with ``..`` are refused. The directory must be ours alone meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.image.layer import confined, overlayfs
from pybuild.image.layer.attributes import CREATE, Attributes
from pybuild.image.layer.descent import OPEN_DIR
from pybuild.image.layer.faults import refuse, shown
from pybuild.image.layer.lowerstack import LowerStack
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pybuild.image.layer.tarreader import Member, TarReader

    _T = TypeVar("_T")

_MAX_LINKS = 40
_PATH_MAX = 4095


class NeedsLowers(Exception):
    """The layer can only be applied knowing what lies below it; the message names the path."""


class Delta:
    """A delta directory while a layer is being applied to it."""

    def __init__(
        self, root_dir: str, *, userxattr: bool, lowers: Sequence[str] | None, record_owners: bool
    ) -> None:
        self._own = overlayfs.namespace(userxattr)
        self._attributes = Attributes(userxattr=userxattr, record_owners=record_owners)
        self._lowers = None if lowers is None else LowerStack(lowers, userxattr=userxattr)
        self._mtimes: dict[bytes, int] = {}
        self._opaque: set[bytes] = set()
        self._rooted = False
        self._path = root_dir
        self._root = os.open(root_dir, OPEN_DIR)
        self._noted = overlayfs.is_overlay(self._root)
        # The directory of the last entry: archives stay in one for long.
        self._named: bytes | None = b""
        self._at = b""
        self._at_fd = os.dup(self._root)

    def close(self) -> None:
        os.close(self._at_fd)
        os.close(self._root)

    def add(self, member: Member, reader: TarReader) -> None:
        """Make what one entry of the archive says."""
        name = _clean(member.name)
        if not name:
            if member.kind != b"5":
                raise refuse(f"layer has an entry without a name: {shown(member.name)}")
            self._describe(self._root, b"", member)
            self._rooted = True
            return
        directory, _, base = name.rpartition(b"/")
        if b".wh." in name and self._marker(name, directory, base):
            return
        fd, real = self._enter(directory)
        path = real + b"/" + base if real else base
        match member.kind:
            case b"0":
                self._file(fd, path, base, member, reader)
            case b"5":
                self._directory(fd, path, base, member)
            case b"1":
                self._link(fd, path, base, member)
            case b"2":
                self._retry(fd, base, lambda: os.symlink(member.link, base, dir_fd=fd))
                self._attributes.set_leaf(fd, base, member)
            case _:
                self._device(fd, path, base, member)

    def finish(self) -> None:
        """Set what later entries would have disturbed: directories' times, the root's own state."""
        if b"" in self._opaque:
            self._hide_root()
        if not self._rooted:
            self._describe_root()
        for path, time_ns in self._mtimes.items():
            try:
                fd = confined.open_beneath(self._root, path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later entry has put something else there
                raise
            try:
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)
        self._attributes.finish(self._path)

    # --- markers ----------------------------------------------------------------------------------

    def _marker(self, name: bytes, directory: bytes, base: bytes) -> bool:
        """Do what a ``.wh.`` name means; False: there is none in *name*."""
        parts = directory.split(b"/")
        if any(part.startswith(b".wh..wh.") for part in parts):
            return True  # below one of aufs' private directories
        if any(part.startswith(overlayfs.WHITEOUT_PREFIX) for part in parts):
            raise refuse(f"layer has an entry below a whiteout: {shown(name)}")
        if not base.startswith(overlayfs.WHITEOUT_PREFIX):
            return False
        if base == overlayfs.OPAQUE_NAME:
            fd, real = self._enter(directory)
            self._set_opaque(fd, real)
            return True
        if base.startswith(b".wh..wh."):
            return True  # aufs' private files, as in layers of old engines
        hidden = base[len(overlayfs.WHITEOUT_PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise refuse(f"layer has a whiteout of nothing: {shown(name)}")
        fd, real = self._enter(directory)
        try:
            overlayfs.make_whiteout(fd, hidden)
        except FileExistsError:
            # Deletion is meant for the layers below; what this layer brings stays [IMG-12]. A
            # directory of its own must then not merge with the deleted one.
            status = os.stat(hidden, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(hidden, OPEN_DIR, dir_fd=fd)
                try:
                    self._set_opaque(inner, real + b"/" + hidden if real else hidden)
                finally:
                    os.close(inner)
        return True

    def _set_opaque(self, fd: int, path: bytes) -> None:
        self._opaque.add(path)
        if path:
            overlayfs.set_opaque(fd, self._own)

    def _hide_root(self) -> None:
        """Hide all below; overlayfs does not look for the attribute on a layer's root."""
        if self._lowers is None:
            raise NeedsLowers("/.wh..wh..opq")
        for name in self._lowers.names(b""):
            try:
                overlayfs.make_whiteout(self._root, name)
            except FileExistsError:
                status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    fd = os.open(name, OPEN_DIR, dir_fd=self._root)
                    try:
                        self._set_opaque(fd, name)
                    finally:
                        os.close(fd)

    def _describe_root(self) -> None:
        """Give a root that has no entry the look of the one below, else 0755 of root's."""
        below = self._lowers.find(b"") if self._lowers is not None else None
        if below is not None:
            self._mtimes[b""] = self._attributes.copy_directory(self._root, below)
            return
        self._attributes.chown(self._root, 0, 0)
        os.fchmod(self._root, 0o755)
        self._mtimes[b""] = 0

    # --- entries ----------------------------------------------------------------------------------

    def _file(self, fd: int, path: bytes, base: bytes, member: Member, reader: TarReader) -> None:
        # Its mode is what it should be, but for the umask and the bits that only chmod should set.
        mode = member.mode & 0o777
        file = self._retry(fd, base, lambda: os.open(base, CREATE, mode, dir_fd=fd))
        try:
            for piece in reader.chunks():
                write_all(file, piece)
            self._attributes.set_file(file, member)
        finally:
            os.close(file)

    def _directory(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        fresh, mode = False, member.mode & 0o777
        try:
            os.mkdir(base, mode, dir_fd=fd)
        except FileExistsError:
            status = os.stat(base, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                # Deleted or replaced first: what is below must not show through.
                self._named = None
                os.unlink(base, dir_fd=fd)
                os.mkdir(base, mode, dir_fd=fd)
                fresh = True
        inner = os.open(base, OPEN_DIR, dir_fd=fd)
        try:
            self._describe(inner, path, member)
            if fresh:
                self._set_opaque(inner, path)
        finally:
            os.close(inner)

    def _describe(self, fd: int, path: bytes, member: Member) -> None:
        self._attributes.set_directory(fd, member)
        self._mtimes[path] = member.mtime_ns

    def _link(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        target = _clean(member.link)
        directory, _, name = target.rpartition(b"/")
        if not name or name.startswith(overlayfs.WHITEOUT_PREFIX):
            raise refuse(f"hard link {shown(path)} has the bad target {shown(member.link)}")
        # The descriptor in `fd` may be replaced by walking to the target.
        link_dir = os.dup(fd)
        try:
            target_dir, real = self._enter(directory)
            target = real + b"/" + name if real else name
            if target == path:
                raise refuse(f"hard link {shown(path)} points to itself")
            self._need_target(target_dir, target, name, path)
            target_dir = os.dup(target_dir)
            try:
                self._retry(
                    link_dir,
                    base,
                    lambda: os.link(
                        name,
                        base,
                        src_dir_fd=target_dir,
                        dst_dir_fd=link_dir,
                        follow_symlinks=False,
                    ),
                )
            finally:
                os.close(target_dir)
        finally:
            os.close(link_dir)

    def _need_target(self, fd: int, target: bytes, name: bytes, path: bytes) -> None:
        """See that a hard link's target is in the delta, copied up if it lies below [IMG-15]."""
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            below = self._below(target)
            if below is None:
                raise refuse(
                    f"hard link {shown(path)} points to {shown(target)}, which is not there"
                ) from None
            if stat.S_ISDIR(os.lstat(below).st_mode):
                raise refuse(
                    f"hard link {shown(path)} points to the directory {shown(target)}"
                ) from None
            self._attributes.copy_up(fd, name, below)
            return
        if stat.S_ISDIR(status.st_mode) or overlayfs.is_whiteout(
            status, fd, name, noted=self._noted
        ):
            raise refuse(f"hard link {shown(path)} points to {shown(target)}, which is no file")

    def _device(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        kinds = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
        number = os.makedev(member.major, member.minor)
        if member.kind == b"3" and number == 0:
            raise refuse(f"layer has the device 0:0 {shown(path)}, which would hide what is below")
        mode = kinds[member.kind] | 0o600
        self._retry(fd, base, lambda: self._attributes.device(fd, base, mode, number))
        self._attributes.set_leaf(fd, base, member)

    def _retry(self, fd: int, base: bytes, make: Callable[[], _T]) -> _T:
        """Make something new, in place of whatever this layer already has there [IMG-14]."""
        try:
            return make()
        except FileExistsError:
            # What is noted of a directory that goes, and of those below, does no harm: one that is
            # made there later notes its own, and hides what is below as this did.
            self._named = None
            confined.remove(fd, base)
            return make()

    # --- directories on the way -------------------------------------------------------------------

    def _enter(self, directory: bytes) -> tuple[int, bytes]:
        """Return a descriptor of *directory*, good until the next call, and its real path."""
        if directory == self._named:
            return self._at_fd, self._at
        real = directory
        try:
            fd = confined.open_beneath(self._root, directory)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                raise
            real = self._resolve(directory)
            fd = confined.open_beneath(self._root, real)
        os.close(self._at_fd)
        self._named, self._at, self._at_fd = directory, real, fd
        return fd, real

    def _resolve(self, directory: bytes) -> bytes:
        """Walk to *directory* inside the root, through links; make what the layer left out."""
        todo = directory.split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if done:
                    done.pop()
                continue
            path = b"/".join([*done, part])
            link = self._pass(b"/".join(done), part, path)
            if link is None:
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise refuse(f"too many links on the way to {shown(directory)}")
            if link.startswith(b"/"):
                done.clear()
            todo.extend(link.split(b"/")[::-1])
        return b"/".join(done)

    def _pass(self, parent: bytes, part: bytes, path: bytes) -> bytes | None:
        """Make sure that *path* is a directory of the delta, or return where its link leads."""
        fd = confined.open_beneath(self._root, parent)
        try:
            try:
                status = os.stat(part, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                below = self._below(path)
                if below is not None:
                    mode = os.lstat(below).st_mode
                    if stat.S_ISLNK(mode):
                        return os.readlink(below)
                    if not stat.S_ISDIR(mode):
                        raise refuse(
                            f"layer has entries below {shown(path)}, a file of a lower layer"
                        ) from None
                self._imply(fd, part, path, below)
                return None
            if stat.S_ISDIR(status.st_mode):
                return None
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(part, dir_fd=fd)
            if not overlayfs.is_whiteout(status, fd, part, noted=self._noted):
                raise refuse(f"layer has entries below {shown(path)}, which is no directory")
            os.unlink(part, dir_fd=fd)
            self._imply(fd, part, path, None)
            inner = os.open(part, OPEN_DIR, dir_fd=fd)
            try:
                self._set_opaque(inner, path)
            finally:
                os.close(inner)
            return None
        finally:
            os.close(fd)

    def _below(self, path: bytes) -> bytes | None:
        """Return the place of *path* in the layers below, unless this layer has already hidden it."""
        parts = path.split(b"/")[:-1]
        if self._opaque and any(
            b"/".join(parts[:count]) in self._opaque for count in range(len(parts) + 1)
        ):
            return None
        if self._lowers is None:
            raise NeedsLowers(os.fsdecode(b"/" + path))
        return self._lowers.find(path)

    def _imply(self, fd: int, name: bytes, path: bytes, below: bytes | None) -> None:
        """Make a directory that the layer has no entry for."""
        os.mkdir(name, 0o700, dir_fd=fd)
        inner = os.open(name, OPEN_DIR, dir_fd=fd)
        try:
            if below is not None:
                self._mtimes[path] = self._attributes.copy_directory(inner, below)
                return
            self._attributes.chown(inner, 0, 0)
            os.fchmod(inner, 0o755)
            self._mtimes[path] = 0
        finally:
            os.close(inner)


def _clean(name: bytes) -> bytes:
    """Return a relative path without empty and ``.`` parts.

    Raises:
        EnvironmentFault: it has ``..``, a NUL, or more bytes than a path may have.
    """
    if b"\0" in name:
        raise refuse(f"layer has a name with a NUL: {shown(name)}")
    if len(name) > _PATH_MAX:
        raise refuse(f"layer has a name of {len(name)} bytes: {shown(name[:60])}…")
    if b"//" in name or b"./" in name or name[:1] in b"/." or name[-1:] in b"/.":
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise refuse(f"layer has a name that leaves its directory: {shown(name)}")
        return b"/".join(parts)
    return name
