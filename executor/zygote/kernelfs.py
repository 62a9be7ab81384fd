"""The file systems that the kernel and the sandbox bring along: /proc, /dev, /sys [SBX-4..7]."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote import confined, isolation, nodes, overlay, sharing, syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, describe_os_error
from pybuild.executor.zygote.overlay import filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepSharing

_RO = syscalls.MOUNT_ATTR_RDONLY
_NOSUID = syscalls.MOUNT_ATTR_NOSUID
_NODEV = syscalls.MOUNT_ATTR_NODEV
_NOEXEC = syscalls.MOUNT_ATTR_NOEXEC
PLAIN = _NOSUID | _NODEV | _NOEXEC

_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_GONE = (errno.ENOENT, errno.ENOTDIR)

_DEV_BYTES = 64 << 20
_SHM_BYTES = 64 << 20


def attach(mount_fd: int, root_fd: int, path: str, *, links: bool = True) -> None:
    """Attach a mount on *path* inside the root, and close its descriptor."""
    try:
        target = confined.open_in(root_fd, path, links=links)
        try:
            syscalls.move_mount(mount_fd, target)
        finally:
            os.close(target)
    finally:
        os.close(mount_fd)


def mount_all(
    root_fd: int,
    *,
    own_network: bool,
    insecure: bool,
    shm_bytes: int,
    shared: StepSharing | None = None,
    shm: int = -1,
) -> None:
    """Mount /proc, /dev and /sys; their mount points exist. Caller is PID 1 of its namespace.

    Args:
        shared: the namespaces that are not its own.
        shm: the tree that is to be /dev/shm, which is closed; -1: a new one of *shm_bytes*.

    Raises:
        Fault: user, one of them is a link in the image; environment, the kernel refuses.
    """
    refuse_links(root_fd)
    try:
        proc = filesystem("proc", PLAIN) if shared is None else sharing.proc(shared, PLAIN)
        attach(proc, root_fd, "/proc")
    except OSError as error:
        raise Fault(
            ENVIRONMENT,
            describe_os_error(error, "cannot mount /proc for the step"),
            ("in a container: start it with --security-opt systempaths=unconfined or --privileged",)
            if isolation.uses_userxattr()
            else (),
        ) from error
    dev = _mount_dev(root_fd, insecure=insecure)
    try:
        if shm < 0 and (shared is None or shared.ipc != "none"):
            shm = overlay.tmpfs(size_bytes=shm_bytes or _SHM_BYTES, mode=0o1777, attributes=PLAIN)
        if shm >= 0:
            attach(shm, dev, "shm")
        else:
            os.rmdir("shm", dir_fd=dev)
    finally:
        os.close(dev)
    _mount_sys(root_fd, own_network=own_network, insecure=insecure)


def refuse_links(root_fd: int) -> None:
    """Raise where an image has something else in the place of its kernel file systems.

    Raises:
        Fault: user.
    """
    for path in ("/proc", "/dev", "/sys"):
        os.close(place(root_fd, path))


def place(root_fd: int, path: str) -> int:
    """Return the directory that one of them is mounted on.

    Raises:
        Fault: user, the image has something else there.
    """
    try:
        return confined.open_in(root_fd, path, os.O_PATH | os.O_DIRECTORY, links=False)
    except OSError as error:
        raise Fault(USER, f"{path} in the image is not a directory") from error


def _mount_dev(root_fd: int, *, insecure: bool) -> int:
    """Mount a /dev with the step's own nodes (`nodes`), all of the host's where *insecure* [SBX-3]; return it."""
    dev = overlay.tmpfs(
        size_bytes=_DEV_BYTES,
        mode=0o755,
        attributes=_NOSUID | syscalls.MOUNT_ATTR_STRICTATIME,
    )
    attach(os.dup(dev), root_fd, "/dev")
    try:
        for name, target in _LINKS:
            os.symlink(target, name, dir_fd=dev)
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=dev)
        if insecure:
            _put_all_nodes(dev, "/dev", "")
        else:
            nodes.fill(dev)
        attach(_devpts(), dev, "pts")
        try:
            attach(filesystem("mqueue", PLAIN), dev, "mqueue")
        except OSError as error:
            # A kernel without POSIX message queues, or those of a machine that are not ours.
            if error.errno not in (errno.ENODEV, errno.EPERM):
                raise
    except BaseException:
        os.close(dev)
        raise
    return dev


def _put_all_nodes(dev: int, host: str, prefix: str) -> None:
    for entry in sorted(os.scandir(host), key=lambda e: e.name):
        name = prefix + entry.name
        status = entry.stat(follow_symlinks=False)
        if not prefix and entry.name in ("pts", "shm", "mqueue", "ptmx", "console"):
            continue
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o755, dir_fd=dev)
            _put_all_nodes(dev, entry.path, name + "/")
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            nodes.put(dev, name, entry.path, status)


def _devpts() -> int:
    options = {"newinstance": "", "ptmxmode": "0666", "mode": "0620", "gid": "5"}
    attributes = _NOSUID | _NOEXEC
    try:
        return filesystem("devpts", attributes, **options)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    del options["gid"]  # A user namespace with one id has no group 5.
    return filesystem("devpts", attributes, **options)


def _mount_sys(root_fd: int, *, own_network: bool, insecure: bool) -> None:
    readonly = 0 if insecure else _RO
    if isolation.uses_userxattr() and not own_network:
        # sysfs belongs to a network namespace, and the host's is not ours to mount.
        tree = syscalls.open_tree(
            syscalls.AT_FDCWD, "/sys", syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        )
        syscalls.mount_setattr(tree, readonly | PLAIN, recursive=True)
        attach(tree, root_fd, "/sys")
    else:
        attach(filesystem("sysfs", PLAIN | readonly), root_fd, "/sys")
    try:
        attach(filesystem("cgroup2", PLAIN | readonly), root_fd, "/sys/fs/cgroup")
    except OSError:
        pass  # Programs look there for their limits, and live without; so do old kernels.


def hide(root_fd: int) -> None:
    """Mask and write-protect what speaks of the host or changes it [SBX-5, SBX-6]."""
    nothing = -1
    for path in (*_MASKED, *_READONLY):
        try:
            target = confined.open_in(root_fd, path)
        except OSError as error:
            if error.errno in _GONE:  # a kernel without it
                continue
            raise
        try:
            is_directory = path in _MASKED and stat.S_ISDIR(os.fstat(target).st_mode)
            if path in _READONLY:
                cover = _readonly(target)
            elif not is_directory:
                cover = syscalls.open_tree(root_fd, "dev/null")
            elif nothing < 0:
                cover = overlay.tmpfs(size_bytes=4096, attributes=PLAIN | _RO)
            else:  # the same again, as a file system of its own takes twenty times as long
                cover = syscalls.open_tree(nothing, "")
            syscalls.move_mount(cover, target)
            if is_directory and nothing < 0:
                nothing = cover
            else:
                os.close(cover)
        finally:
            os.close(target)
    syscalls.close_quietly(nothing)


def _readonly(target: int) -> int:
    tree = syscalls.open_tree(target, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE)
    syscalls.mount_setattr(tree, _RO, recursive=True)
    return tree
