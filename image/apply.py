"""From a layer tar to a delta directory: what an overlay upper directory would hold [IMG-12..17].

Whiteouts become character devices 0:0 and opaque markers become attributes, so nothing below is
touched and one unpacked layer serves every image that has it. Only where a layer leaves something
out (the entry of a parent directory, the target of a hard link) are the layers below asked.

The archive is a stranger's. Every path is walked inside the delta by descriptor; links on the way
are resolved by us, inside the root, as the peers do for layers made on merged ``/usr`` trees; files
are created exclusively; names with ``..`` are refused. The directory must be ours alone meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.image import confined, overlayfs
from pybuild.image.compression import LayerSource, write_all
from pybuild.image.lowers import LowerStack
from pybuild.image.refusal import refuse, shown
from pybuild.image.tarreader import Member, TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
_PATH_MAX = 4095
_TELL_EVERY = 4 << 20


class NeedsLowers(Exception):
    """The layer can only be applied knowing what lies below it; the message names the path."""


def apply_layer(
    stream: Callable[[], bytes],
    root_dir: str,
    *,
    userxattr: bool,
    lowers: list[str] | None,
    ignore_chown: bool = False,
) -> dict[str, int]:
    """Unpack the layer tar from *stream* into the empty directory *root_dir*.

    Args:
        stream: returns the next piece of the uncompressed tar, nothing at its end. What follows
            the end of the archive is left unread.
        lowers: delta directories below, base first; empty for a base layer; None: not known.
        ignore_chown: go on where owners cannot be set (one id in the user namespace).

    Returns counts: ``entries``, ``bytes`` of content, ``devices_skipped`` and ``xattrs_skipped``
    (what a user namespace or the file system did not allow).

    Raises:
        NeedsLowers: *lowers* is None and the layer refers to what is below.
        EnvironmentFault: the archive is damaged, or something no layer may contain.
    """
    delta = _Delta(root_dir, userxattr=userxattr, lowers=lowers, ignore_chown=ignore_chown)
    try:
        reader = TarReader(stream)
        while (member := reader.next()) is not None:
            try:
                delta.add(member, reader)
            except OSError as error:
                raise refuse(
                    f"cannot unpack {shown(member.name)}: {error.strerror or error}"
                ) from error
            except (ValueError, OverflowError) as error:
                raise refuse(f"cannot unpack {shown(member.name)}: {error}") from error
        delta.finish()
    finally:
        delta.close()
    return delta.stats


def apply_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Unpack a layer blob into a directory, checking both of its digests in the same pass.

    Args:
        args: ``blob``, a path (or the first of *fds*); ``target``, an existing empty directory;
            ``userxattr``; ``lowers`` or None; ``diff_id`` and ``digest``, checked where given;
            ``size`` of the blob, checked where given; ``max_bytes`` uncompressed, or None;
            ``ignore_chown``. ``media_type`` is accepted and not believed.
        progress: is told ``{"current": compressed bytes so far}`` now and then.

    Returns ``{"diff_id", "digest", "size", "needs_lowers", …counts}``, *size* being that of the
    uncompressed tar. Where ``needs_lowers`` is true nothing else is there and the target is empty
    again, as it also is after an error.
    """
    target = args["target"]
    fd = os.dup(fds[0]) if fds else os.open(args["blob"], os.O_RDONLY | os.O_CLOEXEC)
    taken = told = 0

    def read(size: int) -> bytes:
        nonlocal taken, told
        data = os.read(fd, size)
        taken += len(data)
        if taken - told >= _TELL_EVERY:
            told = taken
            progress({"current": taken})
        return data

    try:
        source = LayerSource(read, args.get("max_bytes"))
        stats = apply_layer(
            source.read,
            target,
            userxattr=bool(args.get("userxattr")),
            lowers=args.get("lowers"),
            ignore_chown=bool(args.get("ignore_chown")),
        )
        source.drain()
        _compare(args, source)
    except BaseException as error:
        _empty(target)
        if isinstance(error, NeedsLowers):
            return {"needs_lowers": True, "path": str(error)}
        raise
    finally:
        os.close(fd)
    return {
        "diff_id": source.diff_id,
        "digest": source.digest,
        "size": source.size,
        "needs_lowers": False,
        **stats,
    }


def _compare(args: dict[str, Any], source: LayerSource) -> None:
    size = args.get("size")
    if size is not None and size != source.compressed_size:
        raise refuse(f"layer blob has {source.compressed_size} bytes, expected {size}")
    for what, found in (("digest", source.digest), ("diff_id", source.diff_id)):
        wanted = args.get(what)
        if wanted is not None and wanted != found:
            name = "layer blob" if what == "digest" else "uncompressed layer"
            raise refuse(f"{name} {wanted}: got {found} after {source.compressed_size} bytes")


def _empty(target: str) -> None:
    fd = os.open(target, _OPEN_DIR)
    try:
        confined.empty(fd)
        own = [n for n in os.listxattr(fd) if n.startswith(("user.", "trusted.overlay."))]
        for name in own:
            os.removexattr(fd, name)
    finally:
        os.close(fd)


class _Delta:
    """The directory while it is being filled."""

    def __init__(
        self, root_dir: str, *, userxattr: bool, lowers: list[str] | None, ignore_chown: bool
    ) -> None:
        self._own = overlayfs.namespace(userxattr)
        self._in_userns = userxattr
        self._ignore_chown = ignore_chown
        self._lowers = None if lowers is None else LowerStack(lowers, userxattr=userxattr)
        self._mtimes: dict[bytes, int] = {}
        self._opaque: set[bytes] = set()
        self._rooted = False
        self.stats = {"entries": 0, "bytes": 0, "devices_skipped": 0, "xattrs_skipped": 0}
        self._root = os.open(root_dir, _OPEN_DIR)
        # The directory of the last entry: archives stay in one for long.
        self._named: bytes | None = b""
        self._at = b""
        self._at_fd = os.dup(self._root)

    def close(self) -> None:
        os.close(self._at_fd)
        os.close(self._root)

    def add(self, member: Member, reader: TarReader) -> None:
        """Make what one entry of the archive says."""
        self.stats["entries"] += 1
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
                self._retry(fd, path, base, lambda: os.symlink(member.link, base, dir_fd=fd))
                self._own_leaf(fd, base, member)
            case _:
                self._device(fd, path, base, member)

    def finish(self) -> None:
        """Set what later entries would have disturbed: directories' times, the root's own state."""
        if b"" in self._opaque:
            self._hide_root()
        if not self._rooted:
            self._describe_root()
        for path, time_ns in self._mtimes.items():
            fd = confined.open_beneath(self._root, path)
            try:
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)

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
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
        except FileExistsError:
            # Deletion is meant for the layers below; what this layer brings stays [IMG-12]. A
            # directory of its own must then not merge with the deleted one.
            status = os.stat(hidden, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(hidden, _OPEN_DIR, dir_fd=fd)
                try:
                    self._set_opaque(inner, real + b"/" + hidden if real else hidden)
                finally:
                    os.close(inner)
        return True

    def _set_opaque(self, fd: int, path: bytes) -> None:
        self._opaque.add(path)
        if path:
            os.setxattr(fd, self._own + "opaque", b"y")

    def _hide_root(self) -> None:
        """Hide all below; overlayfs does not look for the attribute on a layer's root."""
        if self._lowers is None:
            raise NeedsLowers("/.wh..wh..opq")
        for name in self._lowers.root_names():
            try:
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._root)
            except FileExistsError:
                status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    fd = os.open(name, _OPEN_DIR, dir_fd=self._root)
                    try:
                        self._set_opaque(fd, name)
                    finally:
                        os.close(fd)

    def _describe_root(self) -> None:
        """Give a root that has no entry the look of the one below, else 0755 of root's."""
        below = self._lowers.find(b"") if self._lowers is not None else None
        if below is not None:
            self._copy_look(self._root, b"", below)
            return
        self._chown(self._root, 0, 0)
        os.fchmod(self._root, 0o755)
        self._mtimes[b""] = 0

    # --- entries ----------------------------------------------------------------------------------

    def _file(self, fd: int, path: bytes, base: bytes, member: Member, reader: TarReader) -> None:
        file = self._retry(fd, path, base, lambda: os.open(base, _CREATE, 0o600, dir_fd=fd))
        try:
            for piece in reader.chunks():
                write_all(file, piece)
            self.stats["bytes"] += member.size
            # Order matters: chown drops setuid bits and capabilities.
            self._chown(file, member.uid, member.gid)
            if member.xattrs:
                self._set_xattrs(file, member.xattrs)
            os.fchmod(file, member.mode)
            os.utime(file, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(file)

    def _directory(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        fresh = False
        try:
            os.mkdir(base, 0o700, dir_fd=fd)
        except FileExistsError:
            status = os.stat(base, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                # Deleted or replaced first: what is below must not show through.
                self._named = None
                os.unlink(base, dir_fd=fd)
                os.mkdir(base, 0o700, dir_fd=fd)
                fresh = True
        inner = os.open(base, _OPEN_DIR, dir_fd=fd)
        try:
            self._describe(inner, path, member)
            if fresh:
                self._set_opaque(inner, path)
        finally:
            os.close(inner)

    def _describe(self, fd: int, path: bytes, member: Member) -> None:
        self._chown(fd, member.uid, member.gid)
        if member.xattrs:
            self._set_xattrs(fd, member.xattrs)
        os.fchmod(fd, member.mode)
        self._mtimes[path] = member.mtime_ns

    def _link(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        target = _clean(member.link)
        directory, _, name = target.rpartition(b"/")
        if not name or name.startswith(overlayfs.WHITEOUT_PREFIX):
            raise refuse(f"hard link {shown(path)} has the bad target {shown(member.link)}")
        # The descriptor in `fd` may be replaced by walking to the target.
        here = os.dup(fd)
        try:
            there, real = self._enter(directory)
            target = real + b"/" + name if real else name
            if target == path:
                raise refuse(f"hard link {shown(path)} points to itself")
            self._need_target(there, target, name, path)
            there = os.dup(there)
            try:
                self._retry(
                    here,
                    path,
                    base,
                    lambda: os.link(
                        name, base, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False
                    ),
                )
            finally:
                os.close(there)
        finally:
            os.close(here)

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
            self._copy_up(fd, name, below)
            return
        if stat.S_ISDIR(status.st_mode) or overlayfs.is_whiteout(status):
            raise refuse(f"hard link {shown(path)} points to {shown(target)}, which is no file")

    def _device(self, fd: int, path: bytes, base: bytes, member: Member) -> None:
        kinds = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
        number = os.makedev(member.major, member.minor)
        if member.kind == b"3" and number == 0:
            raise refuse(f"layer has the device 0:0 {shown(path)}, which would hide what is below")
        mode = kinds[member.kind] | 0o600
        try:
            self._retry(fd, path, base, lambda: os.mknod(base, mode, number, dir_fd=fd))
        except PermissionError:
            if member.kind == b"6" or not self._in_userns:
                raise
            self.stats["devices_skipped"] += 1
            return
        self._own_leaf(fd, base, member)

    def _own_leaf(self, fd: int, base: bytes, member: Member) -> None:
        try:
            os.chown(base, member.uid, member.gid, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            self._excuse_chown(error)
        if member.kind != b"2":
            os.chmod(base, member.mode, dir_fd=fd)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(base, ns=times, dir_fd=fd, follow_symlinks=False)

    def _retry(self, fd: int, path: bytes, base: bytes, make: Callable[[], _T]) -> _T:
        """Make something new, in place of whatever this layer already has there [IMG-14]."""
        try:
            return make()
        except FileExistsError:
            self._forget(path)
            confined.remove(fd, base)
            return make()

    def _forget(self, path: bytes) -> None:
        self._named = None
        below = path + b"/"
        for known in [p for p in self._mtimes if p == path or p.startswith(below)]:
            del self._mtimes[known]
        self._opaque = {p for p in self._opaque if p != path and not p.startswith(below)}

    # --- attributes -------------------------------------------------------------------------------

    def _chown(self, fd: int, uid: int, gid: int) -> None:
        try:
            os.fchown(fd, uid, gid)
        except OSError as error:
            self._excuse_chown(error)

    def _excuse_chown(self, error: OSError) -> None:
        if not self._ignore_chown or error.errno not in (errno.EINVAL, errno.EPERM):
            raise error

    def _set_xattrs(self, fd: int, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            disk = overlayfs.to_disk(name, self._own)
            if disk is None:
                self.stats["xattrs_skipped"] += 1
                continue
            try:
                os.setxattr(fd, disk, value)
            except OSError as error:
                denied = error.errno == errno.EPERM and self._in_userns
                if error.errno != errno.ENOTSUP and not denied:
                    raise
                self.stats["xattrs_skipped"] += 1

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
            if not overlayfs.is_whiteout(status):
                raise refuse(f"layer has entries below {shown(path)}, which is no directory")
            os.unlink(part, dir_fd=fd)
            self._imply(fd, part, path, None)
            inner = os.open(part, _OPEN_DIR, dir_fd=fd)
            try:
                self._set_opaque(inner, path)
            finally:
                os.close(inner)
            return None
        finally:
            os.close(fd)

    def _below(self, path: bytes) -> bytes | None:
        """Return where the layers below have *path*, unless this layer has already hidden it."""
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
        inner = os.open(name, _OPEN_DIR, dir_fd=fd)
        try:
            if below is not None:
                self._copy_look(inner, path, below)
                return
            self._chown(inner, 0, 0)
            os.fchmod(inner, 0o755)
            self._mtimes[path] = 0
        finally:
            os.close(inner)

    # --- copying up -------------------------------------------------------------------------------

    def _copy_look(self, fd: int, path: bytes, below: bytes) -> None:
        source = os.open(below, _OPEN_DIR)
        try:
            status = os.fstat(source)
            self._chown(fd, status.st_uid, status.st_gid)
            self._copy_xattrs(source, fd)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
        finally:
            os.close(source)
        self._mtimes[path] = status.st_mtime_ns

    def _copy_xattrs(self, source: int, fd: int) -> None:
        for disk, _ in overlayfs.to_image(os.listxattr(source), self._own):
            os.setxattr(fd, disk, os.getxattr(source, disk))

    def _copy_up(self, fd: int, name: bytes, below: bytes) -> None:
        status = os.lstat(below)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        if stat.S_ISREG(status.st_mode):
            source = os.open(below, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                file = os.open(name, _CREATE, 0o600, dir_fd=fd)
                try:
                    while data := os.read(source, 1 << 20):
                        write_all(file, data)
                    self._chown(file, status.st_uid, status.st_gid)
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
        try:
            os.chown(name, status.st_uid, status.st_gid, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            self._excuse_chown(error)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=fd)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)


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
