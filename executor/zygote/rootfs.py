"""A step's root: the overlay of its deltas, with a place for every mount and no trace of any.

Mount points that the image lacks are not made in the upper directory, where they, and the
directories copied up for them, would have to be taken out again. They lie in a throw-away lower
directory at the very bottom of the stack: whatever the image has wins over it, so it only adds what
nobody has, and the upper stays clean by construction [MNT-22, SBX-17]. If the step writes next to a
mount point, overlay copies the directory up, and it stays, as it should.

The bottom is hidden where a layer above deleted the path, replaced the directory (opaque) or has a
link on the way. Then the targets are looked up in the mounted tree, and a second throw-away lower,
this time on top, holds what is still missing; directories in it that exist below carry their
metadata, because there they win.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import confined, isolation, overlay, syscalls
from pybuild.executor.zygote.faults import (
    ENVIRONMENT,
    INTERNAL,
    USER,
    Fault,
    describe_os_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What a step without mounts of its own needs in its root; told apart by `Layout.bottom`.
KERNELS = (("/proc", True), ("/dev", True), ("/sys", True))
_USUAL = frozenset({*KERNELS, ("/etc/hosts", False), ("/etc/resolv.conf", False)})


class Layout:
    """The parts of a step's work directory.

    A dozen files of its own, made and deleted, would be a third of what a trivial step takes. So the
    steps of a build share, in *common*, the directory that each mounts its root on, in a namespace
    of its own, and the lower directory that most of them have at the bottom.
    """

    def __init__(self, work: str, common: str = "") -> None:
        self._work = work
        self._common = common
        self.root = (common or work) + "/root"
        self.top = work + "/top"
        self.overlay_work = (work + "/overlay", work + "/overlay-again")
        self.mounts = work + "/mounts"
        if not common:
            os.mkdir(self.root, 0o755)
        os.mkdir(self.overlay_work[0], 0o755)

    def bottom(self, targets: list[tuple[str, bool]]) -> str:
        """Return a directory with the mount points *targets*.

        It must be on the file system of the upper directory: else the files of the tree would not
        all seem to be on one, and a step's ``tar --one-file-system`` would leave most of them out.
        """
        usual = bool(self._common) and frozenset(targets) == _USUAL
        shared = self._common + "/bottom"
        if usual and os.path.isdir(shared):
            return shared
        own = self._work + "/bottom"
        os.mkdir(own, 0o755)
        for path, directory in targets:
            _make(own, [p for p in path.split("/") if p not in ("", ".", "..")], directory)
        if not usual:
            return own
        try:
            os.rename(own, shared)
        except OSError:  # another step was faster
            return own
        return shared


def remove_work(work: str) -> None:
    """Remove a step's work directory if its one overlay is all that was in it.

    What any other step has left is for the caller to find.
    """
    overlay.remove_work(work + "/overlay")
    try:
        os.rmdir(work)
    except OSError:
        pass


def mount_root(
    layout: Layout,
    lowers: Sequence[str],
    upper: str,
    targets: list[tuple[str, bool]],
    *,
    insecure: bool,
    detached: bool = False,
) -> int:
    """Mount the root and return a descriptor of it; every target then exists inside.

    Args:
        targets: ``(path, is a directory)`` of the mount points that the root must have.
        detached: mount it nowhere, and take names of directories from the working directory.

    Raises:
        Fault: user, a target cannot be; environment, overlay does not work here.
    """
    if lowers:
        _copy_metadata(lowers[-1], upper)
    stack = [layout.bottom(targets), *lowers]
    root_fd = _mount(layout, stack, upper, 0, detached=detached)
    missing = [t for t in targets if not _exists(root_fd, t[0])]
    if missing:
        located = [(_locate(root_fd, path), directory) for path, directory in missing]
        os.mkdir(layout.top, 0o755)
        os.mkdir(layout.overlay_work[1], 0o755)
        _copy_metadata_fd(root_fd, layout.top)
        for (real, count), directory in located:
            _make_on_top(root_fd, layout.top, real, count, directory)
        os.close(root_fd)
        if not detached:
            syscalls.umount2(layout.root)
        # A work directory that volatile has used once is refused the second time.
        stack = [*stack, layout.top]
        root_fd = _mount(layout, stack, upper, 1, detached=detached)
        for path, _ in missing:
            if not _exists(root_fd, path):
                raise Fault(INTERNAL, f'mount point "{path}" is still missing in the root')
    if not insecure:
        # See `kernelfs`: a step may make device nodes and not open them.
        syscalls.mount_setattr(root_fd, syscalls.MOUNT_ATTR_NODEV)
    return root_fd


def _mount(layout: Layout, lowers: list[str], upper: str, turn: int, *, detached: bool) -> int:
    work, userxattr = layout.overlay_work[turn], isolation.uses_userxattr()
    try:
        if detached:
            return overlay.detached_overlay(lowers, upper, work, userxattr=userxattr)
        overlay.mount_overlay(layout.root, lowers, upper, work, userxattr=userxattr)
    except OSError as error:
        raise overlay_fault(error) from error
    return os.open(layout.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def overlay_fault(error: OSError) -> Fault:
    """Return the fault for the user when overlay refuses."""
    hints: tuple[str, ...] = ()
    if error.errno in (errno.EPERM, errno.EINVAL) and isolation.uses_userxattr():
        hints = (
            "rootless builds need overlay in user namespaces: Linux 5.11 or later, and a store "
            + "that is itself not on overlay, NFS or FUSE",
            "name another directory with --root or PYBUILD_ROOT, or install uidmap, or run as root",
        )
    elif error.errno == errno.EINVAL:
        hints = ("put the store on ext4, xfs, btrfs or tmpfs; overlay cannot write on overlay",)
    elif error.errno == errno.ENODEV:
        hints = ("load the kernel's overlay module: modprobe overlay",)
    return Fault(ENVIRONMENT, describe_os_error(error, "cannot mount the step's root"), hints)


def _exists(root_fd: int, path: str) -> bool:
    try:
        return confined.exists(root_fd, path)
    except OSError as error:
        raise _bad_target(path, error) from error


def _locate(root_fd: int, path: str) -> tuple[list[str], int]:
    try:
        return confined.locate(root_fd, path)
    except OSError as error:
        raise _bad_target(path, error) from error


def _bad_target(path: str, error: OSError) -> Fault:
    where = f" ({error.filename})" if error.filename and error.filename != path else ""
    return Fault(USER, f'mount target "{path}": {(error.strerror or "").lower()}{where}')


def _make(base: str, parts: list[str], directory: bool) -> None:
    """Make a mount point in a tree of ours, which holds nothing but directories and empty files."""
    path = base
    for index, part in enumerate(parts):
        path += "/" + part
        try:
            if directory or index < len(parts) - 1:
                os.mkdir(path, 0o755)
            else:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            pass
        except NotADirectoryError as error:
            raise Fault(USER, f'mount target "{"/".join(["", *parts])}" lies in a file') from error


def _make_on_top(root_fd: int, top: str, real: list[str], missing: int, directory: bool) -> None:
    existing = len(real) - missing
    for depth in range(1, existing + 1):
        path = top + "/" + "/".join(real[:depth])
        if not os.path.isdir(path):
            os.mkdir(path)
    _make(top, real, directory)
    for depth in range(existing, 0, -1):
        fd = confined.open_in(root_fd, "/".join(real[:depth]), links=False)
        try:
            _copy_metadata_fd(fd, top + "/" + "/".join(real[:depth]))
        finally:
            os.close(fd)


def _copy_metadata(source: str, target: str) -> None:
    fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _copy_metadata_fd(fd, target)
    finally:
        os.close(fd)


def copy_owner(status: os.stat_result, target: str) -> None:
    """Give *target* the owner that *status* tells, unless this user namespace has no such id."""
    try:
        os.chown(target, status.st_uid, status.st_gid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _copy_metadata_fd(source_fd: int, target: str) -> None:
    """Give the directory *target* the owner, mode, times and attributes of another."""
    own = f"/proc/self/fd/{source_fd}"
    status = os.stat(source_fd)
    copy_owner(status, target)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(own):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            try:
                os.setxattr(target, name, os.getxattr(own, name))
            except OSError as error:
                # Labels and other owners' attributes in a user namespace: never ours to set.
                if error.errno not in (errno.EPERM, errno.ENOTSUP):
                    raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
