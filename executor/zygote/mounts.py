"""Mounts of the Dockerfile and the engine in a step, apart from its root [MNT].

A source is opened, and made a detached mount, before the root exists, because its kind says whether
the mount point must be a file or a directory. It is attached through descriptors: a link that a
concurrent step plants in a shared cache cannot lead anywhere but into this step's own root.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.steps.spec import StepMountType
from pybuild.executor.zygote import (
    confined,
    isolation,
    kernelfs,
    nodes,
    overlay,
    rootfs,
    syscalls,
)
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer import ownership
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.executor.steps.spec import StepKind, StepMount, StepSpec

_CLONE = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE


class DetachedMount:
    """A mount that waits for its place. *is_kept*: what is written to it outlives the step."""

    def __init__(
        self, target: str, mount_fd: int, *, directory: bool, is_kept: bool = False
    ) -> None:
        self.target = target
        self.mount_fd = mount_fd
        self.directory = directory
        self.is_kept = is_kept


class EngineFiles:
    """A tmpfs of this step, for what the engine writes: hosts, resolv.conf, secrets.

    It is mounted on *path* until something else is: the files are mounts by then.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = 0
        kernelfs.attach(
            overlay.tmpfs(mode=0o700, attributes=kernelfs.PLAIN & ~syscalls.MOUNT_ATTR_NOEXEC),
            syscalls.AT_FDCWD,
            path,
        )

    def add(
        self, data: bytes, mode: int, uid: int = 0, gid: int = 0, *, writable: bool = False
    ) -> int:
        """Write a file and return a mount of it, which is read-only unless it is to be *writable*."""
        path = f"{self._path}/{self._count}"
        self._count += 1
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(fd, data)
            if (uid or gid) and isolation.records():
                ownership.try_owner(fd, uid, gid)
            elif uid or gid:
                try:
                    os.fchown(fd, uid, gid)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        raise isolation.unmapped_id(f"secret for {uid}:{gid}") from error
                    raise
            os.fchmod(fd, mode & 0o777)
        finally:
            os.close(fd)
        tree = syscalls.open_tree(syscalls.AT_FDCWD, path)
        attributes = kernelfs.PLAIN | (0 if writable else syscalls.MOUNT_ATTR_RDONLY)
        if mode & 0o111:
            attributes &= ~syscalls.MOUNT_ATTR_NOEXEC
        syscalls.mount_setattr(tree, attributes)
        return tree

    def add_node(self, status: os.stat_result) -> int:
        """Make a device node like one of the host, and return a mount of it; 0 if we may not."""
        path = f"{self._path}/{self._count}"
        self._count += 1
        if not nodes.copy(path, status):
            return 0
        tree = syscalls.open_tree(syscalls.AT_FDCWD, path)
        attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
        syscalls.mount_setattr(tree, attributes, clear=syscalls.MOUNT_ATTR_NODEV)
        return tree


def system_files(
    spec: StepSpec | StepKind, files: EngineFiles, *, writable: bool = False
) -> list[DetachedMount]:
    """Return mounts of the files in /etc that the engine writes."""
    return [
        DetachedMount(target, files.add(content, 0o644, writable=writable), directory=False)
        for target, content in (("/etc/hosts", spec.hosts), ("/etc/resolv.conf", spec.resolv_conf))
        if content is not None
    ]


def prepare(spec: StepSpec, layout: rootfs.Layout, files: EngineFiles) -> list[DetachedMount]:
    """Return the step's mounts, outer targets before those inside them.

    Raises:
        Fault: user; a source that is not there.
    """
    # A container may change its own [CTR-16].
    writable = spec.lasting and not spec.readonly
    prepared = system_files(spec, files, writable=writable)
    if spec.is_container:
        name = files.add(f"{spec.hostname}\n".encode(), 0o644, writable=writable)
        prepared.append(DetachedMount("/etc/hostname", name, directory=False))
    nodev = 0 if spec.insecure else syscalls.MOUNT_ATTR_NODEV
    for index, mount in enumerate(spec.mounts):
        target = os.path.normpath("/" + mount.target.lstrip("/"))
        if target == "/":
            raise Fault(USER, 'invalid mount target "/"')
        tree, directory = _source(mount, layout, files, index, nodev)
        is_kept = bool(mount.upper) and not mount.readonly
        prepared.append(DetachedMount(target, tree, directory=directory, is_kept=is_kept))
    return sorted(prepared, key=lambda p: p.target.split("/"))


def _source(
    mount: StepMount, layout: rootfs.Layout, files: EngineFiles, index: int, nodev: int
) -> tuple[int, bool]:
    match mount.type:
        case StepMountType.TMPFS:
            return _tmpfs(mount, nodev), True
        case StepMountType.SECRET:
            mode = 0o400 if mount.mode is None else mount.mode
            return files.add(mount.data, mode, mount.uid, mount.gid), False
        case StepMountType.DEVICE:
            return _device(mount.source, files), False
        case StepMountType.BIND_PATH:
            tree = _path(mount, layout, index)
        case StepMountType.BIND_OVERLAY:
            tree = _stack(mount, mount.lowers, layout, index)
        case other:
            raise Fault(USER, f'unsupported mount type "{other}"')
    readonly = syscalls.MOUNT_ATTR_RDONLY if mount.readonly else 0
    if readonly | nodev:
        syscalls.mount_setattr(tree, readonly | nodev, recursive=True)
    return tree, stat.S_ISDIR(os.fstat(tree).st_mode)


def _tmpfs(mount: StepMount, nodev: int) -> int:
    options = {"uid": str(mount.uid), "gid": str(mount.gid)}
    if isolation.records():
        options = {}  # All ids share it; who owns it is not asked.
    return overlay.tmpfs(
        size_bytes=mount.size_bytes,
        mode=0o1777 if mount.mode is None else mount.mode,
        attributes=syscalls.MOUNT_ATTR_NOSUID
        | nodev
        | (syscalls.MOUNT_ATTR_NOEXEC if mount.noexec else 0),
        **{key: value for key, value in options.items() if value != "0"},
    )


def _path(mount: StepMount, layout: rootfs.Layout, index: int) -> int:
    source = mount.source
    if mount.discard_writes and not mount.readonly and os.path.isdir(source):
        return _stack(mount, [source], layout, index)
    try:
        base = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Fault(USER, f'mount source "{source}": {(error.strerror or "").lower()}') from error
    try:
        return _select(base, mount.selector, _CLONE)
    finally:
        os.close(base)


def _device(source: str, files: EngineFiles) -> int:
    """Return a mount of a device node that can be opened, unlike those in all other mounts."""
    try:
        fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Fault(USER, f'device "{source}": {(error.strerror or "").lower()}') from error
    try:
        status = os.fstat(fd)
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise Fault(USER, f'device "{source}": not a device')
        return files.add_node(status) or nodes.readonly(fd)
    finally:
        os.close(fd)


def _stack(mount: StepMount, lowers: Sequence[str], layout: rootfs.Layout, index: int) -> int:
    """Mount deltas aside and return a bind of what is selected of them.

    Writes go to where they are kept, or to an upper directory in the step's work directory that is
    deleted with it.
    """
    place = f"{layout.mounts}/{index}"
    os.makedirs(place + "/root")
    upper = work = None
    if not mount.readonly:
        upper, work = mount.upper, mount.work
        if not upper:
            upper, work = place + "/upper", place + "/work"
            os.mkdir(upper, 0o755)
            os.mkdir(work, 0o755)
        if lowers:
            status = os.stat(lowers[-1])
            rootfs.copy_owner(status, upper)
            os.chmod(upper, status.st_mode & 0o7777)
            if not mount.upper:  # what is kept has the time at which it was made
                os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        overlay.mount_overlay(
            place + "/root", lowers, upper, work, userxattr=isolation.uses_userxattr()
        )
    except OSError as error:
        raise rootfs.overlay_fault(error) from error
    base = os.open(place + "/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _select(base, mount.selector, syscalls.OPEN_TREE_CLONE)
    finally:
        os.close(base)


def _select(base: int, selector: str, flags: int) -> int:
    """Return a detached bind of *selector* inside *base*, links resolved inside it [MNT-13]."""
    inside = selector.strip("/")
    if not inside:
        return syscalls.open_tree(base, "", flags)
    try:
        chosen = confined.open_in(base, inside)
    except OSError as error:
        text = "not found" if error.errno == errno.ENOENT else (error.strerror or "").lower()
        raise Fault(USER, f'mount source "{selector}": {text}') from error
    try:
        return syscalls.open_tree(chosen, "", flags)
    finally:
        os.close(chosen)


def attach(root_fd: int, mount: DetachedMount) -> None:
    """Put a mount in its place. One inside another mount gets its mount point made there.

    Raises:
        Fault: user; there is no place for it.
    """
    target = mount.target
    try:
        if not confined.exists(root_fd, target):
            confined.make_missing(root_fd, target, directory=mount.directory)
        place = confined.open_in(root_fd, target)
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode) != mount.directory:
                raise OSError(errno.ENOTDIR, "")
            syscalls.move_mount(mount.mount_fd, place)
        finally:
            os.close(place)
            os.close(mount.mount_fd)
    except OSError as error:
        kind = "a directory" if mount.directory else "a file"
        text = (error.strerror or "").lower()
        hints: tuple[str, ...] = ()
        if error.errno == errno.EROFS:
            text = "its mount point is missing in a read-only mount"
            hints = ("create it in that mount's source, or mount that one with rw",)
        elif error.errno in (errno.ENOTDIR, errno.EISDIR):
            text = f"the source is {kind}, the target is not"
        raise Fault(USER, f'mount target "{target}": {text}', hints) from error
