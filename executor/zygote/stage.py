"""The part of a root that is the same for each step, made in its process ahead of any step.

That is /proc, /dev and /sys with all that is masked in them, hosts and resolv.conf; and where the
kernel lets layers be taken from a detached mount (since Linux 6.15), the host's tree has been left by
then. To leave it the kernel waits for all processors, which is long where they are busy. Of the host
only the store remains, as a mount that hangs nowhere and is reached by a descriptor alone. The
root is then mounted over the stage's own tmpfs, in which there is nothing, rather than exchanged with
it, for which the kernel would wait again. What lies below a namespace's root cannot be
reached from it, not by leaving a chroot either: ``..`` of the lowest root leads to the highest.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import kernelfs, mounts, overlay, rootfs, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepKind, StepSpec

_PLACE = "/proc/fs"  # of the host's file system a directory that is everywhere and means nothing
_KERNELS = ("proc", "dev", "sys")
_FILES = "files"
_PARTS = ("snapshots", "tmp")  # of a store, in which steps have their directories


class Anchor:
    """The zygote's hold on a store, for steps that have left the host's tree.

    It outlives them: the last one to close such a mount waits until nobody uses it.
    """

    def __init__(self) -> None:
        self._store = ""
        self._made_of = (0, 0)
        self.fd = -1

    def hold(self, store: str) -> int:
        """Return *store* as a directory of a detached mount; -1: roots cannot be made of that."""
        made_of = _identity(store)
        if (store, made_of) != (self._store, self._made_of):
            syscalls.close_quietly(self.fd)
            self._store, self._made_of = store, made_of
            self.fd = _detached(store) if store else -1
        return self.fd


def _identity(path: str, fd: int | None = None) -> tuple[int, int]:
    try:
        status = os.stat(path, dir_fd=fd)
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _detached(store: str) -> int:
    try:
        fd = syscalls.open_tree(syscalls.AT_FDCWD, store)
    except OSError:
        return -1
    plain = syscalls.RESOLVE_NO_XDEV | syscalls.RESOLVE_NO_SYMLINKS
    try:
        for name in _PARTS:
            os.close(syscalls.openat2(fd, name, os.O_PATH | os.O_DIRECTORY, plain))
            if _identity(name, fd) != _identity(f"{store}/{name}"):
                raise OSError(errno.EXDEV, "something is mounted there", name)
        overlay.try_detached(fd, list(_PARTS))
    except OSError:
        os.close(fd)
        return -1
    return fd


class StagedRoot:
    """The mounts that wait for a root to be in. For the step's process.

    Args:
        kind: of the steps that it can be for.
        store_fd: as from `Anchor.hold`.

    Attributes:
        is_away: nothing of the host's tree can be reached any more; the working directory is the
            store.
        files: mounts of hosts and resolv.conf.
    """

    def __init__(self, kind: StepKind, store_fd: int) -> None:
        tmpfs = overlay.tmpfs(size_bytes=4096 * 16, attributes=syscalls.MOUNT_ATTR_NODEV)
        kernelfs.attach(tmpfs, syscalls.AT_FDCWD, _PLACE)
        self._fd = os.open(_PLACE, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in (*_KERNELS, _FILES):
            os.mkdir(name, 0o755, dir_fd=self._fd)
        own_network = kind.connecting is not None
        kernelfs.mount_all(self._fd, own_network=own_network, insecure=False, shm_bytes=0)
        kernelfs.hide(self._fd)
        self.files = mounts.system_files(kind, mounts.EngineFiles(f"{_PLACE}/{_FILES}"))
        self._store = kind.store + "/"
        self.is_away = store_fd >= 0
        if self.is_away:
            os.fchdir(self._fd)
            syscalls.pivot_root(".", ".")
            syscalls.umount2(".", syscalls.MNT_DETACH)
            os.fchdir(store_fd)

    def mount_root(self, spec: StepSpec) -> int:
        """Make the root of a step, over ours, from where the host cannot be reached.

        Raises:
            Fault: as `rootfs.mount_root`.
        """
        work, common, upper = map(self._inside, (spec.work, spec.common, spec.upper))
        lowers = list(map(self._inside, spec.lowers))
        layout = rootfs.Layout(work, common)
        targets = [*rootfs.KERNELS, *((file.target, False) for file in self.files)]
        root_fd = rootfs.mount_root(layout, lowers, upper, targets, insecure=False, detached=True)
        syscalls.move_mount(root_fd, syscalls.AT_FDCWD, "/")
        self.move(root_fd)
        for file in self.files:
            mounts.attach(root_fd, file)
        return root_fd

    def _inside(self, path: str) -> str:
        return path.removeprefix(self._store)

    def move(self, root_fd: int) -> None:
        """Move what the kernel brings along into the root.

        Raises:
            Fault: user, the place of one of them is a link in the image.
        """
        for name in _KERNELS:
            place = kernelfs.place(root_fd, "/" + name)
            try:
                tree = syscalls.open_tree(self._fd, name, 0)
                try:
                    syscalls.move_mount(tree, place)
                finally:
                    os.close(tree)
            finally:
                os.close(place)
        os.close(self._fd)
