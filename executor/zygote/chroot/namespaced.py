"""The copied root of a step that has namespaces: its own /proc, /dev and /sys are mounted in it."""

from __future__ import annotations

import os

from pybuild.executor.zygote import kernelfs, landlock, setup, syscalls, usernet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepSpec


def enter(spec: StepSpec, root: str, net: usernet.Usernet) -> None:
    """Make *root* the root of this process, the first of new namespaces.

    Raises:
        Fault: user or environment.
    """
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    net.wait()
    syscalls.sethostname(spec.hostname)
    if spec.own_network:
        setup.loopback_up()
    tree = syscalls.open_tree(syscalls.AT_FDCWD, root)
    if not spec.insecure:
        syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_NODEV)
    syscalls.move_mount(tree, syscalls.AT_FDCWD, root)
    os.close(tree)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kernelfs.mount_all(
        root_fd,
        own_network=spec.own_network,
        insecure=spec.insecure,
        shm_bytes=spec.shm_size_bytes,
    )
    if not spec.insecure:
        kernelfs.hide(root_fd)
    os.fchdir(root_fd)
    os.close(root_fd)
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    if spec.network == "default":
        landlock.leave_abstract_sockets()
